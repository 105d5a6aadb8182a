"""The owner of a card: its memory for packets, its queues, its life; and what it says of itself.

A card is opened with as many receiving queues as there are threads to poll them. With several, the card itself decides
by a hash of addresses and ports which queue a frame goes to (receive-side scaling, RSS), so all datagrams of a client
come to the same thread. Where a card has no such hash, it or whoever sends has another way to choose. A sending queue
belongs to each, and who answers uses that one: some devices (tap, virtio) have the rest of a conversation come to the
queue from which it was answered.

Packet buffers come from one pool on the card's NUMA node. There must be enough of them for all that can hold some at
once: the descriptors of every queue, a burst in each thread's hands, and each thread's cache.

Rules: threads that poll have ended before :meth:`DpdkDevice.close`, which comes before EAL's. A card is opened once in
a process. memif connects to its server when it is opened, and not again by itself: see :meth:`DpdkDevice.mend`.
"""

import ctypes
import os
import time
from typing import Final

from exchange.datagrams.frames import BURST_FRAMES, NOT_SENT, QUEUE_BYTES, SENT, counters, frame_counts
from exchange.dpdk.calls import call_shim
from exchange.dpdk.cards import card_node
from exchange.dpdk.eal import Eal, aside, find_device
from exchange.dpdk.port import DpdkPort
from exchange.errors import UserError
from exchange.ethernet import FrameKind, Local
from exchange.ethernet.layout import PEER_BYTES
from exchange.native import CACHE_LINE_BYTES, Arena, load_acquire, load_int64, view_bytes

BUFFERS_MIN: Final = 1024
BUFFERS_MAX: Final = 1 << 20
QUEUES_MAX: Final = 64
DESCRIPTORS: Final = 1024
"""Frames that wait in a queue of the card at most, where the device does not know better."""
_CACHED_BUFFERS: Final = 256
_STATISTICS_MAX: Final = 1024
_NAME_BYTES: Final = 64
WIRE_SECONDS: Final = 10.0
"""So long two cards take at most to agree on how they talk, after both have been started; copper takes two or three."""
_LOOK_AGAIN_SECONDS: Final = 0.01
_HANDSHAKE_SECONDS, _HANDSHAKE_SECONDS_MAX = 0.5, 8.0
"""So long a client and a server of memif may take until both have the memory."""
_NOBODY_SECONDS: Final = 0.2
"""A server that is not there is looked for again after so long."""
_MEMIF: Final = ctypes.create_string_buffer(b"pmd.net.memif")
_CRITICAL, _NOTICES = 3, 6
"""Levels of DPDK's (rte_log.h), of which the second is what its drivers have unless somebody changes it."""
_TALKATIVE: Final = ("notice", "info", "debug")
_FIELDS: Final = ("data_address", "data_offset", "data_length", "frame_length")


class DpdkDevice:
    """A card, open and started.

    Attributes:
        ports: one for each receiving queue; the first is the one to send to and to attend.
        name: by which DPDK knows it.
        mac: the card's own address.
        numa_node: the node to which the card is near; -1 if to none, or if it is not on the PCI bus.
        has_wire: whether it is a card on the PCI bus, whose link comes by itself, some time after its start.
    """

    def __init__(
        self,
        eal: Eal,
        address: int,
        port_first: int,
        port_count: int = 1,
        *,
        name: str = "",
        queues: int = 1,
        buffers: int = 8191,
        link_timeout_s: float = 0.0,
        table: str = "dpdk",
    ) -> None:
        """Open a device of ``eal``'s.

        Args:
            eal: is up, and was started with the device.
            address: our IPv4 address, as a number.
            port_first: the first of our UDP ports; it is also where datagrams come from.
            port_count: how many ports there are from that one on.
            name: which of the devices, such as ``net_memif0``; by default the first.
            queues: receiving queues.
            buffers: packet buffers, of about 2.3 KB each; one less than a power of two wastes least.
            link_timeout_s: how long to wait for the link, and for a server to connect to; 0 waits for neither, and for
                the link of a card on the PCI bus :data:`WIRE_SECONDS`: until then it would lose what it is given.
            table: the table of the profile that all this is from, for errors.

        Raises:
            UserError: a value is not allowed, the device cannot do it, or ``link_timeout_s`` was not 0 and there was no
                link in time.
        """
        device = next((one for one in eal.devices if name in ("", one.name)), None)
        if device is None:
            there = ", ".join(one.name for one in eal.devices)
            raise UserError(f"{table}.device = {name!r}: EAL was started without it; allowed are {there}")
        self.name: Final = device.name
        self._key: Final = f"{table}.device = {device.text!r}"
        self._is_open = self._is_started = False
        self.has_wire: Final = device.driver == "pci"
        self._is_client: Final = device.driver == "net_memif" and device.parameters.get("role") != "server"
        self._patient_until, self._handshake_s = 0.0, _HANDSHAKE_SECONDS
        if not BUFFERS_MIN <= buffers <= BUFFERS_MAX:
            raise UserError(f"{table}.buffers = {buffers}: allowed are {BUFFERS_MIN} to {BUFFERS_MAX}")
        self._eal: Final = eal
        self._number: Final = self._checked(find_device(device.name), "find it")
        most = min(self._checked(call_shim("queues_max", self._number), "open it"), QUEUES_MAX)
        if not 1 <= queues <= most:
            has = f"{most} receiving queue" + ("s" if most > 1 else "")
            raise UserError(
                f"{table}.ingress_lanes = {queues}: each takes a receiving queue, and {device.name} has {has}; allowed "
                f"are 1 to {most}"
            )
        self.numa_node: Final = card_node(device)
        # Without huge pages all memory is one block, and DPDK does not know where.
        numa_node = call_shim("numa_node", self._number) if eal.config.huge_pages else -1
        self.pool: Final = self._make_pool(device.name, buffers, numa_node, table)
        opened = call_shim("open", self._number, self.pool, queues, DESCRIPTORS, numa_node)
        self._sending_queues: Final = self._checked(opened, f"have {queues} receiving queues")
        self._is_open = True
        eal.close_before(self.close)
        deadline = time.monotonic() + link_timeout_s
        try:
            self._start(deadline)
            self.mac: Final = self._checked(call_shim("mac", self._number), "tell its address")
            self.ports: Final = self._make_ports(Local(self.mac, address, port_first, port_count), queues)
            self._await_link(link_timeout_s, deadline)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> DpdkPort:
        """The first of its ports: the one that is sent to and attended."""
        return self.ports[0]

    @property
    def is_link_up(self) -> bool:
        """Whether there is somebody, or a wire at least, at the other end."""
        return call_shim("is_link_up", self._number) > 0

    def has_link_within(self, timeout_s: float) -> bool:
        """Wait until the link is up, or for so long; whether it is. Nobody polls meanwhile."""
        deadline = time.monotonic() + timeout_s
        while not self.mend():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_AGAIN_SECONDS)
        return True

    def wait_for_link(self, timeout_s: float) -> None:
        """Wait until the link is up. Nobody polls meanwhile.

        Raises:
            UserError: it was not within ``timeout_s`` seconds.
        """
        if not self.has_link_within(timeout_s):
            end = "is its cable in, and up at" if self.has_wire else "is there somebody at"
            raise UserError(f"{self._key}: no link; {end} the other end?")

    def _await_link(self, link_timeout_s: float, deadline: float) -> None:
        if link_timeout_s > 0:
            self.wait_for_link(max(deadline - time.monotonic(), 0.0))
        elif self.has_wire:
            self.has_link_within(WIRE_SECONDS)

    def mend(self) -> bool:
        """Take the next step to have a link, without waiting; whether it is up. Nobody polls meanwhile.

        To be called again and again. A memif client is started anew, for its server that comes back knows nothing of
        it, and one that is just starting turns it away; any other device's link comes by itself. If both have not the
        memory in time, on a busy machine, they have twice as long for it the next time.
        """
        if self.is_link_up:
            self._handshake_s = _HANDSHAKE_SECONDS
            return True
        if not self._is_client or time.monotonic() < self._patient_until:
            return False
        if self._attempt() == 0:
            self._handshake_s = min(2 * self._handshake_s, _HANDSHAKE_SECONDS_MAX)
        return self.is_link_up

    def connect(self, peer: bytes) -> None:
        """Say to whom datagrams without a receiver go: bytes as of :func:`exchange.datagrams.neighbours.peer_of`."""
        view_bytes(self._remote, PEER_BYTES)[:] = peer

    def statistics(self) -> dict[str, int]:
        """What the driver counts, by its names (``rx_good_packets``, ``tx_errors`` ...)."""
        names = ctypes.create_string_buffer(_STATISTICS_MAX * _NAME_BYTES)
        values = (ctypes.c_uint64 * _STATISTICS_MAX)()
        count = call_shim(
            "statistics", self._number, ctypes.addressof(names), ctypes.addressof(values), _STATISTICS_MAX
        )
        self._checked(count, "tell its statistics")
        found = {}
        for index in range(min(count, _STATISTICS_MAX)):
            text = names.raw[index * _NAME_BYTES : (index + 1) * _NAME_BYTES]
            found[text.partition(b"\0")[0].decode()] = values[index]
        return found

    def frame_counts(self) -> dict[FrameKind, int]:
        """How many frames of each kind have come, over all queues."""
        return frame_counts([port.words for port in self.ports])

    def counters(self) -> dict[str, int]:
        """The same by name, and what was sent."""
        return counters([port.words for port in self.ports])

    def sent_counts(self) -> tuple[int, int]:
        """How many frames the card has taken, and how many it had no room for."""
        return load_acquire(self.port.words + SENT), load_acquire(self.port.words + NOT_SENT)

    def buffers_available(self) -> int:
        """How many packet buffers nobody holds now."""
        return call_shim("available", self.pool)

    def buffers_node(self) -> int:
        """The NUMA node on which a packet buffer's memory lies, -1 if there is none to ask or nobody says."""
        port = self.port
        if call_shim("allocate", self.pool, port.sending, 1) != 0:
            return -1
        node = call_shim("node_of", load_int64(load_int64(port.sending) + port.data_address))
        call_shim("free", port.sending, 1)
        return max(node, -1)

    def close(self) -> None:
        """Stop the card and give its memory back; nobody polls any more. May be called again."""
        if not self._is_open:
            return
        self._is_open = False
        with aside(self._eal.control_cores):
            if self._is_started:
                call_shim("stop_port", self._number)
            call_shim("close_port", self._number)
        call_shim("free_pool", self.pool)

    def _make_pool(self, name: str, buffers: int, numa_node: int, table: str) -> int:
        text = ctypes.create_string_buffer(f"{name[:16]}-buffers".encode())
        pool = call_shim("make_pool", ctypes.addressof(text), buffers, _CACHED_BUFFERS, numa_node)
        if pool < 0:
            raise UserError(
                f"{table}.buffers = {buffers}: not in memory ({os.strerror(-pool)}); allowed are fewer, or more "
                f"{table}.memory_mib"
            )
        return pool

    def _start(self, deadline: float) -> None:
        """Start the card; memif's client cannot before its server, so it tries until the deadline."""
        while (started := self._attempt()) != 0:
            if time.monotonic() > deadline:
                self._checked(started, "start; is there somebody at the other end?")
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _attempt(self) -> int:
        """Start the card, anew if it was; 0 or -errno. That there is no server, memif's client would say each time."""
        is_silent = self._is_client and self._eal.config.log_level not in _TALKATIVE
        with aside(self._eal.control_cores):
            if self._is_started:
                call_shim("stop_port", self._number)
            if is_silent:
                call_shim("say", ctypes.addressof(_MEMIF), _CRITICAL)
            started = call_shim("start_port", self._number)
            if is_silent:
                call_shim("say", ctypes.addressof(_MEMIF), _NOTICES)
        self._is_started = started == 0
        self._patient_until = time.monotonic() + (self._handshake_s if started == 0 else _NOBODY_SECONDS)
        return started

    def _make_ports(self, local: Local, queues: int) -> tuple[DpdkPort, ...]:
        burst_bytes = BURST_FRAMES * 8
        self._arena = Arena.private(queues * (QUEUE_BYTES + 2 * burst_bytes) + 4096, huge_pages="never")
        self._remote = self._arena.allocate(PEER_BYTES)
        first_words = self._arena.allocate(queues * QUEUE_BYTES)
        fields = {name: call_shim("offset", index) for index, name in enumerate(_FIELDS)}
        return tuple(
            DpdkPort(
                local=local,
                device=self._number,
                queue=queue,
                queue_count=queues,
                answering_queue=queue if queue < self._sending_queues else 0,
                pool=self.pool,
                words=first_words + queue * QUEUE_BYTES,
                first_words=first_words,
                received=self._arena.allocate(burst_bytes, CACHE_LINE_BYTES),
                sending=self._arena.allocate(burst_bytes, CACHE_LINE_BYTES),
                remote=self._remote,
                **fields,
            )
            for queue in range(queues)
        )

    def _checked(self, result: int, what: str) -> int:
        if result < 0:
            raise UserError(f"{self._key}: DPDK could not {what} ({os.strerror(-result)})")
        return result
