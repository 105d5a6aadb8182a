"""A feed applied to its book, with the trades written down on the way: a *tape* for each symbol.

A book forgets trades, and their messages do not say all: Order Executed (E) names an order and a number of shares, and
neither price nor side. Those are the order's, and have to be looked up before the message is applied, because it may be
the order's last. So the messages are applied in runs that end in front of a trade.

A tape is a ring of the last :data:`TRADES_KEPT` trades, with the count and the shares of all trades before them. Which
side a trade is printed on is that of the order that came in (the aggressor): the opposite of the one that it met.

Rules: one thread. Prints that are not for the tape (C with printable = N) and trades of symbols that the book does not
keep are left out.
"""

from typing import Final, NamedTuple

from exchange.book.id_index import find_id
from exchange.book.ladder_matching import key_of_level, side_of_row
from exchange.book.ladder_memory import (
    NO_LINK,
    ORDER_LEVEL,
    address_of_link,
    price_of_key,
    row_of_level,
)
from exchange.market_data.feed_kernel import WHOLE, apply_blocks
from exchange.market_data.feed_memory import UNKNOWN, UNWANTED, FeedState
from exchange.messages import BUY, SELL
from exchange.native import (
    inlined,
    kernel,
    load_big_endian_int64,
    load_big_endian_uint16,
    load_big_endian_uint32,
    load_big_endian_uint48,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
)
from exchange.wire.itch50 import (
    ADD_SIDE,
    LOCATE,
    MATCH,
    MESSAGES,
    REFERENCE,
    TAKEN_SHARES,
    TIMESTAMP,
    TRADE_MATCH,
    TRADE_PRICE,
    TRADE_SHARES,
)
from exchange.wire.layout import LENGTH_BYTES

TRADES_KEPT: Final = 64
"""Of each symbol: more than a screen shows."""

# A trade on the tape, by offsets: six int64.
TRADE_TIMESTAMP, TRADE_TICKS, TRADE_LOTS, TRADE_SIDE, TRADE_NUMBER = 0, 8, 16, 24, 32
TRADE_WORDS: Final = 6
TRADE_BYTES: Final = 8 * TRADE_WORDS

# What is told of a symbol, by offsets, in front of its trades.
TRADE_COUNT, TRADED_LOTS = 0, 8
HEAD_BYTES: Final = 16
TAPE_BYTES: Final = HEAD_BYTES + TRADES_KEPT * TRADE_BYTES

_E, _C, _P = (ord(letter) for letter in "ECP")
_E_BYTES, _C_BYTES, _P_BYTES = (MESSAGES[letter].layout.size_bytes for letter in "ECP")
_EXECUTION_PRICE: Final = MESSAGES["C"].layout.offset("execution_price")
_PRINTABLE: Final = MESSAGES["C"].layout.offset("printable")
_SELLS, _NO = ord("S"), ord("N")


class Tape(NamedTuple):
    """Where the tapes of all symbols begin, :data:`TAPE_BYTES` for each."""

    tapes: int


@kernel
def apply_blocks_to_tape(feed: FeedState, tape: Tape, first: int, end: int) -> tuple[int, int]:
    """Apply the messages of consecutive blocks and write their trades down; returns what ``apply_blocks`` does."""
    run = first
    block = first
    while block < end:
        block = _next_trade(block, end)
        stopped, why = apply_blocks(feed, run, block)
        if stopped != block or why != WHOLE:
            return stopped, why
        run = block
        if block < end:
            _write_trade(feed, tape, block + LENGTH_BYTES)
            block += LENGTH_BYTES + load_big_endian_uint16(block)
    return apply_blocks(feed, run, end)


@inlined
def _next_trade(block: int, end: int) -> int:
    """The first block that is a whole E, C or P, ``end`` if there is none; ``apply_blocks`` judges those before it."""
    while block + LENGTH_BYTES < end:
        length = load_big_endian_uint16(block)
        kind = load_uint8(block + LENGTH_BYTES)
        is_trade = (
            (kind == _E and length == _E_BYTES)
            or (kind == _C and length == _C_BYTES)
            or (kind == _P and length == _P_BYTES)
        )
        if is_trade and block + LENGTH_BYTES + length <= end:
            return block
        if length == 0:
            return end
        block += LENGTH_BYTES + length
    return end


@inlined
def _write_trade(feed: FeedState, tape: Tape, message: int) -> None:
    """Write down a trade that has not been applied yet."""
    entry = load_uint16(feed.locates + 2 * load_big_endian_uint16(message + LOCATE))
    if entry in (UNKNOWN, UNWANTED):
        return
    symbol_id = entry - 1
    if load_uint8(message) == _P:
        side = SELL if load_uint8(message + ADD_SIDE) == _SELLS else BUY
        price_ticks = load_big_endian_uint32(message + TRADE_PRICE)
        lots = load_big_endian_uint32(message + TRADE_SHARES)
        number = load_big_endian_int64(message + TRADE_MATCH)
    else:
        link = find_id(feed.book, symbol_id, load_big_endian_int64(message + REFERENCE))[0]
        if link == NO_LINK:
            return
        level = load_uint32(address_of_link(feed.book, link) + ORDER_LEVEL)
        row = row_of_level(feed.book, level)
        side = side_of_row(row)
        price_ticks = price_of_key(feed.book, side, key_of_level(row, level))
        lots = load_big_endian_uint32(message + TAKEN_SHARES)
        number = load_big_endian_int64(message + MATCH)
        if load_uint8(message) == _C:
            if load_uint8(message + _PRINTABLE) == _NO:
                return
            price_ticks = load_big_endian_uint32(message + _EXECUTION_PRICE)
    head = tape.tapes + TAPE_BYTES * symbol_id
    count = load_int64(head + TRADE_COUNT)
    trade = head + HEAD_BYTES + TRADE_BYTES * (count % TRADES_KEPT)
    store_int64(trade + TRADE_TIMESTAMP, load_big_endian_uint48(message + TIMESTAMP))
    store_int64(trade + TRADE_TICKS, price_ticks)
    store_int64(trade + TRADE_LOTS, lots)
    store_int64(trade + TRADE_SIDE, SELL if side == BUY else BUY)
    store_int64(trade + TRADE_NUMBER, number)
    store_int64(head + TRADE_COUNT, count + 1)
    store_int64(head + TRADED_LOTS, load_int64(head + TRADED_LOTS) + lots)
