"""The program that the kernel runs for each frame of the interface: ours go to the socket, all others where they went.

It is made of instructions of eBPF, a machine that the kernel has inside: it checks that the program ends and never
reads beyond a frame, and compiles it. The program runs in the driver or right behind it, before anything of the network
stack, and decides about each frame:

* ARP about our address, and UDP over IPv4 to our address and one of our ports, go to the socket of the queue that they
  came through (``bpf_redirect_map``); so does UDP to us behind options of IPv4, whose port stands elsewhere;
* everything else goes on to the kernel as if we were not there.

So the interface stays the kernel's: what is not for us does not even cost us a look, and is not counted.

Rules: the program hangs on a *link* whose descriptor we hold. When it is closed, also because the process was killed,
the kernel takes the program off the interface. An interface has one program, so a second who wants it is refused.
Sources: RFC 9669 (the instructions); bpf-helpers(7); XDP in the kernel's "Documentation/networking/af_xdp.rst".
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from exchange.afxdp.libraries import LinkOptions, load_libraries
from exchange.ethernet.layout import (
    ARP_BYTES,
    ARP_TARGET_ADDRESS,
    ETHER_TYPE,
    ETHERNET_BYTES,
    HEADERS_BYTES,
    IPV4_BYTES,
    IPV4_DESTINATION,
    IPV4_PROTOCOL,
    PROTOCOL_UDP,
    TYPE_ARP,
    TYPE_IPV4,
    UDP_DESTINATION_PORT,
    Local,
)

SKB_MODE: Final = 2
"""Behind the driver, on a socket buffer that the kernel has made: any interface can do it (XDP_FLAGS_SKB_MODE)."""
DRIVER_MODE: Final = 4
"""In the driver, before the kernel has made anything: where the driver can (XDP_FLAGS_DRV_MODE)."""

# the codes of the instructions that are used: operation, width, class
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD = 0x71, 0x69, 0x61
_LOAD_CONSTANT: Final = 0x18
_MOVE, _MOVE_CONSTANT, _ADD_CONSTANT = 0xBF, 0xB7, 0x07
_TO_BIG_ENDIAN: Final = 0xDC
_JUMP_IF_ABOVE: Final = 0x2D
# comparisons of 32 bits with a constant: equal, not equal, above, below, all without a sign
_IF_EQUAL, _IF_NOT_EQUAL, _IF_ABOVE, _IF_BELOW = 0x16, 0x56, 0x26, 0xA6
_JUMP, _CALL, _EXIT = 0x05, 0x85, 0x95
_MAP_DESCRIPTOR: Final = 1
_REDIRECT_MAP: Final = 51

# what the program is given, struct xdp_md, and what it may answer
_DATA, _DATA_END, _QUEUE = 0, 4, 16
_XDP_PASS: Final = 2

_RESULT, _FIRST, _SECOND, _THIRD, _END, _WORD = range(6)
"""Registers: the first three arguments are in 1 to 3, and 0 holds what is returned."""
_VERSION_4_WITHOUT_OPTIONS: Final = 0x45
_MAP_TYPE, _PROGRAM_TYPE, _ATTACH_TYPE = 17, 6, 37
_LICENSE: Final = b"Dual MIT/GPL"
_NAME: Final = b"exchange_filter"


class _Instruction(NamedTuple):
    """``target`` is the label to jump to; ``offset`` is used if there is none."""

    code: int
    register: int = 0
    source: int = 0
    offset: int = 0
    constant: int = 0
    target: str = ""


def assemble(map_descriptor: int, local: Local) -> bytes:
    """The program that redirects what is for ``local`` to the sockets in a map, as the kernel takes it."""
    ipv4, udp = ETHERNET_BYTES, ETHERNET_BYTES + IPV4_BYTES
    port_last = local.port_first + local.port_count - 1
    # All that is read lies within the first 42 bytes, which both an ARP frame and the shortest datagram have.
    assert ETHERNET_BYTES + ARP_BYTES == HEADERS_BYTES
    lines: list[_Instruction | str] = [
        _Instruction(_LOAD_WORD, _SECOND, _FIRST, _DATA),
        _Instruction(_LOAD_WORD, _THIRD, _FIRST, _DATA_END),
        _Instruction(_MOVE, _END, _SECOND),
        _Instruction(_ADD_CONSTANT, _END, constant=HEADERS_BYTES),
        _Instruction(_JUMP_IF_ABOVE, _END, _THIRD, target="pass"),
        *_load(_LOAD_HALF, ETHER_TYPE),
        _Instruction(_IF_EQUAL, _WORD, constant=TYPE_ARP, target="arp"),
        _Instruction(_IF_NOT_EQUAL, _WORD, constant=TYPE_IPV4, target="pass"),
        *_load(_LOAD_WORD, ipv4 + IPV4_DESTINATION),
        _Instruction(_IF_NOT_EQUAL, _WORD, constant=local.address, target="pass"),
        *_load(_LOAD_BYTE, ipv4 + IPV4_PROTOCOL),
        _Instruction(_IF_NOT_EQUAL, _WORD, constant=PROTOCOL_UDP, target="pass"),
        *_load(_LOAD_BYTE, ipv4),
        _Instruction(_IF_NOT_EQUAL, _WORD, constant=_VERSION_4_WITHOUT_OPTIONS, target="redirect"),
        *_load(_LOAD_HALF, udp + UDP_DESTINATION_PORT),
        _Instruction(_IF_BELOW, _WORD, constant=local.port_first, target="pass"),
        _Instruction(_IF_ABOVE, _WORD, constant=port_last, target="pass"),
        _Instruction(_JUMP, target="redirect"),
        "arp",
        *_load(_LOAD_WORD, ETHERNET_BYTES + ARP_TARGET_ADDRESS),
        _Instruction(_IF_NOT_EQUAL, _WORD, constant=local.address, target="pass"),
        "redirect",
        _Instruction(_LOAD_WORD, _SECOND, _FIRST, _QUEUE),
        _Instruction(_LOAD_CONSTANT, _FIRST, _MAP_DESCRIPTOR, constant=map_descriptor),
        _Instruction(0),
        # Of a queue without a socket nothing is taken: the third argument is what to do then.
        _Instruction(_MOVE_CONSTANT, _THIRD, constant=_XDP_PASS),
        _Instruction(_CALL, constant=_REDIRECT_MAP),
        _Instruction(_EXIT),
        "pass",
        _Instruction(_MOVE_CONSTANT, _RESULT, constant=_XDP_PASS),
        _Instruction(_EXIT),
    ]
    return _encode(lines)


def _load(code: int, offset: int) -> list[_Instruction]:
    """Load a number from the frame as it is read aloud."""
    load = _Instruction(code, _WORD, _SECOND, offset)
    bits = {_LOAD_HALF: 16, _LOAD_WORD: 32}.get(code)
    return [load] if bits is None else [load, _Instruction(_TO_BIG_ENDIAN, _WORD, constant=bits)]


def _encode(lines: Sequence[_Instruction | str]) -> bytes:
    places: dict[str, int] = {}
    instructions: list[_Instruction] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    encoded = b""
    for number, one in enumerate(instructions):
        offset = places[one.target] - number - 1 if one.target else one.offset
        registers = one.source << 4 | one.register
        encoded += struct.pack("<BBhI", one.code, registers, offset, one.constant)
    return encoded


def make_map(entries: int) -> int:
    """A map from queues to sockets: its descriptor, or -errno."""
    return int(load_libraries().bpf.bpf_map_create(_MAP_TYPE, _NAME, 4, 4, entries, None))


def put_socket(map_descriptor: int, queue: int, descriptor: int) -> int:
    """Say which socket gets the frames of a queue; 0 or -errno."""
    key, value = ctypes.c_uint32(queue), ctypes.c_uint32(descriptor)
    update = load_libraries().bpf.bpf_map_update_elem
    return int(update(map_descriptor, ctypes.byref(key), ctypes.byref(value), ctypes.c_uint64(0)))


def load_program(instructions: bytes) -> int:
    """Have the kernel check and compile a program: its descriptor, or -errno."""
    count = ctypes.c_size_t(len(instructions) // 8)
    return int(load_libraries().bpf.bpf_prog_load(_PROGRAM_TYPE, _NAME, _LICENSE, instructions, count, None))


def attach(program: int, interface: int, mode: int) -> int:
    """Hang a program on an interface, given by its number: the link's descriptor, or -errno."""
    options = LinkOptions(ctypes.sizeof(LinkOptions), mode)
    return int(load_libraries().bpf.bpf_link_create(program, interface, _ATTACH_TYPE, ctypes.byref(options)))


def close_descriptors(*descriptors: int) -> None:
    """Close those that are open; a link's takes its program off the interface."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
