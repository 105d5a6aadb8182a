"""What the gateway knows of an order and the book does not, as a record of the shard's sequence; and back again.

A command has what a book needs. What the client will want to hear again (its own order id, firm, letters) stays in the
session's order table. If there is a journal, that must be in it as well, or a restart could not say what the client
would have been told. So an order that enters comes to two records: its *details*, then its command. Shards journal
both and give the book the second only.

:func:`restore_records` is the way back. It does to the sessions what the inbound side did when it made these records:
orders are in the table again, numbers and tokens used up, firms disabled. What is not in the records follows from them:

* a cancel lowers the order's liability by what it takes away, or to nothing;
* a modification has the letter of side in the command's ``tag``, which no book reads;
* a mass cancel that was answered, and behind which the session asked for nothing, may not have been done to its end:
  it begins again, which changes nothing that has been cancelled.

Rules: records are restored in their order, those of a batch before the events of that batch are reported. An order of
which there are only the details never was: its command is not in the sequence (:func:`forget_unanswered`)."""

from typing import Final

from exchange.book import ladder_events as record
from exchange.gateway.firm_requests import begin_mass_cancel, change_disabled
from exchange.gateway.inbound import (
    ANSWER_CLIENT_ORDER_ID,
    ANSWER_FIRM,
    ANSWER_GROUP_ID,
    ANSWER_HAS_GROUP,
    ANSWER_KIND,
    ANSWER_SIDE,
    ANSWER_SYMBOL,
    ANSWER_USER_REFERENCE,
    ANSWER_USES_NUMBER,
    DISABLED,
    ENABLED,
    KILLED,
    MASS_CANCEL,
    REJECTED,
    REVIVED,
    Requests,
)
from exchange.gateway.options import NO_GROUP
from exchange.gateway.order_table import (
    ANSWERED,
    CAPACITY,
    CLIENT_ORDER_ID,
    CROSS_TYPE,
    DISPLAY,
    FIRM,
    GROUP_ID,
    LAST_SIDE,
    LIABILITY,
    MODIFIES,
    NO_ORDER,
    NOT_YET,
    PRICE,
    SIDE,
    SWEEP,
    SYMBOL_ID,
    SYMBOL_WORD,
    TIME_IN_FORCE,
    USER_REFERENCE_MASK,
    engine_order_id,
    find_order,
    order_at,
    remove_order,
    take_order,
)
from exchange.gateway.session_memory import (
    CANCEL_PLACE,
    LAST_USER_REFERENCE,
    TOKENS,
    WAYS,
    Sessions,
    session_address,
)
from exchange.gateway.session_memory import KILLED as SESSION_KILLED
from exchange.gateway.symbol_table import UNKNOWN, find_symbol, symbol_word
from exchange.gateway.token_index import NO_SLOT, find_token_words, keep_token_words
from exchange.messages import ALL_SYMBOLS, RECORD_BYTES, CommandKind
from exchange.native import (
    inlined,
    kernel,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
)

# a record of details; kind, symbol, session, sequence, order id and time are where every command has them
DETAILS_SIDE: Final = 1
DETAILS_TIME_IN_FORCE: Final = 2
DETAILS_DISPLAY: Final = 3
DETAILS_CLIENT_ORDER_ID: Final = 24
"""Fourteen characters: a word of eight, then six of the next word."""
DETAILS_CROSS_TYPE: Final = 39
"""The last byte of that word."""
DETAILS_FIRM: Final = 40
DETAILS_GROUP_ID: Final = 44
DETAILS_CAPACITY: Final = 46
DETAILS_SWEEP: Final = 47
DETAILS_SYMBOL: Final = 48
"""The eight bytes of the symbol, as the client is told them."""

MODIFIED_SIDE: Final = record.MATCH_NUMBER
"""In a replace of an order by itself, where a command has its ``tag``: the letter of side that was asked for."""

ALL_RESTORED: Final = -1

ONLY_DETAILS: Final = -1
"""In the place of an order's liability, while a restart has read its details and not its command."""

_SIX_CHARACTERS: Final = (1 << 48) - 1
_SPACES: Final = symbol_word("")
_NEW: Final = int(CommandKind.NEW)
_CANCEL: Final = int(CommandKind.CANCEL)
_REPLACE: Final = int(CommandKind.REPLACE)
_DETAILS: Final = int(CommandKind.DETAILS)
_ANSWER: Final = int(CommandKind.ANSWER)


@inlined
def keep_details(
    requests: Requests, command: int, session_id: int, user_reference: int, order: int, now_ns: int
) -> int:
    """Write the details of an order at ``command`` if somebody keeps them; how many records it comes to with them."""
    if requests.keeps_details == 0:
        return 1
    store_int64(command, _DETAILS)
    store_uint8(command + DETAILS_SIDE, load_uint8(order + SIDE))
    store_uint8(command + DETAILS_TIME_IN_FORCE, load_uint8(order + TIME_IN_FORCE))
    store_uint8(command + DETAILS_DISPLAY, load_uint8(order + DISPLAY))
    store_uint16(command + record.SYMBOL_ID, load_uint16(order + SYMBOL_ID))
    store_uint16(command + record.SESSION_ID, session_id)
    store_int64(command + record.SEQUENCE, 0)
    store_int64(command + record.ORDER_ID, engine_order_id(session_id, user_reference))
    store_int64(command + DETAILS_CLIENT_ORDER_ID, load_int64(order + CLIENT_ORDER_ID))
    store_int64(command + DETAILS_CLIENT_ORDER_ID + 8, load_int64(order + CLIENT_ORDER_ID + 8))
    store_uint8(command + DETAILS_CROSS_TYPE, load_uint8(order + CROSS_TYPE))
    store_uint32(command + DETAILS_FIRM, load_uint32(order + FIRM))
    store_uint16(command + DETAILS_GROUP_ID, load_uint16(order + GROUP_ID))
    store_uint8(command + DETAILS_CAPACITY, load_uint8(order + CAPACITY))
    store_uint8(command + DETAILS_SWEEP, load_uint8(order + SWEEP))
    store_int64(command + DETAILS_SYMBOL, load_int64(order + SYMBOL_WORD))
    store_int64(command + record.TIMESTAMP, now_ns)
    return 2


@kernel
def restore_records(requests: Requests, records: int, count: int) -> int:
    """Do to the sessions what the inbound side did when it made ``count`` records of a shard's sequence.

    Returns:
        :data:`ALL_RESTORED`, or the index of the first record that cannot have come from these sessions.
    """
    for index in range(count):
        command = records + index * RECORD_BYTES
        kind, session_id = load_uint8(command), load_uint16(command + record.SESSION_ID)
        if kind in (_CANCEL, _NEW, _REPLACE, _DETAILS, _ANSWER):
            if session_id >= requests.sessions.session_count:
                return index
            session = session_address(requests.sessions, session_id)
            if not _restore(requests, session, command, kind):
                return index
    return ALL_RESTORED


@inlined
def _restore(requests: Requests, session: int, command: int, kind: int) -> bool:
    if kind == _CANCEL:
        _restore_cancel(requests.sessions, session, command)
        return True
    store_uint32(session + CANCEL_PLACE, 0)
    if kind == _DETAILS:
        return _restore_details(requests.sessions, session, command)
    if kind == _ANSWER:
        return _restore_answer(requests, session, command)
    return _restore_order(requests.sessions, session, command, kind)


@kernel
def _restore_details(sessions: Sessions, session: int, command: int) -> bool:
    number = load_int64(command + record.ORDER_ID) & USER_REFERENCE_MASK
    order = find_order(sessions, session, number)
    if order == NO_ORDER:  # else its command was lost, and the client has asked again
        order = take_order(sessions, session, number)
    if order in (NO_ORDER, NOT_YET):
        order = _take_from_forgotten(sessions, session, number)
    if order == NO_ORDER:
        return False
    first = load_int64(command + DETAILS_CLIENT_ORDER_ID)
    second = load_int64(command + DETAILS_CLIENT_ORDER_ID + 8) & _SIX_CHARACTERS
    side = load_uint8(command + DETAILS_SIDE)
    store_int64(order + SYMBOL_WORD, load_int64(command + DETAILS_SYMBOL))
    store_int64(order + CLIENT_ORDER_ID, first)
    store_int64(order + CLIENT_ORDER_ID + 8, second)
    store_uint32(order + FIRM, load_uint32(command + DETAILS_FIRM))
    store_uint16(order + GROUP_ID, load_uint16(command + DETAILS_GROUP_ID))
    store_uint16(order + SYMBOL_ID, load_uint16(command + record.SYMBOL_ID))
    store_uint8(order + SIDE, side)
    store_uint8(order + LAST_SIDE, side)
    store_uint8(order + TIME_IN_FORCE, load_uint8(command + DETAILS_TIME_IN_FORCE))
    store_uint8(order + DISPLAY, load_uint8(command + DETAILS_DISPLAY))
    store_uint8(order + CAPACITY, load_uint8(command + DETAILS_CAPACITY))
    store_uint8(order + SWEEP, load_uint8(command + DETAILS_SWEEP))
    store_uint8(order + CROSS_TYPE, load_uint8(command + DETAILS_CROSS_TYPE))
    store_int64(order + LIABILITY, ONLY_DETAILS)
    return True


@kernel
def _take_from_forgotten(sessions: Sessions, session: int, number: int) -> int:
    """Room for an order in a full set, in the place of one that never was; :data:`NO_ORDER` if there is none.

    An earlier restart forgot the orders of which it found only details, and others came in their place. It has left no
    record of that, so they are found again here: the oldest of them goes.
    """
    oldest, oldest_place = 0, -1
    for way in range(WAYS):
        place = way * sessions.sets + (number & (sessions.sets - 1))
        other, order = order_at(sessions, session, place)
        is_forgotten = order != NO_ORDER and load_int64(order + LIABILITY) == ONLY_DETAILS
        if is_forgotten and (oldest_place < 0 or other < oldest):
            oldest, oldest_place = other, place
    if oldest_place < 0:
        return NO_ORDER
    remove_order(sessions, session, oldest_place)
    return take_order(sessions, session, number)


@inlined
def _restore_token(session: int, first: int, second: int, number: int) -> bool:
    """A session of OUCH 4.2 has used the token up."""
    tokens = load_int64(session + TOKENS)
    if tokens == 0:
        return True
    known, slot = find_token_words(tokens, first, second)
    if known == 0 and slot != NO_SLOT:
        keep_token_words(slot, first, second, number)
    return known != 0 or slot != NO_SLOT


@kernel
def _restore_order(sessions: Sessions, session: int, command: int, kind: int) -> bool:
    """A new order, a replacement, or a modification."""
    order_id, new_id = load_int64(command + record.ORDER_ID), load_int64(command + record.OTHER_ORDER_ID)
    number = (new_id if kind == _REPLACE else order_id) & USER_REFERENCE_MASK
    order = find_order(sessions, session, number)
    is_modification = kind == _REPLACE and order_id == new_id
    if order == NO_ORDER:
        return is_modification  # of an order that went while the modification was on its way
    store_int64(order + LIABILITY, load_uint32(command + record.QUANTITY))
    if is_modification:
        store_uint32(order + MODIFIES, load_uint32(order + MODIFIES) + 1)
        store_uint8(order + LAST_SIDE, load_int64(command + MODIFIED_SIDE))
        return True
    store_int64(order + PRICE, load_int64(command + record.PRICE))
    store_int64(session + LAST_USER_REFERENCE, max(load_int64(session + LAST_USER_REFERENCE), number))
    first, second = load_int64(order + CLIENT_ORDER_ID), load_int64(order + CLIENT_ORDER_ID + 8)
    return _restore_token(session, first, second, number)


@inlined
def _restore_cancel(sessions: Sessions, session: int, command: int) -> None:
    number = load_int64(command + record.ORDER_ID) & USER_REFERENCE_MASK
    order, taken = find_order(sessions, session, number), load_uint32(command + record.QUANTITY)
    if order != NO_ORDER:
        left = 0 if taken == 0 else max(load_int64(order + LIABILITY) - taken, 0)
        store_int64(order + LIABILITY, left)


@kernel
def _restore_answer(requests: Requests, session: int, command: int) -> bool:
    kind, number = load_uint8(command + ANSWER_KIND), load_uint32(command + ANSWER_USER_REFERENCE)
    if kind in (KILLED, REVIVED):
        store_int64(session + SESSION_KILLED, int(kind == KILLED))
    if load_uint8(command + ANSWER_USES_NUMBER) == 0:
        return True
    store_int64(session + LAST_USER_REFERENCE, max(load_int64(session + LAST_USER_REFERENCE), number))
    if kind in (DISABLED, ENABLED):
        change_disabled(session, load_uint32(command + ANSWER_FIRM), kind == DISABLED)
    elif kind == REJECTED:
        first = load_int64(command + ANSWER_CLIENT_ORDER_ID)
        return _restore_token(session, first, load_int64(command + ANSWER_CLIENT_ORDER_ID + 8), number)
    elif kind == MASS_CANCEL:
        _restore_mass_cancel(requests, session, command)
    return True


@inlined
def _restore_mass_cancel(requests: Requests, session: int, command: int) -> None:
    symbol = load_int64(command + ANSWER_SYMBOL)
    symbol_id = ALL_SYMBOLS if symbol == _SPACES else find_symbol(requests.symbols, symbol)
    if symbol_id == UNKNOWN:
        return
    has_group = load_uint8(command + ANSWER_HAS_GROUP) != 0
    group_id = load_uint16(command + ANSWER_GROUP_ID) if has_group else NO_GROUP
    firm, side = load_uint32(command + ANSWER_FIRM), load_uint8(command + ANSWER_SIDE)
    begin_mass_cancel(session, symbol_id, firm, group_id, side)


@kernel
def forget_unanswered(sessions: Sessions, session_id: int) -> int:
    """Take out of a session's table what no book has accepted or refused, when all events have been reported.

    Returns:
        How many orders are alive.
    """
    session, alive = session_address(sessions, session_id), 0
    for place in range(sessions.sets * WAYS):
        number, order = order_at(sessions, session, place)
        if order != NO_ORDER and load_int64(order + ANSWERED) != number:
            remove_order(sessions, session, place)
        elif order != NO_ORDER:
            alive += 1
    return alive
