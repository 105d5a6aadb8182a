"""What the publisher of a feed keeps: the displayed orders, for each symbol an order that is still trading and the last
trading action, and some words.

The displayed orders are a ladder book (:mod:`exchange.book.ladder_memory`), as in the engine, whose ids are the
engine's own. Beside each order stands its *reference*, the number by which the feed knows it. That is the id under
which the order was first displayed, and stays when the order gets another id and keeps its place.

Rules: written by the one thread that publishes. Ids are unique over all symbols and for the whole day, as the
gateway's are; otherwise the feed is as right as before, but a reader that looks orders up by their number alone will
mix them up.
"""

from typing import Final, NamedTuple

from exchange.book.ladder_memory import LINKS_PER_ORDER, LadderBook
from exchange.market_data.datagram_store import StoreState
from exchange.native import inlined, load_int64, store_int64

# words
TIMESTAMP_NS: Final = 0
"""The time of the last message, from midnight; times never go back, although shards take turns."""
MIDNIGHT_NS: Final = 8
"""What is subtracted from the times of events."""
NOT_DISPLAYED: Final = 16
"""Orders that rest and are not displayed, because no message can hold their price, or because there is no room."""
FIRST_ORDER: Final = 24
"""The link of the first order of the ladder's pool, from which the references are counted."""
OWNER: Final = 32
"""Eight bytes that stand where a command would have its symbol and session."""
IS_CLOSED: Final = 48
"""Not 0: the day's last stages have been told."""
OPENED_NS: Final = 40
"""The time of the day's first messages, from midnight."""
WORDS_BYTES: Final = 64

# an order that has come in and may still trade: one for each symbol
ARRIVED_ID: Final = 0
ARRIVED_PRICE: Final = 8
ARRIVED_SHARES: Final = 16
"""What is left of it; 0: there is none."""
ARRIVED_SIDE: Final = 24
ARRIVED_SHIFT: Final = 5

ACTION_SHIFT: Final = 5
"""Of a symbol's last trading action: 32 bytes that begin with the message."""


class PublisherState(NamedTuple):
    """A publisher, as compiled code sees it.

    ``references``: a word for each order of the ladder's pool; ``arrived`` and ``actions``: 32 bytes for each symbol;
    ``stocks``: eight bytes for each symbol, its name; ``shards``: a byte for each symbol, the shard that trades it.
    """

    book: LadderBook
    words: int
    references: int
    arrived: int
    actions: int
    stocks: int
    shards: int
    shard_count: int
    symbol_count: int
    store: StoreState


@inlined
def reference_address(publisher: PublisherState, link: int) -> int:
    """Where the reference of a displayed order stands."""
    first = load_int64(publisher.words + FIRST_ORDER)
    return publisher.references + 8 * ((link - first) // LINKS_PER_ORDER)


@inlined
def arrived_address(publisher: PublisherState, symbol_id: int) -> int:
    """Where the order stands that has come in last and may still trade."""
    return publisher.arrived + (symbol_id << ARRIVED_SHIFT)


@inlined
def action_address(publisher: PublisherState, symbol_id: int) -> int:
    """Where a symbol's last trading action stands."""
    return publisher.actions + (symbol_id << ACTION_SHIFT)


@inlined
def clear_arrived(arrived: int) -> None:
    """It has traded, rests, or is gone."""
    store_int64(arrived + ARRIVED_SHARES, 0)
