"""What a port is worth by itself: a loop that sends every datagram back, and two that measure against it.

* :func:`reflect` sends each datagram to where it came from.
* :func:`measure_round_trips` sends one datagram, waits for it, notes how long that took, and does so again.
* :func:`measure_echoes` keeps many on their way and counts how many come back.
* :func:`discard` is called between measurements: it throws away what is still on its way.

No exchange is in between, so what is measured is the transport: twice through the port here, twice through the port
there, and what is between them.

Rules: the loops spin, so they belong on cores of their own. A datagram that is lost is counted and sent anew, never
waited for forever. What comes back late is not taken for the answer to another one: each that is timed carries the time
at which it was sent in its first eight bytes, so its payload has as many at least.
"""

from typing import Any, Final

from exchange.datagrams.batch import Batch, give_all_room
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.native import (
    VECTOR_BYTES,
    WOULD_BLOCK,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_uint32,
    monotonic_ns,
    pause,
    store_int64,
)
from exchange.native.datagram_headers import MESSAGE_HEADER_BYTES, SIZE_BYTES, VECTOR_LENGTH

LOST_NS: Final = 1_000_000_000
"""A datagram that is not back by then is lost."""

ECHO_LOST_NS: Final = 50_000_000
"""If nothing has come back for so long while many are on their way, all of them are given up and sent anew."""

STAMP_BYTES: Final = 8

BURST_DATAGRAMS: Final = 64
"""How many are received and sent together at most: as many as a card's port takes."""


@kernel
def reflect(port: Any, batch: Batch, stop: int) -> int:
    """Send every datagram back until the word at ``stop`` is not 0; how many that were."""
    reflected = 0
    give_all_room(batch)
    while load_acquire(stop) == 0:
        count = receive_many(port, batch.headers, batch.capacity)
        if count > 0:
            for index in range(count):
                size_bytes = load_uint32(batch.headers + index * MESSAGE_HEADER_BYTES + SIZE_BYTES)
                store_int64(batch.vectors + index * VECTOR_BYTES + VECTOR_LENGTH, size_bytes)
            reflected += _send_all(port, batch, count, stop)
            give_all_room(batch)
        else:
            pause()
        attend(port)
    return reflected


@kernel
def _send_all(port: Any, batch: Batch, count: int, stop: int) -> int:
    done = sent = 0
    while done < count and load_acquire(stop) == 0:
        taken = send_many(port, batch.headers + done * MESSAGE_HEADER_BYTES, count - done)
        if taken > 0:
            done, sent = done + taken, sent + taken
        elif taken == WOULD_BLOCK:
            pause()
        else:
            done += 1
    return sent


@kernel
def measure_round_trips(port: Any, outgoing: Batch, incoming: Batch, latencies_ns: int, rounds: int) -> int:
    """The time from before the first of ``outgoing`` is sent until it is back, ``rounds`` times.

    Args:
        port: has a reflector at the other end.
        outgoing: its first datagram is ready to be sent, and has :data:`STAMP_BYTES` bytes that are ours to write.
        incoming: room for one.
        latencies_ns: the address of ``rounds`` words.
        rounds: how many.

    Returns:
        How many were lost; their latency is :data:`LOST_NS`.
    """
    lost = 0
    for index in range(rounds):
        begin_ns = monotonic_ns()
        store_int64(outgoing.places, begin_ns)
        _send_one(port, outgoing, begin_ns)
        while not _is_back(port, incoming, begin_ns) and monotonic_ns() - begin_ns < LOST_NS:
            attend(port)
        latency_ns = monotonic_ns() - begin_ns
        lost += 1 if latency_ns >= LOST_NS else 0
        store_int64(latencies_ns + 8 * index, min(latency_ns, LOST_NS))
    return lost


@inlined
def _send_one(port: Any, outgoing: Batch, begin_ns: int) -> None:
    while send_many(port, outgoing.headers, 1) <= 0 and monotonic_ns() - begin_ns < LOST_NS:
        attend(port)


@inlined
def _is_back(port: Any, incoming: Batch, stamp: int) -> bool:
    return receive_many(port, incoming.headers, 1) > 0 and load_int64(incoming.places) == stamp


@kernel
def measure_echoes(
    port: Any, outgoing: Batch, incoming: Batch, window: int, duration_ns: int
) -> tuple[int, int, int]:
    """Keep up to ``window`` datagrams on their way for ``duration_ns``.

    Returns:
        How many came back, how many were given up as lost, and how long it took, in nanoseconds.
    """
    begin_ns = progress_ns = time_ns = monotonic_ns()
    flying = back = lost = 0
    while time_ns - begin_ns < duration_ns:
        if flying < window:
            sent = send_many(port, outgoing.headers, min(window - flying, outgoing.capacity))
            flying += max(sent, 0)
        came = receive_many(port, incoming.headers, incoming.capacity)
        time_ns = monotonic_ns()
        if came > 0:
            back, flying, progress_ns = back + came, max(flying - came, 0), time_ns
        elif time_ns - progress_ns > ECHO_LOST_NS:
            lost, flying, progress_ns = lost + flying, 0, time_ns
        attend(port)
    return back, lost, time_ns - begin_ns


@kernel
def discard(port: Any, incoming: Batch, quiet_ns: int) -> int:
    """Receive until nothing has come for ``quiet_ns``; how many datagrams that were."""
    discarded, last_ns = 0, monotonic_ns()
    while monotonic_ns() - last_ns < quiet_ns:
        came = receive_many(port, incoming.headers, incoming.capacity)
        if came > 0:
            discarded, last_ns = discarded + came, monotonic_ns()
        attend(port)
    return discarded
