"""The same record under a mutex.

It differs from ``seqlock`` in nothing but the lock. Every read succeeds at once, and is paid for by everyone:
readers wait for each other, and the writer waits for readers, a suspended one included."""

from typing import NamedTuple

from exchange.latest_value.protocol import publish, try_read
from exchange.latest_value.value_memory import MUTEX, WORDS, ValueOwner
from exchange.native import (
    Arena,
    HugePages,
    implements,
    initialise_mutex,
    load_int64,
    mutex_lock,
    mutex_unlock,
    store_int64,
)


class LockedValueHandle(NamedTuple):
    """The address of the record and its number of words."""

    base: int
    word_count: int


class LockedValue(ValueOwner):
    """Owner of a record under a mutex."""

    VARIANT = "locked"

    def __init__(self, word_count: int, arena: Arena | None = None, huge_pages: HugePages = "never") -> None:
        super().__init__(word_count, arena, huge_pages)
        if self.is_new:
            initialise_mutex(self.base + MUTEX)

    def writer(self) -> LockedValueHandle:
        """The handle of the one writer."""
        return LockedValueHandle(self.base, self.word_count)

    def reader(self) -> LockedValueHandle:
        """The handle of any reader."""
        return LockedValueHandle(self.base, self.word_count)


@implements(publish, LockedValueHandle)
def _publish(writer: LockedValueHandle, words_address: int) -> None:
    mutex_lock(writer.base + MUTEX)
    for offset in range(0, 8 * writer.word_count, 8):
        store_int64(writer.base + WORDS + offset, load_int64(words_address + offset))
    mutex_unlock(writer.base + MUTEX)


@implements(try_read, LockedValueHandle)
def _try_read(reader: LockedValueHandle, out_address: int) -> bool:
    mutex_lock(reader.base + MUTEX)
    for offset in range(0, 8 * reader.word_count, 8):
        store_int64(out_address + offset, load_int64(reader.base + WORDS + offset))
    mutex_unlock(reader.base + MUTEX)
    return True
