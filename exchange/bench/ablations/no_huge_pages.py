"""The kernel is asked for pages of 2 MiB instead of 4 KiB. The processor translates every address by a table of pages
and keeps some thousands of its entries close by; an entry for 2 MiB covers 512 times as much memory, so that a look-up
anywhere in the book hardly ever has to walk the table first.

Without the idea, the book has pages of 4 KiB, and so has the ring that its events go into.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.native import Arena, HugePages

IDEA: Final = Idea(
    title="Huge pages",
    variant="without huge pages",
    replaces={"ladder": ("_reserve",)},
    shown=("exchange/native/arena.py:Arena.private",),
    measured=("book", "hand-off"),
    ring_pages="never",
)


def _reserve(capacity_orders: int, size_bytes: int, huge_pages: HugePages) -> Arena:
    return Arena.private(size_bytes, "never")
