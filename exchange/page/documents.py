"""What the page's process tells browsers: the documents, each a JSON object whose ``type`` says which.

Prices are integers, ticks of 1/10,000 dollar, so that no price is rounded on its way; the page writes them as dollars
without floating point. Times are nanoseconds since midnight, quantities shares. All of these are below 2^53, where
JavaScript's numbers stop being exact; a trade's number may be above and is not told.

A document says how things are now. Nothing in it refers to an earlier one but :class:`History`, whose points have
numbers.
"""

from typing import Final

import msgspec
from msgspec import Struct

LEVELS_TOLD: Final = 12
"""Prices of each side of a book: what fits on a screen."""

TRADES_TOLD: Final = 40
"""Trades of a symbol."""

SYMBOLS_TOLD: Final = 200
"""Symbols that the list shows: it is told as a whole, each time that something in it changes."""


class Hello(Struct, frozen=True, tag="hello"):
    """The first document: what the page is connected to. ``exchange`` is empty where nobody can log on."""

    exchange: str
    ticks_per_second: int


class SymbolRow(Struct, frozen=True, array_like=True):
    """A symbol in the list. An empty side has no shares; ``last_ticks`` is 0 before the first trade."""

    symbol: str
    state: str
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    last_ticks: int
    traded_lots: int


class Overview(Struct, frozen=True, tag="overview"):
    """All symbols, and how the feed is.

    ``feed`` is ``waiting``, ``live``, ``behind`` (messages are missing), ``silent``, ``lost`` or ``ended``.
    """

    feed: str
    feed_detail: str
    system_event: str
    symbols: list[SymbolRow]
    symbols_left_out: int


class BookLevel(Struct, frozen=True, array_like=True):
    """A price, the shares and the orders that wait there."""

    price_ticks: int
    lots: int
    orders: int


class TapeTrade(Struct, frozen=True, array_like=True):
    """A trade: ``side`` is that of the order that came in, B or S; ``count`` numbers the trades of the symbol."""

    count: int
    timestamp_ns: int
    price_ticks: int
    lots: int
    side: str


class BookView(Struct, frozen=True, tag="book"):
    """One symbol: its book, best prices first, and its last trades, newest first."""

    symbol: str
    state: str
    bids: list[BookLevel]
    asks: list[BookLevel]
    trades: list[TapeTrade]
    traded_lots: int


class QueueUse(Struct, frozen=True):
    """How full a shard's queues and book are: slots or orders used, of how many. None: the queue does not tell."""

    shard: int
    inbox_used: int | None
    inbox_capacity: int
    outbox_used: int | None
    outbox_capacity: int
    live_orders: int
    capacity_orders: int


class Point(Struct, frozen=True):
    """What the charts show of one moment; None is what is not known. ``time_ms`` is since 1970."""

    number: int
    time_ms: int
    feed_per_second: float
    requests_per_second: float | None
    latency_p50_ns: int | None
    latency_p99_ns: int | None
    queues: list[QueueUse]


class History(Struct, frozen=True, tag="history"):
    """Points that the browser has not been sent yet. ``trouble`` says why there are no statistics, if so."""

    trouble: str
    sessions_connected: int | None
    points: list[Point]


class OrderRow(Struct, frozen=True):
    """An open order of the person."""

    number: int
    symbol: str
    side: str
    price_ticks: int
    open_lots: int
    executed_lots: int


class FillRow(Struct, frozen=True):
    """An execution of one of the person's orders; ``count`` numbers them."""

    count: int
    timestamp_ns: int
    symbol: str
    side: str
    price_ticks: int
    lots: int


class Notice(Struct, frozen=True):
    """Something that the person should know: ``kind`` is ``info`` or ``error``; ``count`` numbers them."""

    count: int
    kind: str
    text: str


class AccountView(Struct, frozen=True, tag="account"):
    """The person that is logged on, nobody if ``user`` is empty; newest first."""

    user: str
    orders: list[OrderRow]
    orders_left_out: int
    fills: list[FillRow]
    notices: list[Notice]


class Problem(Struct, frozen=True, tag="problem"):
    """Why the last request was not done. ``field`` names what was wrong with it, as far as it was one field."""

    field: str
    text: str


class Done(Struct, frozen=True, tag="done"):
    """The last request was passed on; ``action`` names it. What the exchange answers shows in the account."""

    action: str


Document = Hello | Overview | BookView | History | AccountView | Problem | Done

_ENCODER: Final = msgspec.json.Encoder()


def encode(document: Document) -> bytes:
    """A document as it is sent."""
    return _ENCODER.encode(document)
