"""When the last order at a price goes, the bound of its side changes if the price was the bound, and stays if not. In a
thin market nobody can foretell which. The book chooses between the two words by an instruction that moves one or the
other (a conditional move), and stores what came out: nothing is guessed.

Without the idea the choice is an ordinary expression. The compiler sees that storing the old bound again changes
nothing, makes a branch around the store, and the processor guesses.
"""

from typing import Final

from exchange.bench.ablations import Idea
from exchange.native import inlined

IDEA: Final = Idea(
    title="Choosing without a branch",
    variant="without choosing",
    replaces={"price_tree": ("choose",)},
    shown=("exchange/book/price_tree.py:lower_bounds", "exchange/native/processor.py:_emit_choose"),
)


@inlined
def choose(condition: bool, if_true: int, if_false: int) -> int:
    """One of two words, in whatever way the compiler likes."""
    return if_true if condition else if_false
