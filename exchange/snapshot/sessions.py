"""The clients' sessions in a snapshot: what a client may count on after its connection, and the exchange, have gone.

================== ========================== ======================================================================
section            records                    what
================== ========================== ======================================================================
sessions/shape     one                        how many orders and how much log a session has
sessions/table     one for each session       user, last numbers, what is under way, how many records are its
sessions/orders    one for each live order    where in the session's order table it is, its number, both its halves
sessions/tokens    one for each order token   where in the session's index it is, the token, the number
sessions/logs      the bytes of all logs      every message that the session was sent, framed; one log after the other
================== ========================== ======================================================================

A live order is put back into the very place of the table that it had, and a token into its slot: a mass cancel that is
under way goes through the table place by place, and which order finds no room depends on who is in its set. Orders that
are dead are left out: a place that nobody was ever in and one whose order is finished are the same to who looks for
one. The index of a log is not saved, it follows from the packets.

Not saved is what belongs to a connection: :data:`OF_THE_CONNECTION` lists every such word, so that somebody who gives a
session another word has to say which it is.

**Whose session is it?** A session has the number of its user's place, and that number is part of every order's id, in
the books and at the client. So the users have to be in the order in which they were saved, with new ones behind;
who keeps sessions longer than a day has to see to that (:mod:`exchange.recovery.kept`).

Rules: see :mod:`exchange.snapshot`. The sessions have the same settings, and no connection yet."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.gateway import session_memory as words
from exchange.gateway.order_table import FINISHED
from exchange.gateway.session_log import HEADER_BYTES, SEQUENCED
from exchange.gateway.session_memory import (
    INDEX_ENTRY_BYTES,
    INPUT,
    INPUT_BYTES,
    LOG_END,
    LOG_MESSAGES,
    MESSAGE_BYTES_MIN,
    ORDER_BYTES,
    TOKENS,
    WAYS,
    SessionMemory,
    Sessions,
)
from exchange.gateway.token_index import HEADER_BYTES as TOKENS_HEADER_BYTES
from exchange.gateway.token_index import SHIFT, SLOT_BYTES
from exchange.native import (
    kernel,
    load_big_endian_uint16,
    load_int64,
    load_uint8,
    store_uint32,
    view_bytes,
)
from exchange.snapshot.sections import BadSnapshot, SectionFile, SectionWriter

SAVED: Final[dict[str, tuple[int, str]]] = {
    "killed": (words.KILLED, "<i8"),
    "last_user_reference": (words.LAST_USER_REFERENCE, "<i8"),
    "requests": (words.REQUESTS, "<i8"),
    "cancel_due": (words.CANCEL_DUE, "<i8"),
    "disabled_firms": (words.DISABLED_FIRMS, f"({words.DISABLED_FIRMS_MAX},)<u4"),
    "cancel_place": (words.CANCEL_PLACE, "<u4"),
    "cancel_firm": (words.CANCEL_FIRM, "<u4"),
    "cancel_group_id": (words.CANCEL_GROUP_ID, "<i8"),
    "cancel_symbol_id": (words.CANCEL_SYMBOL_ID, "<u2"),
    "cancel_side": (words.CANCEL_SIDE, "u1"),
    "log_end": (LOG_END, "<i8"),
    "log_messages": (LOG_MESSAGES, "<i8"),
    "lost_messages": (words.LOST_MESSAGES, "<i8"),
}
"""The words of a session that are saved: where they are, and what."""

OF_THE_CONNECTION: Final = frozenset(
    {
        words.CONNECTION, words.CLOSING, words.DESCRIPTOR, words.START, words.TOKEN, words.PEER, words.START_SEQUENCE,
        words.LANE,
        words.IN_ADOPTED, words.IN_RELEASED, words.IN_REASON, words.INPUT_BEGIN, words.INPUT_END, words.RECEIVED_NS,
        words.OUT_ADOPTED, words.OUT_RELEASED, words.OUT_REASON, words.SENT, words.SENT_NS, words.RETRY_NS,
        words.IS_LISTED, words.HEARTBEAT_LEFT, words.BLOCKED_NS, words.BLOCKED_BYTES, words.SENT_SEQUENCE, words.KEPT,
        words.KEPT_END, words.OWED_SEEN, words.AGAIN_SEEN, words.PATIENCE_NS, words.IN_NEXT, words.IN_OWED,
        words.ACKNOWLEDGED, words.WANTED_AGAIN, words.ASKED_FOR, words.ASKED_NS, words.IS_STALLED,
    }
)  # fmt: skip
"""The words that begin anew with the next connection."""

OF_THE_USER: Final = frozenset({words.CANCELS_ON_DISCONNECT, words.TOKENS})
"""And those that follow from the file of users when the sessions are made."""

SHAPE_DTYPE: Final = np.dtype([("sessions", "<i8"), ("capacity_orders", "<i8"), ("log_bytes", "<i8")])

WORDS_DTYPE: Final = np.dtype(
    {
        "names": list(SAVED),
        "formats": [one for _, one in SAVED.values()],
        "offsets": [offset for offset, _ in SAVED.values()],
        "itemsize": INPUT,
    }
)
"""A session's words, as they lie in its memory."""

SESSION_DTYPE: Final = np.dtype(
    [
        ("user", "S16"),
        ("speaks_ouch42", "<i8"),
        ("orders", "<i8"),
        ("tokens", "<i8"),
        *((name, one) for name, (_, one) in SAVED.items()),
    ]
)
ORDER_DTYPE: Final = np.dtype([("place", "<i8"), ("number", "<i8"), ("order", "<i8", (ORDER_BYTES // 8,))])
TOKEN_DTYPE: Final = np.dtype([("slot", "<i8"), ("first", "<i8"), ("second", "<i8"), ("number", "<i8")])


_VERSIONS: Final = ("OUCH 5.0", "OUCH 4.2")


def save_sessions(writer: SectionWriter, memory: SessionMemory, names: Sequence[str]) -> None:
    """Write the sessions.

    Args:
        writer: of the snapshot.
        memory: of all sessions.
        names: for each session its user's.
    """
    sessions = memory.sessions
    assert len(names) == sessions.session_count
    table = np.zeros(len(names), SESSION_DTYPE)
    for name in SAVED:
        table[name] = _session_words(sessions)[name]
    writer.write(
        "sessions/shape", np.array([(len(names), sessions.sets * WAYS, sessions.log_bytes)], SHAPE_DTYPE)
    )
    writer.begin("sessions/orders")
    for session_id, name in enumerate(names):
        orders = _live_orders(sessions, memory.address(session_id))
        table[session_id]["user"], table[session_id]["orders"] = name, len(orders)
        writer.append(orders)
    writer.begin("sessions/tokens")
    for session_id in range(len(names)):
        index = load_int64(memory.address(session_id) + TOKENS)
        tokens = _tokens_of(index) if index else np.zeros(0, TOKEN_DTYPE)
        table[session_id]["speaks_ouch42"], table[session_id]["tokens"] = index != 0, len(tokens)
        writer.append(tokens)
    writer.begin("sessions/logs")
    for session_id in range(len(names)):
        size_bytes = int(table[session_id]["log_end"])
        if size_bytes:
            log = memory.address(session_id) + sessions.log_offset
            writer.append(np.frombuffer(view_bytes(log, size_bytes), np.uint8))
    writer.write("sessions/table", table)


def restore_sessions(file: SectionFile, memory: SessionMemory, names: Sequence[str]) -> None:
    """Put the sessions back; those of users that are new stay empty.

    Args:
        file: the snapshot.
        memory: of all sessions, as it was made; those that speak OUCH 4.2 have been told so.
        names: for each session its user's: those who were saved, in their order, and then new ones.

    Raises:
        BadSnapshot: the sections contradict each other.
        UserError: the settings or the users are others than those of the exchange that was saved.
    """
    sessions = memory.sessions
    table = file.records("sessions/table", SESSION_DTYPE)
    _check_shape(file, sessions)
    _check_users(file, table, memory, names)
    for name in SAVED:
        _session_words(sessions)[name][: len(table)] = table[name]
    _restore_orders(file, table, memory)
    _restore_tokens(file, table, memory)
    _restore_logs(file, table, memory)


def _restore_logs(file: SectionFile, table: NDArray[Any], memory: SessionMemory) -> None:
    sessions, name, offset = memory.sessions, "sessions/logs", 0
    for session_id, one in enumerate(table):
        size_bytes, session = int(one["log_end"]), memory.address(session_id)
        if not 0 <= size_bytes <= sessions.log_bytes:
            raise BadSnapshot(f"{file.path}: the log of session {session_id} has {size_bytes} bytes")
        file.read_into(name, offset, session + sessions.log_offset, size_bytes)
        offset += size_bytes
        found = index_log(sessions, session)
        if found != one["log_messages"]:
            what = "no packets" if found < 0 else f"{found} messages"
            raise BadSnapshot(
                f"{file.path}: section {name!r}: the log of session {session_id} is {what},"
                f" and 'sessions/table' says {one['log_messages']} messages"
            )
    if offset != file.section(name).length:
        raise BadSnapshot(
            f"{file.path}: section {name!r} has {file.section(name).length} bytes, and should {offset}"
        )


@kernel
def index_log(sessions: Sessions, session: int) -> int:
    """Write the index of a session's log, whose bytes and end are there; how many messages, -1 if they are none."""
    log, end, at, messages = session + sessions.log_offset, load_int64(session + LOG_END), 0, 0
    while at < end:
        if at + HEADER_BYTES > end or load_uint8(log + at + 2) != SEQUENCED:
            return -1
        size_bytes = load_big_endian_uint16(log + at)
        at += 2 + size_bytes
        if size_bytes < MESSAGE_BYTES_MIN - 2 or at > end:
            return -1
        messages += 1
        store_uint32(session + sessions.index_offset + messages * INDEX_ENTRY_BYTES, at)
    return messages


def _check_shape(file: SectionFile, sessions: Sessions) -> None:
    shape = file.record("sessions/shape", SHAPE_DTYPE)
    now = {"gateway.capacity_orders": sessions.sets * WAYS, "gateway.log_bytes": sessions.log_bytes}
    for key, name in (("gateway.capacity_orders", "capacity_orders"), ("gateway.log_bytes", "log_bytes")):
        if now[key] != shape[name]:
            raise UserError(f"{key} = {now[key]}: {file.path} was made with {shape[name]}")


def _check_users(file: SectionFile, table: NDArray[Any], memory: SessionMemory, names: Sequence[str]) -> None:
    saved = [name.decode("ascii") for name in table["user"].tolist()]
    if saved != list(names[: len(saved)]):
        raise UserError(
            f"{file.path}: is of the users {', '.join(saved)}, who must come first and in this order"
        )
    for session_id, one in enumerate(table):
        now = load_int64(memory.address(session_id) + TOKENS) != 0
        before = bool(one["speaks_ouch42"])
        if now != before:
            raise UserError(
                f"{file.path}: the user {saved[session_id]} spoke {_VERSIONS[before]} in this session"
                f" and cannot go on with {_VERSIONS[now]}"
            )


def _session_words(sessions: Sessions) -> NDArray[Any]:
    """The words of all sessions where they lie, shape (sessions,), ``WORDS_DTYPE``."""
    memory = view_bytes(sessions.base, sessions.stride * sessions.session_count)
    return np.ndarray((sessions.session_count,), WORDS_DTYPE, memory, strides=(sessions.stride,))


def _order_table(sessions: Sessions, session: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A session's order table where it lies: the numbers, shape (ways, sets), and the orders, shape (places, words)."""
    capacity = sessions.sets * WAYS
    numbers = view_bytes(session + INPUT + INPUT_BYTES, 8 * capacity)
    orders = view_bytes(session + sessions.orders_offset, ORDER_BYTES * capacity)
    return (
        np.frombuffer(numbers, np.int64).reshape(sessions.sets, WAYS).T,
        np.frombuffer(orders, np.int64).reshape(capacity, ORDER_BYTES // 8),
    )


def _live_orders(sessions: Sessions, session: int) -> NDArray[Any]:
    """A session's live orders in the order of their places, shape (n,), ``ORDER_DTYPE``."""
    by_way, orders = _order_table(sessions, session)
    numbers = by_way.reshape(-1)
    used = np.flatnonzero(numbers)
    places = used[orders[used, FINISHED // 8] != numbers[used]]
    found = np.zeros(len(places), ORDER_DTYPE)
    found["place"], found["number"], found["order"] = places, numbers[places], orders[places]
    return found


def _divided(file: SectionFile, name: str, dtype: Any, counts: NDArray[np.int64]) -> list[NDArray[Any]]:
    """The records of a section, divided among the sessions. Raises BadSnapshot if there are not so many."""
    records, behind = file.records(name, dtype), np.cumsum(counts)
    if (counts < 0).any() or behind[-1] != len(records):
        raise BadSnapshot(
            f"{file.path}: section {name!r} has {len(records)} records, and should have {behind[-1]}"
        )
    return np.split(records, behind[:-1])


def _restore_orders(file: SectionFile, table: NDArray[Any], memory: SessionMemory) -> None:
    sessions = memory.sessions
    for session_id, saved in enumerate(_divided(file, "sessions/orders", ORDER_DTYPE, table["orders"])):
        by_way, orders = _order_table(sessions, memory.address(session_id))
        places, numbers = saved["place"], saved["number"]
        sets = places & (sessions.sets - 1)
        if (
            (places < 0).any()
            or (places >= len(orders)).any()
            or (sets != numbers & (sessions.sets - 1)).any()
            or len(np.unique(places)) < len(places)
        ):
            raise BadSnapshot(
                f"{file.path}: section 'sessions/orders': session {session_id} has no such places"
            )
        by_way[places // sessions.sets, sets] = numbers
        orders[places] = saved["order"]


def _token_slots(index: int) -> NDArray[np.int64]:
    """The slots of a session's tokens where they lie, shape (slots, 3): two words of the token, and the number."""
    slots = 1 << (64 - load_int64(index + SHIFT))
    slots_bytes = view_bytes(index + TOKENS_HEADER_BYTES, slots * SLOT_BYTES)
    return np.frombuffer(slots_bytes, np.int64).reshape(slots, SLOT_BYTES // 8)


def _tokens_of(index: int) -> NDArray[Any]:
    slots = _token_slots(index)
    used = np.flatnonzero(slots[:, 2])
    found = np.zeros(len(used), TOKEN_DTYPE)
    found["slot"], found["first"], found["second"], found["number"] = used, *slots[used].T
    return found


def _restore_tokens(file: SectionFile, table: NDArray[Any], memory: SessionMemory) -> None:
    for session_id, saved in enumerate(_divided(file, "sessions/tokens", TOKEN_DTYPE, table["tokens"])):
        if not len(saved):
            continue
        index = load_int64(memory.address(session_id) + TOKENS)
        slots = _token_slots(index) if index else np.zeros((0, 3), np.int64)
        if (saved["slot"] < 0).any() or (saved["slot"] >= len(slots)).any():
            raise BadSnapshot(
                f"{file.path}: section 'sessions/tokens': session {session_id} has no such slots"
            )
        slots[saved["slot"]] = np.stack([saved["first"], saved["second"], saved["number"]], axis=1)
