"""``likely`` and ``unlikely`` tell the compiler how a condition usually turns out. It then lays out the usual way as
one straight piece of code, and moves rejects and rare cases out of the way, where they take no room in the
instruction cache.

Without the idea both are the condition itself, and the compiler goes by its own rules of thumb.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.native import inlined

IDEA: Final = Idea(
    title="Branch hints",
    variant="without branch hints",
    replaces={
        "id_index": ("likely", "unlikely"),
        "price_tree": ("likely", "unlikely"),
        "ladder_matching": ("likely", "unlikely"),
    },
    shown=("exchange/native/processor.py:likely", "exchange/native/processor.py:_emit_expect"),
)


@inlined
def likely(condition: bool) -> bool:
    """The condition, and no more is known about it."""
    return condition


@inlined
def unlikely(condition: bool) -> bool:
    """The condition, and no more is known about it."""
    return condition
