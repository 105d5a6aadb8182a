"""What a backup does with frames: into its own journal, as they are, and then through its books.

Frames come from two places, the control connection while the backup catches up, and the ring that the primary writes
into; here they are treated alike. Each is appended to the stream's journal as one frame with the epoch that it had, so
the backup's journal says what the primary's does. Their records are copied, because those of a shard may have to
wait for the merge stream, and the ring must not.

Rules: one thread; the frames of a stream come in order and are whole. While it takes frames in, the journal's keeper
runs."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.journal.frames import FRAME_PLACE_DTYPE, PLACE_BYTES, Flaw, scan_frames
from exchange.journal.identity import Identity
from exchange.journal.protocol import append
from exchange.journal.streams import stream_names
from exchange.journal.words import EPOCH
from exchange.messages import RECORD_BYTES
from exchange.native import copy_record, kernel, load_int64, store_int64

if TYPE_CHECKING:
    from exchange.journal.streams import JournalStreams
    from exchange.recovery.following import Following

Places = NDArray[np.void]
"""Rows of ``FRAME_PLACE_DTYPE``."""

Stopped = Callable[[], bool]
"""Says whether whoever waits shall give up."""

NO_ROOM_SECONDS: Final = 0.001
"""How long a full journal is left alone; the keeper makes room in a few of these, unless the disk is full."""


class BrokenFrames(Exception):
    """What came as the next frames of a stream is not that."""


class Intake:
    """Takes frames in.

    Args:
        journals: where they are written, opened where the streams end.
        following: what applies them.
        identity: of the journal.
        next_sequences: of each stream.

    Attributes:
        next_sequences: for each stream the sequence of the next record.
    """

    def __init__(
        self,
        journals: "JournalStreams",
        following: "Following",
        identity: Identity,
        next_sequences: Sequence[int],
    ) -> None:
        names = stream_names(identity.outcomes.shard_count)
        self.next_sequences: Final = list(next_sequences)
        self._journals: Final = journals.every_state()
        self._following: Final = following
        self._names: Final = tuple(identity.stream(name).name for name in names)
        self._places: Final = np.zeros(1024, FRAME_PLACE_DTYPE)
        for journal in self._journals:  # compiled now, so that no frame waits for it
            keep_frames(journal, journal.shape.words + EPOCH, self._places.ctypes.data, 0, 0)
        copy_frames(self._places.ctypes.data, 0, 0)

    def take_bytes(self, stream: int, content: bytes, is_stopped: Stopped) -> None:
        """Take frames that were sent over a socket.

        Raises:
            BrokenFrames: they are damaged, or not the next ones.
        """
        if stream >= len(self._names):
            raise BrokenFrames(f"stream {stream}: there is none")
        memory = np.frombuffer(content + bytes(-len(content) % 8), np.int64)
        offset, flaw = 0, Flaw.NONE
        while offset < len(content) and flaw == Flaw.NONE:
            found, offset, _following, reason = scan_frames(
                memory.ctypes.data, offset, len(content), self._names[stream], self.next_sequences[stream],
                self._places.ctypes.data, len(self._places),
            )  # fmt: skip
            flaw = Flaw(reason) if offset < len(content) else Flaw.NONE
            self.take(stream, self._places[:found], is_stopped)
        if flaw != Flaw.NONE:
            raise BrokenFrames(
                f"stream {stream}, sequence {self.next_sequences[stream]}: {flaw.name.lower()}"
            )

    def take(self, stream: int, places: Places, is_stopped: Stopped) -> None:
        """Take frames that are somewhere in memory; when this returns, that may be used again."""
        if len(places) == 0:
            return
        journal, kept, done = self._journals[stream], places.copy(), 0
        while True:
            done = int(keep_frames(journal, journal.shape.words + EPOCH, kept.ctypes.data, done, len(kept)))
            if done == len(kept):
                break
            if is_stopped():
                return
            time.sleep(NO_ROOM_SECONDS)
        memory = np.empty(int(kept["record_count"].sum()) * RECORD_BYTES, np.uint8)
        copy_frames(kept.ctypes.data, len(kept), memory.ctypes.data)
        self.next_sequences[stream] = int(kept["first_sequence"][-1] + kept["record_count"][-1])
        self._following.push(stream, kept, memory)


@kernel
def keep_frames(journal: Any, epoch_word: int, places: int, begin: int, count: int) -> int:
    """Append the frames from number ``begin`` on to a journal, each with its epoch; how many of ``count`` are in it."""
    for number in range(begin, count):
        place = places + number * PLACE_BYTES
        records = load_int64(place)
        store_int64(epoch_word, load_int64(place + 32))
        if not append(journal, records, load_int64(place + 8), load_int64(place + 16)):
            return number
    return count


@kernel
def copy_frames(places: int, count: int, room: int) -> None:
    """Copy the records of frames end to end to ``room``, and have their places say so."""
    for number in range(count):
        place = places + number * PLACE_BYTES
        records = load_int64(place)
        store_int64(place, room)
        for index in range(load_int64(place + 8)):
            copy_record(room + index * RECORD_BYTES, records + index * RECORD_BYTES)
        room += load_int64(place + 8) * RECORD_BYTES
