"""A disk that refuses: no room for a segment, no room for a write, a write of which only a part is taken, a sync that
fails.

Nothing of the journal is replaced. Its own code runs into what the kernel says, and goes on as it would on a disk:

* Room for a segment is asked for in one place, ``posix_fallocate``, by the keeper and at the start. While one of them
  has its turn, :func:`room_from` answers in the kernel's place. The keeper leaves a full disk alone for a while, on the
  machine's clock; for as long that clock is the simulation's too.
* An append of a journal in files writes to a descriptor. :func:`writes_refused` puts one of ``/dev/full`` in its place,
  where the kernel has no room for anything; :func:`writes_cut` sets the limit of a file's size so that the kernel takes
  a part of what is written.
* A sync is asked for what is in a segment's slot. :func:`sync_fails` puts something there that cannot be synced. The
  kernel's error is another one than a disk's, and what is done about it is the same.

Rules: on the one thread of a simulation, around one turn of one agent; everything is as before when the block is left.
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from exchange.journal.layout import SEGMENT_SUFFIX
from exchange.journal.segmented import SegmentedJournal
from exchange.journal.words import (
    OFFSET,
    PLACE,
    SLOT_PLACE,
    SLOTS,
    SYNCED_POSITION,
    slot_of,
)
from exchange.native import load_int64, store_int64

_FULL_DEVICE: Final = "/dev/full"
_NO_DESCRIPTOR: Final = -1
_NO_PAGE: Final = 0
"""The first page is never mapped."""


@contextmanager
def room_from(ask: Callable[[], None], now_ns: Callable[[], int]) -> Iterator[None]:
    """While it lasts, there is room for a file if ``ask`` raises nothing, and the monotonic clock is ``now_ns``."""
    allocate = os.posix_fallocate

    def ask_first(descriptor: int, offset: int, size_bytes: int) -> None:
        ask()
        allocate(descriptor, offset, size_bytes)

    with _replaced(os, "posix_fallocate", ask_first), _replaced(time, "monotonic_ns", now_ns):
        yield


@contextmanager
def writes_refused(journal: SegmentedJournal) -> Iterator[None]:
    """While it lasts, the kernel has no room for what a journal in files writes."""
    descriptor = os.open(_FULL_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
    places = [journal.words + PLACE, *(_place_word(journal, number) for number in range(SLOTS))]
    try:
        with _words_set(dict.fromkeys(places, descriptor)):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def writes_cut(journal: SegmentedJournal, kept_bytes: int) -> Iterator[None]:
    """While it lasts, of the next frame of a journal in files only so many bytes are taken.

    A frame for which a new segment is begun is taken whole.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = load_int64(journal.words + OFFSET) + kept_bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def sync_fails(journal: SegmentedJournal, *, is_mapped: bool) -> Iterator[None]:
    """While it lasts, a journal's first segment that waits for a sync cannot be synced."""
    number = load_int64(journal.words + SYNCED_POSITION) >> journal.shape.segment_shift
    with _words_set({_place_word(journal, number): _NO_PAGE if is_mapped else _NO_DESCRIPTOR}):
        yield


def close_as_the_kernel_does(folder: Path) -> None:
    """Close the descriptors of all segments under a folder, as when a process has ended that had them open.

    Nobody may close them once more: by then the number may be somebody else's.
    """
    inside = f"{os.path.realpath(folder)}/"
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
        if target.startswith(inside) and SEGMENT_SUFFIX in target:
            os.close(int(name))


def _place_word(journal: SegmentedJournal, number: int) -> int:
    return slot_of(journal.words, number) + SLOT_PLACE


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _words_set(values: dict[int, int]) -> Iterator[None]:
    before = {address: load_int64(address) for address in values}
    for address, value in values.items():
        store_int64(address, value)
    try:
        yield
    finally:
        for address, value in before.items():
            store_int64(address, value)
