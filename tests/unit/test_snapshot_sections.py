"""A file of sections: whole or not there; one bit that is not as it was written, and it is refused with the place."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.native import address_of, crc32c_of
from exchange.snapshot import sections
from exchange.snapshot.sections import (
    CHUNK_BYTES,
    HEADER_BYTES,
    BadSnapshot,
    SectionFile,
    SectionWriter,
    write_sections,
)
from tests.snapshot_driver import HEADER, written

PAIR = np.dtype([("number", "<i8"), ("letter", "S3")])
PARTS = {"first": b"abcdefg" * 30, "none": b"", "shard-0/orders": bytes(range(256)) * 3, "last": b"\x07"}


def a_file(folder: Path) -> Path:
    path = folder / "snapshot"
    written(path, lambda writer: [writer.write(name, data) for name, data in PARTS.items()]).close()
    return path


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    pairs = np.array([(n, b"abc"[: n % 3]) for n in range(100)], PAIR)
    large = np.arange(CHUNK_BYTES // 2 + 5, dtype=np.int64)
    with write_sections(path, HEADER) as writer:
        writer.begin("pairs")
        writer.append(pairs[:40])
        writer.append(pairs[40:])
        writer.write("large", large)
        writer.write("empty")
        assert sorted(one.name for one in tmp_path.iterdir()) == ["snapshot.partial"]
    assert [one.name for one in tmp_path.iterdir()] == ["snapshot"]
    with SectionFile(path) as file:
        assert file.header == HEADER
        assert list(file.sections) == ["pairs", "large", "empty"]
        assert all(one.offset % 64 == 0 for one in file.sections.values())
        assert file.sections["pairs"].crc32c == crc32c_of(pairs.tobytes())
        assert (file.records("pairs", PAIR) == pairs).all()
        assert [len(chunk) for chunk in file.chunks("pairs", PAIR, 30)] == [30, 30, 30, 10]
        assert (np.concatenate(list(file.chunks("pairs", PAIR, 30))) == pairs).all()
        assert (file.records("large", np.int64) == large).all()
        assert len(file.records("empty", PAIR)) == 0
        target = np.zeros(6, np.int64)
        file.read_into("large", 8 * 7, address_of(target), 40)
        file.read_into("empty", 0, 0, 0)
        assert target.tolist() == [7, 8, 9, 10, 11, 0]


def test_asking_for_what_is_not_there_is_refused(tmp_path: Path) -> None:
    path, target = a_file(tmp_path), np.zeros(300, np.uint8)
    with SectionFile(path) as file:
        for refused, told in (
            (lambda: file.section("other"), "has no section 'other'"),
            (lambda: file.records("first", PAIR), "'first' at byte 4096: 210 bytes are not records of 11"),
            (lambda: file.record("first", np.uint8), "'first' at byte 4096: 210 records, but should be 1"),
            (
                lambda: file.read_into("first", 200, address_of(target), 11),
                "11 bytes from 200 on, but it has 210",
            ),
            (
                lambda: file.read_into("first", -1, address_of(target), 2),
                "2 bytes from -1 on, but it has 210",
            ),
        ):
            with pytest.raises(BadSnapshot) as refusal:
                refused()
            assert str(refusal.value).startswith(f"{path}: ")
            assert told in str(refusal.value)
    assert not target.any()


def refusal(path: Path) -> str:
    with pytest.raises(BadSnapshot) as refused, SectionFile(path):
        pass
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{path}: ")
    return line


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    data = path.read_bytes()
    for size_bytes in (0, 1, HEADER_BYTES - 1, *range(HEADER_BYTES, len(data))):
        path.write_bytes(data[:size_bytes])
        assert "header" in refusal(path) or "table" in refusal(path)
    path.write_bytes(data + b"\0")
    assert f"should end at byte {len(data)}, and ends at {len(data) + 1}" in refusal(path)


@given(st.data())
@settings(deadline=None, max_examples=400)
def test_a_single_bit_that_is_wrong_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = a_file(tmp_path_factory.mktemp("bits"))
    good = path.read_bytes()
    used = [*range(160), *range(HEADER_BYTES - 4, len(good))]
    at = data.draw(st.one_of(st.sampled_from(used), st.integers(0, len(good) - 1)))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bad)
    told = refusal(path)
    with_place = {
        name: range(one[0], one[0] + one[1])
        for name, one in {"first": (4096, 210), "shard-0/orders": (4352, 768), "last": (5120, 1)}.items()
    }
    for name, places in with_place.items():
        if at in places:
            assert f"section {name!r} at byte {places[0]}: is not as it was written" in told


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_blocks_that_changed_places_or_were_made_up_are_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = a_file(tmp_path_factory.mktemp("blocks"))
    good = path.read_bytes()
    blocks = [good[at : at + 64] for at in range(0, len(good), 64)]
    places = st.integers(0, len(blocks) - 1)
    first, second = data.draw(places), data.draw(places)
    if data.draw(st.booleans()):
        blocks[first], blocks[second] = blocks[second], blocks[first]
    else:
        blocks[first : first + data.draw(st.integers(1, 4))] = [
            data.draw(st.binary(min_size=64, max_size=64))
        ]
    bad = b"".join(blocks)
    path.write_bytes(bad)
    if bad == good:
        SectionFile(path).close()
    else:
        refusal(path)


def test_bytes_that_are_no_snapshot_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    assert refusal(path).endswith("No such file or directory")
    path.write_bytes(b"x" * 10_000)
    assert refusal(path).endswith("header at byte 0: no snapshot, which begins with EXCHSNAP")
    a_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    assert refusal(path).endswith("header at byte 8: format version 2; this exchange reads 1")


def test_a_table_that_overlaps_is_refused_although_its_checksums_are_right(tmp_path: Path) -> None:
    """Whoever made it up knows the format: no reading beyond the file all the same."""
    path = tmp_path / "snapshot"
    for name, offset, length in (("a", 4096, -64), ("a", 4096, 1 << 62), ("a", 1 << 40, 64), ("", 4096, 64)):

        def forge(writer: Any, name: str = name, offset: int = offset, length: int = length) -> None:
            writer.write("a", b"x" * 64)
            writer._end()
            writer._sections.clear()
            writer._sections[name] = sections.Section(offset, length, 0)

        with pytest.raises(BadSnapshot, match="table"):
            written(path, forge)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file(tmp_path)
    before = path.read_bytes()

    def full(_descriptor: int, _data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def interrupted(writer: SectionWriter, trouble: type[BaseException]) -> None:
        writer.write("first", b"abc")
        if trouble is KeyboardInterrupt:
            raise trouble
        monkeypatch.setattr(os, "write", full)
        writer.write("second", b"abc")

    with pytest.raises(UserError, match=f"^cannot write {path}: No space left on device$"):
        written(path, lambda writer: interrupted(writer, OSError))
    monkeypatch.undo()
    with pytest.raises(KeyboardInterrupt):
        written(path, lambda writer: interrupted(writer, KeyboardInterrupt))
    with pytest.raises(UserError, match="cannot write"):
        written(tmp_path / "no" / "folder", lambda writer: None)
    assert [one.name for one in tmp_path.iterdir()] == ["snapshot"]
    assert path.read_bytes() == before


def test_the_disk_has_the_bytes_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    a_file(tmp_path)
    assert done == ["file", "rename to snapshot", "folder"]
