"""``exchange journal inspect`` and ``verify``, as a person uses them."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.cli_journal import journal
from exchange.errors import UserError
from exchange.journal.layout import segment_name
from exchange.journal.reading import JournalDamage
from tests.journal_driver import STREAM, Desk


def run(*arguments: object) -> Result:
    return CliRunner().invoke(journal, [str(one) for one in arguments])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal of 2,000 records in some segments, synced but for the last ten."""
    with Desk("mapped", tmp_path / "journal") as desk:
        for _ in range(20):
            desk.append_surely(100)
            desk.journal.keep()
            desk.sync()
        desk.append_surely(10)
        desk.abandon()
    return tmp_path / "journal"


def test_inspect_shows_streams_segments_sequences_and_kinds(written: Path) -> None:
    done = run("inspect", written)
    assert done.exit_code == 0, done.output
    assert "shard-0: 2,010 records in 21 frames, sequences 1 to 2010: clean" in done.output
    assert "durable: 2000" in done.output
    assert "session 20261129AA, 2 symbols" in done.output
    assert "NEW 502, CANCEL 503, REPLACE 503, MASS_CANCEL 502" in done.output
    assert f"{segment_name(1)}: sequences 1 to 900, 9 frames, 58,176 of 65,536 bytes" in done.output
    document = json.loads(run("inspect", written, "--json").output)
    assert [one["first_sequence"] for one in document["streams"][0]["segments"]] == [1, 901, 1801]
    assert document["identity"]["outcomes"]["symbols"] == ["AAPL", "MSFT"]


def test_verify_says_that_all_is_well_also_of_a_torn_end(written: Path) -> None:
    done = run("verify", written)
    assert (done.exit_code, done.output) == (
        0, "shard-0: 2,010 records in 21 frames, sequences 1 to 2010: clean\n",
    )  # fmt: skip
    last = max(path for path in (written / STREAM).iterdir() if path.name[0] == "0")
    torn = last.read_bytes().rstrip(b"\0")
    last.write_bytes(torn[:-1] + bytes(1))
    done = run("verify", written)
    assert done.exit_code == 0
    assert "sequences 1 to 2000: torn" in done.output
    assert "the checksum of a frame of 10 records is wrong" in done.output


def test_verify_names_the_place_of_damage_and_exits_with_1(written: Path) -> None:
    path = written / STREAM / segment_name(901)
    damage(written)
    for command in ("verify", "inspect"):
        done = run(command, written)
        assert done.exit_code == (command == "verify")
        assert f"journal {path}, offset {4096 + 64 * 101}, sequence 1001: the checksum" in done.output
        assert f"bit 4 of byte {4096 + 64 * 101 + 1234} is flipped" in done.output
        assert "everything up to 1900 was synced" in done.output or "was synced" in done.output
    assert run("verify", written, "--json").exit_code == 1


def test_a_missing_segment_is_damage_also_the_first(written: Path) -> None:
    (written / STREAM / segment_name(1)).unlink()
    done = run("verify", written)
    assert done.exit_code == 1
    assert "sequence 1: the stream begins here, and sequence 1 was expected" in done.output
    (written / "snapshots").mkdir()
    (written / "snapshots" / "7.snapshot").write_bytes(b"x" * 77)
    done = run("verify", written)
    assert done.exit_code == 1, "only a snapshot that is whole makes segments superfluous"
    assert "snapshot 7.snapshot: 77 bytes: unusable\n" in done.output
    assert "7.snapshot: header: 77 bytes, but it has 4096" in done.output


def test_diff_does_not_take_damage_for_the_end(written: Path) -> None:
    copy = shutil.copytree(written, written.with_name("copy"))
    damage(copy)
    done = run("diff", written, copy)
    assert isinstance(done.exception, JournalDamage)
    assert done.exception.sequence == 1001


def damage(journal: Path) -> None:
    """Flip a bit of the frame that begins with sequence 1001."""
    path = journal / STREAM / segment_name(901)
    content = bytearray(path.read_bytes())
    content[4096 + 64 * 101 + 1234] ^= 16
    path.write_bytes(content)


def test_a_journal_that_is_being_written_to_is_not_judged(tmp_path: Path) -> None:
    with Desk("file", tmp_path) as desk:
        desk.append(5)
        done = run("inspect", tmp_path)
        assert "being written to by process" in done.output
        assert "sequences 1 to 5: being written to" in done.output


def test_an_empty_journal_and_no_journal(tmp_path: Path) -> None:
    with Desk("file", tmp_path / "journal") as desk:
        desk.close()
    assert (
        "shard-0: 0 records in 0 frames, sequences none: clean" in run("verify", tmp_path / "journal").output
    )
    (tmp_path / "journal" / STREAM).rmdir()
    assert run("verify", tmp_path / "journal").output == "no stream has been written to\n"
    (tmp_path / "nothing").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "nowhere"):
        done = run("verify", path)
        assert isinstance(done.exception, UserError)
        assert "no identity.json in it" in str(done.exception)
