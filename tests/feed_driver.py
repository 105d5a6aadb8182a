"""Feeds for tests: ITCH messages drawn by hypothesis or by a seed, and the two books that must agree on them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from exchange.flow import Flow
from exchange.market_data.datagram_store import SLOT_BYTES, DatagramStore, copy_blocks
from exchange.market_data.feed_book import Book, FeedBook
from exchange.market_data.plain_feed_book import PlainFeedBook
from exchange.market_data.plain_publisher import PlainPublisher
from exchange.market_data.publisher import Publisher, directory_entry
from exchange.matching.digest import state_digest
from exchange.messages import EVENT_STRUCT, RECORD_BYTES, Event
from exchange.native import address_of
from exchange.transport.protocol import send
from exchange.wire.itch50 import (
    AddOrder,
    AddOrderAttributed,
    BrokenTrade,
    CrossTrade,
    ItchMessage,
    OrderCancel,
    OrderDelete,
    OrderExecuted,
    OrderExecutedWithPrice,
    OrderReplace,
    StockTradingAction,
    SystemEvent,
    Trade,
)
from exchange.wire.moldudp64 import decode_packet, encode_blocks
from tests.book_driver import BookDriver

REFERENCES = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 1 << 40, (1 << 63) + 5, (1 << 64) - 1])
LOCATES = st.sampled_from([1, 2, 2, 9, 9, 9, 65_535, 0])
SHARES = st.sampled_from([1, 5, 10, 10, 100, (1 << 32) - 1, 0])
PRICES = st.sampled_from([100, 101, 102, 103, 104, 5000, 1, (1 << 32) - 1, 0])
SIDES = st.sampled_from("BBBBSSSSX")
TIMES = st.integers(0, (1 << 48) - 1)
STOCKS = {0: "NONE", 1: "ONE", 2: "TWO", 9: "NINE", 65_535: "LAST"}


@st.composite
def feed_messages(draw: st.DrawFn) -> ItchMessage:
    """Any message that a book looks at, right or wrong; few numbers, so that they meet."""
    kind = draw(st.sampled_from("AAAAAAAAAFECXXDDUUURHPQBS"))
    locate, time_ns, reference = draw(LOCATES), draw(TIMES), draw(REFERENCES)
    head, stock = (locate, 0, time_ns), STOCKS[locate]
    match kind:
        case "A":
            return AddOrder(*head, reference, draw(SIDES), draw(SHARES), stock, draw(PRICES))
        case "F":
            return AddOrderAttributed(
                *head, reference, draw(SIDES), draw(SHARES), stock, draw(PRICES), "MPID"
            )
        case "E":
            return OrderExecuted(*head, reference, draw(SHARES), 77)
        case "C":
            return OrderExecutedWithPrice(*head, reference, draw(SHARES), 77, "Y", draw(PRICES))
        case "X":
            return OrderCancel(*head, reference, draw(SHARES))
        case "D":
            return OrderDelete(*head, reference)
        case "U":
            return OrderReplace(*head, reference, draw(REFERENCES), draw(SHARES), draw(PRICES))
        case "R":
            return directory_entry(locate, stock, time_ns)
        case "H":
            return StockTradingAction(*head, stock, draw(st.sampled_from("HPQT")), " ", "T1")
        case "P":
            return Trade(*head, 0, "B", draw(SHARES), stock, draw(PRICES), 78)
        case "Q":
            return CrossTrade(*head, draw(SHARES), stock, draw(PRICES), 79, "O")
        case "B":
            return BrokenTrade(*head, 77)
        case _:
            return SystemEvent(0, 0, time_ns, draw(st.sampled_from("OSQMEC")))


def random_feed(seed: int, count: int, symbols: int = 4) -> list[ItchMessage]:
    """A feed of ``count`` messages, mostly about orders that are there; the same seed gives the same feed."""
    chance = np.random.default_rng(seed)
    live: list[tuple[int, int]] = []
    feed: list[ItchMessage] = []
    reference = 0
    spread = int(chance.choice([3, 50, 5000]))
    for time_ns in range(count):
        draw = chance.random()
        head = (int(chance.integers(1, symbols + 1)), 0, time_ns)
        price, shares = 10_000 + int(chance.integers(spread)), int(chance.integers(1, 200))
        if draw < 0.45 or not live:
            reference += 1
            side = "BS"[int(chance.integers(2))]
            feed.append(AddOrder(*head, reference, side, shares, f"S{head[0]}", price))
            live.append((head[0], reference))
            continue
        locate, old = live.pop(int(chance.integers(len(live))))
        head = (locate, 0, time_ns)
        if draw < 0.65:
            feed.append(OrderDelete(*head, old))
        elif draw < 0.80:
            reference += 1
            feed.append(OrderReplace(*head, old, reference, shares, price))
            live.append((locate, reference))
        else:
            taken = int(chance.integers(1, 40))
            feed.append(
                OrderCancel(*head, old, taken) if draw < 0.9 else OrderExecuted(*head, old, taken, time_ns)
            )
            live.append((locate, old))  # it may be gone; then the next message about it is at fault
    return feed


class Twins:
    """The compiled book and its plain twin, given the same messages."""

    def __init__(
        self, symbols: Sequence[str] = (), capacity_orders: int = 1000, capacity_symbols: int = 8
    ) -> None:
        self.compiled = FeedBook(symbols, capacity_orders=capacity_orders, capacity_symbols=capacity_symbols)
        self.plain = PlainFeedBook(
            symbols, capacity_orders=capacity_orders, capacity_symbols=capacity_symbols
        )

    def apply(self, message: ItchMessage) -> None:
        """Apply one message to both and compare what can be asked quickly."""
        data = message.encode()
        self.compiled.apply(data)
        self.plain.apply(data)
        assert seen(self.compiled) == seen(self.plain), message

    def apply_all(self, messages: Iterable[ItchMessage]) -> None:
        """Apply messages, and compare everything at the end."""
        for message in messages:
            self.apply(message)
        assert self.compiled.digest() == self.plain.digest()
        assert self.compiled.digest(public=True) == self.plain.digest(public=True)


def seen(book: Book) -> Any:
    """What a person would ask of a book after each message."""
    numbers = range(len(book.symbols))
    return (
        book.symbols,
        book.counts(),
        book.live_orders(),
        book.timestamp_ns,
        book.system_event,
        [book.trading_state(number) for number in numbers],
        [book.top(number) for number in numbers],
        [book.depth(number, 3) for number in numbers],
    )


class PublishedMarket:
    """An engine's book, its publisher compiled and plain, and a subscriber's book that is fed by it.

    The engine is either variant of the book; commands go in, and everything that follows is done at once.
    """

    def __init__(
        self,
        kind: str,
        symbols: Sequence[str],
        *,
        capacity_orders: int = 4000,
        price_min_ticks: int = 1,
        price_max_ticks: int = (1 << 32) - 1,
        shard_of_symbol: Sequence[int] = (),
        plain: bool = True,
        store_messages: int = 1 << 16,
    ) -> None:
        self.engine = BookDriver(
            kind,
            symbol_count=len(symbols),
            capacity_orders=capacity_orders,
            price_min_ticks=price_min_ticks,
            price_max_ticks=price_max_ticks,
        )
        self.store = DatagramStore("TEST", store_messages)
        self.publisher = Publisher(
            symbols, self.store, capacity_orders=capacity_orders, shard_of_symbol=shard_of_symbol
        )
        self.plain = PlainPublisher(symbols, shard_of_symbol=shard_of_symbol) if plain else None
        self.book = FeedBook(capacity_orders=capacity_orders, capacity_symbols=len(symbols))
        self.blocks = bytearray()
        self.publisher.open_day()
        self._drain()

    def play(self, commands: NDArray[Any]) -> None:
        """Apply commands as one batch, publish their events, feed what was published to the subscriber."""
        self.publish(self.engine.apply_bytes(commands.tobytes()))

    def publish(self, events: bytes) -> None:
        """Publish some events, feed what was published to the subscriber."""
        records = np.frombuffer(events, np.uint8)
        send(self.publisher.state, address_of(records), len(events) // RECORD_BYTES)
        blocks = self._drain()
        if self.plain is not None:
            before = len(self.plain.messages)
            for fields in EVENT_STRUCT.iter_unpack(events):
                self.plain.publish(Event(*fields))
            told = encode_blocks(message.encode() for message in self.plain.messages[before:])
            assert blocks == told

    def messages(self) -> list[bytes]:
        """All messages so far."""
        return list(split_blocks(bytes(self.blocks)))

    def _drain(self) -> bytes:
        packets = [decode_packet(datagram) for datagram in self.store.take_datagrams()]
        blocks = encode_blocks(one for packet in packets for one in packet.messages)
        self.blocks += blocks
        self.book.apply_blocks(blocks)
        return blocks

    def assert_same_tops(self) -> None:
        """What the subscriber sees is what the engine has."""
        for symbol_id in range(self.engine.symbol_count):
            assert list(self.book.top(symbol_id)) == self.engine.top(symbol_id)[1]

    def assert_publisher_has_engines_book(self) -> str:
        """Every order stands where it stands in the engine."""
        engine = state_digest([self.engine.state], [0] * self.engine.symbol_count, public=True)
        assert self.publisher.public_digest() == engine
        return engine

    def assert_same_books(self) -> None:
        """The same holds for the subscriber, and nothing was ever wrong."""
        assert self.book.digest(public=True) == self.assert_publisher_has_engines_book()
        assert self.book.counts().faults == 0


def commands_of(flow: Flow) -> NDArray[Any]:
    """A flow's commands, stamped."""
    commands = flow.commands.copy()
    commands["sequence"] = np.arange(1, len(commands) + 1)
    return commands


def kept_blocks(store: DatagramStore) -> bytes:
    """The blocks of all messages of a feed of which everything is still there; nobody may append meanwhile."""
    out = np.zeros(SLOT_BYTES * store.next_sequence, np.uint8)
    return out[: copy_blocks(store.state, 1, address_of(out))].tobytes()


def split_blocks(blocks: bytes) -> Iterator[bytes]:
    """The messages of consecutive blocks."""
    at = 0
    while at < len(blocks):
        behind = at + 2 + int.from_bytes(blocks[at : at + 2], "big")
        yield blocks[at + 2 : behind]
        at = behind
