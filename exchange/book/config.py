"""The settings of the order books: one frozen struct per variant, chosen by ``kind`` in a profile's [book]
table.

A shard keeps the books of all its symbols in one memory, so ``capacity_orders`` is per shard, not per symbol.
A new order beyond it, or with a price outside the band, is rejected with a reason; it never stops the shard.
Importing this module loads no code of the books.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from exchange import limits

CapacityOrders = Annotated[
    int,
    Meta(
        ge=1,
        le=limits.BOOK_CAPACITY_ORDERS_MAX,
        description="resting orders that one shard holds before it rejects new ones",
    ),
]

PriceMinTicks = Annotated[
    int,
    Meta(
        ge=limits.PRICE_TICKS_LOWEST,
        le=limits.PRICE_TICKS_HIGHEST,
        description="lowest price that is accepted",
    ),
]

PriceMaxTicks = Annotated[
    int,
    Meta(
        ge=limits.PRICE_TICKS_LOWEST,
        le=limits.PRICE_TICKS_HIGHEST,
        description="highest price that is accepted",
    ),
]

BookPages = Annotated[
    Literal["advise", "never"],
    Meta(description="whether the kernel is asked for huge pages for the book's memory"),
]


class NaiveBookConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="naive"):
    """Dictionaries and deques in plain Python: the textbook, and the oracle of every other book."""

    capacity_orders: CapacityOrders = 262_144
    price_min_ticks: PriceMinTicks = limits.PRICE_TICKS_MIN
    price_max_ticks: PriceMaxTicks = limits.PRICE_TICKS_MAX


class LadderBookConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ladder"):
    """Price levels under bitmaps in one flat memory, compiled."""

    capacity_orders: CapacityOrders = 262_144
    price_min_ticks: PriceMinTicks = limits.PRICE_TICKS_MIN
    price_max_ticks: PriceMaxTicks = limits.PRICE_TICKS_MAX
    huge_pages: BookPages = "advise"


BookConfig = NaiveBookConfig | LadderBookConfig
