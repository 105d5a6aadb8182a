"""The book of a feed in plain Python: what :class:`~exchange.market_data.feed_book.FeedBook` is tested against.

It takes each message apart with the classes of :mod:`exchange.wire.itch50`, and keeps the orders in the sides and
levels of the textbook book (:mod:`exchange.book.naive`), of which it uses everything but the matching. So it says in
a page what the compiled reader does, and it answers the same questions.
"""

from collections.abc import Sequence
from itertools import groupby

from exchange import limits
from exchange.book.naive import BookSide, NaiveBook, RestingOrder
from exchange.market_data.feed_book import (
    DEPTH_LEVELS_MAX,
    PRICE_MAX_TICKS,
    PRICE_MIN_TICKS,
    BadBlock,
    Depth,
    FeedCounts,
    Level,
    check_range,
    padded_symbol,
)
from exchange.market_data.top_of_book import TopOfBook
from exchange.matching.digest import state_digest
from exchange.messages import BUY, SELL
from exchange.native import view_bytes
from exchange.wire.fields import WireError
from exchange.wire.itch50 import (
    MESSAGE_BYTES,
    AddOrder,
    AddOrderAttributed,
    ItchMessage,
    OrderCancel,
    OrderDelete,
    OrderExecuted,
    OrderExecutedWithPrice,
    OrderReplace,
    StockDirectory,
    StockTradingAction,
    SystemEvent,
    decode,
)
from exchange.wire.layout import LENGTH_BYTES, Buffer

OrderMessage = OrderCancel | OrderDelete | OrderExecuted | OrderExecutedWithPrice | OrderReplace


class PlainFeedBook:
    """The book of a feed, in plain Python; arguments as for :class:`~exchange.market_data.feed_book.FeedBook`."""

    def __init__(
        self,
        symbols: Sequence[str] = (),
        *,
        capacity_orders: int = limits.FEED_ORDERS_DEFAULT,
        capacity_symbols: int = limits.FEED_SYMBOLS_DEFAULT,
    ) -> None:
        self._chosen = {padded_symbol(name).decode("ascii").rstrip(" ") for name in symbols}
        self._capacity_orders = capacity_orders
        self._capacity_symbols = capacity_symbols
        self._book = NaiveBook(0, capacity_orders, PRICE_MIN_TICKS, PRICE_MAX_TICKS)
        self._locates: dict[int, int | None] = {}
        self._symbols: list[str] = []
        self._states: dict[int, str] = {}
        self._counts = FeedCounts()
        self._by_type = dict.fromkeys(MESSAGE_BYTES, 0)
        self.timestamp_ns = 0
        self.system_event = ""

    def apply_blocks(self, data: Buffer) -> int:
        """Apply the messages of consecutive blocks; see :class:`~exchange.market_data.feed_book.Book`."""
        data = bytes(data)
        at = 0
        while at + LENGTH_BYTES <= len(data):
            length = int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            message = data[at + LENGTH_BYTES : at + LENGTH_BYTES + length]
            if length == 0 or not message:
                break
            allowed = MESSAGE_BYTES.get(chr(message[0]))
            if allowed != length:
                raise BadBlock(f"ITCH 5.0: {message[:1]!r} of {length} bytes is no message", at)
            if len(message) < length:
                break
            self.apply(message)
            at += LENGTH_BYTES + length
        return at

    def apply_blocks_at(self, address: int, size_bytes: int) -> int:
        """The same for blocks that lie at an address."""
        return self.apply_blocks(view_bytes(address, size_bytes))

    def apply(self, message: Buffer) -> None:
        """Apply one message. Raises WireError if it is no ITCH 5.0 message."""
        length = MESSAGE_BYTES.get(chr(message[0])) if len(message) else None
        if length != len(message):
            raise WireError(f"ITCH 5.0: {bytes(message[:1])!r} of {len(message)} bytes is no message")
        self.take(decode(message))

    def take(self, message: ItchMessage) -> None:
        """Apply one message that is decoded already."""
        self._by_type[message.layout.message_type] += 1
        self.timestamp_ns = message.timestamp
        match message:
            case AddOrder() | AddOrderAttributed():
                self._add(message)
            case OrderDelete() | OrderCancel() | OrderExecuted() | OrderExecutedWithPrice() | OrderReplace():
                self._change(message)
            case StockDirectory() if message.stock_locate and message.stock_locate not in self._locates:
                self._admit(message.stock_locate, message.stock)
            case StockTradingAction():
                symbol_id = self._locates.get(message.stock_locate)
                if symbol_id is not None:
                    self._states[symbol_id] = message.trading_state
            case SystemEvent():
                self.system_event = message.event_code

    def _admit(self, locate: int, name: str) -> None:
        """Give a symbol its number, if it was chosen and there is room."""
        self._locates[locate] = None
        if self._chosen and name not in self._chosen:
            return
        if len(self._symbols) == self._capacity_symbols:
            self._count("symbols_left_out")
            return
        self._locates[locate] = len(self._symbols)
        self._symbols.append(name)
        self._book.symbols.append((BookSide(BUY), BookSide(SELL)))

    def _add(self, message: AddOrder | AddOrderAttributed) -> None:
        if message.stock_locate not in self._locates:
            if message.stock_locate == 0:
                self._count("invalid")
                return
            self._admit(message.stock_locate, message.stock)
        symbol_id = self._locates[message.stock_locate]
        if symbol_id is None:
            return
        order_id = _order_id(message.order_reference_number)
        if message.buy_sell_indicator not in ("B", "S") or message.shares == 0 or message.price == 0:
            self._count("invalid")
        elif (symbol_id, order_id) in self._book.orders:
            self._count("duplicate_references")
        elif len(self._book.orders) >= self._capacity_orders:
            self._count("no_room")
        else:
            side = SELL if message.buy_sell_indicator == "S" else BUY
            self._rest(symbol_id, order_id, side, message.price, message.shares)

    def _change(self, message: OrderMessage) -> None:
        """A message about an order that should be there."""
        symbol_id = self._locates.get(message.stock_locate, -1)
        if symbol_id is None:
            return
        if isinstance(message, OrderReplace):
            reference = message.original_order_reference_number
        else:
            reference = message.order_reference_number
        order = self._book.orders.get((symbol_id, _order_id(reference)))
        if order is None:
            self._count("missing_references")
            return
        match message:
            case OrderDelete():
                self._remove(order)
            case OrderReplace():
                self._replace(order, message)
            case OrderCancel():
                self._reduce(order, message.canceled_shares)
            case OrderExecuted() | OrderExecutedWithPrice():
                self._reduce(order, message.executed_shares)

    def _reduce(self, order: RestingOrder, shares: int) -> None:
        if shares == 0:
            self._count("invalid")
        elif shares < order.quantity_lots:
            order.quantity_lots -= shares
        else:
            if shares > order.quantity_lots:
                self._count("overdrawn")
            self._remove(order)

    def _replace(self, order: RestingOrder, message: OrderReplace) -> None:
        new_order_id = _order_id(message.new_order_reference_number)
        if message.shares == 0 or message.price == 0:
            self._count("invalid")
        elif new_order_id != order.order_id and (order.symbol_id, new_order_id) in self._book.orders:
            self._count("duplicate_references")
        else:
            self._remove(order)
            self._rest(order.symbol_id, new_order_id, order.side, message.price, message.shares)

    def _rest(self, symbol_id: int, order_id: int, side: int, price_ticks: int, shares: int) -> None:
        order = RestingOrder(order_id, 0, symbol_id, side, price_ticks, shares)
        self._book.symbols[symbol_id][side].add(order)
        self._book.orders[symbol_id, order_id] = order
        bid, ask = (one.best_price() for one in self._book.symbols[symbol_id])
        if (
            bid is not None
            and ask is not None
            and (price_ticks >= ask if side == BUY else price_ticks <= bid)
        ):
            self._count("crossed")

    def _remove(self, order: RestingOrder) -> None:
        self._book.symbols[order.symbol_id][order.side].remove(order)
        del self._book.orders[order.symbol_id, order.order_id]

    def _count(self, what: str) -> None:
        self._counts = self._counts._replace(**{what: getattr(self._counts, what) + 1})

    @property
    def symbols(self) -> tuple[str, ...]:
        """Their names; the index is the ``symbol_id``."""
        return tuple(self._symbols)

    def trading_state(self, symbol_id: int) -> str:
        """The code of a symbol's last trading action, empty before the first."""
        return self._states.get(symbol_id, "")

    def counts(self) -> FeedCounts:
        """What was met so far."""
        return self._counts._replace(messages=sum(self._by_type.values()))

    def counts_by_type(self) -> dict[str, int]:
        """How many messages there were of each type that occurred."""
        return {letter: count for letter, count in self._by_type.items() if count}

    def live_orders(self) -> int:
        """How many orders rest, over all symbols."""
        return len(self._book.orders)

    def top(self, symbol_id: int) -> TopOfBook:
        """Best prices and what waits there."""
        best = [self._side(symbol_id, side, 1) for side in (BUY, SELL)]
        bid, ask = (levels[0] if levels else Level(0, 0, 0) for levels in best)
        return TopOfBook(bid.price_ticks, bid.quantity_lots, ask.price_ticks, ask.quantity_lots)

    def depth(self, symbol_id: int, levels: int) -> Depth:
        """The best ``levels`` prices of each side."""
        check_range("levels", levels, 1, DEPTH_LEVELS_MAX)
        return Depth(self._side(symbol_id, BUY, levels), self._side(symbol_id, SELL, levels))

    def digest(self, *, public: bool = False) -> str:
        """One number for all orders in their priority; see :mod:`exchange.matching.digest`."""
        return state_digest([self._book], [0] * len(self._symbols), public=public)

    def _side(self, symbol_id: int, side: int, levels: int) -> tuple[Level, ...]:
        orders = [one for one in self._book.orders_by_priority(symbol_id) if one.side == side]
        waiting = [list(group) for _, group in groupby(orders, key=lambda order: order.price_ticks)]
        return tuple(
            Level(group[0].price_ticks, sum(order.quantity_lots for order in group), len(group))
            for group in waiting[:levels]
        )


def _order_id(reference: int) -> int:
    """An order reference number as the signed word that a book keeps."""
    return reference - (reference >> 63 << 64)
