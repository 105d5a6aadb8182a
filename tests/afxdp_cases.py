"""What tests do with AF_XDP, each in a process of its own that may be in a network namespace: as ``tests.dpdk_cases``.

``python -m tests.afxdp_cases NAME ARGUMENTS``. A case prints what it returns as the last line, as JSON; one that stays
prints ``ready`` and ends with a line of input. The interfaces are ``left`` and ``right``, the two ends of a cable.
"""

import ctypes
import json
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from exchange.afxdp.card import AfxdpCard, Mode
from exchange.afxdp.libraries import load_libraries
from exchange.datagrams.batch import BatchMemory
from exchange.datagrams.frames import ARP_SLOTS, BURST_FRAMES
from exchange.datagrams.neighbours import peer_of, resolve
from exchange.datagrams.protocol import attend, receive_many
from exchange.datagrams.reflector import measure_echoes, measure_round_trips, reflect
from exchange.errors import UserError
from exchange.ethernet import PAYLOAD_BYTES_MAX, FrameKind
from exchange.native import address_of
from tests.ethernet_oracle import THEM, US, arp, datagram, judge, random_frame
from tests.port_contract import End, attend_compiled, check_contract, receive_compiled, send_compiled

LEFT, RIGHT = "192.0.2.1", "192.0.2.2"
ADDRESS = 0xC000_0201
UDP_PORT = 9005
PASSED, REDIRECTED = 2, 4
PATIENCE_SECONDS = 30


def _end(card: AfxdpCard) -> End:
    local = card.state.local
    return End(card.state, peer_of(local.address, UDP_PORT, local.mac), PAYLOAD_BYTES_MAX + 1)


def contract(mode: Mode) -> dict[str, Any]:
    """The contract between the two ends of a cable."""
    with (
        closing(AfxdpCard("left", 0, LEFT, UDP_PORT, mode=mode)) as left,
        closing(AfxdpCard("right", 0, RIGHT, UDP_PORT, mode=mode)) as right,
    ):
        check_contract(_end(left), _end(right))
        counted = left.counters()
        return {
            "is_zero_copy": left.is_zero_copy,
            # A copying kernel sends when it is called, up to 32 frames at a time.
            "is_called": 0 < counted["system_calls_send"] <= counted["frames_sent"],
            "receive_calls": counted["system_calls_receive"],
            "invalid": counted["rx_invalid_descriptors"] + counted["tx_invalid_descriptors"],
        }


def reflector(interface: str) -> dict[str, int]:
    """A server: sends everything back until there is a line of input."""
    with closing(AfxdpCard(interface, 0, LEFT, UDP_PORT)) as card:
        stop, memory = np.zeros(1, np.int64), BatchMemory(BURST_FRAMES, 1536)
        stop[0] = 1
        reflect(card.state, memory.batch, address_of(stop))
        stop[0] = 0
        thread = threading.Thread(target=reflect, args=(card.state, memory.batch, address_of(stop)))
        thread.start()
        print("ready", flush=True)
        sys.stdin.readline()
        stop[0] = 1
        thread.join()
        return {name: count for name, count in card.counters().items() if count}


def client(interface: str, rounds: str, duration_ms: str) -> dict[str, Any]:
    """Measure against a reflector at the other end of the cable, which is found by ARP."""
    with closing(AfxdpCard(interface, 0, RIGHT, UDP_PORT)) as card:
        mac = resolve(card.state, ADDRESS, PATIENCE_SECONDS)
        outgoing, incoming = BatchMemory(BURST_FRAMES, 1536), BatchMemory(BURST_FRAMES, 1536)
        for index in range(BURST_FRAMES):
            outgoing.put(index, bytes(64), peer_of(ADDRESS, UDP_PORT, mac))
        latencies_ns = np.zeros(int(rounds), np.int64)
        arguments = (card.state, outgoing.batch, incoming.batch)
        lost = measure_round_trips(*arguments, address_of(latencies_ns), len(latencies_ns))
        measure_echoes(*arguments, 64, 1_000_000)
        back, deadline = 0, time.monotonic() + PATIENCE_SECONDS
        while back == 0 and time.monotonic() < deadline:
            back, _, _ = measure_echoes(*arguments, 64, int(duration_ms) * 1_000_000)
        return {"lost": lost, "echoes": back, "p50_ns": float(np.median(latencies_ns))}


def holds(interface: str) -> dict[str, bool]:
    """Hold a queue until there is a line of input, or until killed."""
    with closing(AfxdpCard(interface, 0, LEFT, UDP_PORT)):
        print("ready", flush=True)
        sys.stdin.readline()
    return {"has_ended": True}


def is_readable() -> dict[str, list[bool]]:
    """Whether the descriptor tells that something has come."""
    with (
        closing(AfxdpCard("left", 0, LEFT, UDP_PORT)) as left,
        closing(AfxdpCard("right", 0, RIGHT, UDP_PORT)) as right,
    ):
        watched = select.poll()
        watched.register(left.readiness(), select.POLLIN)
        before = bool(watched.poll(0))
        memory = BatchMemory(1, 64)
        memory.put(0, b"hello", _end(left).peer)
        send_compiled(right.state, memory.batch.headers, 1)
        after = bool(watched.poll(1000 * PATIENCE_SECONDS))
        payload = _end(left).receive(1)[0][0]
        return {"told": [before, after, payload == b"hello", bool(watched.poll(0))]}


def wrong_frames(mode: Mode) -> dict[str, Any]:
    """One frame of each sort over the cable: what comes to the port and is counted, and what stays the kernel's."""
    with ExitStack() as stack:
        card = stack.enter_context(closing(AfxdpCard("left", 0, LEFT, UDP_PORT, mode=mode)))
        kernel = stack.enter_context(_packets("left"))
        wire = stack.enter_context(_packets("right"))
        us = card.state.local
        damaged = [bytearray(datagram(b"some payload", THEM, us)) for _ in range(2)]
        damaged[0][24] ^= 1
        damaged[1][45] ^= 1
        ours = [
            datagram(b"right", THEM, us), datagram(b"", THEM, us), *map(bytes, damaged),
            datagram(b"x", THEM, us, destination_mac=THEM.mac), datagram(b"x", THEM, us, version=6, words=5),
            datagram(b"x", THEM, us, fragment=0x2000), datagram(b"x", THEM, us, udp_bytes=7),
            datagram(b"optional", THEM, us, options=bytes(4)), arp(3, THEM, 0, us.address, us.mac),
            arp(1, THEM, 0, us.address, 0xFFFF_FFFF_FFFF), arp(2, THEM, us.mac, us.address, us.mac),
        ]  # fmt: skip
        theirs = [
            datagram(b"kernel's 0", THEM, us, port=UDP_PORT + 1), datagram(b"kernel's 1", THEM, us, port=UDP_PORT - 1),
            datagram(b"kernel's 2", THEM, us, destination=THEM.address), datagram(b"kernel's 3", THEM, us, kind=0x86DD),
            datagram(b"kernel's 4", THEM, us, protocol=6),
            arp(1, THEM, 0, THEM.address, 0xFFFF_FFFF_FFFF),
        ]  # fmt: skip
        for frame in (*ours, *theirs):
            wire.send(frame)
        memory, payloads = BatchMemory(BURST_FRAMES, 1536), []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sum(_kinds(card).values()) < len(ours) and time.monotonic() < deadline:
            count = receive_compiled(card.state, memory.batch.headers, BURST_FRAMES)
            payloads += [memory.payload(index).decode() for index in range(max(count, 0))]
        expected: dict[str, int] = {}
        for frame in ours:
            name = judge(frame, us)[0].name
            expected[name] = expected.get(name, 0) + 1
        seen: list[bytes] = []
        while len(seen) < len(theirs) and time.monotonic() < deadline:
            seen += [frame for frame in [kernel.recv(2048)] if frame in (*ours, *theirs)]
        answered = (attend_compiled(card.state), attend_compiled(card.state))
        return {
            "payloads": payloads, "counted": _kinds(card), "expected": expected, "answered": answered,
            "is_kernels": sorted(seen) == sorted(theirs), "reply": _is_answered(wire, us),
        }  # fmt: skip


def _packets(interface: str) -> socket.socket:
    """All frames of an interface, as the kernel's stack sees them."""
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    one.bind((interface, 0))
    one.settimeout(PATIENCE_SECONDS)
    return one


def _is_answered(wire: socket.socket, us: Any) -> bool:
    """Whether our ARP answer comes out of the other end."""
    wanted = us.mac.to_bytes(6, "big") + b"\x08\x06"
    while (frame := wire.recv(2048))[6:14] != wanted:
        pass
    return judge(frame, THEM)[0] == FrameKind.ARP_REPLY and frame[28:32] == us.address.to_bytes(4, "big")


def _kinds(card: AfxdpCard) -> dict[str, int]:
    return {
        name.removeprefix("frames_").upper(): count
        for name, count in card.counters().items()
        if count and name.startswith("frames_") and "sent" not in name
    }


class _TestRun(ctypes.Structure):
    """``struct bpf_test_run_opts``, its beginning."""

    _fields_ = (
        ("size", ctypes.c_size_t), ("data_in", ctypes.c_char_p), ("data_out", ctypes.c_void_p),
        ("data_in_bytes", ctypes.c_uint32), ("data_out_bytes", ctypes.c_uint32), ("context_in", ctypes.c_void_p),
        ("context_out", ctypes.c_void_p), ("context_in_bytes", ctypes.c_uint32),
        ("context_out_bytes", ctypes.c_uint32), ("answer", ctypes.c_uint32), ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32), ("flags", ctypes.c_uint32),
    )  # fmt: skip


def filtered(count: str, seed: str) -> dict[str, Any]:
    """Frames of any sort through the kernel's program: all that are ours are redirected, and what is, could be ours."""
    chance, answers = random.Random(int(seed)), {PASSED: 0, REDIRECTED: 0}
    run = load_libraries().bpf.bpf_prog_test_run_opts
    with closing(AfxdpCard("left", 0, LEFT, US.port_first)) as card:
        us = card.state.local
        for number in range(int(count)):
            frame = random_frame(chance)
            # The kernel tests no frame that is shorter than Ethernet's header.
            frame = frame.ljust(14, b"\0")
            told = _TestRun(ctypes.sizeof(_TestRun), frame, None, len(frame), repeat=1)
            failed = run(card.program, ctypes.byref(told))
            assert failed == 0, (failed, frame)
            kind = judge(frame, us._replace(mac=US.mac))[0]
            if kind in (FrameKind.DATAGRAM, FrameKind.ARP_REQUEST, FrameKind.ARP_REPLY):
                assert told.answer == REDIRECTED, (number, frame)
            if kind in (FrameKind.OTHER_TYPE, FrameKind.OTHER_ADDRESS, FrameKind.OTHER_PROTOCOL):
                assert told.answer == PASSED, (number, frame)
            answers[told.answer] += 1
    return {"passed": answers[PASSED] > 0, "redirected": answers[REDIRECTED] > 0}


def asked_too_often() -> dict[str, int]:
    """More ARP requests than can wait: so many are answered, and the others forgotten."""
    with closing(AfxdpCard("left", 0, LEFT, UDP_PORT)) as card, _packets("right") as wire:
        for _ in range(2 * ARP_SLOTS):
            wire.send(arp(1, THEM, 0, card.state.local.address, 0xFFFF_FFFF_FFFF))
        memory, deadline = BatchMemory(BURST_FRAMES, 64), time.monotonic() + PATIENCE_SECONDS
        while _kinds(card).get("ARP_REQUEST", 0) < 2 * ARP_SLOTS and time.monotonic() < deadline:
            receive_many(card.state, memory.batch.headers, BURST_FRAMES)
        answered = 0
        while attend(card.state) > 0:
            answered += 1
        return {"answered": answered}


def refused(routes: str) -> dict[str, str]:
    """What a user reads of interfaces that cannot be had."""
    told: dict[str, str] = {}
    for command in (f"address add 198.51.100.1/24 dev {routes}", "route add default via 198.51.100.2"):
        subprocess.run(["ip", *command.split()], check=True)

    def tell(name: str, *arguments: Any, **options: Any) -> None:
        try:
            AfxdpCard(*arguments, **options).close()
        except UserError as error:
            told[name] = str(error)

    tell("nowhere", "nowhere", 0, LEFT, UDP_PORT)
    tell("not said", "", 0, LEFT, UDP_PORT)
    tell("no address", "left", 0, "localhost", UDP_PORT)
    tell("no port", "left", 0, LEFT, 0)
    tell("no queue", "left", 900, LEFT, UDP_PORT)
    tell("zero-copy", "left", 0, LEFT, UDP_PORT, mode="zero-copy")
    tell("default route", routes, 0, LEFT, UDP_PORT)
    tell("forced", routes, 0, LEFT, UDP_PORT, force=True)
    with closing(AfxdpCard("left", 0, LEFT, UDP_PORT)):
        tell("busy", "left", 0, LEFT, UDP_PORT)
    tell("afterwards", "left", 0, LEFT, UDP_PORT)
    return told


def without_privileges() -> str:
    """What a user reads who may not do what it takes."""
    try:
        AfxdpCard("left", 0, LEFT, UDP_PORT).close()
    except UserError as error:
        return str(error)
    return ""


def program_on(interface: str) -> bool:
    """Whether a program hangs on an interface; the kernel says so only in its own namespace."""
    told = subprocess.run(["ip", "link", "show", interface], capture_output=True, text=True, check=True)
    return "xdp" in told.stdout


CASES: dict[str, Callable[..., Any]] = {
    case.__name__: case
    for case in (
        contract, reflector, client, holds, is_readable, wrong_frames, filtered, asked_too_often, refused,
        without_privileges, program_on,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](*sys.argv[2:])), flush=True)
