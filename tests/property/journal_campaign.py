"""Damage journals in every way a disk knows, and hold what comes of it against what was written.

The tests run a small part of it. The long version is a command::

    python -m tests.property.journal_campaign --mutations 100000

Each mutation is one to three kinds of damage to the files of a stream whose exchange was killed. Then either the
stream is read up to some place, and what is read is exactly the beginning of what was written, contains everything
that a surviving frame says was synced, and after the cut ends cleanly with the same records; or it is refused, with
the place where reading stops. Every fifth time a power cut comes before it: of what was not synced a disk may have
written any blocks, and that must never be refused. An independent reader (``tests/journal_oracle.py``) must come to
the same end at the same place. Equal seeds give equal damage.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from exchange.journal.judging import cut_torn_tail, judge_end
from exchange.journal.layout import PREPARED_NAME, segment_name
from exchange.journal.reading import JournalDamage, StreamReader, records_of
from exchange.journal.segment import SegmentHeader, StreamIdentity, decode_header, encode_header
from tests.journal_driver import IN_FILES, Desk, make_records, written_files
from tests.journal_oracle import judge, proved_durable

RECORDS = 1500
BASE_EVERY = 500
POWER_CUT_EVERY = 5

Files = dict[str, bytes]


class Base(NamedTuple):
    """A journal to damage."""

    files: Files
    identity: StreamIdentity


def _pick(chance: random.Random, files: Files) -> str:
    return chance.choice(sorted(files))


def truncate(chance: random.Random, files: Files) -> None:
    """A file is shorter than it should be."""
    name = _pick(chance, files)
    files[name] = files[name][: _place(chance, files[name])]


def flip_bits(chance: random.Random, files: Files) -> None:
    """A few bits are not what they were."""
    name = _pick(chance, files)
    content = bytearray(files[name])
    for _ in range(chance.choice([1, 1, 1, 2, 9]) if content else 0):
        content[_place(chance, files[name]) % len(content)] ^= 1 << chance.randrange(8)
    files[name] = bytes(content)


def swap_blocks(chance: random.Random, files: Files) -> None:
    """Blocks of 512 or 4096 bytes stand in each other's place."""
    block = chance.choice([512, 4096])
    first, second = _pick(chance, files), _pick(chance, files)
    one, other = (_place(chance, files[name]) // block * block for name in (first, second))
    left, right = files[first][one : one + block], files[second][other : other + block]
    if len(left) == len(right) == block:
        files[first] = _overwritten(files[first], one, right)
        files[second] = _overwritten(files[second], other, left)


def lose_blocks(chance: random.Random, files: Files) -> None:
    """Blocks were never written, and are zero."""
    block = chance.choice([512, 4096])
    for _ in range(chance.choice([1, 2, 5])):
        name = _pick(chance, files)
        at = _place(chance, files[name]) // block * block
        files[name] = _overwritten(files[name], at, bytes(block))


def lose_tail(chance: random.Random, files: Files) -> None:
    """Everything from some place on was never written."""
    name = _pick(chance, files)
    at = _place(chance, files[name])
    files[name] = files[name][:at] + bytes(len(files[name]) - at)


def lose_segment(chance: random.Random, files: Files) -> None:
    """A file is gone."""
    del files[_pick(chance, files)]


def double_segment(chance: random.Random, files: Files) -> None:
    """A file is there twice, under another's name or under one of its own."""
    name = _pick(chance, files)
    new = chance.choice(
        [_pick(chance, files), "prepared.segment", f"{chance.randrange(1, 2 * RECORDS):020d}.segment"]
    )
    files[new] = files[name]


def swap_segments(chance: random.Random, files: Files) -> None:
    """Two files bear each other's names."""
    first, second = _pick(chance, files), _pick(chance, files)
    files[first], files[second] = files[second], files[first]


def append_garbage(chance: random.Random, files: Files) -> None:
    """Something is written behind the last frame, or behind the end of the file: noise, or parts of the file
    itself."""
    name = _pick(chance, files)
    content = files[name]
    used = len(content.rstrip(b"\0"))
    at = len(content) if chance.random() < 0.3 else min((used + 63) // 64 * 64, len(content))
    begin = _place(chance, content)
    noise = chance.choice([chance.randbytes(chance.randrange(1, 9000)), content[begin : begin + 5000]])
    files[name] = _overwritten(content.ljust(at, b"\0"), at, noise, may_grow=True)


def _place(chance: random.Random, content: bytes) -> int:
    """A place in a file: anywhere, in what is written of it, near a page's border, or at a unit of frames."""
    used = max(len(content.rstrip(b"\0")), 1)
    where = chance.randrange(max(chance.choice([len(content), used, used]), 1))
    return where // chance.choice([1, 1, 64, 512, 4096]) * chance.choice([1, 1]) if where else 0


def _overwritten(content: bytes, at: int, by: bytes, *, may_grow: bool = False) -> bytes:
    changed = content[:at] + by + content[at + len(by) :]
    return changed if may_grow else changed[: len(content)]


MUTATIONS: tuple[Callable[[random.Random, Files], None], ...] = (
    truncate, flip_bits, swap_blocks, lose_blocks, lose_tail, lose_segment, double_segment, swap_segments,
    append_garbage,
)  # fmt: skip


def make_base(number: int, folder: Path) -> Base:
    """Journal ``number``: of either variant, in four or five segments, the last of which may have no name yet."""
    path = folder / f"base-{number}"
    files, identity = written_files(
        IN_FILES[number % len(IN_FILES)], path, number, RECORDS + 97 * (number % 5)
    )
    shutil.rmtree(path)
    return Base(files, identity)


def damaged(base: Base, seed: int) -> tuple[Files, list[str]]:
    """The files of a journal after one to three mutations, and which."""
    chance = random.Random(seed)
    files, done = dict(base.files), []
    for _ in range(chance.choice([1, 1, 2, 3])):
        if files:
            mutation = chance.choice(MUTATIONS)
            mutation(chance, files)
            done.append(mutation.__name__)
    return files, done


class Stream:
    """A folder whose files are replaced again and again; only those that differ are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._there: Files = {}

    def put(self, files: Files) -> None:
        """Have these files in the folder, and no others."""
        present = {path.name: path for path in self.folder.iterdir()}
        for name, path in present.items():
            if name not in files:
                path.unlink()
        for name, content in files.items():
            if name not in present or self._there.get(name) != content:
                (self.folder / name).write_bytes(content)
        self._there = dict(files)

    def read(self, identity: StreamIdentity, *, cut: bool) -> tuple[bytes, int, str] | JournalDamage:
        """All records, the next sequence and what the end was; or why it is refused. A torn one may be cut."""
        try:
            with StreamReader(self.folder, identity) as reader:
                records = b"".join(records_of(frame).tobytes() for frame in reader.frames())
                tear = judge_end(reader)
                next_sequence = reader.next_sequence
        except JournalDamage as damage:
            return damage
        if tear is None:
            return records, next_sequence, "clean"
        if cut:
            cut_torn_tail(tear)
            self._there = {}
        return records, tear.next_sequence, "torn"


def attack(base: Base, stream: Stream, seed: int) -> tuple[str, list[str]]:
    """Damage a journal and read it; returns what came of it. AssertionError if that was wrong."""
    files, done = damaged(base, seed)
    expected = judge(files, base.identity)
    stream.put(files)
    found = stream.read(base.identity, cut=True)
    if isinstance(found, JournalDamage):
        assert expected.end == "damaged", (seed, done, found, expected[2:])
        assert (found.path.name, found.offset, found.sequence) == expected[2:], (seed, done, found)
        is_proved = proved_durable(files, base.identity) >= found.sequence
        assert is_proved or (found.sequence == 1 and segment_name(1) not in files), (seed, done, found)
        return "refused", done
    records, next_sequence, end = found
    assert (end, next_sequence) == (expected.end, expected.next_sequence), (seed, done, end, expected[2:])
    assert records == expected.records, (seed, done)
    assert records == make_records(1, next_sequence - 1).tobytes(), (seed, done)
    assert next_sequence > proved_durable(files, base.identity), (seed, done)
    if end == "torn":
        assert stream.read(base.identity, cut=False) == (records, next_sequence, "clean"), (seed, done)
    return end, done


class Run(NamedTuple):
    """A journal at the moment of a power cut, and at its last sync before it. Files are told by their inode."""

    synced: dict[int, bytes]
    written: dict[int, bytes]
    names: dict[int, str]
    identity: StreamIdentity
    durable_sequence: int
    appended_sequence: int


def make_run(number: int, folder: Path) -> Run:
    """Run ``number``: records that were synced, and then up to some segments of records that were not."""
    chance = random.Random(number)
    with Desk(IN_FILES[number % len(IN_FILES)], folder / f"run-{number}") as desk:
        synced: dict[int, bytes] = {}
        for count in (chance.randrange(1, 900), chance.choice([3, 60, 2000])):
            desk.sync()
            synced = {path.stat().st_ino: path.read_bytes() for path in desk.folder.iterdir()}
            last = desk.next_sequence + count
            while desk.next_sequence < last:
                desk.append_surely(chance.choice([1, 2, 5, 40, 150]))
                if chance.random() < 0.3:
                    desk.journal.keep()
        written = {path.stat().st_ino: path.read_bytes() for path in desk.folder.iterdir()}
        names = {path.stat().st_ino: path.name for path in desk.folder.iterdir()}
        return Run(synced, written, names, desk.identity, desk.durable, desk.next_sequence - 1)


def _as_made(content: bytes) -> bytes:
    """A segment as it was when it had been made, which is synced before it is used."""
    header = decode_header(content)
    assert isinstance(header, SegmentHeader)
    return encode_header(header._replace(first_sequence=0)).ljust(len(content), b"\0")


def cut_power(run: Run, stream: Stream, seed: int) -> str:
    """Put together what a disk may hold after the power cut, and read it; returns what the end was.

    Each block of each file is as it was when it was last synced, or as it was written since. AssertionError if
    something that was synced is not read, or if it is refused.
    """
    chance = random.Random(seed)
    block, share = chance.choice([512, 4096]), chance.choice([0.0, 0.1, 0.5, 0.9, 0.99])
    files: Files = {}
    for inode, content in run.written.items():
        before = run.synced.get(inode) or _as_made(content)
        mixed = bytearray(before)
        for at in range(0, len(content), block):
            if chance.random() < share:
                mixed[at : at + block] = content[at : at + block]
        name = run.names[inode]
        # The name of the last segment may not have reached the disk, but then nor has the next one been made.
        if (
            PREPARED_NAME not in run.names.values()
            and name == max(run.names.values())
            and chance.random() < 0.5
        ):
            name = PREPARED_NAME
        files[name] = bytes(mixed)
    stream.put(files)
    found = stream.read(run.identity, cut=True)
    assert not isinstance(found, JournalDamage), (seed, found)
    records, next_sequence, end = found
    assert run.durable_sequence < next_sequence <= run.appended_sequence + 1, seed
    assert records == make_records(1, next_sequence - 1).tobytes(), seed
    if end == "torn":
        assert stream.read(run.identity, cut=False) == (records, next_sequence, "clean"), seed
    return end


def main() -> None:
    """Run the campaign as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.journal_campaign", description=__doc__)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        stream = Stream(Path(folder) / "stream")
        for index in range(arguments.mutations):
            seed = arguments.seed + index
            if index % BASE_EVERY == 0:
                base, run = (
                    make_base(seed // BASE_EVERY, Path(folder)),
                    make_run(seed // BASE_EVERY, Path(folder)),
                )
            if index % POWER_CUT_EVERY == 0:
                outcomes[f"{cut_power(run, stream, seed)} after a power cut"] += 1
            end, done = attack(base, stream, seed)
            outcomes[end] += 1
            outcomes.update(f"{end:>8}: {name}" for name in set(done))
    for name, count in sorted(outcomes.items()):
        print(f"{count:>9,} {name}")
    print(f"{arguments.mutations:>9,} mutations in {time.monotonic() - started:.0f} s, none of them wrong")


if __name__ == "__main__":
    main()
