"""Reading a journal, whatever its bytes are: the scanner against its plain twin, and what is said of damage."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.journal.frames import (
    FRAME_PLACE_DTYPE,
    Flaw,
    StreamName,
    find_frame,
    last_used_byte,
    scan_frames,
)
from exchange.journal.identity import JournalDirectory
from exchange.journal.judging import Tear, cut_torn_tail, judge_end
from exchange.journal.layout import (
    FRAME_HEADER_DTYPE,
    PREPARED_NAME,
    SEGMENT_HEADER_BYTES,
    SEGMENT_HEADER_DTYPE,
    segment_name,
)
from exchange.journal.reading import JournalDamage, StreamReader
from exchange.journal.segment import SegmentHeader, StreamIdentity, decode_header, encode_header
from exchange.native import crc32c_of
from tests.journal_driver import OUTCOMES, STREAM, Desk, make_records, read_all
from tests.journal_oracle import frame_at
from tests.property.journal_campaign import BASE_EVERY, Base, Stream, attack, cut_power, make_base, make_run

few = settings(max_examples=150, deadline=None)

IDENTITY = StreamIdentity(journal_id=0x1234_5678_9ABC_DEF0, identity_digest=-7, stream_number=3)


def frame(first: int, count: int, durable: int = 0, identity: StreamIdentity = IDENTITY) -> bytes:
    """A frame, made by hand; its epoch is its first sequence modulo 5."""
    row = np.zeros(1, FRAME_HEADER_DTYPE)
    row[0] = (
        int.from_bytes(b"FRM1", "little"),
        0,
        identity.journal_id,
        first,
        durable,
        count,
        identity.stream_number,
        first % 5,
    )
    block = bytearray(row.tobytes() + make_records(first, count).tobytes())
    block[4:8] = crc32c_of(block[8:]).to_bytes(4, "little")
    return bytes(block)


class Memory:
    """Bytes at a multiple of 64, right before a page that nobody may read."""

    def __init__(self, content: bytes) -> None:
        self._rows = np.zeros(len(content) + 128, np.uint8)
        skip = -self._rows.ctypes.data % 64
        self.base = self._rows.ctypes.data + skip
        self._rows[skip : skip + len(content)] = np.frombuffer(content, np.uint8)
        self._rows[skip + len(content) :] = 0xFF


def plain_scan(content: bytes, expected: int, limit: int) -> tuple[list[tuple[int, int, int]], int, int]:
    """The frames at the beginning of ``content`` (offset, count, first sequence), and the place and sequence behind."""
    found, offset = [], 0
    while (
        len(found) < limit and (one := frame_at(content, offset, IDENTITY)) and one.first_sequence == expected
    ):
        found.append((offset + 64, one.count, expected))
        offset += 64 + len(one.records)
        expected += one.count
    return found, offset, expected


pieces = st.one_of(
    st.tuples(st.integers(-3, 3), st.integers(1, 6), st.integers(0, 5)).map(lambda t: ("frame", *t)),
    st.integers(1, 4).map(lambda units: ("zeros", units)),
    st.binary(min_size=64, max_size=64).map(lambda noise: ("noise", noise)),
    st.integers(1, 1 << 32).map(lambda count: ("count", count)),
)


def built(parts: list[Any]) -> bytes:
    """Pieces of a journal, end to end: mostly frames that follow each other."""
    content, first = b"", 1
    for kind, *values in parts:
        match kind:
            case "frame":
                skip, count, durable = values
                content += frame(max(first + (skip if abs(skip) == 3 else 0), 0), count, durable)
                first += count
            case "zeros":
                content += bytes(64 * values[0])
            case "noise":
                content += values[0]
            case "count":
                content += b"FRM1" + bytes(28) + (values[0] & 0xFFFFFFFF).to_bytes(4, "little") + bytes(28)
    return content


@few
@given(
    parts=st.lists(pieces, max_size=12),
    limit=st.integers(1, 9),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), max_size=2),
    cut=st.integers(0, 500),
)
def test_the_scanner_agrees_with_its_plain_twin(
    parts: list[Any], limit: int, flips: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(built(parts))
    for place, bit in flips if content else ():
        content[place % len(content)] ^= 1 << bit
    content = content[: len(content) - cut] if cut < len(content) else content
    memory = Memory(bytes(content))
    places = np.zeros(limit, FRAME_PLACE_DTYPE)
    name = IDENTITY.name
    count, offset, expected, flaw = scan_frames(
        memory.base, 0, len(content), name, 1, places.ctypes.data, limit
    )
    found, plain_offset, plain_expected = plain_scan(bytes(content), 1, limit)
    assert [(a - memory.base, c, f) for a, c, f, _, _ in places[:count].tolist()] == found
    assert [row["epoch"] for row in places[:count]] == [first % 5 for _, _, first in found]
    assert (offset, expected) == (plain_offset, plain_expected)
    assert (flaw == Flaw.NONE) == (count == limit)
    later = next((at for at in range(0, len(content), 64) if frame_at(bytes(content), at, IDENTITY)), -1)
    assert find_frame(memory.base, 0, len(content), name) == later
    assert last_used_byte(memory.base, 0, len(content)) == len(bytes(content).rstrip(b"\0"))


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (b"", Flaw.END),
        (bytes(63), Flaw.END),
        (bytes(64), Flaw.ZEROS),
        (b"FRM2" + bytes(60), Flaw.NO_FRAME),
        (b"FRM1" + bytes(124), Flaw.LENGTH),
        (frame(1, 2)[:-1], Flaw.LENGTH),
        (frame(1, 2)[:-1] + b"\0", Flaw.CHECKSUM),
        (frame(1, 1, identity=IDENTITY._replace(journal_id=5)), Flaw.OTHER_JOURNAL),
        (frame(1, 1, identity=IDENTITY._replace(stream_number=4)), Flaw.OTHER_STREAM),
        (frame(2, 1), Flaw.SEQUENCE),
        (frame(1, 1), Flaw.END),
    ],
)
def test_what_is_wrong_has_a_name(content: bytes, flaw: Flaw) -> None:
    memory = Memory(content)
    places = np.zeros(4, FRAME_PLACE_DTYPE)
    assert scan_frames(memory.base, 0, len(content), IDENTITY.name, 1, places.ctypes.data, 4)[3] == flaw


def test_a_record_that_looks_like_a_frame_is_a_record() -> None:
    """A client who could write a whole frame into its orders would have to know the journal's random number."""
    outer = bytearray(frame(1, 4))
    outer[64:192] = frame(1, 1, durable=0, identity=IDENTITY._replace(journal_id=1))
    outer[4:8] = crc32c_of(outer[8:]).to_bytes(4, "little")
    memory = Memory(bytes(outer))
    places = np.zeros(4, FRAME_PLACE_DTYPE)
    assert scan_frames(memory.base, 0, len(outer), IDENTITY.name, 1, places.ctypes.data, 4)[:3] == (
        1,
        len(outer),
        5,
    )
    assert find_frame(memory.base, 64, len(outer), StreamName(2, 3)) == -1


@few
@given(content=st.binary(min_size=128, max_size=128), bit=st.integers(0, 128 * 8 - 1))
def test_headers_of_segments_survive_the_way_and_every_flipped_bit_is_found(content: bytes, bit: int) -> None:
    header = SegmentHeader(1, 2, -3, 4, 1 << 16, 5, 6)
    encoded = encode_header(header)
    assert len(encoded) == SEGMENT_HEADER_DTYPE.itemsize
    page = encoded.ljust(SEGMENT_HEADER_BYTES, b"\0")
    assert decode_header(page) == header
    flipped = bytearray(page)
    flipped[bit >> 3] ^= 1 << (bit & 7)
    found = decode_header(bytes(flipped))
    assert isinstance(found, str) or 96 <= bit < 128, "bytes 12 to 15 mean nothing"
    assert isinstance(decode_header(content), str)


# Damage.


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that is not on a disk, where there is one: these tests sync more often than a disk likes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", range(8))
def test_damage_of_every_kind_is_read_up_to_it_or_refused(number: int, in_memory: Path) -> None:
    """Some thousands of mutations; ``journal_campaign`` says what must come of them, and runs many more."""
    base, stream = make_base(number, in_memory), Stream(in_memory / "stream")
    outcomes = {attack(base, stream, number * BASE_EVERY + index)[0] for index in range(200)}
    assert outcomes == {"clean", "torn", "refused"}


@pytest.mark.parametrize("number", range(6))
def test_a_power_cut_never_makes_a_journal_unreadable(number: int, in_memory: Path) -> None:
    """Whatever a disk has written of what was not synced: all that was synced is there, and nothing is refused."""
    run, stream = make_run(number, in_memory), Stream(in_memory / "stream")
    ends = {cut_power(run, stream, number * BASE_EVERY + index) for index in range(100)}
    assert "torn" in ends


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A journal of two segments of which all but the last six frames is synced."""
    with Desk("mapped", tmp_path_factory.mktemp("journal")) as desk:
        for number in range(45):
            desk.append_surely(1 + 7 * number % 60)
            desk.sync()
            desk.journal.keep()
        for size in (2, 30, 1, 4, 50, 9):
            desk.append_surely(size)
        files = {path.name: path.read_bytes() for path in desk.folder.iterdir()}
        return Base(files, desk.identity)


def frames_in(content: bytes, identity: StreamIdentity) -> list[tuple[int, int, int]]:
    """Offset, count and first sequence of the frames in a segment."""
    found, offset = [], SEGMENT_HEADER_BYTES
    while one := frame_at(content, offset, identity):
        found.append((offset, one.count, one.first_sequence))
        offset += 64 + len(one.records)
    return found


def test_a_flipped_bit_anywhere_in_synced_data_is_refused_and_named(base: Base, tmp_path: Path) -> None:
    chance = random.Random(1)
    stream = Stream(tmp_path / "stream")
    name = segment_name(1)
    frames = frames_in(base.files[name], base.identity)[:10]
    header_bits = [bit for bit in range(512) if bit not in range(32)]
    for offset, count, first in frames:
        body = range(512, (64 + count * 64) * 8)
        for bit in [*chance.sample(header_bits, 12), *chance.sample(body, 6), chance.randrange(32)]:
            content = bytearray(base.files[name])
            content[offset + (bit >> 3)] ^= 1 << (bit & 7)
            stream.put(base.files | {name: bytes(content)})
            damage = stream.read(base.identity, cut=False)
            assert isinstance(damage, JournalDamage)
            assert (damage.path.name, damage.offset, damage.sequence) == (name, offset, first)
            assert f"bit {bit & 7} of byte {offset + (bit >> 3)} is flipped" in damage.reason
            assert "was synced, so this is no torn end" in damage.reason


def test_two_flipped_bits_are_damage_too_and_no_bit_is_named(base: Base, tmp_path: Path) -> None:
    stream = Stream(tmp_path / "stream")
    name = segment_name(1)
    offset, count, _ = frames_in(base.files[name], base.identity)[2]
    content = bytearray(base.files[name])
    content[offset + 70] ^= 1
    content[offset + 90] ^= 4
    stream.put(base.files | {name: bytes(content)})
    damage = stream.read(base.identity, cut=False)
    assert f"the checksum of a frame of {count} records is wrong; sequence" in str(damage)


def last_frames(base: Base) -> tuple[str, list[tuple[int, int, int]]]:
    """The last segment that has frames, and those."""
    name = max(name for name in base.files if frames_in(base.files[name], base.identity))
    return name, frames_in(base.files[name], base.identity)


def test_a_torn_end_is_cut_there_and_told(base: Base, tmp_path: Path) -> None:
    stream = Stream(tmp_path / "stream")
    name, frames = last_frames(base)
    offset, count, first = frames[-1]
    content = bytearray(base.files[name])
    content[offset + 64 : offset + 96] = bytes(32)
    stream.put(base.files | {name: bytes(content)})
    with StreamReader(stream.folder, base.identity) as reader:
        assert sum(one.record_count for one in reader.frames()) == first - 1
        tear = judge_end(reader)
    assert isinstance(tear, Tear)
    assert (tear.path.name, tear.offset, tear.next_sequence, tear.torn_records) == (name, offset, first, 0)
    assert 64 < tear.torn_bytes <= 64 + 64 * count
    assert f"torn (the checksum of a frame of {count} records is wrong" in str(tear)
    cut_torn_tail(tear)
    assert len(read_all(stream.folder, base.identity)) == first - 1


def test_whole_frames_behind_a_gap_are_counted_and_cut(base: Base, tmp_path: Path) -> None:
    stream = Stream(tmp_path / "stream")
    name, frames = last_frames(base)
    assert len(frames) > 2
    at = next(at for at in range(len(frames)) if not proves(base, name, frames, at))
    offset = frames[at][0]
    content = bytearray(base.files[name])
    content[offset : offset + 64] = bytes(64)
    stream.put(base.files | {name: bytes(content)})
    with StreamReader(stream.folder, base.identity) as reader:
        list(reader.frames())
        tear = judge_end(reader)
    assert tear is not None
    assert tear.torn_records == sum(count for _, count, _ in frames[at + 1 :])
    assert tear.reason == "zeros where a frame should be"


def proves(base: Base, name: str, frames: list[tuple[int, int, int]], at: int) -> bool:
    """Whether a frame behind number ``at`` says that it was synced."""
    content, first = base.files[name], frames[at][2]
    behind = [frame_at(content, offset, base.identity) for offset, _, _ in frames[at + 1 :]]
    return any(one is not None and one.durable_sequence >= first for one in behind)


def test_garbage_behind_the_last_frame_of_an_earlier_segment_means_nothing(
    base: Base, tmp_path: Path
) -> None:
    """As it is when an exchange was killed in the middle of an append and nobody cut that."""
    stream = Stream(tmp_path / "stream")
    offset, count, _ = frames_in(base.files[segment_name(1)], base.identity)[-1]
    behind = offset + 64 + 64 * count
    content = bytearray(base.files[segment_name(1)])
    content[behind : behind + 40] = b"x" * min(40, len(content) - behind)
    stream.put(base.files | {segment_name(1): bytes(content)})
    whole = Stream(tmp_path / "whole")
    whole.put(base.files)
    assert stream.read(base.identity, cut=False) == whole.read(base.identity, cut=False)


# Segments of something else.


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("format_version", "its format version is 2 and should be 1"),
        ("journal_id", "its journal's id is"),
        ("identity_digest", "the digest of its journal's identity is"),
        ("stream_number", "its stream's number is 1 and should be 0"),
    ],
)
def test_a_whole_segment_of_something_else_is_refused(
    base: Base, tmp_path: Path, field: str, what: str
) -> None:
    stream = Stream(tmp_path / "stream")
    name = segment_name(1)
    header = decode_header(base.files[name])
    assert isinstance(header, SegmentHeader)
    other = encode_header(header._replace(**{field: getattr(header, field) + 1}))
    stream.put(base.files | {name: other + base.files[name][len(other) :]})
    with pytest.raises(JournalDamage, match=f"not one of this stream: {what}") as caught:
        StreamReader(stream.folder, base.identity)
    assert (caught.value.path.name, caught.value.offset) == (name, 0)


def test_a_journal_of_other_settings_is_refused_and_each_difference_named(tmp_path: Path) -> None:
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        assert directory.is_new
    import msgspec

    other = msgspec.structs.replace(OUTCOMES, symbols=("AAPL",), shard_count=2)
    with pytest.raises(UserError) as caught:
        JournalDirectory(tmp_path, other)
    assert str(caught.value) == (
        f"journal.directory = {str(tmp_path)!r}: it belongs to other settings: "
        "gateway.symbols was [AAPL, MSFT] (2) and is [AAPL] (1); shards.count was 1 and is 2"
    )
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        assert not directory.is_new


# From the middle.


def test_reading_begins_where_a_snapshot_ended(tmp_path: Path) -> None:
    with Desk("mapped", tmp_path) as desk:
        for _ in range(60):
            desk.append_surely(50)
        desk.close()
        identity = desk.identity
    firsts = sorted(int(path.stem) for path in desk.folder.iterdir())
    assert len(firsts) >= 3
    for wanted in (1, 2, 50, 51, firsts[1] - 1, firsts[1], firsts[1] + 1, firsts[2], 3000, 3001):
        with StreamReader(desk.folder, identity, wanted) as reader:
            frames = list(reader.frames())
            assert judge_end(reader) is None
            assert reader.next_sequence == 3001
        expected = (wanted - 1) // 50 * 50 + 1
        assert [one.first_sequence for one in frames] == list(range(expected, 3001, 50))
    with StreamReader(desk.folder, identity, 3002) as reader:
        assert list(reader.frames()) == []
        with pytest.raises(
            JournalDamage, match="sequence 3001: the segment ends, and sequence 3001 is known"
        ):
            judge_end(reader)
    (desk.folder / segment_name(1)).unlink()
    assert len(read_all(desk.folder, identity, firsts[1])) == 3001 - firsts[1]
    with pytest.raises(JournalDamage, match="the stream begins here, and sequence 7 was expected"):
        StreamReader(desk.folder, identity, 7)


def test_a_stream_without_a_folder_and_one_without_a_record_are_empty(tmp_path: Path) -> None:
    assert len(read_all(tmp_path / "nowhere", IDENTITY)) == 0
    with Desk("file", tmp_path) as desk:
        assert (desk.folder / PREPARED_NAME).exists()
        assert len(read_all(tmp_path / STREAM, desk.identity)) == 0


def test_reading_while_it_is_written_goes_as_far_as_the_appends(tmp_path: Path) -> None:
    with Desk("mapped", tmp_path) as desk:
        for size in (3, 100, 700, 200, 900, 1):
            desk.append_surely(size)
            with StreamReader(desk.folder, desk.identity) as reader:
                assert sum(one.record_count for one in reader.frames()) == desk.next_sequence - 1
