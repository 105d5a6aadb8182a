"""What tests do with DPDK, each in a process of its own: ``python -m tests.dpdk_cases NAME ARGUMENTS``.

A case prints what it returns as the last line, as JSON; one that stays prints ``ready`` and ends with a line of input.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from exchange.datagrams.batch import BatchMemory
from exchange.datagrams.frames import BURST_FRAMES
from exchange.datagrams.neighbours import peer_of, resolve
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.datagrams.reflector import measure_echoes, measure_round_trips, reflect
from exchange.dpdk.device import DpdkDevice
from exchange.dpdk.eal import EalConfig, start_eal
from exchange.dpdk.port import PEER_QUEUE, DpdkPort
from exchange.errors import UserError
from exchange.ethernet import PAYLOAD_BYTES_MAX, FrameKind
from exchange.native import WOULD_BLOCK, address_of
from tests.ethernet_oracle import THEM, US, arp, datagram, judge
from tests.frame_injection import inject
from tests.port_contract import End, check_contract, send

ADDRESS = 0xC000_0201
UDP_PORT = 9005


def _open(stack: ExitStack, *devices: str, is_server: bool = True, **options: Any) -> list[DpdkDevice]:
    """EAL and its devices, each with the next address; they are closed with the stack, and before that are whole."""
    eal = start_eal(EalConfig(devices=devices, log_level="error"))
    stack.callback(eal.close)
    opened = []
    for index, device in enumerate(eal.devices):
        address = ADDRESS + index + (0 if is_server else 100)
        opened.append(DpdkDevice(eal, address, UDP_PORT, name=device.name, **options))
        stack.callback(opened[-1].close)
    return opened


def _end(device: DpdkDevice) -> End:
    return End(device.port, peer_of(device.port.local.address, UDP_PORT, device.mac), PAYLOAD_BYTES_MAX + 1)


def contract(*names: str) -> dict[str, int]:
    """The contract between two devices of this process, or between one and itself."""
    with ExitStack() as stack:
        devices = _open(stack, *names)
        before = [device.buffers_available() for device in devices]
        for device in devices:
            device.wait_for_link(30)
        ends = [_end(device) for device in devices]
        check_contract(ends[0], ends[-1])
        for end in ends:
            end.drain()
        after = [device.buffers_available() for device in devices]
        return {"leaked": sum(before) - sum(after)}


def reflector(name: str) -> dict[str, Any]:
    """A server: sends everything back until there is a line of input."""
    with ExitStack() as stack:
        [device] = _open(stack, name)
        before = device.buffers_available()
        stop, memory = np.zeros(1, np.int64), BatchMemory(BURST_FRAMES, 1536)
        stop[0] = 1
        reflect(device.port, memory.batch, address_of(stop))
        stop[0] = 0
        thread = threading.Thread(target=reflect, args=(device.port, memory.batch, address_of(stop)))
        thread.start()
        print("ready", flush=True)
        sys.stdin.readline()
        stop[0] = 1
        thread.join()
        counts = {kind.name: count for kind, count in device.frame_counts().items() if count}
        return {"leaked": before - device.buffers_available(), "frames": counts}


def client(
    name: str, rounds: str, duration_ms: str, window: str, payload_bytes: str = "64"
) -> dict[str, Any]:
    """Measure against a reflector at the other end of the wire."""
    with ExitStack() as stack:
        [device] = _open(stack, name, is_server=False, link_timeout_s=30)
        before = device.buffers_available()
        mac = resolve(device.port, ADDRESS, 30)
        outgoing, incoming = BatchMemory(BURST_FRAMES, 1536), BatchMemory(BURST_FRAMES, 1536)
        for index in range(BURST_FRAMES):
            outgoing.put(index, bytes(int(payload_bytes)), peer_of(ADDRESS, UDP_PORT, mac))
        latencies_ns = np.zeros(int(rounds), np.int64)
        arguments = (device.port, outgoing.batch, incoming.batch)
        measure_round_trips(*arguments, address_of(latencies_ns), min(1000, len(latencies_ns)))
        lost = measure_round_trips(*arguments, address_of(latencies_ns), len(latencies_ns))
        measure_echoes(*arguments, int(window), 1_000_000)
        back, deadline = 0, time.monotonic() + 30
        # On a busy machine the other process may not have had a turn in such a short time.
        while back == 0 and time.monotonic() < deadline:
            back, given_up, took_ns = measure_echoes(*arguments, int(window), int(duration_ms) * 1_000_000)
        _end(device).drain()
        p50, p99 = np.percentile(latencies_ns, [50, 99])
        return {
            "leaked": before - device.buffers_available(), "lost": lost, "p50_ns": p50, "p99_ns": p99,
            "echoes": back, "given_up": given_up, "echoes_per_second": back / took_ns * 1e9,
            "is_counted": device.statistics()["rx_good_packets"] >= back,
        }  # fmt: skip


def flooding_client(name: str) -> None:
    """Keep a reflector busy until killed."""
    with ExitStack() as stack:
        [device] = _open(stack, name, is_server=False, link_timeout_s=30)
        outgoing, incoming = BatchMemory(BURST_FRAMES, 1536), BatchMemory(BURST_FRAMES, 1536)
        peer = peer_of(ADDRESS, UDP_PORT, resolve(device.port, ADDRESS, 30))
        for index in range(BURST_FRAMES):
            outgoing.put(index, bytes(64), peer)
        measure_echoes(device.port, outgoing.batch, incoming.batch, 256, 1_000_000)
        print("ready", flush=True)
        measure_echoes(device.port, outgoing.batch, incoming.batch, 256, 1 << 60)


def comes_and_goes(name: str) -> dict[str, Any]:
    """Wait for a server that was killed, each time there is a line of input, and ask it something."""
    with ExitStack() as stack:
        [device] = _open(stack, name, is_server=False, link_timeout_s=120)
        end, answers = _end(device), 0
        print("ready", flush=True)
        while sys.stdin.readline().strip() == "again":
            device.wait_for_link(60)
            mac = resolve(device.port, ADDRESS, 30)
            end.drain()
            send(end, [b"are you there"], peer_of(ADDRESS, UDP_PORT, mac))
            answers += end.receive(1)[0][0] == b"are you there"
            print("ready", flush=True)
        return {"answers": answers}


def wrong_frames() -> dict[str, Any]:
    """One frame of each sort through a ring: what the port counts, and what it answers."""
    frames = [datagram(b"right", THEM, US), datagram(b"", THEM, US)]
    frames += [
        b"",
        bytes(13),
        datagram(b"x", THEM, US, destination_mac=THEM.mac),
        datagram(b"x", THEM, US, kind=0x86DD),
    ]
    frames += [arp(3, THEM, 0, US.address, US.mac), datagram(b"x", THEM, US, version=6)]
    damaged = bytearray(datagram(b"x", THEM, US))
    damaged[24] ^= 1
    frames += [bytes(damaged), datagram(b"x", THEM, US, destination=THEM.address)]
    frames += [datagram(b"x", THEM, US, fragment=1), datagram(b"x", THEM, US, protocol=6)]
    frames += [datagram(b"x", THEM, US, udp_bytes=7), datagram(b"xyz", THEM, US)[:-20].ljust(60, b"\1")]
    damaged = bytearray(datagram(b"some payload", THEM, US))
    damaged[45] ^= 1
    frames += [bytes(damaged), datagram(b"x", THEM, US, port=9004)]
    frames += [arp(1, THEM, 0, US.address, 0xFFFF_FFFF_FFFF), arp(2, THEM, US.mac, US.address, US.mac)]
    with ExitStack() as stack:
        [device] = _open(stack, "net_ring0")
        before = device.buffers_available()
        port, memory = device.port._replace(local=US), BatchMemory(BURST_FRAMES, 1536)
        assert inject(port, frames) == len(frames)
        count = receive_many(port, memory.batch.headers, BURST_FRAMES)
        payloads = [memory.payload(index).decode() for index in range(count)]
        counts = {kind.name: number for kind, number in device.frame_counts().items()}
        expected = dict.fromkeys((kind.name for kind in FrameKind), 0)
        for frame in frames:
            expected[judge(frame, US)[0].name] += 1
        answered = (attend(port), attend(port))
        # The answer is in the ring now, and is for those who asked.
        receive_many(port._replace(local=THEM), memory.batch.headers, BURST_FRAMES)
        replies = device.frame_counts()[FrameKind.ARP_REPLY] - counts["ARP_REPLY"]
        return {
            "payloads": payloads, "is_as_expected": counts == expected, "answered": answered, "replies": replies,
            "leaked": before - device.buffers_available(), "kinds": sum(number > 0 for number in counts.values()),
        }  # fmt: skip


def capture(incoming: str, outgoing: str) -> dict[str, Any]:
    """Answer every datagram of a captured file; the answers are captured in another."""
    with ExitStack() as stack:
        [device] = _open(stack, f"net_pcap0,rx_pcap={incoming},tx_pcap={outgoing}")
        port, memory = device.port._replace(local=US), BatchMemory(BURST_FRAMES, 1536)
        payloads = []
        while (count := receive_many(port, memory.batch.headers, BURST_FRAMES)) > 0:
            for index in range(count):
                payloads.append(memory.payload(index))
                memory.put(index, payloads[-1][::-1], memory.peer(index))
            assert _send(port, memory, count) == count
            memory = BatchMemory(BURST_FRAMES, 1536)
        return {"payloads": [payload.hex() for payload in payloads], "answered": attend(port)}


def _send(port: DpdkPort, memory: BatchMemory, count: int) -> int:
    return send_many(port, memory.batch.headers, count)


def kept_as_it_was() -> dict[str, Any]:
    """What starting EAL leaves of affinity and signals, and that its threads keep to their core."""
    core = min(os.sched_getaffinity(0))
    signal.signal(signal.SIGUSR1, lambda *_: None)
    before = (
        os.sched_getaffinity(0),
        signal.getsignal(signal.SIGUSR1),
        _caught(),
        signal.pthread_sigmask(0, ()),
    )
    mine = set(os.listdir("/proc/self/task"))
    config = EalConfig(devices=("net_ring0",), log_level="error", control_cores=(core,))
    with closing(start_eal(config)) as eal:
        after = (
            os.sched_getaffinity(0),
            signal.getsignal(signal.SIGUSR1),
            _caught(),
            signal.pthread_sigmask(0, ()),
        )
        others = set(os.listdir("/proc/self/task")) - mine
        stray = [task for task in others if os.sched_getaffinity(int(task)) != {core}]
        is_same = start_eal(config) is eal
        try:
            start_eal(EalConfig(devices=("net_ring1",)))
            is_refused = False
        except RuntimeError:
            is_refused = True
        prefix = Path("/var/run/dpdk", f"exchange-{os.getpid()}")
    return {
        "is_kept": before == after, "threads": len(others) > 0, "stray": stray, "is_same": is_same,
        "is_refused": is_refused, "litter": [str(prefix)] if prefix.exists() else [],
    }  # fmt: skip


def _caught() -> list[str]:
    """The signals that are caught and ignored, as the kernel has them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return [line for line in lines if line.startswith(("SigCgt", "SigIgn"))]


def threads_come_and_go(count: str) -> dict[str, Any]:
    """More threads than DPDK has room for, one after the other: each is registered, and unregistered when it ends."""
    with ExitStack() as stack:
        [device] = _open(stack, "net_ring0")
        before, end = device.buffers_available(), _end(device)
        got: list[bytes] = []

        def body() -> None:
            memory = BatchMemory(1, 64)
            memory.put(0, b"hello", end.peer)
            _send(device.port, memory, 1)
            got.extend(payload for payload, _ in end.receive(1))

        for _ in range(int(count)):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
        return {"got": len(got), "leaked": before - device.buffers_available()}


def small_pool() -> dict[str, Any]:
    """With fewer packet buffers than the ring has room for: they run out, sending is refused, and all come back."""
    with ExitStack() as stack:
        [device] = _open(stack, "net_ring0", buffers=1024)
        before, end = device.buffers_available(), _end(device)
        memory = BatchMemory(BURST_FRAMES, 64)
        for index in range(BURST_FRAMES):
            memory.put(index, b"x", end.peer)
        sent = [_send(device.port, memory, BURST_FRAMES) for _ in range(64)]
        drained = end.drain()
        return {
            "is_refused": sent[-1] == WOULD_BLOCK, "is_whole": drained == sum(count for count in sent if count > 0),
            "leaked": before - device.buffers_available(), "is_counted": device.sent_counts()[1] > 0,
        }  # fmt: skip


def several_queues(receiving: str, sending: str) -> dict[str, Any]:
    """Datagrams from many ports to a card with two queues: each port's come to one of them, and both get some."""
    with ExitStack() as stack:
        names = (receiving, sending)
        eal = start_eal(EalConfig(devices=names, log_level="error"))
        stack.callback(eal.close)
        two = DpdkDevice(eal, ADDRESS, UDP_PORT, name=eal.devices[0].name, queues=2)
        stack.callback(two.close)
        one = DpdkDevice(eal, ADDRESS + 1, UDP_PORT, name=eal.devices[1].name)
        stack.callback(one.close)
        ends = [End(port, b"", PAYLOAD_BYTES_MAX + 1) for port in two.ports]
        memory = BatchMemory(1, 64)
        found: dict[str, list[int]] = {}
        for flow in range(64):
            local = one.port.local._replace(port_first=20_000 + flow % 32)
            memory.put(0, b"%d" % (flow % 32), peer_of(ADDRESS, UDP_PORT, two.mac))
            assert _send(one.port._replace(local=local), memory, 1) == 1
            queue, text = _first_of(ends)
            found.setdefault(text, []).append(queue)
        mac = _resolved(one, two)
        return {
            "flows": len(found), "split": [text for text, queues in found.items() if len(set(queues)) > 1],
            "used": sorted({queue for queues in found.values() for queue in queues}), "is_found": mac == two.mac,
        }  # fmt: skip


def two_queues_reflector(name: str) -> dict[str, Any]:
    """Sends everything back, each on the queue beside that on which it came, until there is a line of input."""
    with ExitStack() as stack:
        [device] = _open(stack, name, queues=2)
        ends = [End(port, b"", PAYLOAD_BYTES_MAX + 1) for port in device.ports]
        stop, came = threading.Event(), [0, 0]

        def serve() -> None:
            while not stop.is_set():
                attend(device.port)
                for queue, end in enumerate(ends):
                    if receive_many(end.port, end.memory.batch.headers, 1) == 1:
                        came[queue] += 1
                        send(ends[0], [end.memory.payload(0)], end.memory.peer(0))

        thread = threading.Thread(target=serve)
        thread.start()
        print("ready", flush=True)
        sys.stdin.readline()
        stop.set()
        thread.join()
        return {"came": came}


def two_queues_client(name: str) -> dict[str, Any]:
    """Asks on one queue and on the other; on which the answers come."""
    with ExitStack() as stack:
        [device] = _open(stack, name, is_server=False, link_timeout_s=60, queues=2)
        peer = peer_of(ADDRESS, UDP_PORT, resolve(device.port, ADDRESS, 60))
        ends = [End(port, b"", PAYLOAD_BYTES_MAX + 1) for port in device.ports]
        answered = [[0, 0], [0, 0]]
        for number in range(100):
            asked = number % 2
            send(ends[0], [b"%d" % number], peer[:PEER_QUEUE] + asked.to_bytes(2, "little"))
            queue, text = _first_of(ends)
            assert text == f"{number}"
            answered[asked][queue] += 1
        return {"answered": answered}


def _first_of(ends: list[End]) -> tuple[int, str]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for queue, end in enumerate(ends):
            if receive_many(end.port, end.memory.batch.headers, 1) == 1:
                return queue, end.memory.payload(0).decode()
    raise AssertionError("nothing came")


def _resolved(asking: DpdkDevice, asked: DpdkDevice) -> int:
    """Ask for a card by ARP, while a thread of its own serves it."""
    stop, memory = threading.Event(), BatchMemory(1, 64)

    def serve() -> None:
        while not stop.is_set():
            for port in asked.ports:
                receive_many(port, memory.batch.headers, 1)
            attend(asked.port)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return resolve(asking.port, asked.port.local.address, 30)
    finally:
        stop.set()
        thread.join()


def refused(socket: str) -> dict[str, str]:
    """What a user reads of devices that cannot be had, and of an address that nobody has."""
    told: dict[str, str] = {}

    def tell(name: str, what: Callable[[], Any]) -> None:
        try:
            what()
        except UserError as error:
            told[name] = str(error)

    with ExitStack() as stack:
        devices = (f"net_memif0,role=client,socket={socket}", "net_ring0")
        eal = start_eal(EalConfig(devices=devices, log_level="alert"))
        stack.callback(eal.close)
        tell("nobody serves", lambda: DpdkDevice(eal, ADDRESS, UDP_PORT, link_timeout_s=0.1))
        tell("unknown", lambda: DpdkDevice(eal, ADDRESS, UDP_PORT, name="net_ring1"))
        tell("buffers", lambda: DpdkDevice(eal, ADDRESS, UDP_PORT, name="net_ring0", buffers=10))
        tell("memory", lambda: DpdkDevice(eal, ADDRESS, UDP_PORT, name="net_ring0", buffers=1 << 20))
        tell("queues", lambda: DpdkDevice(eal, ADDRESS, UDP_PORT, name="net_ring0", queues=17))
        ring = DpdkDevice(eal, ADDRESS, UDP_PORT, name="net_ring0")
        stack.callback(ring.close)
        tell("nobody answers", lambda: resolve(ring.port, ADDRESS + 1, 0.1, "load.address"))
    return told


def not_started(device: str) -> str:
    """What a user reads of a device that DPDK cannot make."""
    try:
        start_eal(EalConfig(devices=(device,), log_level="alert"))
    except UserError as error:
        return str(error)
    return ""


CASES: dict[str, Callable[..., Any]] = {
    case.__name__: case
    for case in (
        contract, reflector, client, flooding_client, comes_and_goes, wrong_frames, capture,
        kept_as_it_was, threads_come_and_go, small_pool, several_queues, refused, not_started,
        two_queues_reflector, two_queues_client,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](*sys.argv[2:])), flush=True)
