"""The vocabulary of the exchange: two records of 64 bytes, one cache line each.

A *command* asks for something (a new order, a cancel, ...); an *event* says what happened. Everything between
the gateway and the market-data publisher is one of these two, so a queue, a journal or a replica never needs
to know more than "64 bytes".

Rules for every reader and writer:

* Prices are integer ticks, quantities integer lots, times integer nanoseconds. There is no floating point
  here.
* Both records keep the same meaning at the same offset (symbol, order id, price, quantity, time), so that an
  event is mostly the words of its command, copied.
* ``order_id`` is any 64-bit pattern that the client chooses; it is compared, never computed with. Ids are
  unique among the live orders of one symbol, not for ever; so what happens never depends on how symbols are
  sharded.
* ``symbol_id`` is 16 bits, as NASDAQ's stock locate code is (ITCH 5.0, section 4.2).
* ``timestamp_ns`` of a command is when the client meant to send it; every event carries its command's. The
  time an order spent waiting because the exchange fell behind is thereby never lost from a measurement.
* Little-endian, explicit offsets, no padding that a compiler chose."""

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

import numpy as np

RECORD_BYTES: Final = 64

BUY: Final = 0
SELL: Final = 1

ALL_SYMBOLS: Final = 0xFFFF
"""``symbol_id`` of a mass cancel that concerns every symbol of the shard."""


class Side(IntEnum):
    """Which side of the book an order stands on."""

    BUY = BUY
    SELL = SELL


class CommandKind(IntEnum):
    """What a command asks for. Zero is not a kind, so that a forgotten (zeroed) record is refused."""

    NEW = 1
    CANCEL = 2
    REPLACE = 3
    MASS_CANCEL = 4
    # From the exchange itself, each a bit that no other kind has, so that a batch without any is told by one test.
    TRADING_STATE = 8
    """Trading in a symbol is halted or goes on."""
    DETAILS = 16
    """What the gateway keeps of an order that the command behind it enters: for the journal, no command at all."""
    ANSWER = 32
    """What the gateway has to say to a client without asking a book: it becomes an event as it stands."""
    MERGE = 64
    """So many events of a shard come next: for the journal of the order in which the shards' events were taken."""


class SymbolState(IntEnum):
    """Whether a symbol trades. While it is halted, new orders and replaces are refused; cancels are not."""

    TRADING = 1
    HALTED = 2


class TimeInForce(IntEnum):
    """How long the part of an order that did not trade at once may rest in the book."""

    DAY = 0
    IMMEDIATE_OR_CANCEL = 1


class OrderType(IntEnum):
    """A market order has no price limit and never rests, whatever its time in force says."""

    LIMIT = 0
    MARKET = 1


class EventKind(IntEnum):
    """What happened. The first event of a command is its answer; trades and cancels may follow."""

    ACCEPTED = 1
    EXECUTED = 2
    CANCELED = 3
    REPLACED = 4
    REJECTED = 5
    MASS_CANCELED = 6
    TRADING_STATE = 7
    ANSWER = 8


class Reason(IntEnum):
    """Why an order was cancelled (1-9) or a command refused (10 and up)."""

    NONE = 0
    BY_CLIENT = 1
    IMMEDIATE_REMAINDER = 2
    MASS_CANCEL = 3
    BY_OPERATOR = 4
    """By a mass cancel that the exchange's operator has asked for."""
    UNKNOWN_COMMAND = 10
    UNKNOWN_SYMBOL = 11
    UNKNOWN_ORDER = 12
    DUPLICATE_ORDER_ID = 13
    NOT_YOUR_ORDER = 14
    INVALID_QUANTITY = 15
    PRICE_OUT_OF_BAND = 16
    BOOK_FULL = 17
    INVALID_FIELD = 18
    SYMBOL_HALTED = 19


COMMAND_DTYPE: Final = np.dtype(
    {
        "names": [
            "kind", "side", "time_in_force", "order_type", "symbol_id", "session_id", "sequence", "order_id",
            "new_order_id", "price_ticks", "quantity_lots", "liability_lots", "tag", "timestamp_ns",
        ],
        "formats": ["u1", "u1", "u1", "u1", "<u2", "<u2", "<i8", "<i8", "<i8", "<i8", "<u4", "<u4", "<i8", "<i8"],
        "offsets": [0, 1, 2, 3, 4, 6, 8, 16, 24, 32, 40, 44, 48, 56],
        "itemsize": RECORD_BYTES,
    }
)  # fmt: skip
"""One command.

``sequence`` is stamped by the shard (1, 2, 3 ...). ``new_order_id`` is read by REPLACE only and may equal
``order_id``. ``quantity_lots`` of a CANCEL is how many lots to take away; 0, or as many as are left or more, means
all. ``quantity_lots`` of a REPLACE is what is open afterwards, if ``liability_lots`` is 0. Otherwise both are totals
of the order and all that it replaced, executions included, as they are to be and as they were: their difference is by
how much the open quantity changes, whatever has been executed meanwhile. ``price_ticks`` is ignored for a market
order. ``quantity_lots`` of a MASS_CANCEL is 0, or ``Reason.BY_OPERATOR`` if that is to be the reason in its CANCELED
events. ``tag`` belongs to the sender: the exchange carries it, the book never reads it. In a TRADING_STATE
``quantity_lots`` is the :class:`SymbolState` and ``order_id`` the reason (:func:`reason_word`); shards apply it, books
refuse it. DETAILS and ANSWER share kind, symbol, session, sequence and time with the others, and have fields of their
own in between (:mod:`exchange.gateway.details`, :mod:`exchange.gateway.inbound`); books never see them.
"""

EVENT_DTYPE: Final = np.dtype(
    {
        "names": [
            "kind", "side", "reason", "time_in_force", "symbol_id", "session_id", "command_sequence", "order_id",
            "other_order_id", "price_ticks", "quantity_lots", "other_session_id", "command_kind", "match_number",
            "timestamp_ns",
        ],
        "formats": [
            "u1", "u1", "u1", "u1", "<u2", "<u2", "<i8", "<i8", "<i8", "<i8", "<u4", "<u2", "<u2", "<i8", "<i8",
        ],
        "offsets": [0, 1, 2, 3, 4, 6, 8, 16, 24, 32, 40, 44, 46, 48, 56],
        "itemsize": RECORD_BYTES,
    }
)  # fmt: skip
"""One event.

EXECUTED: ``order_id`` and ``session_id`` are the aggressor's (taker), ``side`` is the aggressor's side,
``other_order_id`` and ``other_session_id`` the resting order's (maker), ``price_ticks`` the resting order's price,
``quantity_lots`` what traded, ``match_number`` counts the shard's trades from 1.
CANCELED: ``quantity_lots`` is what was taken away; after a REPLACE that left nothing open (``command_kind`` says so)
``other_order_id`` is the id that the order would have had. REPLACED: ``other_order_id`` is the order's new id, price
and quantity are the new ones. REJECTED: the fields of the refused command (``other_order_id`` its ``new_order_id``),
``reason`` says why. MASS_CANCELED ends the CANCELED events of a mass cancel; its ``quantity_lots`` counts orders.
TRADING_STATE: the symbol's new state and the reason, where the command has them. ANSWER: the command, but for its kind.
``command_kind`` is the kind of the command that caused the event. Fields that an event does not need are zero.
"""

assert COMMAND_DTYPE.itemsize == EVENT_DTYPE.itemsize == RECORD_BYTES

REASON_CHARACTERS: Final = 4


def reason_word(reason: str) -> int:
    """The reason for a trading state, up to four ASCII characters, as the number that commands and events carry."""
    text = reason.encode("ascii")
    assert len(text) <= REASON_CHARACTERS
    return int.from_bytes(text.ljust(REASON_CHARACTERS), "little")


def reason_text(word: int) -> str:
    """The reason that :func:`reason_word` has made a number of."""
    return (word & 0xFFFFFFFF).to_bytes(REASON_CHARACTERS, "little").decode("ascii", "replace").strip()


class Command(NamedTuple):
    """A command as plain Python sees it, in the order of ``COMMAND_DTYPE``."""

    kind: int
    side: int = BUY
    time_in_force: int = TimeInForce.DAY
    order_type: int = OrderType.LIMIT
    symbol_id: int = 0
    session_id: int = 0
    sequence: int = 0
    order_id: int = 0
    new_order_id: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0
    liability_lots: int = 0
    tag: int = 0
    timestamp_ns: int = 0


class Event(NamedTuple):
    """An event as plain Python sees it, in the order of ``EVENT_DTYPE``."""

    kind: int
    side: int = BUY
    reason: int = Reason.NONE
    time_in_force: int = TimeInForce.DAY
    symbol_id: int = 0
    session_id: int = 0
    command_sequence: int = 0
    order_id: int = 0
    other_order_id: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0
    other_session_id: int = 0
    command_kind: int = 0
    match_number: int = 0
    timestamp_ns: int = 0


COMMAND_STRUCT: Final = Struct("<4B2H4q2I2q")
"""Packs and unpacks the 64 bytes of a :class:`Command`."""

EVENT_STRUCT: Final = Struct("<4B2H4qI2H2q")
"""Packs and unpacks the 64 bytes of an :class:`Event`."""

assert COMMAND_STRUCT.size == EVENT_STRUCT.size == RECORD_BYTES
