"""The way of one-sided writes: the primary writes into the backup's memory, and the backup into the primary's.

Nobody on the other side has to do anything for a write to arrive: no system call, no interrupt, no thread that wakes
up. With a card that can (InfiniBand, RoCE) the card does it. Where there is none, libfabric's providers do the same
with the means that there are, and then the other side has to let its provider go on; both sides do that in every turn
anyway.

The backup's memory, as the primary sees it: a page, of which the first line is the primary's beat, and then the ring of
each stream. The primary's memory, as the backup sees it: the acknowledgements of all streams, which are written with
one write.

A copy is *done* when the bytes are in the other's memory, as far as the provider knows, so the backup's processor
has no part in what "received" means. What each provider does for that is told in docs/layers/replication.md.

To close the backup's end is to revoke: its memory is not registered any more, and what a primary writes that does not
know yet that it was replaced fails, or is never taken."""

from typing import Final, NamedTuple

from exchange.native import (
    copy_bytes,
    implements,
    load_int64,
    store_int64,
    store_release,
)
from exchange.replication.fabric import COMPLETIONS, fabric_reap, fabric_write
from exchange.replication.protocol import acknowledge, beat, reap, receive, ship, take_link
from exchange.replication.words import DONE, SLOTS, STREAM_BYTES

RING_OFFSET: Final = 4096
"""Where in the backup's memory the rings begin."""
BEAT_BYTES: Final = 64
BEAT_SLOT: Final = 8191
"""The last one that libfabric's shim has; streams have those before it."""

# words of a link, of either side
HANDLE: Final = 0
"""0 for none."""
IS_TELLING: Final = 8
"""Whether a beat, or acknowledgements, are under way."""
COMPLETED: Final = 64
LINK_BYTES: Final = COMPLETED + COMPLETIONS * 8


class RdmaLink(NamedTuple):
    """The primary's end: its words, the rings, the streams' words, and the line that is its beat."""

    words: int
    rings: int
    ring_bytes: int
    streams: int
    beat: int


class RdmaReceiver(NamedTuple):
    """The backup's end: its words, and what acknowledgements are written from."""

    words: int
    source: int


@implements(take_link, RdmaLink)
def _take_link(link: RdmaLink, wanted: int) -> None:
    store_int64(link.words + HANDLE, wanted)
    store_int64(link.words + IS_TELLING, 0)


@implements(ship, RdmaLink, inline=False)
def _ship(link: RdmaLink, stream: int, position: int, offset: int, size_bytes: int, slot: int) -> int:
    place = stream * link.ring_bytes + offset
    return fabric_write(
        load_int64(link.words + HANDLE), link.rings + place, size_bytes, RING_OFFSET + place, slot
    )


@implements(beat, RdmaLink, inline=False)
def _beat(link: RdmaLink) -> int:
    if load_int64(link.words + IS_TELLING) != 0:
        return 0
    store_int64(link.beat, load_int64(link.beat) + 1)
    result = fabric_write(load_int64(link.words + HANDLE), link.beat, BEAT_BYTES, 0, BEAT_SLOT)
    if result > 0:
        store_int64(link.words + IS_TELLING, 1)
    return result


@implements(reap, RdmaLink, inline=False)
def _reap(link: RdmaLink) -> int:
    count = fabric_reap(load_int64(link.words + HANDLE), link.words + COMPLETED)
    for index in range(count):
        slot = load_int64(link.words + COMPLETED + index * 8)
        if slot == BEAT_SLOT:
            store_int64(link.words + IS_TELLING, 0)
        else:
            store_release(link.streams + slot // SLOTS * STREAM_BYTES + DONE + slot % SLOTS * 8, 1)
    return count


@implements(receive, RdmaReceiver, inline=False)
def _receive(link: RdmaReceiver) -> int:
    count = fabric_reap(load_int64(link.words + HANDLE), link.words + COMPLETED)
    if count > 0:
        store_int64(link.words + IS_TELLING, 0)
    return count


@implements(acknowledge, RdmaReceiver, inline=False)
def _acknowledge(link: RdmaReceiver, lines: int, size_bytes: int) -> int:
    if load_int64(link.words + IS_TELLING) != 0:
        return 0
    copy_bytes(link.source, lines, size_bytes)
    result = fabric_write(load_int64(link.words + HANDLE), link.source, size_bytes, 0, BEAT_SLOT)
    if result > 0:
        store_int64(link.words + IS_TELLING, 1)
    return result
