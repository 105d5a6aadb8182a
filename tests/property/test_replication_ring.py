"""The frame ring against a twin in plain Python, frames that have arrived in part, and readers of foreign bytes."""

import random
import struct
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.journal.frames import FRAME_PLACE_DTYPE
from exchange.journal.protocol import append
from exchange.journal.segment import StreamIdentity
from exchange.native import Arena, address_of, crc32c_of, load_int64, store_int64, view_bytes
from exchange.replication.ring import FrameRing, publish_position, scan_ring
from exchange.replication.tcp import (
    IN_HEADER,
    MESSAGE_BYTES,
    MESSAGE_MAGIC,
    SOCKET_BYTES,
    STAGE,
    TcpLink,
    TcpReceiver,
    place_bytes,
    take_lines,
)
from exchange.replication.words import (
    CONSUMED,
    CONSUMED_POSITION,
    CONTROL_BYTES,
    HOLDING,
    LINE_BYTES,
    NONSENSE,
    RECEIVED,
    RECEIVER_STREAM_BYTES,
    STREAM_BYTES,
    seal_line,
)
from exchange.replication.writer import ReplicatedWriter
from tests.journal_driver import make_records
from tests.journal_oracle import frame_at
from tests.replication_driver import EPOCH, FrameMakers, names_of

NAME = names_of(1)[0]
IDENTITY = StreamIdentity(NAME.journal_id, 0, NAME.stream_number)
GUARD = 4096
"""Bytes on both sides of a ring that nobody may touch."""


class Memory:
    """A ring between two guards, and a writer that puts frames into it."""

    def __init__(self, ring_bytes: int, position: int = 0, sequence: int = 1) -> None:
        self.arena = Arena.private(
            ring_bytes + 2 * GUARD + CONTROL_BYTES + STREAM_BYTES + 4096, huge_pages="never"
        )
        self.guarded = self.arena.allocate(ring_bytes + 2 * GUARD, 4096)
        self.base, self.ring_bytes = self.guarded + GUARD, ring_bytes
        view_bytes(self.guarded, ring_bytes + 2 * GUARD)[:] = b"\xa5" * (ring_bytes + 2 * GUARD)
        self.fill(bytes(ring_bytes))
        self.control = self.arena.allocate(CONTROL_BYTES)
        self.words = self.arena.allocate(STREAM_BYTES)
        publish_position(self.words, position, sequence)
        self.journals = FrameMakers(1)
        ring = FrameRing(self.words, self.control, self.base, ring_bytes)
        self.writer = ReplicatedWriter(self.journals.states[0], ring)

    def fill(self, content: bytes) -> None:
        """What the ring holds."""
        view_bytes(self.base, self.ring_bytes)[:] = content

    def content(self) -> bytes:
        """The same, to read."""
        return bytes(view_bytes(self.base, self.ring_bytes))

    def is_guarded(self) -> bool:
        """Whether nothing outside the ring was written."""
        before = bytes(view_bytes(self.guarded, GUARD))
        return before == bytes(view_bytes(self.base + self.ring_bytes, GUARD)) == b"\xa5" * GUARD

    def append(self, first_sequence: int, count: int) -> bool:
        """Put a frame, with all that comes before."""
        records = make_records(first_sequence, count)
        return bool(append(self.writer, address_of(records), count, first_sequence))

    def scan(
        self, position: int, expected: int, limit: int = 64, epoch: int = EPOCH
    ) -> tuple[list[Any], int, int]:
        """What is there from a place on: offset and count of each frame, and where it ends."""
        places = np.zeros(limit, FRAME_PLACE_DTYPE)
        found, position, expected = scan_ring(
            self.base, self.ring_bytes, position, NAME, epoch, expected, address_of(places), limit
        )
        rows = [(int(row["address"]) - 64 - self.base, int(row["record_count"])) for row in places[:found]]
        assert all(row["epoch"] == epoch for row in places[:found])
        return rows, position, expected


class PlainRing:
    """The ring as one writes it down from its description: bytes, and no compiled code."""

    def __init__(self, ring_bytes: int) -> None:
        self.content = bytearray(ring_bytes)
        self.position = self.consumed = 0

    def append(self, first_sequence: int, count: int) -> bool:
        """Put a frame, if it does not go over what is not consumed."""
        size, ring_bytes = 64 + 64 * count, len(self.content)
        offset = self.position % ring_bytes
        skipped = ring_bytes - offset if offset + size > ring_bytes else 0
        if self.position + skipped + size > self.consumed + ring_bytes:
            return False
        if skipped:
            self.content[offset : offset + 64] = header(b"WRAP", first_sequence, 0, b"")
            self.position += skipped
            offset = 0
        records = make_records(first_sequence, count).tobytes()
        self.content[offset : offset + size] = header(b"FRM1", first_sequence, count, records) + records
        self.position += size
        return True


def header(magic: bytes, first_sequence: int, count: int, records: bytes, epoch: int = EPOCH) -> bytes:
    """The header of a frame or of a wrap marker."""
    rest = struct.pack("<qqqIIq16x", NAME.journal_id, first_sequence, 0, count, NAME.stream_number, epoch)
    return magic + crc32c_of(rest + records).to_bytes(4, "little") + rest


class Step(NamedTuple):
    """Append a frame of so many records, then take and give back up to so many frames."""

    count: int
    taken: int


steps = st.lists(st.builds(Step, st.integers(1, 15), st.integers(0, 4)), min_size=1, max_size=120)


@given(st.sampled_from([4096, 8192, 16384]), steps)
@example(4096, [Step(15, 1)] * 40)
@settings(max_examples=150, deadline=None)
def test_the_ring_is_what_its_plain_twin_is(ring_bytes: int, chosen: list[Step]) -> None:
    memory, twin = Memory(ring_bytes), PlainRing(ring_bytes)
    store_int64(memory.control + HOLDING, 1)
    sequence, position, expected = 1, 0, 1
    waiting: list[int] = []
    for count, taken in chosen:
        is_put = twin.append(sequence, count)
        assert memory.append(sequence, count) == is_put
        if is_put:
            waiting.append(count)
            sequence += count
        rows, position, expected = (
            memory.scan(position, expected, taken) if taken else ([], position, expected)
        )
        assert [found for _, found in rows] == waiting[: len(rows)]
        assert len(rows) == min(taken, len(waiting))
        for offset, _ in rows:
            frame = frame_at(bytes(twin.content), offset, IDENTITY)
            assert frame is not None
            assert frame.records == make_records(frame.first_sequence, frame.count).tobytes()
        del waiting[: len(rows)]
        twin.consumed = position
        store_int64(memory.words + CONSUMED_POSITION, position)
        assert memory.content() == bytes(twin.content)
    assert memory.scan(position, expected)[2] == sequence
    assert memory.is_guarded()


@given(st.integers(1, 31), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_without_a_backup_the_ring_goes_round_over_everything(count: int, start: int) -> None:
    """From any place on, as after days."""
    position = start * 64
    memory = Memory(4096, position, 1)
    first = 1
    for _ in range(40):
        assert memory.append(first, count)
        first += count
    assert memory.is_guarded()
    rows, _, expected = memory.scan(position, 1)
    assert (rows, expected) == ([], 1), "it was written over"
    last = load_int64(memory.words) - 64 - 64 * count
    assert memory.scan(last, first - count)[0] == [(last % 4096, count)]


def arrivals(size: int, seed: int) -> list[int]:
    """The bytes of a frame, in an order in which a network may bring them: in pieces, in any order."""
    chance = random.Random(seed)
    pieces: list[list[int]] = []
    at = 0
    while at < size:
        length = chance.choice((1, 2, 4, 8, 8, 64, 64, 128))
        pieces.append(list(range(at, min(at + length, size))))
        at += length
    chance.shuffle(pieces)
    return [byte for piece in pieces for byte in piece]


@pytest.mark.parametrize("stale", ["zeros", "an earlier round", "noise"])
@pytest.mark.parametrize("seed", range(4))
def test_a_frame_that_has_arrived_in_part_is_not_there(stale: str, seed: int) -> None:
    whole = Memory(4096)
    for first in (1, 4, 7):
        assert whole.append(first, 3)
    content, at = whole.content(), 256
    memory = Memory(4096)
    below = {
        "zeros": bytes(4096),
        "an earlier round": content[:256] + b"".join(content[:256] for _ in range(15)),
        "noise": random.Random(seed).randbytes(4096),
    }[stale]
    memory.fill(content[:256] + below[256:])
    order = arrivals(256, seed)
    for number, byte in enumerate(order):
        if any(memory.content()[at + one] != content[at + one] for one in order[number:]):
            assert memory.scan(0, 1) == ([(0, 3)], 256, 4)
        view_bytes(memory.base + at + byte, 1)[:] = content[at + byte : at + byte + 1]
    assert memory.scan(0, 1) == ([(0, 3), (256, 3)], 512, 7)


def test_a_frame_that_comes_bit_by_bit_is_not_there_before_its_last_bit() -> None:
    whole = Memory(4096)
    assert whole.append(1, 2)
    content, memory = whole.content()[:192], Memory(4096)
    bits = [bit for bit in range(192 * 8) if content[bit // 8] >> bit % 8 & 1]
    random.Random(3).shuffle(bits)
    for bit in bits:
        assert memory.scan(0, 1) == ([], 0, 1)
        view = view_bytes(memory.base + bit // 8, 1)
        view[0] |= 1 << bit % 8
    assert memory.scan(0, 1) == ([(0, 2)], 192, 3)
    for bit in range(192 * 8):
        view = view_bytes(memory.base + bit // 8, 1)
        view[0] ^= 1 << bit % 8
        assert memory.scan(0, 1) == ([], 0, 1), f"bit {bit} is wrong"
        view[0] ^= 1 << bit % 8


def test_frames_of_another_epoch_stream_or_journal_are_not_there() -> None:
    memory = Memory(4096)
    assert memory.append(1, 2)
    assert memory.scan(0, 1, epoch=EPOCH + 1) == ([], 0, 1)
    assert memory.scan(0, 2) == ([], 0, 2)
    records = make_records(1, 2).tobytes()
    good = header(b"FRM1", 1, 2, records) + records
    memory.fill(good.ljust(4096, b"\0"))
    assert memory.scan(0, 1) == ([(0, 2)], 192, 3)
    for place in (8, 36):  # the journal's id, and the stream's number
        rest = bytearray(good[8:])
        rest[place - 8] ^= 1
        memory.fill((b"FRM1" + crc32c_of(rest).to_bytes(4, "little") + rest).ljust(4096, b"\0"))
        assert memory.scan(0, 1) == ([], 0, 1)


def test_a_wrap_marker_at_the_beginning_leads_nowhere() -> None:
    """It would lead there again."""
    memory = Memory(4096)
    memory.fill(header(b"WRAP", 1, 0, b"").ljust(4096, b"\0"))
    assert memory.scan(0, 1) == ([], 0, 1)


parts = st.one_of(
    st.binary(min_size=64, max_size=64),
    st.tuples(st.integers(0, 6), st.integers(1, 70), st.integers(0, 9)).map(
        lambda drawn: (
            header(b"FRM1", drawn[0], drawn[1], make_records(1, 1).tobytes() * drawn[1], drawn[2])
            + make_records(1, 1).tobytes() * drawn[1]
        )
    ),
    st.tuples(st.integers(0, 6), st.integers(0, 9)).map(
        lambda drawn: header(b"WRAP", drawn[0], 0, b"", drawn[1])
    ),
)


@given(st.lists(parts, max_size=20), st.integers(0, 63), st.integers(0, 6))
@settings(max_examples=300, deadline=None)
def test_whatever_the_ring_holds_only_whole_frames_in_their_order_are_taken(
    chosen: list[bytes], unit: int, expected: int
) -> None:
    memory = Memory(4096)
    memory.fill(b"".join(chosen).ljust(4096, b"\0")[:4096])
    rows, position, reached = memory.scan(unit * 64, expected)
    for offset, count in rows:
        frame = frame_at(memory.content(), offset, IDENTITY)
        assert frame is not None
        assert (frame.first_sequence, frame.count, frame.epoch) == (expected, count, EPOCH)
        expected += count
    assert reached == expected
    assert position >= unit * 64
    assert memory.is_guarded()


# What comes over a socket.

RING_BYTES = 4096


class Socket:
    """The words of a socket without one, with the rings of two streams between guards."""

    def __init__(self) -> None:
        size = SOCKET_BYTES + 2 * (RING_BYTES + RECEIVER_STREAM_BYTES + LINE_BYTES) + 4 * GUARD
        self.arena = Arena.private(size, huge_pages="never")
        self.words = self.arena.allocate(SOCKET_BYTES)
        self.streams = self.arena.allocate(2 * RECEIVER_STREAM_BYTES)
        self.lines = self.arena.allocate(2 * LINE_BYTES)
        self.guarded = self.arena.allocate(2 * RING_BYTES + 2 * GUARD)
        view_bytes(self.guarded, 2 * RING_BYTES + 2 * GUARD)[:] = b"\xa5" * (2 * RING_BYTES + 2 * GUARD)
        self.rings = self.guarded + GUARD
        self.receiver = TcpReceiver(self.words, self.rings, RING_BYTES, self.streams, 2, self.words)
        self.link = TcpLink(self.words, self.rings, RING_BYTES, self.lines, 2)

    def stage(self, content: bytes) -> int:
        """Bytes that have arrived."""
        view_bytes(self.words + STAGE, len(content))[:] = content
        return len(content)

    def place(self, content: bytes) -> int:
        """The backup's side takes them."""
        return int(place_bytes(self.receiver, self.stage(content)))

    def take(self, content: bytes) -> int:
        """The primary's side takes them."""
        return int(take_lines(self.link, self.stage(content)))

    def ring(self, stream: int) -> bytes:
        """What a ring holds."""
        return bytes(view_bytes(self.rings + stream * RING_BYTES, RING_BYTES))

    def is_guarded(self) -> bool:
        """Whether nothing outside the rings was written."""
        behind = self.rings + 2 * RING_BYTES
        return bytes(view_bytes(self.guarded, GUARD)) == bytes(view_bytes(behind, GUARD)) == b"\xa5" * GUARD


def message(stream: int, position: int, body: bytes, size: int | None = None) -> bytes:
    """A message as the primary sends it."""
    head = struct.pack("<4q", MESSAGE_MAGIC, stream, position, len(body) if size is None else size)
    return (head + crc32c_of(head).to_bytes(8, "little")).ljust(MESSAGE_BYTES, b"\0") + body


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    """Cut as a network cuts."""
    bounds = [0, *sorted({cut % (len(content) + 1) for cut in cuts}), len(content)]
    return [content[begin:end] for begin, end in pairwise(bounds) if begin < end]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 40)), max_size=12), st.lists(st.integers(0, 1 << 16))
)
@settings(max_examples=200, deadline=None)
def test_messages_arrive_whole_however_they_are_cut(sizes: list[tuple[int, int]], cuts: list[int]) -> None:
    socket, positions, stream_bytes = Socket(), [0, 0], b""
    twin = [bytearray(b"\xa5" * RING_BYTES) for _ in range(2)]
    for number, (stream, units) in enumerate(sizes):
        position = positions[stream]
        body = bytes([number]) * min(units * 64, RING_BYTES - position)
        if body:
            twin[stream][position : position + len(body)] = body
            stream_bytes += message(stream, position, body) + message(-1, 0, b"")
            positions[stream] += len(body)
    for piece in pieces(stream_bytes, cuts):
        assert socket.place(piece) == 1
    assert [socket.ring(stream) for stream in range(2)] == [bytes(one) for one in twin]
    assert [load_int64(socket.streams + k * RECEIVER_STREAM_BYTES + RECEIVED) for k in range(2)] == positions
    assert socket.is_guarded()


@pytest.mark.parametrize(
    "bad",
    [
        message(2, 0, b"x" * 64),
        message(-2, 0, b"x" * 64),
        message(0, 64, b"x" * 64),
        message(0, -4096, b"x" * 64),
        message(0, 0, b"x" * 64, RING_BYTES + 64),
        message(0, 0, b"", 0),
        message(0, 0, b"", -64),
        message(0, 0, b"", 1 << 62),
        message(-1, 0, b"", 64),
        message(0, 0, b"x" * 64).replace(b"EXSHIP01", b"EXSHIP02"),
        bytes(64),
    ],
)
def test_a_message_that_cannot_be_ends_the_link(bad: bytes) -> None:
    socket = Socket()
    assert socket.place(bad) == NONSENSE
    assert socket.ring(0) == socket.ring(1) == b"\xa5" * RING_BYTES


def test_what_is_not_consumed_is_not_written_over() -> None:
    socket = Socket()
    assert socket.place(message(0, 0, b"a" * RING_BYTES)) == 1
    assert socket.place(message(0, RING_BYTES, b"b" * 64)) == NONSENSE
    socket = Socket()
    assert socket.place(message(0, 0, b"a" * RING_BYTES)) == 1
    store_int64(socket.streams + CONSUMED, 64)
    assert socket.place(message(0, RING_BYTES, b"b" * 64)) == 1
    assert socket.ring(0) == b"b" * 64 + b"a" * (RING_BYTES - 64)


@given(st.binary(max_size=400), st.integers(0, 1 << 12), st.integers(0, 7), st.lists(st.integers(0, 1 << 16)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_over_a_socket_stay_within_the_rings(
    noise: bytes, place: int, bit: int, cuts: list[int]
) -> None:
    for start in (b"", message(1, 0, b"y" * 100), message(0, 0, b"z" * 64)):
        content = bytearray(start + noise)
        if content:
            content[place % len(content)] ^= 1 << bit
        socket = Socket()
        for piece in pieces(bytes(content), cuts):
            if socket.place(piece) < 0:
                break
        assert socket.is_guarded()
        assert socket.ring(0)[64:] == b"\xa5" * (RING_BYTES - 64)


def line(stream: int, beats: int = 1, consumed: int = 64) -> bytes:
    """An acknowledgement as the backup sends it."""
    room = np.zeros(LINE_BYTES // 8, np.int64)
    room[:5] = consumed, 7, 128, beats, stream
    seal_line(address_of(room))
    return room.tobytes()


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 99)), max_size=20), st.lists(st.integers(0, 1 << 16))
)
@settings(max_examples=100, deadline=None)
def test_acknowledgements_arrive_whole_however_they_are_cut(
    sent: list[tuple[int, int]], cuts: list[int]
) -> None:
    socket, last, taken = Socket(), [bytes(LINE_BYTES)] * 2, 0
    for stream, beats in sent:
        last[stream] = line(stream, beats)
    for piece in pieces(b"".join(line(*one) for one in sent), cuts):
        taken += socket.take(piece)
    assert taken == len(sent)
    assert b"".join(last) == bytes(view_bytes(socket.lines, 2 * LINE_BYTES))


@given(st.binary(min_size=64, max_size=200), st.integers(0, 511))
@settings(max_examples=200, deadline=None)
def test_an_acknowledgement_that_is_none_ends_the_link(noise: bytes, bit: int) -> None:
    damaged = bytearray(line(0))
    damaged[bit // 8 % 48] ^= 1 << bit % 8
    for bad in (noise, bytes(damaged), line(2), line(-1), line(0, beats=0)):
        socket = Socket()
        assert socket.take(bad) == NONSENSE
        assert not any(view_bytes(socket.lines, 2 * LINE_BYTES))


assert IN_HEADER + MESSAGE_BYTES <= STAGE
