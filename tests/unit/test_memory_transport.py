"""The commands that lie in memory: how many are due, also while somebody says when they are."""

import os
import threading
import time

import numpy as np
import pytest

from exchange.messages import COMMAND_DTYPE, RECORD_BYTES
from exchange.native import Arena, kernel, load_acquire, monotonic_ns, store_release
from exchange.transport.memory import NEVER_NS, MemoryTransport
from exchange.transport.protocol import consume, receive

LIMIT = 64
COMMANDS = 20_000


def transport_of(due_ns: object) -> MemoryTransport:
    lane = np.zeros(COMMANDS, COMMAND_DTYPE)
    lane["timestamp_ns"] = due_ns
    return MemoryTransport([lane])


@pytest.mark.parametrize("due", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, COMMANDS])
def test_what_is_due_is_given_up_to_the_limit(due: int) -> None:
    """The commands behind it are due in an hour."""
    hour_ns = 3_600_000_000_000
    transport = transport_of(np.where(np.arange(COMMANDS) < due, 0, monotonic_ns() + hour_ns))
    source = transport.source(0)
    taken = 0
    while (found := receive(source, LIMIT))[1] > 0:
        assert found[0] == source.commands + taken * RECORD_BYTES
        assert found[1] == min(LIMIT, due - taken)
        consume(source, found[1])
        taken += found[1]
    assert taken == due


@kernel
def watch(source: object, limit: int, stop: int) -> int:
    """Receive until the stop word is set, and take nothing; how many there were at most."""
    most = 0
    while load_acquire(stop) == 0:
        most = max(most, receive(source, limit)[1])
    return most


def test_a_start_that_is_told_while_the_exchange_runs_has_no_more_come_than_were_asked_for() -> None:
    """On one core, so that the one is often interrupted by the other between two looks."""
    transport = transport_of(0)
    transport.start_at(NEVER_NS)
    arena = Arena.private(4096, huge_pages="never")
    stop = arena.allocate(64)
    found: list[int] = []
    source = transport.source(0)
    store_release(stop, 1)
    assert watch(source, LIMIT, stop) == 0  # compiled
    store_release(stop, 0)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # also of the thread that is started here
    thread = threading.Thread(target=lambda: found.append(watch(source, LIMIT, stop)))
    thread.start()
    try:
        begun = time.monotonic()
        while time.monotonic() < begun + 2.0:
            transport.start_at(-NEVER_NS)
            transport.start_at(NEVER_NS)
    finally:
        store_release(stop, 1)
        thread.join()
        os.sched_setaffinity(0, cores)
    assert found == [LIMIT]
