"""A queue of an interface, taken through AF_XDP: memory, socket, rings and program; the owner of a port.

What can be had differs between interfaces, and so does what the kernel still does for each frame:

===============  =====================================================================================================
``skb``          the kernel makes a socket buffer of it, runs our program on that, and copies it: any interface
``native``       our program runs in the driver, which then copies the frame: no socket buffer is made of what comes
``zero-copy``    the card writes into our memory and reads from it: where the driver can
``auto``         the last of them that the interface can do; the log says which that is
===============  =====================================================================================================

Rules: one queue, and one program on the interface: a second who wants either is refused. Threads that poll have ended
before :meth:`AfxdpCard.close`. All of it hangs on descriptors, so when the process ends, however it does, the kernel
takes it apart. It may take a moment for that, so a start waits a little for what is busy.
"""

import ctypes
import errno
import fcntl
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from exchange.afxdp.libraries import (
    ADDRESS_FAMILY,
    FrameMemoryConfig,
    ProducerOrConsumer,
    SocketConfig,
    load_libraries,
    worded,
)
from exchange.afxdp.port import FRAME_BYTES, FREE_FRAMES, RECEIVE_CALLS, SEND_CALLS, WORDS_BYTES, AfxdpPort
from exchange.afxdp.program import (
    DRIVER_MODE,
    SKB_MODE,
    assemble,
    attach,
    close_descriptors,
    load_program,
    make_map,
    put_socket,
)
from exchange.afxdp.rings import KernelRing, address_entry, produce
from exchange.datagrams.frames import counters
from exchange.datagrams.interfaces import check_interface
from exchange.datagrams.neighbours import RESOLVE_SECONDS, find_peer, number_of
from exchange.errors import UserError
from exchange.ethernet import Local
from exchange.ethernet.layout import PEER_BYTES
from exchange.limits import PORT_MAX
from exchange.logs import log_event
from exchange.native import Arena, load_acquire, store_int64

Mode = Literal["auto", "skb", "native", "zero-copy"]

FRAMES: Final = 4096
"""Half of them for receiving, and half for sending."""
_HALF: Final = FRAMES // 2
_PAGE_BYTES: Final = 4096
BUSY_SECONDS: Final = 3.0
"""How long to wait for a queue that another process may just be leaving."""
_LOOK_AGAIN_SECONDS: Final = 0.02

# linux/if_xdp.h, linux/if_link.h and linux/sockios.h
_COPY, _ZERO_COPY, _USE_NEED_WAKEUP = 1 << 1, 1 << 2, 1 << 3
_WITHOUT_PROGRAM: Final = 1
_SOL_XDP: Final = 283
_STATISTICS, _OPTIONS, _OPTION_ZERO_COPY = 7, 8, 1
_COUNTED: Final = (
    "rx_dropped", "rx_invalid_descriptors", "tx_invalid_descriptors", "rx_ring_full", "rx_fill_ring_empty",
    "tx_ring_empty",
)  # fmt: skip
_SIOCGIFHWADDR: Final = 0x8927
_CANNOT: Final = (-errno.EOPNOTSUPP, -errno.EINVAL)

_TRIED: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "skb": ((SKB_MODE, _COPY),),
    "native": ((DRIVER_MODE, _COPY),),
    "zero-copy": ((DRIVER_MODE, _ZERO_COPY),),
    "auto": ((DRIVER_MODE, _ZERO_COPY), (DRIVER_MODE, _COPY), (SKB_MODE, _COPY)),
}


class AfxdpCard:
    """See :class:`exchange.datagrams.port.Card`.

    Args:
        interface: the kernel's name of it.
        queue: which of its queues.
        address: our IPv4 address, as text.
        udp_port: our UDP port.
        mode: how frames come, as above.
        force: take the interface of the default route as well.
        table: the table of the profile, or the command, that all this is from, for errors.

    Attributes:
        state: what the operations take.
        program: the descriptor of the program that is on the interface.

    Raises:
        UserError: a library is not installed, a value is not allowed, or the queue cannot be had.
    """

    def __init__(
        self,
        interface: str,
        queue: int,
        address: str,
        udp_port: int,
        *,
        mode: Mode = "auto",
        force: bool = False,
        table: str = "transport",
    ) -> None:
        self._table, self._key = table, f"{table}.interface = {interface!r}"
        self._address: Final = (address, udp_port)
        self._interface, self._queue = interface, queue
        number = number_of(address, f"{table}.card_address")
        if udp_port == 0:
            raise UserError(
                f"{table}.port = 0: nobody hands out ports on a card; allowed are 1 to {PORT_MAX}"
            )
        check_interface(interface, self._key, is_forced=force)
        self._bpf, self._xdp = load_libraries()
        self._arena: Final = Arena.private((FRAMES + 8) * FRAME_BYTES + 8 * _HALF, huge_pages="never")
        self._frames: Final = self._arena.allocate(FRAMES * FRAME_BYTES, _PAGE_BYTES)
        self._rings: Final = tuple(ProducerOrConsumer() for _ in range(4))
        self._memory, self._socket = ctypes.c_void_p(), ctypes.c_void_p()
        self._link = self.program = self._map = -1
        local = Local(_mac_of(interface), number, udp_port, 1)
        try:
            self._make_memory()
            self._make_program(local)
            self._take(mode)
            self.state: Final = self._make_port(local)
        except BaseException:
            self.close()
            raise

    @property
    def queues(self) -> tuple[AfxdpPort, ...]:
        """It is one of the interface's, so there is one."""
        return (self.state,)

    @property
    def address(self) -> tuple[str, int]:
        """Where others find it: address and port."""
        return self._address

    def readiness(self) -> int:
        """The socket itself: it is readable when a frame has come."""
        return self.state.descriptor

    def counters(self) -> dict[str, int]:
        """Frames by what they were, what the kernel has counted of the socket, and the system calls that it took."""
        words = self.state.words
        calls = {
            "system_calls_receive": load_acquire(words + RECEIVE_CALLS),
            "system_calls_send": load_acquire(words + SEND_CALLS),
        }
        told = self._option(_STATISTICS, 8 * len(_COUNTED))
        kernel = dict(zip(_COUNTED, struct.unpack(f"={len(_COUNTED)}Q", told), strict=True))
        return counters([words]) | kernel | calls

    @property
    def is_zero_copy(self) -> bool:
        """Whether the card itself writes into our memory."""
        return bool(struct.unpack("=I", self._option(_OPTIONS, 4))[0] & _OPTION_ZERO_COPY)

    @property
    def is_link_up(self) -> bool:
        """A cable stays up when the process at its other end has gone: who is silent for too long has gone."""
        return True

    def mend(self) -> bool:
        """There is nothing to mend."""
        return True

    def find_peer(self, address: str, udp_port: int, timeout_s: float = RESOLVE_SECONDS) -> bytes:
        """The 16 bytes of somebody on the wire, of whom the address is known and the card is asked for.

        Raises:
            UserError: it is no address, or nobody has it.
        """
        return find_peer(self.state, address, udp_port, f"{self._table}.endpoint", timeout_s)

    def close(self) -> None:
        """Take the program off the interface, and close the socket; the rings are gone then."""
        close_descriptors(self._link, self._map, self.program)
        self._link = self._map = self.program = -1
        if self._socket:
            self._xdp.xsk_socket__delete(self._socket)
            self._socket = ctypes.c_void_p()
        if self._memory:
            self._xdp.xsk_umem__delete(self._memory)
            self._memory = ctypes.c_void_p()

    def _make_memory(self) -> None:
        fill, completion = self._rings[:2]
        config = FrameMemoryConfig(_HALF, _HALF, FRAME_BYTES, 0, 0)
        made = self._xdp.xsk_umem__create(
            ctypes.byref(self._memory), ctypes.c_void_p(self._frames), ctypes.c_uint64(FRAMES * FRAME_BYTES),
            ctypes.byref(fill), ctypes.byref(completion), ctypes.byref(config),
        )  # fmt: skip
        self._checked(made, "share memory with it")

    def _make_program(self, local: Local) -> None:
        self._map = self._checked(make_map(self._queue + 1), "make a map of sockets")
        self.program = self._checked(load_program(assemble(self._map, local)), "load the program for it")

    def _take(self, mode: Mode) -> None:
        """Attach the program, then bind the socket, in the best way there is; frames come when the map knows it."""
        failure, number = (0, ""), socket.if_nametoindex(self._interface)
        for program_mode, copying in _TRIED[mode]:
            linked = _while_busy(partial(attach, self.program, number, program_mode))
            failure = (linked, f"attach the program to it in mode {mode}")
            if linked >= 0:
                self._link = linked
                bound = _while_busy(partial(self._bind, copying))
                if bound == 0:
                    self._say(program_mode)
                    return
                close_descriptors(self._link)
                self._link = -1
                failure = (bound, f"bind a socket to its queue {self._queue} in mode {mode}")
            if failure[0] not in _CANNOT:
                break
        self._checked(*failure)

    def _bind(self, copying: int) -> int:
        receiving, sending = self._rings[2:]
        config = SocketConfig(_HALF, _HALF, _WITHOUT_PROGRAM, 0, _USE_NEED_WAKEUP | copying)
        made = self._xdp.xsk_socket__create(
            ctypes.byref(self._socket), self._interface.encode(), ctypes.c_uint32(self._queue), self._memory,
            ctypes.byref(receiving), ctypes.byref(sending), ctypes.byref(config),
        )  # fmt: skip
        if made != 0:
            self._socket = ctypes.c_void_p()
        return int(made)

    def _say(self, program_mode: int) -> None:
        copied = "native" if program_mode == DRIVER_MODE else "skb"
        mode = "zero-copy" if self.is_zero_copy else copied
        log_event("interface taken", interface=self._interface, queue=self._queue, mode=mode)

    def _make_port(self, local: Local) -> AfxdpPort:
        words, remote = self._arena.allocate(WORDS_BYTES), self._arena.allocate(PEER_BYTES)
        free, descriptor = self._arena.allocate(8 * _HALF), self._xdp.xsk_socket__fd(self._socket)
        fill, completion, receiving, sending = (
            KernelRing(one.producer, one.consumer, one.entries, one.size - 1, one.flags)
            for one in self._rings
        )
        for index in range(_HALF):
            store_int64(address_entry(fill, index), index * FRAME_BYTES)
            store_int64(free + 8 * index, (_HALF + index) * FRAME_BYTES)
        store_int64(words + FREE_FRAMES, _HALF)
        produce(fill, _HALF)
        self._checked(put_socket(self._map, self._queue, descriptor), "have frames sent to the socket")
        return AfxdpPort(
            local, descriptor, words, remote, self._frames, free, fill, receiving, sending, completion
        )

    def _option(self, option: int, size_bytes: int) -> bytes:
        # All that is said of the socket is not asked for: AF_XDP has no getsockname(2).
        one = socket.socket(ADDRESS_FAMILY, socket.SOCK_RAW, 0, self._xdp.xsk_socket__fd(self._socket))
        try:
            return one.getsockopt(_SOL_XDP, option, size_bytes)
        finally:
            one.detach()

    def _checked(self, result: int, what: str) -> int:
        if result == -errno.EBUSY:
            raise UserError(
                f"{self._key}: somebody else has a program on it or has its queue {self._queue}, and an interface "
                f"has one of each; 'ip link show {self._interface}' names the program"
            )
        if result < 0:
            raise UserError(f"{self._key}: the kernel would not {what} ({worded(result)})")
        return result


def _while_busy(attempt: Callable[[], int]) -> int:
    """What an attempt comes to, which is made again for a while if somebody has what it wants."""
    deadline = time.monotonic() + BUSY_SECONDS
    while (result := attempt()) == -errno.EBUSY and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_SECONDS)
    return result


def _mac_of(interface: str) -> int:
    """An interface's own address, as netdevice(7) tells it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        told = fcntl.ioctl(asking, _SIOCGIFHWADDR, struct.pack("16s24x", interface.encode()))
    return int.from_bytes(told[18:24], "big")
