"""What a scenario does to a book: a plain reference that plays the commands and counts.

A regime is described by what rests in the book and how much trades, and neither is a setting: both follow from the
walk that the seed gives. So every scenario is played once through this small book, and what it counts goes into the
flow's notes. It shares no code with :mod:`exchange.book`, so that a test can hold one against the other.

The book is an array of prices for each side, with a first-in-first-out queue at each and a bit for each occupied one.
Both sides count *ranks* from their worst price to their best one, bids upwards and asks downwards, so that one piece
of code serves both: the best price has the highest rank, and an order of rank ``r`` meets the other side's rank ``b``
if ``r + b`` reaches the number of prices less one.

Rules: commands as :func:`~exchange.flow.scenario_kernel.write_lives` writes them, with order ids from 1 to the number
of orders. Everything that they do is done as :mod:`exchange.book.protocol` says, but a replace always goes to the end
of the queue: a scenario's replaces ask for more.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.flow.synthetic_market import uncounted
from exchange.messages import CommandKind, TimeInForce
from exchange.native import count_leading_zeros, inlined, kernel, shift_left_wrapping

NONE: Final = -1

COUNTS: Final = (
    "trades", "rejects", "live_orders", "live_orders_max", "price_levels_max", "bid_levels_max", "ask_levels_max",
)  # fmt: skip
"""What is counted, in this order; then come two sums over all commands, of resting orders and of price levels."""
(
    TRADES, REJECTS, LIVE, LIVE_MAX, LEVELS_MAX, BID_LEVELS_MAX, ASK_LEVELS_MAX, LIVE_SUM, LEVELS_SUM,
) = range(len(COUNTS) + 2)  # fmt: skip
BID_LEVELS: Final = len(COUNTS) + 2
ASK_LEVELS: Final = BID_LEVELS + 1
WORDS: Final = ASK_LEVELS + 1

ORDER_DTYPE: Final = np.dtype(
    [
        ("rank", "<i4"),
        ("lots", "<i4"),
        ("next_in_level", "<i4"),
        ("previous_in_level", "<i4"),
        ("is_live", "<i4"),
    ]
)
"""An order of the book, found by its id."""

_NEW, _CANCEL = int(CommandKind.NEW), int(CommandKind.CANCEL)
_DAY: Final = int(TimeInForce.DAY)


class ReferenceBook(NamedTuple):
    """The book's state.

    Shapes: ``orders`` (orders + 1,); ``first`` and ``last`` (2, prices): ids, 0 for none; ``bits`` (2, words): the
    occupied ranks; ``best`` (2,): the highest of them or NONE; ``counts`` (WORDS,).
    """

    orders: NDArray[Any]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    bits: NDArray[np.int64]
    best: NDArray[np.int64]
    counts: NDArray[np.int64]
    price_lowest_ticks: int


def play(commands: NDArray[Any], orders: int) -> dict[str, int]:
    """Play a scenario through the book.

    Args:
        commands: shape (n,), ``COMMAND_DTYPE``, n > 0, with order ids from 1 to ``orders``.
        orders: how many ids there are.

    Returns:
        ``COUNTS``; ``live_orders_mean`` and ``price_levels_mean`` over all commands, rounded down; the lowest and
        the highest price in ticks.
    """
    prices = commands["price_ticks"][commands["kind"] != _CANCEL]
    lowest, highest = int(prices.min()), int(prices.max())
    ranks = highest - lowest + 1
    book = ReferenceBook(
        orders=np.zeros(orders + 1, ORDER_DTYPE),
        first=np.zeros((2, ranks), np.int32),
        last=np.zeros((2, ranks), np.int32),
        bits=np.zeros((2, (ranks >> 6) + 1), np.int64),
        best=np.full(2, NONE, np.int64),
        counts=np.zeros(WORDS, np.int64),
        price_lowest_ticks=lowest,
    )
    _play(book, commands)
    counts = dict(zip(COUNTS, (int(word) for word in book.counts), strict=False))
    return counts | {
        "live_orders_mean": int(book.counts[LIVE_SUM]) // len(commands),
        "price_levels_mean": int(book.counts[LEVELS_SUM]) // len(commands),
        "price_lowest_ticks": lowest,
        "price_highest_ticks": highest,
    }


@uncounted
@kernel
def _play(book: ReferenceBook, commands: NDArray[Any]) -> None:
    counts = book.counts
    for command in commands:
        order_id, side = np.int64(command["order_id"]), np.int64(command["side"])
        if command["kind"] != _NEW and not book.orders[order_id]["is_live"]:
            counts[REJECTS] += 1
        else:
            if command["kind"] != _NEW:
                _leave(book, side, order_id)
            if command["kind"] != _CANCEL:
                _enter(book, side, order_id, command)
            counts[LIVE_MAX] = max(counts[LIVE_MAX], counts[LIVE])
            counts[BID_LEVELS_MAX] = max(counts[BID_LEVELS_MAX], counts[BID_LEVELS])
            counts[ASK_LEVELS_MAX] = max(counts[ASK_LEVELS_MAX], counts[ASK_LEVELS])
            counts[LEVELS_MAX] = max(counts[LEVELS_MAX], counts[BID_LEVELS] + counts[ASK_LEVELS])
        counts[LIVE_SUM] += counts[LIVE]
        counts[LEVELS_SUM] += counts[BID_LEVELS] + counts[ASK_LEVELS]


@uncounted
@inlined
def _enter(book: Any, side: Any, order_id: Any, command: Any) -> None:
    """Trade as far as the price allows; what is left of a day order rests, last in its queue."""
    rank = np.int64(command["price_ticks"]) - book.price_lowest_ticks
    if side == 1:
        rank = book.first.shape[1] - 1 - rank
    lots = _match(book, 1 - side, rank, np.int64(command["quantity_lots"]))
    if lots == 0 or command["time_in_force"] != _DAY:
        return
    order = book.orders[order_id]
    order["rank"], order["lots"], order["is_live"] = rank, lots, 1
    order["next_in_level"], order["previous_in_level"] = 0, book.last[side, rank]
    if book.last[side, rank] == 0:
        book.first[side, rank] = order_id
        book.bits[side, rank >> 6] |= shift_left_wrapping(1, int(rank & 63))
        book.best[side] = max(book.best[side], rank)
        book.counts[BID_LEVELS + side] += 1
    else:
        book.orders[book.last[side, rank]]["next_in_level"] = order_id
    book.last[side, rank] = order_id
    book.counts[LIVE] += 1


@uncounted
@inlined
def _match(book: Any, other: Any, rank: Any, lots: Any) -> Any:
    """Trade ``lots`` with side ``other``; how many are left."""
    meets = book.first.shape[1] - 1 - rank
    while lots > 0 and book.best[other] >= meets:  # NONE is below every rank
        maker_id = book.first[other, book.best[other]]
        standing = np.int64(book.orders[maker_id]["lots"])
        traded = min(lots, standing)
        book.counts[TRADES] += 1
        lots -= traded
        book.orders[maker_id]["lots"] -= traded
        if book.orders[maker_id]["lots"] == 0:
            _leave(book, other, maker_id)
    return lots


@uncounted
@kernel
def _leave(book: Any, side: Any, order_id: Any) -> None:
    """Take a resting order out; if it was the last one at the best price, find the next best."""
    order = book.orders[order_id]
    rank = np.int64(order["rank"])
    before, after = order["previous_in_level"], order["next_in_level"]
    order["is_live"] = 0
    book.counts[LIVE] -= 1
    if before == 0:
        book.first[side, rank] = after
    else:
        book.orders[before]["next_in_level"] = after
    if after == 0:
        book.last[side, rank] = before
    else:
        book.orders[after]["previous_in_level"] = before
    if before != 0 or after != 0:
        return
    book.counts[BID_LEVELS + side] -= 1
    at = rank >> 6
    book.bits[side, at] &= ~shift_left_wrapping(1, int(rank & 63))
    if rank == book.best[side]:
        while at >= 0 and book.bits[side, at] == 0:
            at -= 1
        book.best[side] = NONE if at < 0 else (at << 6) + 63 - count_leading_zeros(int(book.bits[side, at]))
