"""The market as browsers see it: the feed's books, looked at some times a second and encoded once for everybody.

:class:`Market` hears the feed (:class:`~exchange.market_data.feed_receiver.FeedReceiver`) into a
:class:`~exchange.page.tape.TapeBook`. :meth:`Market.turn` takes what has arrived, as often as the event loop has time;
:meth:`Market.tick` then looks at the list of symbols and at each book that somebody watches, and leaves a
:class:`Sheet` for each: encoded bytes, with a version that changes when they do.

While messages are missing the books are not looked at, so that nobody sees a price that was the best one a while ago;
the sheets stay as they were and the feed's state says ``behind``. When the exchange has ended its session, or another
one is heard where ours has fallen silent, the market begins anew: it outlives the exchange.

Rules: one thread.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from exchange.errors import UserError
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.messages import BUY
from exchange.page.documents import (
    LEVELS_TOLD,
    SYMBOLS_TOLD,
    TRADES_TOLD,
    BookLevel,
    BookView,
    Document,
    Overview,
    SymbolRow,
    TapeTrade,
    encode,
)
from exchange.page.tape import TapeBook, Trade

TURNS_AT_A_TIME: Final = 4
"""A turn takes up to some hundred datagrams; then browsers have theirs."""

SILENT_SECONDS: Final = 4.0
"""The feed has a heartbeat each second."""

BEHIND_SECONDS: Final = 0.5
"""A gap that is filled sooner is not worth telling."""

ANEW_SECONDS: Final = 1.0
"""Between the end of a session and listening for the next: the end is told several times."""

MakeReceiver = Callable[[], FeedReceiver]


class Sheet:
    """A document, encoded, and how often it has changed."""

    def __init__(self) -> None:
        self.data = b""
        self.version = 0

    def put(self, document: Document) -> None:
        """Encode a document; if it says what the last one said, nothing has changed."""
        data = encode(document)
        if data != self.data:
            self.data = data
            self.version += 1


class Market:
    """Everything that the feed tells.

    Args:
        make_receiver: makes what listens to the feed, with a :class:`TapeBook`; called again for the next session.
    """

    def __init__(self, make_receiver: MakeReceiver) -> None:
        self.overview: Final = Sheet()
        self.books: Final[dict[str, Sheet]] = {}
        self._make_receiver: Final = make_receiver
        self._receiver = make_receiver()
        self._heard = 0
        self._strange = 0
        self._heard_seconds = time.monotonic()
        self._ended_seconds: float | None = None
        self._behind_seconds = 0.0
        self._trouble = ""
        self._rows: list[SymbolRow] = []

    def close(self) -> None:
        """Stop listening."""
        self._receiver.close()

    @property
    def messages(self) -> int:
        """How many messages of the session have been applied."""
        return self._receiver.subscriber.next_sequence - 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is traded."""
        return self._receiver.subscriber.book.symbols

    def turn(self) -> int:
        """Take what has arrived, without waiting; how many datagrams that were."""
        taken = 0
        try:
            for _ in range(TURNS_AT_A_TIME):
                came = self._receiver.turn(0)
                taken += came
                if came == 0:
                    break
        except UserError as error:  # a snapshot is wanted, and nobody gives one: from the beginning again
            self._trouble = str(error)
            self._begin_anew(time.monotonic())
        self._watch_session(time.monotonic())
        return taken

    def tick(self, watched: Iterable[str]) -> None:
        """Bring the overview and the watched books up to date; the sheets of the others go."""
        wanted = set(watched)
        for symbol in self.books.keys() - wanted:
            del self.books[symbol]
        feed, detail = self._feed_state()
        book, symbols = self._book(), self.symbols
        if feed in ("behind", "lost"):
            self._behind_seconds = self._behind_seconds or time.monotonic()
            if time.monotonic() - self._behind_seconds > BEHIND_SECONDS:
                left_out = len(symbols) - len(self._rows)
                self.overview.put(Overview(feed, detail, book.system_event, self._rows, left_out))
            return
        self._behind_seconds = 0.0
        self._rows = [_symbol_row(book, number, name) for number, name in enumerate(symbols[:SYMBOLS_TOLD])]
        left_out = len(symbols) - len(self._rows)
        self.overview.put(Overview(feed, detail, book.system_event, self._rows, left_out))
        for symbol_id, symbol in enumerate(symbols):
            if symbol in wanted:
                self.books.setdefault(symbol, Sheet()).put(_book_view(book, symbol_id, symbol))

    def _book(self) -> TapeBook:
        book = self._receiver.subscriber.book
        assert isinstance(book, TapeBook)
        return book

    def _feed_state(self) -> tuple[str, str]:
        subscriber = self._receiver.subscriber
        if self._ended_seconds is not None or subscriber.has_ended:
            return "ended", "the exchange has ended its session"
        if not subscriber.session:
            return "waiting", self._trouble or "no feed has been heard yet"
        if self._receiver.is_lost:
            return "lost", f"messages from {subscriber.next_sequence} on are lost"
        if not subscriber.is_whole:
            return "behind", "messages are missing and have been asked for"
        if time.monotonic() - self._heard_seconds > SILENT_SECONDS:
            return "silent", f"nothing has been heard for {SILENT_SECONDS:.0f} s"
        return "live", ""

    def _watch_session(self, now_seconds: float) -> None:
        """Begin anew when the session has ended, or another has taken its place."""
        counts = self._receiver.subscriber.counts()
        good = counts.datagrams - counts.bad_datagrams
        is_strange = counts.bad_datagrams > self._strange
        self._strange = counts.bad_datagrams
        if good > self._heard:
            self._heard, self._heard_seconds = good, now_seconds
        subscriber = self._receiver.subscriber
        if subscriber.has_ended and self._ended_seconds is None:
            self._ended_seconds = now_seconds
        has_rested = self._ended_seconds is not None and now_seconds - self._ended_seconds > ANEW_SECONDS
        is_replaced = is_strange and now_seconds - self._heard_seconds > SILENT_SECONDS
        if (has_rested and is_strange) or is_replaced:
            self._begin_anew(now_seconds)

    def _begin_anew(self, now_seconds: float) -> None:
        self._receiver.close()
        self._receiver = self._make_receiver()
        self._heard = self._strange = 0
        self._heard_seconds, self._ended_seconds = now_seconds, None


def _symbol_row(book: TapeBook, symbol_id: int, symbol: str) -> SymbolRow:
    top = book.top(symbol_id)
    last = book.trades(symbol_id, 1)
    return SymbolRow(
        symbol,
        book.trading_state(symbol_id),
        top.bid_price_ticks,
        top.bid_quantity_lots,
        top.ask_price_ticks,
        top.ask_quantity_lots,
        last[0].price_ticks if last else 0,
        book.traded_lots(symbol_id),
    )


def _book_view(book: TapeBook, symbol_id: int, symbol: str) -> BookView:
    depth = book.depth(symbol_id, LEVELS_TOLD)
    count = book.trade_count(symbol_id)
    trades = book.trades(symbol_id, TRADES_TOLD)
    return BookView(
        symbol,
        book.trading_state(symbol_id),
        [BookLevel(*level) for level in depth.bids],
        [BookLevel(*level) for level in depth.asks],
        [_tape_trade(count - place, trade) for place, trade in enumerate(trades)],
        book.traded_lots(symbol_id),
    )


def _tape_trade(count: int, trade: Trade) -> TapeTrade:
    side = "B" if trade.side == BUY else "S"
    return TapeTrade(count, trade.timestamp_ns, trade.price_ticks, trade.quantity_lots, side)
