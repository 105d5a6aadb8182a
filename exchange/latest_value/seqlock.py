"""A sequence number around the record: the writer never waits, and a reader notices when it was disturbed.

The writer makes the number odd, writes the words, makes the number even again: a few plain stores, whether
nobody reads or a thousand threads do. A reader reads the number, the words, and the number again. If it was
even and has not changed, no word was changed in between and the copy is whole; otherwise the copy is thrown
away and read again. Readers write nothing, so they do not even disturb each other.

The name says lock, but there is none: it is the *readers* who pay, by reading again, and a writer that
published without pause could starve them. It suits what is written by one and read by many.

Memory orders, after Boehm. The words are read while they may be written, so they must be atomic, though
relaxed. Three things have to hold on a machine that reorders (x86 would forgive us, the compiler and ARM
would not):

* no word may become visible before the odd number is: a *release fence* after it, which no later store
  passes;
* the even number may not become visible before the words: a *release store*;
* the second look at the number may not happen before the words are read: an *acquire fence* before it. An
  acquire *load* would be wrong there: it holds back what comes after it, not what comes before.

Sources: Boehm 2012, "Can seqlocks get along with programming language memory models?" (MSPC 2012, figure 6
for the reader); Lameter 2005, "Effective synchronization on Linux/NUMA systems"."""

from typing import NamedTuple

from exchange.latest_value.protocol import publish, try_read
from exchange.latest_value.value_memory import SEQUENCE, WORDS, ValueOwner
from exchange.native import (
    fence_acquire,
    fence_release,
    implements,
    load_acquire,
    load_int64,
    load_relaxed,
    store_int64,
    store_relaxed,
    store_release,
)


class SeqlockHandle(NamedTuple):
    """The address of the record and its number of words."""

    base: int
    word_count: int


class SeqlockValue(ValueOwner):
    """Owner of a record with a sequence number."""

    VARIANT = "seqlock"

    def writer(self) -> SeqlockHandle:
        """The handle of the one writer."""
        return SeqlockHandle(self.base, self.word_count)

    def reader(self) -> SeqlockHandle:
        """The handle of any reader."""
        return SeqlockHandle(self.base, self.word_count)


@implements(publish, SeqlockHandle)
def _publish(writer: SeqlockHandle, words_address: int) -> None:
    sequence = load_int64(writer.base + SEQUENCE)
    store_relaxed(writer.base + SEQUENCE, sequence + 1)
    fence_release()
    for offset in range(0, 8 * writer.word_count, 8):
        store_relaxed(writer.base + WORDS + offset, load_int64(words_address + offset))
    store_release(writer.base + SEQUENCE, sequence + 2)


@implements(try_read, SeqlockHandle)
def _try_read(reader: SeqlockHandle, out_address: int) -> bool:
    before = load_acquire(reader.base + SEQUENCE)
    if before & 1:
        return False
    for offset in range(0, 8 * reader.word_count, 8):
        store_int64(out_address + offset, load_relaxed(reader.base + WORDS + offset))
    fence_acquire()
    return load_relaxed(reader.base + SEQUENCE) == before
