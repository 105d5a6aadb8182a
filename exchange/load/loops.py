"""The compiled loop of a load: send what is due, read what came, and account for every request.

One thread serves all sessions and never waits. A turn hands each session's due bytes to its socket with one call, then
reads every socket that has something. A request is *due* at its intended time whatever the exchange does, and its
answer counts from then: if the line was full, or this thread late, that is latency which a client would have had
(no coordinated omission, :mod:`exchange.bench.histogram`). With a *window* there are no intended times: a session sends
when fewer requests than that are unanswered, and an answer counts from the sending.

What becomes of a request is decided by what OUCH 5.0 says about its order:

========= ====================================================================================================
answered  Accepted, Replaced or Canceled says that it was done
rejected  Rejected, or the order that it would have replaced was cancelled instead
lapsed    the order that it names was filled before, and OUCH says nothing about a request that comes too late
========= ====================================================================================================

So ``sent == answered + rejected + lapsed + unanswered`` at all times. A lapsed request has no latency. Executions and
what else comes unasked is counted by itself.

Rules: owners of all memory are in :mod:`exchange.load.generator`. The loop ends when all is accounted for, at its
deadline, when the word STOP is not 0, or when a session fails; then that session's FAILURE says why."""

from typing import Any, Final, NamedTuple

from exchange.bench.histogram import bucket_index
from exchange.gateway.offsets import offsets_of
from exchange.load.requests import NOBODY, REQUEST_DTYPE
from exchange.native import (
    EPOLL_EVENT_BYTES,
    WOULD_BLOCK,
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
    socket_receive,
    socket_send,
    store_int64,
    store_uint8,
    unlikely,
)
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, OrderExecuted, OrderReplaced, Rejected
from exchange.wire.soupbintcp import (
    HEADER_BYTES,
    HEARTBEAT_INTERVAL_SECONDS,
    EndOfSession,
    SequencedData,
)
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRules, Trouble, find_packets

# the load's words
STOP: Final = 0
SENT: Final = 128
ANSWERED: Final = 136
REJECTED: Final = 144
LAPSED: Final = 152
MEASURED: Final = 160
"""Requests that were accounted for, of those that are not warm-up."""
LAST_NS: Final = 168
"""When the last of them was, from the run's start."""
EXECUTIONS: Final = 176
OTHERS: Final = 184
"""Sequenced messages that are neither answers nor executions."""
FULL: Final = 192
"""Sends for which the line had not room enough."""
FAILED: Final = 200
"""Sessions that have failed."""
DUE_COUNT: Final = 208
"""Requests that have become due."""
LOAD_BYTES: Final = 256

# a session's words, and its buffer
DESCRIPTOR: Final = 0
RECORDS: Final = 8
"""Address of its requests, and how many there are."""
COUNT: Final = 16
PACKETS: Final = 24
"""Address of their bytes, and how many of them the socket has taken."""
TAKEN: Final = 32
CREATORS: Final = 40
"""Address of the requests that took a number each; how many; and the first number."""
NUMBERS: Final = 48
FIRST_NUMBER: Final = 56
DUE: Final = 64
"""Requests that are due, that are sent, that are accounted for."""
NEXT: Final = 72
SETTLED: Final = 80
SENT_NS: Final = 88
"""When the socket last took something, for heartbeats."""
HEARTBEAT_LEFT: Final = 96
INPUT_END: Final = 104
FAILURE: Final = 112
"""0, or why the session has failed: one of the reasons below, or -errno."""
INPUT: Final = 128
INPUT_BYTES: Final = 1 << 16
SESSION_BYTES: Final = INPUT + INPUT_BYTES

CLOSED: Final = 1
ENDED: Final = 2
NOT_SOUPBINTCP: Final = 3

FEW: Final = 4
"""Up to so many sessions are read without asking which of them has something."""
EVENTS_MAX: Final = 256
PLACES_MAX: Final = 1024

_UNSENT: Final = 0
_UNANSWERED: Final = 1
_SETTLED: Final = 2

_FIELDS: Final[Any] = REQUEST_DTYPE.fields
RECORD_BYTES: Final = REQUEST_DTYPE.itemsize
INTENDED_NS: Final = int(_FIELDS["intended_ns"][1])
END_BYTES: Final = int(_FIELDS["end_bytes"][1])
ORDER: Final = int(_FIELDS["order"][1])
FOLLOWER: Final = int(_FIELDS["follower"][1])
STATE: Final = int(_FIELDS["state"][1])
OPEN_SHARES: Final = int(_FIELDS["open_shares"][1])
NUMBER: Final = int(_FIELDS["number"][1])

_ACCEPTED_MESSAGE: Final = offsets_of(OrderAccepted)
_REPLACED_MESSAGE: Final = offsets_of(OrderReplaced)
_CANCELED_MESSAGE: Final = offsets_of(OrderCanceled)
_EXECUTED_MESSAGE: Final = offsets_of(OrderExecuted)
_REJECTED_MESSAGE: Final = offsets_of(Rejected)
_SEQUENCED: Final = SequencedData.layout.type_byte
_END: Final = EndOfSession.layout.type_byte
_NO_TROUBLE: Final = int(Trouble.NONE)
_PLACE_BYTES: Final = PLACE_DTYPE.itemsize
_PACKET_TYPE: Final = 2
_BEAT_NS: Final = HEARTBEAT_INTERVAL_SECONDS * 1_000_000_000


class Load(NamedTuple):
    """All that the loop works on: addresses, and the plan of the run in nanoseconds from its start at ``start_ns``.

    ``latencies`` are counts of all answers, ``order_latencies`` of those to new orders alone. Requests before
    ``warmup_ns`` are not measured. ``window`` 0 keeps to the intended times; with another, nothing
    more becomes due after ``sending_ns``. The loop ends at ``deadline_ns`` at the latest.
    """

    words: int
    sessions: int
    session_count: int
    rules: PacketRules
    places: int
    epoll: int
    events: int
    heartbeat: int
    latencies: int
    order_latencies: int
    start_ns: int
    warmup_ns: int
    sending_ns: int
    deadline_ns: int
    window: int


@inlined
def _add(address: int, count: int) -> None:
    store_int64(address, load_int64(address) + count)


@inlined
def _record(session: int, index: int) -> int:
    return load_int64(session + RECORDS) + index * RECORD_BYTES


@kernel
def run_load(load: Load) -> None:
    """Run until there is nothing left to do."""
    while load_acquire(load.words + STOP) == 0 and load_int64(load.words + FAILED) == 0:
        elapsed_ns = monotonic_ns() - load.start_ns
        if elapsed_ns < 0:
            pause()
            continue
        settled, is_sending = 0, False
        for index in range(load.session_count):
            session = load.sessions + index * SESSION_BYTES
            _send(load, session, elapsed_ns)
            settled += load_int64(session + SETTLED)
            is_sending |= load_int64(session + DUE) < load_int64(session + COUNT)
        _read(load)
        is_sending &= load.window == 0 or elapsed_ns < load.sending_ns
        is_settled = not is_sending and settled == load_int64(load.words + DUE_COUNT)
        if is_settled or elapsed_ns > load.deadline_ns:
            return


@inlined
def _send(load: Load, session: int, elapsed_ns: int) -> None:
    """Let become due what is due, and hand the socket everything that it has not taken."""
    due, count = load_int64(session + DUE), load_int64(session + COUNT)
    before = due
    if load.window == 0:
        while due < count and load_int64(_record(session, due) + INTENDED_NS) <= elapsed_ns:
            due += 1
    elif elapsed_ns < load.sending_ns:
        limit = min(count, load_int64(session + SETTLED) + load.window)
        while due < limit:
            store_int64(_record(session, due) + INTENDED_NS, elapsed_ns)
            due += 1
    store_int64(session + DUE, due)
    _add(load.words + DUE_COUNT, due - before)
    if due == load_int64(session + NEXT):
        if unlikely(elapsed_ns - load_int64(session + SENT_NS) > _BEAT_NS):
            _send_heartbeat(load, session, elapsed_ns)
        return
    if unlikely(load_int64(session + HEARTBEAT_LEFT) > 0) and not _send_heartbeat(load, session, elapsed_ns):
        return
    taken = load_int64(session + TAKEN)
    wanted = load_int64(_record(session, due - 1) + END_BYTES) - taken
    sent = socket_send(load_int64(session + DESCRIPTOR), load_int64(session + PACKETS) + taken, wanted)
    if sent < wanted:
        if sent < 0 and sent != WOULD_BLOCK:
            _receive(load, session)  # what was said before the line broke says why
            _fail(load, session, sent)
            return
        _add(load.words + FULL, 1)
    if sent > 0:
        store_int64(session + TAKEN, taken + sent)
        store_int64(session + SENT_NS, elapsed_ns)
        _note_sent(load, session, due, taken + sent, elapsed_ns)


@inlined
def _note_sent(load: Load, session: int, due: int, taken: int, elapsed_ns: int) -> None:
    """Requests whose last byte the socket has taken are on their way."""
    following = load_int64(session + NEXT)
    while following < due and load_int64(_record(session, following) + END_BYTES) <= taken:
        record = _record(session, following)
        store_int64(record + STATE, _UNANSWERED)
        _add(load.words + SENT, 1)
        order = load_int64(record + ORDER)
        if order != NOBODY and _is_gone(_record(session, order)):
            _lapse(load, session, following, elapsed_ns)
        following += 1
    store_int64(session + NEXT, following)


@inlined
def _is_gone(order: int) -> bool:
    return load_int64(order + STATE) == _SETTLED and load_int64(order + OPEN_SHARES) == 0


@kernel
def _send_heartbeat(load: Load, session: int, elapsed_ns: int) -> bool:
    """Begin a heartbeat or send what is left of one; whether it is out."""
    left = load_int64(session + HEARTBEAT_LEFT)
    left = HEADER_BYTES if left == 0 else left
    sent = socket_send(load_int64(session + DESCRIPTOR), load.heartbeat + HEADER_BYTES - left, left)
    if sent < 0:
        if sent != WOULD_BLOCK:
            _fail(load, session, sent)
        return False
    store_int64(session + SENT_NS, elapsed_ns)
    store_int64(session + HEARTBEAT_LEFT, left - sent)
    return sent == left


@inlined
def _read(load: Load) -> None:
    if load.session_count <= FEW:
        for index in range(load.session_count):
            _receive(load, load.sessions + index * SESSION_BYTES)
    else:
        for index in range(epoll_poll(load.epoll, load.events, EVENTS_MAX)):
            session_index = epoll_event_data(load.events + index * EPOLL_EVENT_BYTES)
            _receive(load, load.sessions + session_index * SESSION_BYTES)


@inlined
def _receive(load: Load, session: int) -> None:
    """Receive once, and take what is whole."""
    end = load_int64(session + INPUT_END)
    received = socket_receive(load_int64(session + DESCRIPTOR), session + INPUT + end, INPUT_BYTES - end)
    if received <= 0:
        if received != WOULD_BLOCK:
            _fail(load, session, CLOSED if received == 0 else received)
        return
    _take_packets(load, session, end + received, monotonic_ns() - load.start_ns)


@kernel
def _take_packets(load: Load, session: int, end: int, elapsed_ns: int) -> None:
    begin = 0
    while True:
        packets = session + INPUT + begin
        count, consumed, trouble = find_packets(packets, end - begin, load.rules, load.places, PLACES_MAX)
        for index in range(count):
            packet = packets + load_int64(load.places + index * _PLACE_BYTES)
            kind = load_uint8(packet + _PACKET_TYPE)
            if kind == _SEQUENCED:
                _take_message(load, session, packet + HEADER_BYTES, elapsed_ns)
            elif kind == _END:
                _fail(load, session, ENDED)
        begin += consumed
        if trouble != _NO_TROUBLE:
            _fail(load, session, NOT_SOUPBINTCP)
        if trouble != _NO_TROUBLE or count < PLACES_MAX:
            break
    for index in range(end - begin):  # a piece of a packet
        store_uint8(session + INPUT + index, load_uint8(session + INPUT + begin + index))
    store_int64(session + INPUT_END, end - begin)


@inlined
def _fail(load: Load, session: int, reason: int) -> None:
    if load_int64(session + FAILURE) == 0:
        store_int64(session + FAILURE, reason)
        _add(load.words + FAILED, 1)


@inlined
def _creator(session: int, number: int) -> int:
    """The request that took a number, or :data:`NOBODY` if it was taken before this run."""
    index = number - load_int64(session + FIRST_NUMBER)
    if index < 0 or index >= load_int64(session + NUMBERS):
        return NOBODY
    return load_int64(load_int64(session + CREATORS) + 8 * index)


@kernel
def _take_message(load: Load, session: int, message: int, elapsed_ns: int) -> None:
    kind = load_uint8(message)
    number = load_big_endian_uint32(message + _ACCEPTED_MESSAGE.user_reference_number)
    if kind == _REPLACED_MESSAGE.type_byte:
        number = load_big_endian_uint32(message + _REPLACED_MESSAGE.user_reference_number)
    request = _creator(session, number)
    if request == NOBODY:
        _add(load.words + OTHERS, 1)
        return
    record = _record(session, request)
    if kind == _ACCEPTED_MESSAGE.type_byte:
        store_int64(record + OPEN_SHARES, load_big_endian_uint32(message + _ACCEPTED_MESSAGE.quantity))
        _settle(load, session, record, ANSWERED, elapsed_ns)
    elif kind == _REPLACED_MESSAGE.type_byte:
        store_int64(record + OPEN_SHARES, load_big_endian_uint32(message + _REPLACED_MESSAGE.quantity))
        store_int64(_record(session, load_int64(record + ORDER)) + OPEN_SHARES, 0)
        _settle(load, session, record, ANSWERED, elapsed_ns)
        _lapse_if_gone(load, session, record, elapsed_ns)
    elif kind == _REJECTED_MESSAGE.type_byte:
        _settle(load, session, record, REJECTED, elapsed_ns)
        _lapse_if_gone(load, session, record, elapsed_ns)
    elif kind == _CANCELED_MESSAGE.type_byte:
        _take_canceled(load, session, record, elapsed_ns)
    elif kind == _EXECUTED_MESSAGE.type_byte:
        _add(load.words + EXECUTIONS, 1)
        executed = load_big_endian_uint32(message + _EXECUTED_MESSAGE.quantity)
        store_int64(record + OPEN_SHARES, max(load_int64(record + OPEN_SHARES) - executed, 0))
        _lapse_if_gone(load, session, record, elapsed_ns)
    else:
        _add(load.words + OTHERS, 1)


@inlined
def _take_canceled(load: Load, session: int, order: int, elapsed_ns: int) -> None:
    """An order is gone, because a request asked for it or because it was immediate."""
    store_int64(order + OPEN_SHARES, 0)
    follower = load_int64(order + FOLLOWER)
    record = _record(session, follower)
    if follower == NOBODY or load_int64(record + STATE) != _UNANSWERED:
        _add(load.words + OTHERS, 1)
        return
    is_replace = load_int64(record + NUMBER) != 0
    _settle(load, session, record, REJECTED if is_replace else ANSWERED, elapsed_ns)
    _lapse_if_gone(load, session, record, elapsed_ns)


@inlined
def _settle(load: Load, session: int, record: int, outcome: int, elapsed_ns: int) -> None:
    """A request has its answer."""
    if unlikely(load_int64(record + STATE) != _UNANSWERED):
        _add(load.words + OTHERS, 1)
        return
    _account(load, session, record, outcome, elapsed_ns)
    intended_ns = load_int64(record + INTENDED_NS)
    if intended_ns >= load.warmup_ns:
        bucket = bucket_index(elapsed_ns - intended_ns)
        _add(load.latencies + 8 * bucket, 1)
        if load_int64(record + ORDER) == NOBODY:
            _add(load.order_latencies + 8 * bucket, 1)


@inlined
def _account(load: Load, session: int, record: int, outcome: int, elapsed_ns: int) -> None:
    store_int64(record + STATE, _SETTLED)
    _add(session + SETTLED, 1)
    _add(load.words + outcome, 1)
    if load_int64(record + INTENDED_NS) >= load.warmup_ns:
        _add(load.words + MEASURED, 1)
        store_int64(load.words + LAST_NS, elapsed_ns)


@inlined
def _lapse_if_gone(load: Load, session: int, order: int, elapsed_ns: int) -> None:
    if _is_gone(order):
        _lapse(load, session, load_int64(order + FOLLOWER), elapsed_ns)


@kernel
def _lapse(load: Load, session: int, request: int, elapsed_ns: int) -> None:
    """The order that a request names is gone, so the request comes to nothing, and so does who named its order."""
    while request != NOBODY:
        record = _record(session, request)
        if load_int64(record + STATE) != _UNANSWERED:
            return
        _account(load, session, record, LAPSED, elapsed_ns)
        request = load_int64(record + FOLLOWER)
