"""The ideas that make the ladder book quick, each as the code that one would write without it.

A module here takes one idea away. It opens with what the idea is and what one does otherwise, and holds new
versions of the few functions or constants of the core that carry the idea. ``IDEA`` says which names they replace, and
in which module of the core. :mod:`exchange.bench.variant_book` builds a book from them.

Rules: a module replaces names of the core and adds helpers, under names that the core does not have; it imports from
the core as any module does, and never the name that it replaces. Whatever is replaced, the book gives the same events
(``tests/bench/test_ablation.py``), with the one exception that an idea may ask for dense ids.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple


class Idea(NamedTuple):
    """What an ablation takes away.

    Attributes:
        title: the idea, as a heading.
        variant: what the book without it is called in a result.
        replaces: by module of the core (``price_tree``), the names that the ablation defines anew.
        shown: definitions that show the idea where the core has it (``exchange/book/price_tree.py:best_key``); none
            means those that are replaced.
        ring_pages: what the ring that the events go into asks the kernel for, if it is measured with the hand-off.
        measured: in the book alone, with the hand-off of its events to another core, or both.
    """

    title: str
    variant: str
    replaces: Mapping[str, tuple[str, ...]]
    shown: tuple[str, ...] = ()
    ring_pages: Literal["advise", "never"] = "advise"
    measured: tuple[Literal["book", "hand-off"], ...] = ("book",)


ABLATIONS: Final = (
    "no_compact_layout",
    "no_huge_pages",
    "no_prefetch",
    "no_hash_in_slot",
    "dense_id_table",
    "no_page_window",
    "no_bitmap",
    "no_lazy_best",
    "no_second_bound",
    "no_lazy_clearing",
    "no_blind_stores",
    "no_choice",
    "no_branch_hints",
    "no_batching",
)
"""The modules of this package, in the order in which a reader should meet them."""
