"""Frames of any sort through a card's queue and a port, held against an oracle, and nothing crashes, stalls or leaks.

The tests run a small part of it. The long version is a command::

    python -m tests.property.frame_campaign --frames 1000000

Frames are right, wrong in one field, damaged, cut, or no frames at all (``tests/ethernet_oracle.py``). They go through
DPDK's ring, 64 at a time. Of each burst, the port has to hand over exactly the payloads that the oracle finds in it, in
order; to count every frame as what the oracle calls it; to answer every ARP request; and to give every packet buffer
back. Equal seeds give equal frames.
"""

import argparse
import random
import time
from collections import Counter

from exchange.datagrams.batch import BatchMemory
from exchange.datagrams.frames import ARP_SLOTS, BURST_FRAMES
from exchange.datagrams.protocol import attend, receive_many
from exchange.dpdk.device import DpdkDevice
from exchange.dpdk.eal import EalConfig, start_eal
from exchange.dpdk.port import DpdkPort
from exchange.ethernet import FrameKind
from tests.ethernet_oracle import US, judge, random_frame
from tests.frame_injection import inject


def run_campaign(base_seed: int, frame_count: int) -> str:
    """Send as many frames; in the end what they were, in words. EAL is started and ended.

    Raises:
        AssertionError: the port and the oracle differ; the text says how to see it again.
    """
    eal = start_eal(EalConfig(devices=("net_ring0",), log_level="error"))
    device = DpdkDevice(eal, US.address, US.port_first)
    try:
        expected: Counter[FrameKind] = Counter()
        before, memory = device.buffers_available(), BatchMemory(BURST_FRAMES, 1536)
        port = device.port._replace(local=US)
        for begin in range(0, frame_count, BURST_FRAMES):
            chance = random.Random(f"{base_seed}/{begin}")
            burst = [random_frame(chance) for _ in range(min(BURST_FRAMES, frame_count - begin))]
            expected += _compare_burst(port, memory, burst, f"{base_seed}/{begin}")
        counted = {kind: count for kind, count in device.frame_counts().items() if count}
        assert counted == dict(expected), f"counted {counted}, expected {dict(expected)}"
        leaked = before - device.buffers_available()
        assert leaked == 0, f"{leaked} packet buffers are gone"
    finally:
        device.close()
        eal.close()
    kinds = ", ".join(f"{count:,} {kind.name.lower()}" for kind, count in sorted(counted.items()))
    return f"{frame_count:,} frames from seed {base_seed}: {kinds}; no packet buffer lost"


def _compare_burst(port: DpdkPort, memory: BatchMemory, burst: list[bytes], seed: str) -> Counter[FrameKind]:
    judged = [judge(frame, US) for frame in burst]
    assert inject(port, burst) == len(burst)
    count = receive_many(port, memory.batch.headers, BURST_FRAMES)
    got = [memory.payload(index) for index in range(count)]
    wanted = [payload for kind, payload in judged if kind == FrameKind.DATAGRAM]
    assert got == wanted, f"random.Random({seed!r}): got {got}, expected {wanted}"
    kinds = Counter(kind for kind, _ in judged)
    answered = 0
    while attend(port) > 0:
        answered += 1
    assert answered == min(kinds[FrameKind.ARP_REQUEST], ARP_SLOTS), f"random.Random({seed!r})"
    if answered:
        # The answers come round the ring, and are for somebody else.
        assert receive_many(port, memory.batch.headers, BURST_FRAMES) == 0
        kinds[FrameKind.OTHER_CARD] += answered
    return kinds


def main() -> None:
    """Read the options, run, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.frame_campaign", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="how many frames in all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    print(f"{run_campaign(options.seed, options.frames)}; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
