"""The publisher of the exchange's own feed: its memory, its day, and what Python has to say to it.

A publisher is a sink (:mod:`exchange.transport.protocol`): an egress gives it the events of all shards in turn, it
makes ITCH 5.0 messages of them (:mod:`exchange.market_data.publisher_kernel`) in one sequence over all shards, and
these lie in a :class:`~exchange.market_data.datagram_store.DatagramStore`, from which whoever has a socket takes
MoldUDP64 datagrams. It knows nothing of sockets and reads no clock: a message has the time of the command that
caused it.

Begin with :meth:`Publisher.open_day`, which tells the day's first stages and the stock directory; then the symbol
numbered k in the exchange has the stock locate k + 1.

Rules: messages from Python (those of the day) are appended while no agent publishes, that is before its thread starts
or after it has stopped. The gateway's ids must be unique for the day, see
:mod:`exchange.market_data.publisher_memory`.
"""

from collections.abc import Sequence
from typing import Final

from exchange import limits
from exchange.book.ladder import Ladder
from exchange.book.ladder_memory import FRESH_ORDER, word
from exchange.book.protocol import live_order_count
from exchange.errors import UserError
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.feed_book import check_range, padded_symbol
from exchange.market_data.publisher_day import CLOSING, OPENING
from exchange.market_data.publisher_kernel import PRICE_MAX_TICKS, PRICE_MIN_TICKS
from exchange.market_data.publisher_memory import (
    ACTION_SHIFT,
    ARRIVED_SHIFT,
    FIRST_ORDER,
    IS_CLOSED,
    MIDNIGHT_NS,
    NOT_DISPLAYED,
    OPENED_NS,
    TIMESTAMP_NS,
    WORDS_BYTES,
    PublisherState,
    action_address,
)
from exchange.matching.digest import state_digest
from exchange.native import Arena, HugePages, load_int64, store_int64, store_uint8, view_bytes
from exchange.wire.itch50 import STOCK_BYTES, ItchMessage, StockDirectory, StockTradingAction, SystemEvent
from exchange.wire.itch50_codes import TradingState

ROUND_LOT_SHARES: Final = 100


class Publisher:
    """Owner of a publisher's memory; give ``state`` to an egress as its sink.

    Args:
        symbols: their names; the index is the ``symbol_id``.
        store: where the messages go.
        capacity_orders: how many orders may rest in all books of the exchange together.
        shard_of_symbol: for each symbol the shard that trades it; none means one shard.
        midnight_ns: what is subtracted from the times of events, to make them count from midnight.
        huge_pages: see :class:`exchange.native.Arena`.

    Raises:
        UserError: too many symbols, a name that no message can hold, or a capacity out of range.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        store: DatagramStore,
        *,
        capacity_orders: int,
        shard_of_symbol: Sequence[int] = (),
        midnight_ns: int = 0,
        huge_pages: HugePages = "advise",
    ) -> None:
        check_range("number of symbols", len(symbols), 1, limits.SYMBOLS_MAX)
        check_range("capacity_orders", capacity_orders, 1, limits.BOOK_CAPACITY_ORDERS_MAX)
        if shard_of_symbol and len(shard_of_symbol) != len(symbols):
            raise UserError(f"shard_of_symbol: {len(shard_of_symbol)} entries for {len(symbols)} symbols")
        shards = list(shard_of_symbol) or [0] * len(symbols)
        stocks = [padded_symbol(name) for name in symbols]
        self.symbols: Final = tuple(symbols)
        self.store: Final = store
        # A market order for the day may stand here until its rest is cancelled: at most one for each symbol.
        displayed_max = min(capacity_orders + len(symbols), limits.BOOK_CAPACITY_ORDERS_MAX)
        self._ladder: Final = Ladder(
            len(symbols), displayed_max, PRICE_MIN_TICKS, PRICE_MAX_TICKS, huge_pages
        )
        references_bytes, arrived_bytes = 8 * displayed_max, len(symbols) << ARRIVED_SHIFT
        actions_bytes, stocks_bytes = len(symbols) << ACTION_SHIFT, STOCK_BYTES * len(symbols)
        size_bytes = (
            WORDS_BYTES + references_bytes + arrived_bytes + actions_bytes + stocks_bytes + len(symbols)
        )
        self._arena: Final = Arena.private(size_bytes + 4096, huge_pages)
        self.state: Final = PublisherState(
            book=self._ladder.state,
            words=self._arena.allocate(WORDS_BYTES),
            references=self._arena.allocate(references_bytes),
            arrived=self._arena.allocate(arrived_bytes),
            actions=self._arena.allocate(actions_bytes),
            stocks=self._arena.allocate(stocks_bytes),
            shards=self._arena.allocate(len(symbols)),
            shard_count=max(shards) + 1,
            symbol_count=len(symbols),
            store=store.state,
        )
        store_int64(self.state.words + MIDNIGHT_NS, midnight_ns)
        store_int64(self.state.words + FIRST_ORDER, word(self._ladder.state, FRESH_ORDER))
        view_bytes(self.state.stocks, stocks_bytes)[:] = b"".join(stocks)
        for symbol_id, shard in enumerate(shards):
            store_uint8(self.state.shards + symbol_id, shard)

    @property
    def timestamp_ns(self) -> int:
        """The time of the last message, from midnight."""
        return int(load_int64(self.state.words + TIMESTAMP_NS))

    @property
    def not_displayed(self) -> int:
        """How many orders came in that may rest and could not be displayed."""
        return int(load_int64(self.state.words + NOT_DISPLAYED))

    def open_day(self, timestamp_ns: int = 0) -> None:
        """Tell the day's first stages, and of each symbol its directory entry and that it trades."""
        store_int64(self.state.words + OPENED_NS, timestamp_ns)
        for symbol_id, action in enumerate(opening_actions(self.symbols, timestamp_ns)):
            message = action.encode()
            view_bytes(action_address(self.state, symbol_id), len(message))[:] = message
        self._append(*opening_messages(self.symbols, timestamp_ns))

    @property
    def is_closed(self) -> bool:
        """Whether the day's last stages have been told."""
        return load_int64(self.state.words + IS_CLOSED) != 0

    def close_day(self) -> None:
        """Tell the day's last stages, at the time of the last message."""
        store_int64(self.state.words + IS_CLOSED, 1)
        self._append(*(SystemEvent(0, 0, self.timestamp_ns, code) for code in CLOSING))

    def live_orders(self) -> int:
        """How many orders are displayed."""
        return int(live_order_count(self._ladder.state))

    def public_digest(self) -> str:
        """The public state digest of the displayed orders; see :mod:`exchange.matching.digest`."""
        return state_digest([self._ladder.state], [0] * len(self.symbols), public=True)

    def _append(self, *messages: ItchMessage) -> None:
        for one in messages:
            store_int64(self.state.words + TIMESTAMP_NS, max(self.timestamp_ns, one.timestamp))
            self.store.append(one.encode())


def opening_messages(symbols: Sequence[str], timestamp_ns: int) -> list[ItchMessage]:
    """What a day begins with: its first stage, the directory, what trades, and the stages up to market hours."""
    first, *stages = (SystemEvent(0, 0, timestamp_ns, code) for code in OPENING)
    entries = [directory_entry(index + 1, name, timestamp_ns) for index, name in enumerate(symbols)]
    return [first, *entries, *opening_actions(symbols, timestamp_ns), *stages]


def opening_actions(symbols: Sequence[str], timestamp_ns: int) -> list[StockTradingAction]:
    """Of each symbol that it trades."""
    return [
        StockTradingAction(index + 1, 0, timestamp_ns, name, TradingState.TRADING, " ", "")
        for index, name in enumerate(symbols)
    ]


def directory_entry(locate: int, name: str, timestamp_ns: int) -> StockDirectory:
    """What our exchange tells of a symbol: an ordinary share of its own market, traded in any size."""
    return StockDirectory(
        stock_locate=locate,
        tracking_number=0,
        timestamp=timestamp_ns,
        stock=name,
        market_category="Q",
        financial_status_indicator="N",
        round_lot_size=ROUND_LOT_SHARES,
        round_lots_only="N",
        issue_classification="C",
        issue_sub_type="Z",
        authenticity="P",
        short_sale_threshold_indicator="N",
        ipo_flag="N",
        luld_reference_price_tier="1",
        etp_flag="N",
        etp_leverage_factor=1,
        inverse_indicator="N",
    )
