"""Each side has two bounds: no order is better than the first, and none but those at the first is better than the
second. When the orders at the first bound go, the second takes its place. So the bound is close to the truth again
after an order that came for a moment at a new best price and went.

Without the idea there is one bound. It is right, but it stays where the best order ever was until somebody looks, and
more of the new orders seem to reach it.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.book.ladder_memory import BEST_BOUND
from exchange.native import inlined, load_int64, store_int64

IDEA: Final = Idea(
    title="A second bound",
    variant="without the second bound",
    replaces={"price_tree": ("raise_bounds", "lower_bounds")},
)


@inlined
def raise_bounds(side: int, key: int) -> None:
    """An order at ``key`` has come."""
    store_int64(side + BEST_BOUND, max(load_int64(side + BEST_BOUND), key))


@inlined
def lower_bounds(side: int, key: int) -> None:
    """The last order at ``key`` has gone, and the bound stays."""
