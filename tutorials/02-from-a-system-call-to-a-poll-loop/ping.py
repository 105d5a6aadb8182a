"""A datagram there and back, in plain Python: ``python ping.py blocking`` or ``python ping.py polled``.

Two processes, each on a core of its own. The child sends back what comes; the parent sends a datagram, waits for it and
takes the time. The only difference between the two is how they wait: in the kernel, until somebody wakes them, or by
asking it again and again.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import time
from typing import Final

ROUND_TRIPS: Final = 20_000
PAYLOAD: Final = bytes(18)
"""With the headers of UDP, IP and Ethernet that is a frame of 64 bytes, the smallest there is."""


def open_socket(*, is_polled: bool) -> socket.socket:
    """A socket on a free port of this machine."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    opened.setblocking(not is_polled)
    return opened


def receive(opened: socket.socket) -> tuple[bytes, tuple[str, int]]:
    """The next datagram and where it is from. On a blocking socket the loop is gone through once."""
    while True:
        try:
            return opened.recvfrom(2048)
        except BlockingIOError:
            pass


def reflect(opened: socket.socket, core: int) -> None:
    """Send back what comes, until an empty datagram does."""
    os.sched_setaffinity(0, {core})
    while True:
        data, peer = receive(opened)
        if not data:
            return
        opened.sendto(data, peer)


def measure(opened: socket.socket, peer: tuple[str, int], round_trips: int) -> list[int]:
    """How many nanoseconds each round trip took."""
    times_ns = []
    for _ in range(round_trips):
        begin_ns = time.perf_counter_ns()
        opened.sendto(PAYLOAD, peer)
        receive(opened)
        times_ns.append(time.perf_counter_ns() - begin_ns)
    return times_ns


def main() -> None:
    """Measure one way of waiting, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wait", choices=["blocking", "polled"])
    parser.add_argument("--round-trips", type=int, default=ROUND_TRIPS)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    is_polled = arguments.wait == "polled"
    theirs, ours = open_socket(is_polled=is_polled), open_socket(is_polled=is_polled)
    child = multiprocessing.get_context("fork").Process(target=reflect, args=(theirs, cores[-1]), daemon=True)
    child.start()
    os.sched_setaffinity(0, {cores[0]})
    peer = theirs.getsockname()
    measure(ours, peer, arguments.round_trips // 10)  # warm-up
    times_ns = sorted(measure(ours, peer, arguments.round_trips))
    ours.sendto(b"", peer)
    child.join()
    median_ns, p99_ns = statistics.median(times_ns), times_ns[len(times_ns) * 99 // 100]
    print(f"{arguments.wait}: median {median_ns / 1e3:.1f} us, p99 {p99_ns / 1e3:.1f} us")


if __name__ == "__main__":
    main()
