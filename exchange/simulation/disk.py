"""The disk: what of the journal's files is left when the machine loses power.

The journal writes real files, in a folder that is best in memory. A disk promises no more than this: what was there
when it was last told to sync is there, byte for byte. Of all that was written since, each sector of 512 bytes may have
arrived or not, whatever the order; now and then one arrived in part, or as something that nobody wrote.

One thing is taken for granted, as by most who keep journals: a write that is cut off harms no byte of its sector that
it would not have changed (what SQLite calls *powersafe overwrite*). Frames are packed closer than sectors, so without
that no journal of this kind could be.

So the simulation remembers each file as it was when it was last synced (:meth:`SimulatedDisk.note_synced`). A power cut
gives every sector that differs from that its fate, and writes the files anew. When only the process dies, the kernel
keeps what it has: nothing is changed then.

Files are known by their number in the file system, so that it does not matter when they are renamed. Renaming and
making files is durable when the step has ended in which it was done: the journal syncs the folder in the same step.

A disk may also be *full* for a while, and then there is no room for another file; some disks, those that never write in
place, then take no write at all. And it may *fail* a sync. Nobody knows then what of the stream has arrived, and the
kernel shows whoever reads it again what the disk has (:meth:`SimulatedDisk.lose_power` for that stream)."""

import errno
import os
from pathlib import Path
from typing import Final

from exchange.journal.layout import SEGMENT_SUFFIX
from exchange.simulation.chance import Chance, Trace

SECTOR_BYTES: Final = 512


class SimulatedDisk:
    """The files under a folder, and what they were when they were last synced.

    Args:
        folder: of the journal.
        chance: decides what is lost.
        trace: where it is noted.
    """

    def __init__(self, folder: Path, chance: Chance, trace: Trace) -> None:
        self.folder: Final = folder
        self._chance: Final = chance
        self._trace: Final = trace
        self._synced: dict[int, bytes] = {}
        self.is_full = False
        self.refusals = 0
        """How often somebody asked for room and there was none."""

    def ask_for_room(self) -> None:
        """Somebody wants to make a file. Raises OSError if the disk is full."""
        if self.is_full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def note_synced(self, stream: str = "") -> None:
        """Everything that is in the files of a stream now has been synced; of all streams, if none is named."""
        synced = {path.stat().st_ino: path.read_bytes() for path in self._paths(stream)}
        self._synced = self._synced | synced if stream else synced

    def note_new_files(self) -> None:
        """Files that are new have been synced as they are; of the others nothing has changed."""
        found = {path.stat().st_ino: path for path in self._paths()}
        self._synced = {
            number: self._synced[number] if number in self._synced else path.read_bytes()
            for number, path in found.items()
        }

    def lose_power(self, stream: str = "") -> None:
        """Decide for each sector that was not synced what is left of it, and leave the files so.

        Of all streams; or of the one whose sync has failed.
        """
        arrival = self._chance.pick((0.0, 0.3, 0.7, 1.0))
        oddity = self._chance.pick((0.0, 0.0, 0.05, 0.3))
        for path in self._paths(stream):
            written, synced = path.read_bytes(), self._synced[path.stat().st_ino]
            left = bytearray(written)
            unsure = 0
            for begin in range(0, len(written), SECTOR_BYTES):
                new, old = written[begin : begin + SECTOR_BYTES], synced[begin : begin + SECTOR_BYTES]
                if new != old:
                    unsure += 1
                    left[begin : begin + SECTOR_BYTES] = self._fate(new, old, arrival, oddity)
            if unsure:
                self._trace.note("sectors", path.parent.name, path.name, unsure, left == written)
                with path.open("r+b") as file:
                    file.write(left)
        self.note_synced(stream)

    def _fate(self, new: bytes, old: bytes, arrival: float, oddity: float) -> bytes:
        """What is left of one sector."""
        if self._chance.happens(oddity):
            torn = self._chance.number(1, SECTOR_BYTES - 1)
            noise = self._chance.randbytes(SECTOR_BYTES)
            garbage = bytes(
                one if one == other else odd for one, other, odd in zip(new, old, noise, strict=True)
            )
            return self._chance.pick((new[:torn] + old[torn:], old[:torn] + new[torn:], garbage))
        return new if self._chance.happens(arrival) else old

    def _paths(self, stream: str = "") -> list[Path]:
        """The segments of a stream or of all, in an order that does not depend on the file system."""
        found = [
            os.path.join(where, name)
            for where, _folders, names in os.walk(self.folder)
            for name in names
            if name.endswith(SEGMENT_SUFFIX) and stream in ("", os.path.basename(where))
        ]
        return [Path(path) for path in sorted(found)]
