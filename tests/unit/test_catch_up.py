"""What a backup lacks comes out of the primary's journal while that is written to, or it is said why it cannot."""

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.journal.copied import copied_sequence
from exchange.journal.identity import JournalDirectory, read_identity
from exchange.journal.judging import judge_end
from exchange.journal.reading import JournalDamage, StreamReader
from exchange.native import crc32c_of
from exchange.recovery.kept import SESSIONS_NAME
from exchange.replication.catch_up import CatchUp, Diverged, stream_ends
from exchange.replication.control_line import ControlLine, LineTrouble
from exchange.replication.control_wire import (
    Chunk,
    CopyChecksum,
    CopyEnd,
    CopyFile,
    Frames,
    StreamEnd,
    chunk_header,
    encode_message,
)
from exchange.replication.copying import receive_copy, send_copy
from exchange.snapshot.sections import SnapshotHeader, write_sections
from tests.journal_driver import IN_FILES, OUTCOMES, Desk, make_records, read_all
from tests.pair_driver import shaken_lines

FRAME = 64


def written(path: Path, epochs: dict[int, int], records: int = 900, variant: str = "mapped") -> None:
    """A journal whose frames are of some epochs: of each the sequence from which on."""
    chance = random.Random(records)
    with Desk(variant, path) as desk:
        while desk.next_sequence <= records:
            begins = [first for first in epochs if first > desk.next_sequence]
            desk.journal.set_epoch(epochs[max(one for one in epochs if one <= desk.next_sequence)])
            until = min([*begins, records + 1])
            desk.append_surely(min(chance.choice([1, 2, 7, 40]), until - desk.next_sequence))
            desk.journal.keep()
        desk.close()


def ends_of(path: Path, next_sequence: int) -> tuple[StreamEnd, ...]:
    return stream_ends(path, read_identity(path), [next_sequence])


def test_checksums_of_pieces_go_on() -> None:
    content = random.Random(1).randbytes(5000)
    assert crc32c_of(content[4096:], crc32c_of(content[:4096])) == crc32c_of(content)


@pytest.mark.parametrize("variant", IN_FILES)
def test_a_backup_gets_what_it_lacks_while_more_is_written(tmp_path: Path, variant: str) -> None:
    chance, got = random.Random(5), bytearray()
    with Desk(variant, tmp_path) as desk, shaken_lines() as (primary, backup):
        for _ in range(60):
            desk.append_surely(chance.choice([1, 5, 30]))
            desk.journal.keep()
        boundary = 1 + sum(desk.counts[:20])
        identity = read_identity(tmp_path)

        def hear() -> None:
            while (said := backup.receive(5.0)) is not None and not isinstance(said, CopyEnd):
                assert isinstance(said, Frames)
                assert said.stream == 0
                got.extend(said.content)

        thread = threading.Thread(target=hear)
        thread.start()
        with CatchUp(tmp_path, identity, ends_of(tmp_path, boundary)) as catch_up:
            for _ in range(40):
                catch_up.send(primary)
                assert catch_up.next_sequences == [desk.next_sequence]
                for _ in range(chance.randrange(60)):
                    desk.append_surely(chance.choice([1, 5, 30]))
                    desk.journal.keep()
                desk.sync()
            stop = 1 + sum(desk.counts[:-1])
            catch_up.send(primary, [stop])
            assert catch_up.next_sequences == [stop]
            catch_up.send(primary)
            assert catch_up.next_sequences == [desk.next_sequence]
        primary.send(CopyEnd())
        thread.join()
        everything = read_all(tmp_path / "shard-0", identity.stream("shard-0"))
    place, sequence = 0, boundary
    while place < len(got):
        count = int.from_bytes(got[place + 32 : place + 36], "little")
        records = got[place + FRAME : place + FRAME + count * 64]
        expected = make_records(sequence, count)
        assert bytes(records) == expected.tobytes()
        place, sequence = place + FRAME + count * 64, sequence + count
    assert sequence == 1 + len(everything)


@pytest.mark.parametrize("reached", [2, 400, 401, 899, 901])
def test_a_journal_that_is_the_beginning_is_gone_on_with(tmp_path: Path, reached: int) -> None:
    written(tmp_path, {1: 0, 300: 1, 401: 2})
    identity = read_identity(tmp_path)
    with CatchUp(tmp_path, identity, ends_of(tmp_path, reached)) as catch_up:
        assert catch_up.next_sequences == [reached]
    with CatchUp(tmp_path, identity, (StreamEnd(1),)):
        pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"next_sequence": 903}, "it has sequence 902, and the primary does not"),
        ({"epoch": 3}, "its sequence 700 is of epoch 3, and the primary's of epoch 2"),
        ({"epoch": 1}, "its sequence 700 is of epoch 1, and the primary's of epoch 2"),
        ({"checksum": 1}, "of epoch 2, and the primary's of epoch 2, and says something else"),
    ],
)
def test_a_journal_that_has_diverged_is_found_out(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    written(tmp_path, {1: 1, 401: 2})
    end = ends_of(tmp_path, 701)[0]
    fields = {"next_sequence": end.next_sequence, "epoch": end.epoch, "checksum": end.checksum} | change
    with (
        pytest.raises(Diverged, match=reason),
        CatchUp(tmp_path, read_identity(tmp_path), (StreamEnd(**fields),)),
    ):
        pass


def test_a_backup_that_is_too_far_behind_is_told_so(tmp_path: Path) -> None:
    written(tmp_path, {1: 1}, 3000)
    end = ends_of(tmp_path, 101)
    first, *_others = sorted((tmp_path / "shard-0").iterdir())
    first.unlink()
    for ends in (end, (StreamEnd(1),)):
        with (
            pytest.raises(Diverged, match="too far behind"),
            CatchUp(tmp_path, read_identity(tmp_path), ends),
        ):
            pass
    with pytest.raises(Diverged, match="it has 2 streams, and there are 1"):
        CatchUp(tmp_path, read_identity(tmp_path), (StreamEnd(1), StreamEnd(1)))


def beginnings(path: Path) -> Path:
    """A journal with what a copy has."""
    with JournalDirectory(path, OUTCOMES) as directory:
        (path / SESSIONS_NAME).write_bytes(b'[{"user": "ALICE", "protocol": "ouch50"}]')
        (path / "snapshots").mkdir()
        for number in (4, 700_000):
            header = SnapshotHeader(directory.identity.journal_id, directory.identity.digest, (number,), 1)
            with write_sections(path / "snapshots" / f"{number:020d}.snapshot", header) as writer:
                writer.write("content", np.arange(number))
    return path


def following_of(path: Path, wanted: int) -> int:
    """With which sequence a stream goes on that is read from one on."""
    with StreamReader(path / "shard-0", read_identity(path).stream("shard-0"), wanted) as reader:
        reader.read_to_end()
        assert judge_end(reader) is None
        return reader.next_sequence


def copied(source: Path, target: Path) -> Path | None:
    """Have a copy of a journal's beginnings take the place of a folder."""
    with shaken_lines("copy") as (backup, primary):
        thread = threading.Thread(target=lambda: (primary.receive(5.0), send_copy(primary, source)))
        thread.start()
        aside = receive_copy(backup, target)
        thread.join()
    return aside


def test_a_copy_is_the_beginning_and_the_old_folder_is_kept(tmp_path: Path) -> None:
    source = beginnings(tmp_path / "source")
    target = tmp_path / "target"
    assert copied(source, target) is None
    newest = "snapshots/00000000000000700000.snapshot"
    for name in ("identity.json", SESSIONS_NAME, newest):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert not (target / "snapshots/00000000000000000004.snapshot").exists()
    assert (copied_sequence(target / "shard-0"), copied_sequence(source / "shard-0")) == (700_000, 0)
    assert following_of(target, 700_001) == 700_001
    with pytest.raises(JournalDamage, match="there is no segment"):
        following_of(target, 700_002)
    (target / "mine").write_text("something that nobody else has")
    assert copied(source, target) == tmp_path / "target.aside-1"
    assert copied(source, target) == tmp_path / "target.aside-2"
    assert (tmp_path / "target.aside-1/mine").read_text() == "something that nobody else has"
    with JournalDirectory(target, OUTCOMES), pytest.raises(UserError, match="writes to it"):
        copied(source, target)


@pytest.mark.parametrize(
    "said",
    [
        [CopyEnd()],
        [CopyFile("lock", 1)],
        [CopyFile("snapshots/x.snapshot", 1)],
        [Chunk(b"x")],
        [CopyFile("identity.json", 2), Chunk(b"xyz")],
        [CopyFile("identity.json", 2), CopyEnd()],
        [CopyFile("identity.json", 2), Chunk(b"xy"), CopyChecksum(0)],
        [CopyFile("identity.json", 0), CopyChecksum(0)] * 17,
        [],
    ],
)
def test_a_copy_that_is_none_changes_nothing(tmp_path: Path, said: list[Any]) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")

    def send(line: ControlLine) -> None:
        line.receive(5.0)
        for one in said:
            is_chunk = isinstance(one, Chunk)
            line.send_bytes(
                (chunk_header(len(one.content)), one.content) if is_chunk else (encode_message(one),)
            )
        line.close()

    with shaken_lines("copy") as (backup, primary):
        thread = threading.Thread(target=send, args=(primary,))
        thread.start()
        with pytest.raises(LineTrouble):
            receive_copy(backup, target)
        thread.join()
    assert (target / "mine").read_text() == "mine"
    assert not (tmp_path / "target.aside-1").exists()
