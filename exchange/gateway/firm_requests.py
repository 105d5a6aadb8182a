"""Requests that concern all orders of a firm (OUCH 5.0, Mass Cancel, Disable and Enable Order Entry), compiled.

**Whose order is it?** An order names its firm in an option, or belongs to the session's own firm, which the exchange
knows no name of. So a request that names a firm concerns the orders that name the same one and those that name none; a
request that names none (spaces) concerns all. Each request concerns the session that sent it, and no other.

**A mass cancel** is echoed at once, and then makes a cancel for each order that it concerns. Only the gateway knows an
order's firm, group and letter of side, so it goes through the session's order table itself: in pieces, some each turn,
so that nobody waits for a large one. Until it is done, nothing more is taken from the session. Orders whose answer is
still on its way are in the table too; so all is cancelled that was asked for before, and nothing that comes after.

A session whose connection has ended and that asked for cancel on disconnect has its orders cancelled from here as well,
by a single command to every shard.

**Order entry** is disabled for a firm until it is enabled for the same one. A request without a firm disables all, or
enables all. Eight firms can be named at a time (:data:`~exchange.gateway.session_memory.DISABLED_FIRMS_MAX`); one more
disables all. New orders are then rejected; cancels, replaces and modifications of those that live are not."""

from typing import Final

from exchange.gateway.inbound import (
    ANSWER_FIRM,
    ANSWER_GROUP_ID,
    ANSWER_HAS_GROUP,
    ANSWER_SIDE,
    ANSWER_SYMBOL,
    DISABLED,
    ENABLED,
    FORWARD,
    GARBAGE,
    MASS_CANCEL,
    NOTHING,
    Requests,
    begin_answer,
    write_command,
)
from exchange.gateway.offsets import offsets_of
from exchange.gateway.options import GARBAGE_OPTION, NO_FIRM, NO_FLAW, NO_GROUP, options_of
from exchange.gateway.order_table import (
    FIRM,
    GROUP_ID,
    LAST_SIDE,
    LIABILITY,
    NO_ORDER,
    SYMBOL_ID,
    engine_order_id,
    order_at,
)
from exchange.gateway.session_memory import (
    CANCEL_DUE,
    CANCEL_FIRM,
    CANCEL_GROUP_ID,
    CANCEL_PLACE,
    CANCEL_SIDE,
    CANCEL_SYMBOL_ID,
    DISABLED_FIRMS,
    DISABLED_FIRMS_MAX,
    LAST_USER_REFERENCE,
    WAYS,
    Sessions,
    session_address,
)
from exchange.gateway.symbol_table import UNKNOWN, find_symbol, symbol_word
from exchange.messages import ALL_SYMBOLS, RECORD_BYTES, CommandKind
from exchange.native import (
    inlined,
    kernel,
    load_big_endian_int64,
    load_big_endian_uint32,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
)
from exchange.wire.ouch50 import DisableOrderEntry, MassCancel

MASS_CANCEL_REQUEST: Final = offsets_of(MassCancel)
FIRM_REQUEST: Final = offsets_of(DisableOrderEntry)
"""Enable Order Entry has the same fields."""

PLACES_A_TURN: Final = 1024
"""How many places of an order table are looked at in one go: some microseconds."""

_SPACES: Final = symbol_word("")
_CANCEL_COMMAND: Final = int(CommandKind.CANCEL)
_MASS_CANCEL_COMMAND: Final = int(CommandKind.MASS_CANCEL)


@kernel
def take_mass_cancel(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    """A Mass Cancel Request: echo it, and have the session's orders gone through."""
    options = options_of(message, MASS_CANCEL_REQUEST.appendage_length, size_bytes)
    if options.flaw == GARBAGE_OPTION:
        return GARBAGE
    user_reference = load_big_endian_uint32(message + MASS_CANCEL_REQUEST.user_reference_number)
    if user_reference <= load_int64(session + LAST_USER_REFERENCE):
        return NOTHING
    symbol = load_big_endian_int64(message + MASS_CANCEL_REQUEST.symbol)
    firm = _firm_at(message + MASS_CANCEL_REQUEST.firm)
    begin_answer(command, MASS_CANCEL, session_id, user_reference, True, now_ns)
    store_int64(command + ANSWER_SYMBOL, symbol)
    store_uint32(command + ANSWER_FIRM, firm)
    store_uint8(command + ANSWER_SIDE, options.side)
    if options.group_id != NO_GROUP:
        store_uint8(command + ANSWER_HAS_GROUP, 1)
        store_uint16(command + ANSWER_GROUP_ID, options.group_id)
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    symbol_id = ALL_SYMBOLS if symbol == _SPACES else find_symbol(requests.symbols, symbol)
    if symbol_id == UNKNOWN or options.flaw != NO_FLAW:
        return FORWARD  # there can be no such order
    begin_mass_cancel(session, symbol_id, firm, options.group_id, options.side)
    store_int64(requests.cancels_due, load_int64(requests.cancels_due) + 1)
    return FORWARD


@inlined
def begin_mass_cancel(session: int, symbol_id: int, firm: int, group_id: int, side: int) -> None:
    """The session's orders are to be gone through from the first place on, and these of them cancelled."""
    store_uint32(session + CANCEL_FIRM, firm)
    store_int64(session + CANCEL_GROUP_ID, group_id)
    store_uint16(session + CANCEL_SYMBOL_ID, symbol_id)
    store_uint8(session + CANCEL_SIDE, side)
    store_uint32(session + CANCEL_PLACE, 1)


@inlined
def _firm_at(address: int) -> int:
    """Four characters as a number that is not 0: bytes that are no characters are no firm either."""
    firm = load_big_endian_uint32(address)
    return NO_FIRM if firm == 0 else firm


@inlined
def is_canceling(session: int) -> bool:
    """Whether a mass cancel of the session is not done yet, so that nothing more may be taken from it."""
    return load_uint32(session + CANCEL_PLACE) != 0


@inlined
def is_of_firm(firm_of_order: int, firm: int) -> bool:
    """Whether a request that names ``firm`` concerns an order of ``firm_of_order`` (0: the session's own)."""
    return firm in (NO_FIRM, firm_of_order) or firm_of_order == 0


@inlined
def _is_to_cancel(session: int, order: int) -> bool:
    symbol_id, side = load_uint16(session + CANCEL_SYMBOL_ID), load_uint8(session + CANCEL_SIDE)
    group_id = load_int64(session + CANCEL_GROUP_ID)
    return (
        load_int64(order + LIABILITY) > 0
        and symbol_id in (ALL_SYMBOLS, load_uint16(order + SYMBOL_ID))
        and side in (0, load_uint8(order + LAST_SIDE))
        and group_id in (NO_GROUP, load_uint16(order + GROUP_ID))
        and is_of_firm(load_uint32(order + FIRM), load_uint32(session + CANCEL_FIRM))
    )


@inlined
def write_cancel(
    session_id: int, order: int, user_reference: int, quantity: int, now_ns: int, command: int
) -> None:
    """The command that takes ``quantity`` shares away from an order, or all that are left if that is 0."""
    order_id = engine_order_id(session_id, user_reference)
    symbol_id = load_uint16(order + SYMBOL_ID)
    write_command(command, _CANCEL_COMMAND, symbol_id, session_id, order_id, 0, 0, quantity, now_ns)


@kernel
def _go_on(
    sessions: Sessions, session_id: int, session: int, commands: int, count: int, limit: int, now_ns: int
) -> int:
    """Go on with a session's mass cancel; how many commands there are then."""
    place = load_uint32(session + CANCEL_PLACE) - 1
    end = min(place + PLACES_A_TURN, sessions.sets * WAYS)
    while place < end and count < limit:
        user_reference, order = order_at(sessions, session, place)
        if order != NO_ORDER and _is_to_cancel(session, order):
            store_int64(order + LIABILITY, 0)
            write_cancel(session_id, order, user_reference, 0, now_ns, commands + count * RECORD_BYTES)
            count += 1
        place += 1
    store_uint32(session + CANCEL_PLACE, 0 if place == sessions.sets * WAYS else place + 1)
    return count


@kernel
def write_due_cancels(
    requests: Requests, lane: int, lanes: int, commands: int, limit: int, now_ns: int
) -> int:
    """Write up to ``limit`` of the cancels that sessions of a lane have asked for; how many commands that is.

    They come before whatever the sessions ask for next, on this connection or another one.
    """
    count, left = 0, 0
    for session_id in range(lane, requests.sessions.session_count, lanes):
        count, still = write_cancels_of(requests, session_id, commands, count, limit, now_ns)
        left += still
    store_int64(requests.cancels_due, left)
    return count


@inlined
def write_cancels_of(
    requests: Requests, session_id: int, commands: int, count: int, limit: int, now_ns: int
) -> tuple[int, int]:
    """The cancels that one session has asked for, behind ``count`` commands; how many there are then, and 1 or 2 if
    some are still to be written."""
    session, left = session_address(requests.sessions, session_id), 0
    if is_canceling(session):
        count = _go_on(requests.sessions, session_id, session, commands, count, limit, now_ns)
        left += int(is_canceling(session))
    if load_int64(session + CANCEL_DUE) != 0:
        if count < limit and not is_canceling(session):
            store_int64(session + CANCEL_DUE, 0)
            command = commands + count * RECORD_BYTES
            write_command(command, _MASS_CANCEL_COMMAND, ALL_SYMBOLS, session_id, 0, 0, 0, 0, now_ns)
            count += 1
        else:
            left += 1
    return count, left


@inlined
def is_disabled(session: int, firm_of_order: int) -> bool:
    """Whether order entry is disabled for an order of that firm (0: the session's own)."""
    if load_uint32(session + DISABLED_FIRMS) == 0:
        return False
    return _is_listed(session, firm_of_order)


@kernel
def _is_listed(session: int, firm_of_order: int) -> bool:
    for index in range(DISABLED_FIRMS_MAX):
        firm = load_uint32(session + DISABLED_FIRMS + 4 * index)
        if firm != 0 and is_of_firm(firm_of_order, firm):
            return True
    return False


@kernel
def take_firm_request(
    session_id: int, session: int, message: int, size_bytes: int, disables: bool, now_ns: int, command: int
) -> int:
    """A Disable or Enable Order Entry Request: do it and echo it."""
    if options_of(message, FIRM_REQUEST.appendage_length, size_bytes).flaw == GARBAGE_OPTION:
        return GARBAGE
    user_reference = load_big_endian_uint32(message + FIRM_REQUEST.user_reference_number)
    if user_reference <= load_int64(session + LAST_USER_REFERENCE):
        return NOTHING
    firm = _firm_at(message + FIRM_REQUEST.firm)
    begin_answer(command, DISABLED if disables else ENABLED, session_id, user_reference, True, now_ns)
    store_uint32(command + ANSWER_FIRM, firm)
    store_int64(session + LAST_USER_REFERENCE, user_reference)
    change_disabled(session, firm, disables)
    return FORWARD


@inlined
def change_disabled(session: int, firm: int, disables: bool) -> None:
    """Take a firm off the list, and put it at the end if it is to be on it; the list has no gaps."""
    kept = 0
    for index in range(DISABLED_FIRMS_MAX):
        listed = load_uint32(session + DISABLED_FIRMS + 4 * index)
        store_uint32(session + DISABLED_FIRMS + 4 * index, 0)
        if listed not in (0, firm) and firm != NO_FIRM:
            store_uint32(session + DISABLED_FIRMS + 4 * kept, listed)
            kept += 1
    if disables and kept < DISABLED_FIRMS_MAX:
        store_uint32(session + DISABLED_FIRMS + 4 * kept, firm)
    elif disables:
        store_uint32(session + DISABLED_FIRMS, NO_FIRM)
