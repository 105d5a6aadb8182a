"""An order is 32 bytes and a price level 16, so that a cache line of 64 bytes holds two orders or four levels, and
all that a command needs of an order comes with one line.

Without the idea, memory is laid out as objects are: each level and each order begins on a line of its own, and an
order takes two, one for its place in the queue (links, level, quantity) and one for what its owner knows of it (id,
symbol, session). Nothing else changes, the work is the same to the instruction; there is only four times as much
memory that has to be in a cache at the right moment.
"""

from typing import Final

from exchange.bench.ablations import Idea

IDEA: Final = Idea(
    title="A compact layout",
    variant="without the compact layout",
    replaces={
        "ladder_memory": (
            "LINK_SHIFT",
            "LEVEL_SHIFT",
            "LEVEL_LINK_SHIFT",
            "ROW_LINK_SHIFT",
            "ORDER_SHIFT",
            "LINKS_PER_ORDER",
            "ORDER_ID",
            "ORDER_SYMBOL",
            "ORDER_SESSION",
        )
    },
)

LINK_SHIFT: Final = 6
LEVEL_SHIFT: Final = 6
LEVEL_LINK_SHIFT: Final = 0
ROW_LINK_SHIFT: Final = 6
ORDER_SHIFT: Final = 7
LINKS_PER_ORDER: Final = 2
ORDER_ID: Final = 64
ORDER_SYMBOL: Final = 72
ORDER_SESSION: Final = 74
