"""The compiled loop of a load: send what is due, read what came, and account for every request.

One thread serves all sessions and never waits, unless it is told to sleep until there is something to do. A turn hands
each session's due requests to its line, then reads every line that has something. Which line it is, TCP or another, is
a type (:mod:`exchange.load.protocol`): the loop is compiled for each, and here requests are only accounted for. A
request is *due* at its intended time whatever the exchange does, and its answer counts from then: if the line was full,
or this thread late, that is latency which a client would have had (no coordinated omission,
:mod:`exchange.bench.histogram`). With a *window* there are no intended times: a session sends when fewer requests than
that are unanswered, and an answer counts from the sending.

What becomes of a request is decided by what OUCH 5.0 says about its order:

========= ====================================================================================================
answered  Accepted, Replaced or Canceled says that it was done
rejected  Rejected, or the order that it would have replaced was cancelled instead
lapsed    the order that it names was filled before, and OUCH says nothing about a request that comes too late
========= ====================================================================================================

So ``sent == answered + rejected + lapsed + unanswered`` at all times. A lapsed request has no latency. Executions and
what else comes unasked is counted by itself.

Rules: owners of all memory are in :mod:`exchange.load.generator`. The loop ends when all is accounted for, at its
deadline, when the word STOP or LOST is not 0, or when a session fails; then that session's FAILURE says why. It may
begin again: what is due is due, also for a session that is AWAY, of which nothing is sent and received."""

from typing import Any, Final, NamedTuple

from exchange.bench.histogram import bucket_index
from exchange.gateway.offsets import offsets_of
from exchange.load.protocol import next_packets, receive, send
from exchange.load.requests import NOBODY, UNANSWERED
from exchange.load.requests import SETTLED as SETTLED_STATE
from exchange.load.words import (
    ANSWERED,
    ANSWERED_NS,
    AWAY,
    COUNT,
    CREATORS,
    DUE,
    DUE_COUNT,
    END_BYTES,
    ENDED,
    EXECUTIONS,
    FAILED,
    FIRST_NUMBER,
    FOLLOWER,
    INTENDED_NS,
    LAPSED,
    LAST_NS,
    LOST,
    MEASURED,
    NEXT,
    NUMBER,
    NUMBERS,
    OPEN_SHARES,
    ORDER,
    OTHERS,
    REJECTED,
    SENT,
    SETTLED,
    STATE,
    STOP,
    TIMEOUT,
    add,
    fail,
    record_of,
)
from exchange.native import (
    EPOLL_EVENT_BYTES,
    epoll_event_data,
    epoll_poll,
    inlined,
    kernel,
    load_acquire,
    load_big_endian_uint32,
    load_int64,
    load_uint8,
    monotonic_ns,
    pause,
    store_int64,
    system_call,
    unlikely,
)
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, OrderExecuted, OrderReplaced, Rejected
from exchange.wire.soupbintcp import HEADER_BYTES, EndOfSession, SequencedData
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE

NO_EPOLL: Final = -1
"""There is nothing to wait for: all sessions share a port without a descriptor."""
FEW: Final = 4
"""Up to so many sessions are read without asking which of them has something."""
EVENTS_MAX: Final = 256
SLEEP_NS_MAX: Final = 100_000_000
"""So often it is looked whether a heartbeat is due, or the end has come."""
_EPOLL_PWAIT2: Final = 441
"""The number of the system call, alike on all machines: epoll_wait(2) with nanoseconds, since Linux 5.11."""

_UNANSWERED: Final = UNANSWERED
_SETTLED: Final = SETTLED_STATE

_ACCEPTED_MESSAGE: Final = offsets_of(OrderAccepted)
_REPLACED_MESSAGE: Final = offsets_of(OrderReplaced)
_CANCELED_MESSAGE: Final = offsets_of(OrderCanceled)
_EXECUTED_MESSAGE: Final = offsets_of(OrderExecuted)
_REJECTED_MESSAGE: Final = offsets_of(Rejected)
_SEQUENCED: Final = SequencedData.layout.type_byte
_END: Final = EndOfSession.layout.type_byte
_PLACE_BYTES: Final = PLACE_DTYPE.itemsize
_PACKET_TYPE: Final = 2


class Account(NamedTuple):
    """Where the accounting writes: the load's words, counts of the latencies of all answers and of those to new orders.

    Requests before ``warmup_ns`` are not measured.
    """

    words: int
    latencies: int
    order_latencies: int
    warmup_ns: int


class Load(NamedTuple):
    """All that the loop works on: addresses, and the plan of the run in nanoseconds from its start at ``start_ns``.

    ``line`` is a line's state; each of ``session_count`` sessions has ``session_bytes`` of words. ``window`` 0 keeps to
    the intended times; with another, nothing more becomes due after ``sending_ns``. The loop ends at ``deadline_ns`` at
    the latest. ``sleeps``: not 0 to sleep in the kernel until a request is due or an answer has come.
    """

    line: Any
    account: Account
    words: int
    sessions: int
    session_count: int
    session_bytes: int
    epoll: int
    events: int
    start_ns: int
    sending_ns: int
    deadline_ns: int
    window: int
    sleeps: int = 0


@kernel
def run_load(load: Load) -> None:
    """Run until there is nothing left to do."""
    while not _is_stopped(load.words) and load_int64(load.words + FAILED) == 0:
        elapsed_ns = monotonic_ns() - load.start_ns
        if elapsed_ns < 0:
            pause()
            continue
        settled, is_sending = 0, False
        for index in range(load.session_count):
            session = load.sessions + index * load.session_bytes
            _send(load, session, elapsed_ns)
            settled += load_int64(session + SETTLED)
            is_sending |= load_int64(session + DUE) < load_int64(session + COUNT)
        _read(load, elapsed_ns)
        is_sending &= load.window == 0 or elapsed_ns < load.sending_ns
        is_settled = not is_sending and settled == load_int64(load.words + DUE_COUNT)
        if is_settled or elapsed_ns > load.deadline_ns:
            return
        if load.sleeps != 0:
            _sleep(load)


@inlined
def _is_stopped(words: int) -> bool:
    return load_acquire(words + STOP) != 0 or load_acquire(words + LOST) != 0


@kernel
def _sleep(load: Load) -> None:
    """Wait in the kernel until the next request is due, or something has come; an old kernel does not wait."""
    next_ns = monotonic_ns() - load.start_ns + SLEEP_NS_MAX
    for index in range(load.session_count):
        session = load.sessions + index * load.session_bytes
        due = load_int64(session + DUE)
        if due < load_int64(session + COUNT):
            next_ns = min(next_ns, load_int64(record_of(session, due) + INTENDED_NS))
    wait_ns = next_ns - (monotonic_ns() - load.start_ns)
    if wait_ns > 0 and load.epoll != NO_EPOLL:
        store_int64(load.words + TIMEOUT, 0)
        store_int64(load.words + TIMEOUT + 8, wait_ns)
        system_call(_EPOLL_PWAIT2, load.epoll, load.events, 1, load.words + TIMEOUT, 0, 0)


@inlined
def _send(load: Load, session: int, elapsed_ns: int) -> None:
    """Let become due what is due, and hand the line everything that it has not taken."""
    due, count = load_int64(session + DUE), load_int64(session + COUNT)
    before = due
    if load.window == 0:
        while due < count and load_int64(record_of(session, due) + INTENDED_NS) <= elapsed_ns:
            due += 1
    elif elapsed_ns < load.sending_ns:
        limit = min(count, load_int64(session + SETTLED) + load.window)
        while due < limit:
            store_int64(record_of(session, due) + INTENDED_NS, elapsed_ns)
            due += 1
    store_int64(session + DUE, due)
    add(load.words + DUE_COUNT, due - before)
    if unlikely(load_int64(session + AWAY) != 0):
        return
    taken = send(load.line, session, due, elapsed_ns)
    if unlikely(taken < 0):
        _receive(load, session, elapsed_ns)  # what was said before the line broke says why
        fail(load.words, session, taken)
    elif due > load_int64(session + NEXT):
        _note_sent(load, session, due, taken, elapsed_ns)


@inlined
def _note_sent(load: Load, session: int, due: int, taken: int, elapsed_ns: int) -> None:
    """Requests whose last byte the line has taken are on their way."""
    following = load_int64(session + NEXT)
    while following < due and load_int64(record_of(session, following) + END_BYTES) <= taken:
        record = record_of(session, following)
        store_int64(record + STATE, _UNANSWERED)
        add(load.words + SENT, 1)
        order = load_int64(record + ORDER)
        if order != NOBODY and _is_gone(record_of(session, order)):
            _lapse(load.account, session, following, elapsed_ns)
        following += 1
    store_int64(session + NEXT, following)


@inlined
def _is_gone(order: int) -> bool:
    return load_int64(order + STATE) == _SETTLED and load_int64(order + OPEN_SHARES) == 0


@inlined
def _read(load: Load, elapsed_ns: int) -> None:
    if load.session_count <= FEW or load.epoll == NO_EPOLL:
        for index in range(load.session_count):
            _receive(load, load.sessions + index * load.session_bytes, elapsed_ns)
    else:
        for index in range(epoll_poll(load.epoll, load.events, EVENTS_MAX)):
            session_index = epoll_event_data(load.events + index * EPOLL_EVENT_BYTES)
            _receive(load, load.sessions + session_index * load.session_bytes, elapsed_ns)


@inlined
def _receive(load: Load, session: int, elapsed_ns: int) -> None:
    """Receive once, and take what is whole."""
    if load_int64(session + AWAY) == 0 and receive(load.line, session, elapsed_ns) > 0:
        _take_packets(load, session, elapsed_ns, monotonic_ns() - load.start_ns)


@kernel
def _take_packets(load: Load, session: int, turn_ns: int, elapsed_ns: int) -> None:
    while True:
        packets, first, behind = next_packets(load.line, session, turn_ns)
        if first == behind:
            return
        for index in range(first, behind):
            packet = packets + load_int64(load.line.places + index * _PLACE_BYTES)
            kind = load_uint8(packet + _PACKET_TYPE)
            if kind == _SEQUENCED:
                _take_message(load.account, session, packet + HEADER_BYTES, elapsed_ns)
            elif kind == _END:
                fail(load.words, session, ENDED)


@inlined
def _creator(session: int, number: int) -> int:
    """The request that took a number, or :data:`NOBODY` if it was taken before this run."""
    index = number - load_int64(session + FIRST_NUMBER)
    if index < 0 or index >= load_int64(session + NUMBERS):
        return NOBODY
    return load_int64(load_int64(session + CREATORS) + 8 * index)


@kernel
def _take_message(account: Account, session: int, message: int, elapsed_ns: int) -> None:
    kind = load_uint8(message)
    number = load_big_endian_uint32(message + _ACCEPTED_MESSAGE.user_reference_number)
    if kind == _REPLACED_MESSAGE.type_byte:
        number = load_big_endian_uint32(message + _REPLACED_MESSAGE.user_reference_number)
    request = _creator(session, number)
    if request == NOBODY:
        add(account.words + OTHERS, 1)
        return
    record = record_of(session, request)
    if kind == _ACCEPTED_MESSAGE.type_byte:
        store_int64(record + OPEN_SHARES, load_big_endian_uint32(message + _ACCEPTED_MESSAGE.quantity))
        _settle(account, session, record, ANSWERED, elapsed_ns)
    elif kind == _REPLACED_MESSAGE.type_byte:
        store_int64(record + OPEN_SHARES, load_big_endian_uint32(message + _REPLACED_MESSAGE.quantity))
        store_int64(record_of(session, load_int64(record + ORDER)) + OPEN_SHARES, 0)
        _settle(account, session, record, ANSWERED, elapsed_ns)
        _lapse_if_gone(account, session, record, elapsed_ns)
    elif kind == _REJECTED_MESSAGE.type_byte:
        _settle(account, session, record, REJECTED, elapsed_ns)
        _lapse_if_gone(account, session, record, elapsed_ns)
    elif kind == _CANCELED_MESSAGE.type_byte:
        _take_canceled(account, session, record, elapsed_ns)
    elif kind == _EXECUTED_MESSAGE.type_byte:
        add(account.words + EXECUTIONS, 1)
        executed = load_big_endian_uint32(message + _EXECUTED_MESSAGE.quantity)
        store_int64(record + OPEN_SHARES, max(load_int64(record + OPEN_SHARES) - executed, 0))
        _lapse_if_gone(account, session, record, elapsed_ns)
    else:
        add(account.words + OTHERS, 1)


@inlined
def _take_canceled(account: Account, session: int, order: int, elapsed_ns: int) -> None:
    """An order is gone, because a request asked for it or because it was immediate."""
    store_int64(order + OPEN_SHARES, 0)
    follower = load_int64(order + FOLLOWER)
    record = record_of(session, follower)
    if follower == NOBODY or load_int64(record + STATE) != _UNANSWERED:
        add(account.words + OTHERS, 1)
        return
    is_replace = load_int64(record + NUMBER) != 0
    _settle(account, session, record, REJECTED if is_replace else ANSWERED, elapsed_ns)
    _lapse_if_gone(account, session, record, elapsed_ns)


@inlined
def _settle(account: Account, session: int, record: int, outcome: int, elapsed_ns: int) -> None:
    """A request has its answer."""
    if unlikely(load_int64(record + STATE) != _UNANSWERED):
        add(account.words + OTHERS, 1)
        return
    _account(account, session, record, outcome, elapsed_ns)
    store_int64(record + ANSWERED_NS, elapsed_ns)
    intended_ns = load_int64(record + INTENDED_NS)
    if intended_ns >= account.warmup_ns:
        bucket = bucket_index(elapsed_ns - intended_ns)
        add(account.latencies + 8 * bucket, 1)
        if load_int64(record + ORDER) == NOBODY:
            add(account.order_latencies + 8 * bucket, 1)


@inlined
def _account(account: Account, session: int, record: int, outcome: int, elapsed_ns: int) -> None:
    store_int64(record + STATE, _SETTLED)
    add(session + SETTLED, 1)
    add(account.words + outcome, 1)
    if load_int64(record + INTENDED_NS) >= account.warmup_ns:
        add(account.words + MEASURED, 1)
        store_int64(account.words + LAST_NS, elapsed_ns)


@inlined
def _lapse_if_gone(account: Account, session: int, order: int, elapsed_ns: int) -> None:
    if _is_gone(order):
        _lapse(account, session, load_int64(order + FOLLOWER), elapsed_ns)


@kernel
def _lapse(account: Account, session: int, request: int, elapsed_ns: int) -> None:
    """The order that a request names is gone, so the request comes to nothing, and so does who named its order."""
    while request != NOBODY:
        record = record_of(session, request)
        if load_int64(record + STATE) != _UNANSWERED:
            return
        _account(account, session, record, LAPSED, elapsed_ns)
        request = load_int64(record + FOLLOWER)
