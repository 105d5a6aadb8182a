"""The words through which a primary's threads know of each other in replication.

For the whole of it::

    +0     control   whether somebody holds, whether we are fenced, and the lease's deadline
    +128   control   what the replicator is asked to do, and how often it was asked
    +256   replicator  how often it has done so, the link that is attached, what a link failed with, and when it last
                     heard from the backup
    +384   egress    what it has seen of the control's words

For each stream::

    +0     writer    up to where frames reach, and the next sequence
    +128   replicator  what is shipped, received, consumed and applied, and how far the gate is
    +256   replicator  the copies that are under way: up to where each reaches, and the sequence behind it
    +1280  link      which of them are done
    +1792  replicator  the acknowledgement that was taken last

Each group has one writer, and is published by stores with release order that the others acquire.

Positions of a stream only grow, and::

    consumed  <=  received  <=  shipped  <=  appended  <=  consumed + ring_bytes

The last part holds as long as somebody holds. Otherwise the writer goes round without looking, and the replicator finds
out that the ring was overrun and gives the link up; what the backup has not consumed is not written over even then, for
it ships no further than that.

On the backup one thread polls, and its words are its own; others only read them.

In the memory of the primary that the backup writes into there is a line of 64 bytes for each stream, its
*acknowledgement*: up to where it has consumed frames, the last sequence that it has journaled and applied, up to where
it has received (where only it knows), and a count that shows that it is alive. Over them is a checksum: a line that has
half arrived is none, and is looked at again."""

import os
from typing import Final

from exchange.native import crc32c, inlined, load_int64, store_int64

# the whole
HOLDING: Final = 0
FENCED: Final = 8
DEADLINE_NS: Final = 16
"""Until when events may leave, on CLOCK_BOOTTIME."""
REQUESTS: Final = 128
WANTED_LINK: Final = 136
"""The link to attach; 0 to let go of the one that is."""
ANSWERS: Final = 256
ATTACHED_LINK: Final = 264
FAILURE: Final = 272
"""-errno of the link that was given up last; 0 as long as none is."""
HEARD_NS: Final = 280
"""When the backup was heard of last, on the monotonic clock."""
BEAT_NS: Final = 288
"""When something was last shipped."""
TURN_NS: Final = 296
"""When the replicator had its last turn."""
SEEN_HOLDING: Final = 384
CONTROL_BYTES: Final = 512

# of a stream
APPENDED_POSITION: Final = 0
BEGUN_POSITION: Final = 8
NEXT_SEQUENCE: Final = 16
REFUSED: Final = 24
CONSUMED_POSITION: Final = 128
REPLICATED: Final = 136
"""Up to which sequence the backup has what the gate asks for."""
SHIPPED_POSITION: Final = 144
RECEIVED_POSITION: Final = 152
RECEIVED_SEQUENCE: Final = 160
APPLIED_SEQUENCE: Final = 168
BEGUN_COUNT: Final = 176
"""How many copies were begun on this link."""
DONE_COUNT: Final = 184
START_POSITION: Final = 192
START_SEQUENCE: Final = 200
SEEN_POSITION: Final = 208
"""Up to where frames reached in the turn before."""
UNDER_WAY: Final = 256
UNDER_WAY_BYTES: Final = 16
SLOTS: Final = 64
"""Copies of one stream that may be under way at once."""
DONE: Final = UNDER_WAY + SLOTS * UNDER_WAY_BYTES
LINE: Final = DONE + SLOTS * 8
"""The acknowledgement that was taken last, and room for the next one."""
STREAM_BYTES: Final = LINE + 128

# the whole of a backup
BEGUN: Final = 0
EPOCH: Final = 8
FAILED: Final = 16
"""-errno of the link; 0 as long as it is of use."""
IS_OPEN: Final = 24
POLLED_NS: Final = 32
TOLD_NS: Final = 40
"""When acknowledgements were last sent."""
PRIMARY_HEARD_NS: Final = 48
BEATS: Final = 56
"""How often acknowledgements were sent."""
PRIMARY_BEATS: Final = 64
"""The beat of the primary that was seen last."""
IS_EAGER: Final = 72
"""Whether the primary's events wait for what is applied."""
RECEIVER_BYTES: Final = 128

# a stream of a backup
POSITION: Final = 0
"""Where the next frame must be."""
SEQUENCE: Final = 8
"""The sequence that it must have."""
CONSUMED: Final = 16
APPLIED: Final = 24
RECEIVED: Final = 32
"""Up to where bytes have come over a socket; 0 where nobody counts them."""
FOUND: Final = 40
"""How many frames the last poll has found."""
TOLD_CONSUMED: Final = 48
TOLD_APPLIED: Final = 56
TOLD_RECEIVED: Final = 64
JOURNAL_ID: Final = 72
"""What its frames say of themselves."""
STREAM_NUMBER: Final = 80
RECEIVER_STREAM_BYTES: Final = 128

# an acknowledgement
LINE_BYTES: Final = 64
LINE_CONSUMED: Final = 0
"""Up to which position frames may be written over; :data:`NOT_BEGUN` if the backup does not know yet where to begin."""
LINE_APPLIED: Final = 8
LINE_RECEIVED: Final = 16
LINE_BEATS: Final = 24
LINE_STREAM: Final = 32
LINE_CHECKSUM: Final = 40

NOT_BEGUN: Final = -1

BEATS_PER_SILENCE: Final = 8
"""How often each side is heard of at least, in the time after which it is given up."""

# why a link is given up, where no system call says it
OVERRUN: Final = -1001
"""The writer went round before the backup had consumed: it is too slow, and has to catch up from the journal."""
SILENT: Final = -1002
"""Nothing was heard from the backup for ``backup_timeout_ns``."""
NONSENSE: Final = -1003
"""The other side has said something that cannot be."""
ENDED: Final = -1004
"""The other side has closed the link."""


@inlined
def seal_line(line: int) -> None:
    """Put the checksum into a line."""
    store_int64(line + LINE_CHECKSUM, crc32c(0, line, LINE_CHECKSUM))


@inlined
def is_whole_line(line: int) -> bool:
    """Whether a line is one, and not half of one."""
    return (
        load_int64(line + LINE_CHECKSUM) == crc32c(0, line, LINE_CHECKSUM)
        and load_int64(line + LINE_BEATS) > 0
    )


_WORDS: Final = {
    0: "",
    OVERRUN: "the ring was overrun: the backup is too slow, or was away",
    SILENT: "nothing was heard from the other side",
    NONSENSE: "the other side said what cannot be",
    ENDED: "the other side has closed the link",
}


def failure_in_words(failure: int) -> str:
    """Why a link was given up; nothing for 0."""
    return _WORDS[failure] if failure in _WORDS else os.strerror(-failure)
