"""Is the book that we built the book that was? A comparison with LOBSTER's own level-1 file.

LOBSTER publishes beside its messages the best ask and bid after each event (``..._orderbook_1.csv``: ask
price, ask size, bid price, bid size). If our book, fed with the messages, shows the same states in the same
order, then reader, book and replay are right in everything that shows at the touch.

**The alignment.** The rows cannot be matched one to one: the level-1 file has a row for each event that
concerns the first level (and belongs to a message file of its own), our states come after each command, and
it goes on for the whole day while the messages may end after an hour. What both must share is the *sequence
of distinct states*. So:

1. In both sequences, runs of equal states become one state. States of ours with an empty side are dropped.
2. Ours begins with the first state that equals the file's first row (before it, the orders that were there
   when the recording began come in one by one).
3. The two are compared as ``diff`` compares two texts: the shortest edit script that turns ours into a
   beginning of the file's (the file may go on, without penalty), by Myers' greedy O(ND) algorithm. What the
   script keeps is equal.

*Aligned* are all of our distinct states from the first common one on, *equal* those which the script keeps. A
state that differs thus costs what it should, one state, and does not shift all others. The same is done with
the prices alone.

Source: E. W. Myers, "An O(ND) difference algorithm and its variations", Algorithmica 1 (1986), section 2.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.flow.recorded import Source, open_source
from exchange.native import kernel

EDITS_MAX: Final = 20_000
"""The search takes time by the square of the edits. Two books that differ in more states than this have
nothing in common, and to find that out takes a second or two."""

_COLUMNS_PER_LEVEL: Final = 4
_LOBSTER_ORDER: Final = (2, 3, 0, 1)  # the file has ask price, ask size, bid price, bid size
_PRICES: Final = (0, 2)


@dataclass(frozen=True)
class LevelOneAgreement:
    """How many states of the best bid and ask are the same.

    Attributes:
        aligned: our distinct states (prices and sizes) from the first common one on.
        equal: those of them that the file has too, in the same order.
        equal_at_start: how many are equal before the first difference.
        aligned_prices: our distinct pairs of best prices.
        equal_prices: those of them that the file has too, in the same order.
    """

    aligned: int
    equal: int
    equal_at_start: int
    aligned_prices: int
    equal_prices: int

    @property
    def share(self) -> float:
        """Share of the aligned states that are equal in prices and sizes; 0 if none could be aligned."""
        return self.equal / self.aligned if self.aligned else 0.0

    @property
    def share_prices(self) -> float:
        """Share of the aligned states that are equal in prices; 0 if none could be aligned."""
        return self.equal_prices / self.aligned_prices if self.aligned_prices else 0.0


def compare_level_one(states: NDArray[np.int64], path: str) -> LevelOneAgreement:
    """Compare the best bid and ask after each command with a LOBSTER order book file.

    Args:
        states: shape (n, 4), int64: best bid price and quantity, best ask price and quantity (0, 0: empty
            side), as the books' ``top_of_book`` writes them.
        path: a LOBSTER order book file of any number of levels, plain or gzip; the first level is read.

    Raises:
        UserError: the file is not an order book file, or has next to nothing in common with the states.
    """
    theirs = read_level_one(path)
    ours = states[(states[:, _PRICES] != 0).all(axis=1)]
    aligned, equal, at_start = _agreement(ours, theirs, path)
    aligned_prices, equal_prices, _ = _agreement(ours[:, _PRICES], theirs[:, _PRICES], path)
    return LevelOneAgreement(aligned, equal, at_start, aligned_prices, equal_prices)


def read_level_one(path: str) -> NDArray[np.int64]:
    """The first level of a LOBSTER order book file: shape (n, 4), int64, in the order of ``top_of_book``.

    Raises:
        UserError: it cannot be read; a line is not a multiple of four integers.
    """
    source = open_source(path)
    lines = bytes(source.data).decode("ascii", "replace").split()
    if not lines:
        raise _wrong_columns(source, 0)
    try:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2, comments=None)
    except ValueError as error:
        raise UserError(f"{path}: not a LOBSTER order book file: {error}") from None
    if rows.shape[1] % _COLUMNS_PER_LEVEL:
        raise _wrong_columns(source, rows.shape[1])
    return np.ascontiguousarray(rows[:, _LOBSTER_ORDER])


def _wrong_columns(source: Source, columns: int) -> UserError:
    return source.error(0, f"{columns} columns, a LOBSTER order book file has {_COLUMNS_PER_LEVEL} per level")


def _agreement(ours: NDArray[np.int64], theirs: NDArray[np.int64], path: str) -> tuple[int, int, int]:
    """How many of our distinct states are aligned, equal, and equal before the first difference."""
    ours, theirs = _distinct(ours), _distinct(theirs)
    common = np.flatnonzero((ours == theirs[0]).all(axis=1))
    if not len(common):
        return 0, 0, 0
    ours = ours[common[0] :]
    numbers = np.unique(np.concatenate([ours, theirs]), axis=0, return_inverse=True)[1].reshape(-1)
    our_numbers, their_numbers = numbers[: len(ours)], numbers[len(ours) :]
    kept = _kept_by_shortest_edit(our_numbers, their_numbers, np.zeros(2 * EDITS_MAX + 3, np.int64))
    if kept < 0:
        raise UserError(
            f"{path}: is of another symbol or day: over {EDITS_MAX} states differ from the replayed book's"
        )
    shorter = min(len(ours), len(theirs))
    differs = our_numbers[:shorter] != their_numbers[:shorter]
    return len(ours), kept, int(np.argmax(differs)) if differs.any() else shorter


def _distinct(states: NDArray[np.int64]) -> NDArray[np.int64]:
    """The states without those equal to the one before."""
    changes = np.ones(len(states), np.bool_)
    changes[1:] = (states[1:] != states[:-1]).any(axis=1)
    return states[changes]


@kernel
def _kept_by_shortest_edit(ours: Any, theirs: Any, furthest: Any) -> Any:
    """How much the shortest edit from ``ours`` to a beginning of ``theirs`` keeps; -1: too many edits.

    ``furthest[k]`` is, for the edits made so far, the most of ours consumed on diagonal k = ours - theirs
    consumed (Myers calls it V); the indices are shifted so that k may be negative.
    """
    middle = EDITS_MAX + 1
    furthest[:] = 0
    for edits in range(EDITS_MAX + 1):
        for diagonal in range(-edits, edits + 1, 2):
            below, above = furthest[middle + diagonal - 1], furthest[middle + diagonal + 1]
            if diagonal == -edits or (diagonal != edits and below < above):
                consumed = above  # one of theirs is inserted
            else:
                consumed = below + 1  # one of ours is deleted
            if consumed < 0 or consumed > len(ours) or consumed - diagonal > len(theirs):
                furthest[middle + diagonal] = -EDITS_MAX  # off the table: no way leads on from here
                continue
            while (
                consumed < len(ours)
                and consumed - diagonal < len(theirs)
                and ours[consumed] == theirs[consumed - diagonal]
            ):
                consumed += 1
            furthest[middle + diagonal] = consumed
            if consumed == len(ours):
                return (2 * consumed - diagonal - edits) // 2
    return -1
