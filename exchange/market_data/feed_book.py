"""The books of a market, built from its ITCH 5.0 feed: every order, full depth, all symbols or chosen ones.

:class:`FeedBook` is what a subscriber holds. It takes messages as they come, one by one or many in a row, from a
datagram or from the file of a day (:mod:`exchange.market_data.feed_file`), and can be asked for prices, depth and
orders at any time in between. It counts what should not happen: references to orders that are not there, numbers
used twice, more shares taken than an order has, prices that cross. On a feed that is whole all of these stay zero,
and a book that is wrong shows in them first.

The work is done by compiled code (:mod:`exchange.market_data.feed_kernel`) on flat memory.
:class:`~exchange.market_data.plain_feed_book.PlainFeedBook` is the same in plain Python, the definition that this
one is tested against.

Rules: one thread uses a feed book. Its memory is laid out when it is made; an order for which there is no room is
counted and left out.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from exchange import limits
from exchange.book.ladder import Ladder
from exchange.book.ladder_memory import ID_SLOT_SHIFT, ID_SLOTS_MASK, word
from exchange.book.protocol import export_orders, live_order_count, top_of_book
from exchange.errors import UserError
from exchange.market_data.feed_kernel import (
    CUT,
    END_MARK,
    WHOLE,
    WRONG_LENGTH,
    apply_blocks,
    depth_of_side,
)
from exchange.market_data.feed_memory import (
    BY_TYPE,
    CHOSEN,
    CROSSED,
    DUPLICATE_REFERENCES,
    INVALID,
    IS_KEPT,
    KEPT,
    KEPT_MAX,
    KEPT_SLOT_BYTES,
    LEFT_OUT,
    LENGTHS,
    LOCATE_BYTES,
    MISSING_REFERENCES,
    NO_ROOM,
    NOT_KEPT,
    OVERDRAWN,
    SYMBOLS,
    SYMBOLS_LIMIT,
    SYMBOLS_MAX,
    SYSTEM_EVENT,
    TIMESTAMP_NS,
    UNKNOWN,
    UNWANTED,
    WORDS_BYTES,
    FeedState,
    lay_out_tables,
)
from exchange.market_data.top_of_book import TopOfBook
from exchange.matching.digest import state_digest
from exchange.messages import BUY, COMMAND_DTYPE, SELL
from exchange.native import (
    Arena,
    HugePages,
    address_of,
    load_big_endian_uint16,
    load_int64,
    load_uint8,
    store_int64,
    store_uint8,
    view_bytes,
)
from exchange.wire.fields import WireError
from exchange.wire.glimpse import SNAPSHOT_TYPES
from exchange.wire.itch50 import MESSAGE_BYTES, STOCK_BYTES
from exchange.wire.layout import LENGTH_BYTES, Buffer
from exchange.wire.moldudp64 import encode_blocks


class BadBlock(WireError):
    """A block that holds no ITCH 5.0 message. ``offset_bytes``: where it begins in the bytes that were given."""

    def __init__(self, text: str, offset_bytes: int) -> None:
        super().__init__(text)
        self.offset_bytes = offset_bytes


PRICE_MIN_TICKS: Final = 1
PRICE_MAX_TICKS: Final = (1 << 32) - 1
"""What the price field of a message can hold; zero is no price."""

DEPTH_LEVELS_MAX: Final = 1 << 16


class FeedCounts(NamedTuple):
    """What a feed book has met.

    Attributes:
        messages: how many were applied or left aside, of all types.
        missing_references: executions, cancels, deletes and replaces of orders that are not there.
        duplicate_references: new orders under a number that a live order has.
        overdrawn: executions and cancels of more shares than the order had; it is gone.
        invalid: no shares, no price, neither buy nor sell, or an order without a symbol.
        crossed: orders that came to rest at a price at which the other side should have traded with them.
        no_room: orders left out because the book is full.
        symbols_left_out: symbols left out because there are more than the book was made for.
    """

    messages: int = 0
    missing_references: int = 0
    duplicate_references: int = 0
    overdrawn: int = 0
    invalid: int = 0
    crossed: int = 0
    no_room: int = 0
    symbols_left_out: int = 0

    @property
    def faults(self) -> int:
        """What should not have happened, all together."""
        return sum(self) - self.messages


class Level(NamedTuple):
    """One price: in ticks of 1/10,000, with the shares and the number of orders that wait there."""

    price_ticks: int
    quantity_lots: int
    orders: int


class Depth(NamedTuple):
    """Both sides of a book, best price first."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Book(Protocol):
    """What can be asked of a book that was built from a feed, compiled or plain.

    ``symbol_id`` counts the symbols in the order in which the feed first named them.
    """

    def apply(self, message: Buffer) -> None:
        """Apply one message. Raises WireError if it is no ITCH 5.0 message."""

    def apply_blocks(self, data: Buffer) -> int:
        """Apply the messages of consecutive blocks (two bytes of length, then the message).

        Returns how many bytes were used up: fewer than there are if the last block is cut, or if a block of length 0
        marks the end of a day. Raises BadBlock for a block that is no ITCH 5.0 message; the ones in front of it have
        been applied.
        """

    def apply_blocks_at(self, address: int, size_bytes: int) -> int:
        """The same for blocks that lie at an address, where the caller keeps them."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Their names; the index is the ``symbol_id``."""

    @property
    def timestamp_ns(self) -> int:
        """The time of the last message, from midnight."""

    @property
    def system_event(self) -> str:
        """The code of the last system event, empty before the first."""

    def trading_state(self, symbol_id: int) -> str:
        """The code of a symbol's last trading action, empty before the first."""

    def counts(self) -> FeedCounts:
        """What was met so far."""

    def counts_by_type(self) -> dict[str, int]:
        """How many messages there were of each type that occurred."""

    def live_orders(self) -> int:
        """How many orders rest, over all symbols."""

    def top(self, symbol_id: int) -> TopOfBook:
        """Best prices and what waits there."""

    def depth(self, symbol_id: int, levels: int) -> Depth:
        """The best ``levels`` prices of each side."""

    def digest(self, *, public: bool = False) -> str:
        """One number for all orders in their priority; see :mod:`exchange.matching.digest`."""


class FeedBook:
    """The compiled book of a feed.

    Args:
        symbols: which symbols to keep; none means all.
        capacity_orders: how many orders may rest at once, over all symbols.
        capacity_symbols: how many symbols there may be.
        keep_messages: how many messages about the day and the symbols are kept for snapshots
            (:mod:`exchange.market_data.snapshot`).
        huge_pages: see :class:`exchange.native.Arena`.

    Raises:
        UserError: a capacity is out of range, or a name is no symbol.
    """

    def __init__(
        self,
        symbols: Sequence[str] = (),
        *,
        capacity_orders: int = limits.FEED_ORDERS_DEFAULT,
        capacity_symbols: int = limits.FEED_SYMBOLS_DEFAULT,
        keep_messages: int = 0,
        huge_pages: HugePages = "advise",
    ) -> None:
        check_range("capacity_orders", capacity_orders, 1, limits.BOOK_CAPACITY_ORDERS_MAX)
        check_range("capacity_symbols", capacity_symbols, 1, SYMBOLS_LIMIT)
        check_range("keep_messages", keep_messages, 0, limits.FEED_STORE_MESSAGES_MAX)
        chosen = [padded_symbol(name) for name in symbols]
        self._ladder: Final = Ladder(
            capacity_symbols, capacity_orders, PRICE_MIN_TICKS, PRICE_MAX_TICKS, huge_pages
        )
        names_bytes = STOCK_BYTES * capacity_symbols
        chosen_bytes = STOCK_BYTES * max(1, len(chosen))
        kept_bytes = KEPT_SLOT_BYTES * keep_messages
        size_bytes = WORDS_BYTES + LOCATE_BYTES + names_bytes + chosen_bytes + capacity_symbols + kept_bytes
        tables_bytes = word(self._ladder.state, ID_SLOTS_MASK) + (1 << ID_SLOT_SHIFT)
        self._arena: Final = Arena.private(size_bytes + 4096)
        self._tables: Final = Arena.private(tables_bytes, huge_pages)
        self.state: Final = FeedState(
            book=self._ladder.state,
            words=self._arena.allocate(WORDS_BYTES),
            locates=self._arena.allocate(LOCATE_BYTES),
            names=self._arena.allocate(names_bytes),
            chosen=self._arena.allocate(chosen_bytes),
            states=self._arena.allocate(capacity_symbols),
            kept=self._arena.allocate(kept_bytes),
        )
        lay_out_tables(self.state.book, self.state.words, self._tables.allocate(tables_bytes))
        store_int64(self.state.words + SYMBOLS_MAX, capacity_symbols)
        store_int64(self.state.words + CHOSEN, len(chosen))
        store_int64(self.state.words + KEPT_MAX, keep_messages)
        for letter, length in MESSAGE_BYTES.items():
            store_uint8(self.state.words + LENGTHS + ord(letter), length)
            is_kept = letter in SNAPSHOT_TYPES and letter not in "AF"
            store_uint8(self.state.words + IS_KEPT + ord(letter), is_kept)
        for index, name in enumerate(chosen):
            view_bytes(self.state.chosen + STOCK_BYTES * index, STOCK_BYTES)[:] = name
        self._out: Final = np.zeros(4, np.int64)

    def apply(self, message: Buffer) -> None:
        """Apply one message. Raises WireError if it is no ITCH 5.0 message."""
        used = self.apply_blocks(encode_blocks([bytes(message)]))
        if not used:
            raise WireError("ITCH 5.0: 0 bytes are no message, not even a type")

    def apply_blocks(self, data: Buffer) -> int:
        """Apply the messages of consecutive blocks; see :class:`Book`."""
        block = np.frombuffer(data, np.uint8)
        return self.apply_blocks_at(address_of(block), len(block))

    def apply_blocks_at(self, address: int, size_bytes: int) -> int:
        """Apply the messages of blocks that lie at an address; see :class:`Book`."""
        stopped, why = apply_blocks(self.state, address, address + size_bytes)
        used = int(stopped) - address
        if why in (WHOLE, CUT, END_MARK):
            return used
        start = view_bytes(address + used, min(size_bytes - used, LENGTH_BYTES + 1))
        raise BadBlock(describe_trouble(bytes(start), int(why)), used)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Their names; the index is the ``symbol_id``."""
        addresses = [self.state.names + STOCK_BYTES * number for number in range(self._word(SYMBOLS))]
        return tuple(name_of(bytes(view_bytes(address, STOCK_BYTES))) for address in addresses)

    @property
    def timestamp_ns(self) -> int:
        """The time of the last message, from midnight."""
        return self._word(TIMESTAMP_NS)

    @property
    def system_event(self) -> str:
        """The code of the last system event, empty before the first."""
        code = self._word(SYSTEM_EVENT)
        return chr(code) if code else ""

    def trading_state(self, symbol_id: int) -> str:
        """The code of a symbol's last trading action, empty before the first."""
        self._check_symbol(symbol_id)
        code = load_uint8(self.state.states + symbol_id)
        return chr(code) if code else ""

    def counts(self) -> FeedCounts:
        """What was met so far."""
        return FeedCounts(
            messages=sum(self.counts_by_type().values()),
            missing_references=self._word(MISSING_REFERENCES),
            duplicate_references=self._word(DUPLICATE_REFERENCES),
            overdrawn=self._word(OVERDRAWN),
            invalid=self._word(INVALID),
            crossed=self._word(CROSSED),
            no_room=self._word(NO_ROOM),
            symbols_left_out=self._word(LEFT_OUT),
        )

    def counts_by_type(self) -> dict[str, int]:
        """How many messages there were of each type that occurred."""
        found = {letter: self._word(BY_TYPE + 8 * ord(letter)) for letter in MESSAGE_BYTES}
        return {letter: count for letter, count in found.items() if count}

    def live_orders(self) -> int:
        """How many orders rest, over all symbols."""
        return int(live_order_count(self.state.book))

    def top(self, symbol_id: int) -> TopOfBook:
        """Best prices and what waits there."""
        self._check_symbol(symbol_id)
        top_of_book(self.state.book, symbol_id, address_of(self._out))
        return TopOfBook(*self._out.tolist())

    def depth(self, symbol_id: int, levels: int) -> Depth:
        """The best ``levels`` prices of each side."""
        self._check_symbol(symbol_id)
        check_range("levels", levels, 1, DEPTH_LEVELS_MAX)
        return Depth(self._side(symbol_id, BUY, levels), self._side(symbol_id, SELL, levels))

    def digest(self, *, public: bool = False) -> str:
        """One number for all orders in their priority; see :mod:`exchange.matching.digest`."""
        return state_digest([self.state.book], [0] * self._word(SYMBOLS), public=public)

    def orders(self, symbol_id: int) -> NDArray[Any]:
        """A symbol's orders, ``COMMAND_DTYPE``, in priority order: bids best first, then asks best first.

        Those of ``order_id``, ``side``, ``price_ticks`` and ``quantity_lots`` tell of the order; the id is its number.
        """
        self._check_symbol(symbol_id)
        out = np.zeros(self.live_orders() + 1, COMMAND_DTYPE)
        return out[: export_orders(self.state.book, symbol_id, address_of(out))]

    def locates(self) -> list[int]:
        """For each symbol its stock locate."""
        table = np.frombuffer(view_bytes(self.state.locates, LOCATE_BYTES), np.uint16)
        numbered = np.flatnonzero((table != UNKNOWN) & (table != UNWANTED))
        return [int(locate) for locate in numbered[np.argsort(table[numbered])]]

    def kept_messages(self) -> list[bytes]:
        """The messages about the day and the symbols, as they came.

        Raises:
            UserError: there was not room for all of them; see ``keep_messages``.
        """
        if self._word(NOT_KEPT):
            raise UserError(
                f"keep_messages = {self._word(KEPT_MAX)}: {self._word(NOT_KEPT)} more messages should have been kept"
            )
        slots = [self.state.kept + KEPT_SLOT_BYTES * number for number in range(self._word(KEPT))]
        lengths = [load_big_endian_uint16(slot) for slot in slots]
        return [
            bytes(view_bytes(slot + LENGTH_BYTES, length))
            for slot, length in zip(slots, lengths, strict=True)
        ]

    def _side(self, symbol_id: int, side: int, levels: int) -> tuple[Level, ...]:
        out = np.zeros((levels, len(Level._fields)), np.int64)
        written = depth_of_side(self.state, symbol_id, side, levels, address_of(out))
        return tuple(Level(*row) for row in out[:written].tolist())

    def _word(self, offset: int) -> int:
        return int(load_int64(self.state.words + offset))

    def _check_symbol(self, symbol_id: int) -> None:
        known = self._word(SYMBOLS)
        if not 0 <= symbol_id < known:
            raise UserError(f"symbol_id = {symbol_id}: the feed has named {known} symbols so far")


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Refuse a number outside ``least`` to ``most``. Raises UserError."""
    if not least <= value <= most:
        raise UserError(f"{name} = {value}: must be {least} to {most}")


def padded_symbol(name: str) -> bytes:
    """A symbol as it stands in messages. Raises UserError if it cannot stand there."""
    if not name or len(name) > STOCK_BYTES or not name.isascii() or not name.isprintable():
        raise UserError(f"symbol {name!r}: must be 1 to {STOCK_BYTES} printable ASCII characters")
    return name.encode("ascii").ljust(STOCK_BYTES)


def name_of(stock: bytes) -> str:
    """A symbol's name from the field of a message, whatever stands there."""
    return stock.decode("ascii", "replace").rstrip(" ")


def describe_trouble(block: bytes, why: int) -> str:
    """What is wrong with a block, of which the first three bytes are given, in words."""
    length, letter = int.from_bytes(block[:LENGTH_BYTES], "big"), block[LENGTH_BYTES : LENGTH_BYTES + 1]
    if why == WRONG_LENGTH:
        allowed = MESSAGE_BYTES[letter.decode("ascii")]
        return f"ITCH 5.0: message {letter!r} of {length} bytes, allowed are {allowed}"
    return f"ITCH 5.0: message_type is {letter!r}, allowed is one of {', '.join(MESSAGE_BYTES)}"
