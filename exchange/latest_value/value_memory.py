"""The memory layout that the latest values share.

::

    +0    header
    +128  mutex (used by ``locked`` only)
    +256  sequence: how often the record was changed, twice; odd while it is being changed (unused by ``locked``)
    +264  the words, 8 bytes each

The sequence stands right before the words: a record of up to seven words is then one cache line, which a
reader fetches once, whole."""

from typing import ClassVar, Final

from exchange.errors import UserError
from exchange.native import FALSE_SHARING_BYTES, MUTEX_BYTES, Arena, HugePages
from exchange.native.block_header import HEADER_BYTES, take_header

MUTEX: Final = HEADER_BYTES
SEQUENCE: Final = 256
WORDS: Final = SEQUENCE + 8
assert MUTEX + MUTEX_BYTES <= SEQUENCE

WORD_COUNT_MAX: Final = 512
"""4 KiB. The longer the record, the likelier a reader is interrupted by the writer and must start again."""


class ValueOwner:
    """Owner of the memory of a latest value: what the variants have in common.

    Args:
        word_count: how many 64-bit words the record has.
        arena: where to make it, or to find one that another process has made; ``None`` means private memory of its own.

    Raises:
        UserError: the word count is out of range; the shared arena holds a record that was built for something
            else.
    """

    VARIANT: ClassVar[str]

    def __init__(self, word_count: int, arena: Arena | None = None, huge_pages: HugePages = "never") -> None:
        if not 1 <= word_count <= WORD_COUNT_MAX:
            raise UserError(
                f"latest value {self.VARIANT!r}: word_count = {word_count}: must be 1 to {WORD_COUNT_MAX}"
            )
        size_bytes = self.size_bytes(word_count)
        self.word_count: Final = word_count
        self.arena: Final = Arena.private(size_bytes, huge_pages) if arena is None else arena
        self.base: Final = self.arena.allocate(size_bytes)
        self.is_new: Final = take_header(
            self.base, "latest value", {"variant": self.VARIANT, "word_count": word_count}
        )

    @classmethod
    def size_bytes(cls, word_count: int) -> int:
        """How much memory such a record takes from its arena, the next one's distance included."""
        return (WORDS + 8 * word_count + FALSE_SHARING_BYTES - 1) & -FALSE_SHARING_BYTES
