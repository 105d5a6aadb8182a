"""What both file readers share: recognising a file, unpacking it, and keeping the engine's queues in step."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import RecordedConfig, build_flow, load_flow
from exchange.flow.recorded import RECORD_DTYPE, RecordKind, open_source
from exchange.flow.translation import translate
from exchange.messages import BUY, CommandKind

LINES = b"1.0,1,7,100,50,1\n2.0,3,7,100,50,1\n"


def test_a_file_that_is_neither_is_told_apart(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary")
    with pytest.raises(
        UserError, match=r"byte 0: neither a LOBSTER .* nor an ITCH 5.0 file: it begins with b'Dear"
    ):
        load_flow(str(path))


def test_an_empty_file_a_missing_file_and_a_folder(tmp_path: Path):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(UserError, match="byte 0: the file is empty"):
        load_flow(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="No such file"):
        load_flow(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="Is a directory"):
        load_flow(str(tmp_path))


def test_an_empty_gzip_file(tmp_path: Path):
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(UserError, match="byte 0 of the unpacked data: the file is empty"):
        load_flow(str(tmp_path / "empty.gz"))


def test_several_gzip_members_and_padding_are_one_file(tmp_path: Path):
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(LINES[:17]) + gzip.compress(LINES[17:]) + bytes(512))
    assert bytes(open_source(str(path)).data) == LINES


def test_cut_and_corrupt_gzip_files(tmp_path: Path):
    path = tmp_path / "bad.gz"
    packed = gzip.compress(np.random.default_rng(1).bytes(3_000_000))
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"byte \d+ of the unpacked data: the gzip file is cut off here"):
        open_source(str(path))
    assert len(open_source(str(path), allow_truncated=True).data) > 1_000_000
    path.write_bytes(packed[:-6] + b"\0" + packed[-5:])  # a bit of the checksum
    with pytest.raises(UserError, match=r"byte \d+ of the unpacked data: the gzip data is corrupt"):
        open_source(str(path), allow_truncated=True)
    path.write_bytes(gzip.compress(LINES) + b"more")
    with pytest.raises(UserError, match=r"not gzip follows"):
        open_source(str(path))


def test_an_error_in_a_gzip_file_counts_unpacked_bytes(tmp_path: Path):
    path = tmp_path / "bad.gz"
    path.write_bytes(gzip.compress(LINES + b"oops\n"))
    with pytest.raises(UserError, match=f"byte {len(LINES)} of the unpacked data: line 3"):
        load_flow(str(path))


def test_a_config_and_its_keywords_say_the_same(tmp_path: Path):
    path = tmp_path / "ABC_message_1.csv"
    path.write_bytes(LINES)
    flow = build_flow(RecordedConfig(path=str(path), reading="feed"))
    assert flow.commands.tobytes() == load_flow(str(path), reading="feed").commands.tobytes()
    assert flow.name == path.name
    assert "LOBSTER" in flow.description


def test_an_unknown_reading_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="reading"):
        build_flow(RecordedConfig(path=str(tmp_path), reading="backwards"))  # type: ignore[arg-type]


def records(*rows: tuple[RecordKind, int, int]) -> np.ndarray:
    """Records (kind, order, lots), all on the buy side at one price."""
    array = np.zeros(len(rows), RECORD_DTYPE)
    for record, (kind, order_id, lots) in zip(array, rows, strict=True):
        record["kind"], record["order_id"], record["quantity_lots"] = kind, order_id, lots
        record["price_ticks"], record["side"] = 50, BUY
        if kind == RecordKind.REPLACE:
            record["new_order_id"], record["price_ticks"] = order_id + 100, 60
    return array


ADD, LESS, DELETE, EXECUTE, REPLACE = RecordKind
TWO = ((ADD, 1, 10), (ADD, 2, 10))


def cancels(commands: np.ndarray) -> list[tuple[int, int]]:
    chosen = commands[commands["kind"] == CommandKind.CANCEL]
    return [(int(command["order_id"]), int(command["quantity_lots"])) for command in chosen]


def test_an_order_that_traded_in_the_engine_only_is_cancelled_in_the_one_that_traded_in_the_record_only():
    """The record says 2, but 1 stands before it: the engine trades 1, so 1's later cancel must be 2's."""
    commands, makers, counts = translate(records(*TWO, (EXECUTE, 2, 10), (DELETE, 1, 10)), "flow")
    assert makers.tolist() == [0, 0, 2, 0]
    assert cancels(commands) == [(2, 0)]
    assert counts == {"records_at_odds": 0, "executions_of_another_order": 1, "cancels_of_another_order": 1}


def test_what_is_left_of_both_is_cancelled_in_both():
    commands, _, counts = translate(records(*TWO, (EXECUTE, 2, 4), (LESS, 1, 9)), "flow")
    assert cancels(commands) == [(1, 6), (2, 3)]
    assert counts["cancels_of_another_order"] == 1


def test_an_order_with_lots_to_spare_keeps_them_when_the_record_deletes_it():
    """Order 2 has 10 in the engine and 6 in the record; the 4 lots between are order 1's by now."""
    commands, _, _ = translate(records(*TWO, (EXECUTE, 2, 4), (DELETE, 2, 6), (EXECUTE, 1, 10)), "flow")
    assert cancels(commands) == [(2, 6)]


def test_a_replaced_order_that_traded_in_the_engine_comes_back_whole():
    commands, _, _ = translate(records(*TWO, (EXECUTE, 2, 10), (REPLACE, 1, 10)), "flow")
    assert cancels(commands) == [(2, 10)]
    assert commands["kind"].tolist().count(CommandKind.REPLACE) == 0
    assert commands[-1]["order_id"] == 101
    assert commands[-1]["price_ticks"] == 60


def test_an_execution_over_several_orders_counts_once():
    _, _, counts = translate(
        records(*TWO, (ADD, 3, 10), (LESS, 1, 5), (LESS, 2, 5), (EXECUTE, 3, 10)), "flow"
    )
    assert counts["executions_of_another_order"] == 1


def test_the_feed_reading_needs_no_such_care():
    commands, makers, counts = translate(records(*TWO, (EXECUTE, 2, 10), (DELETE, 1, 10)), "feed")
    assert cancels(commands) == [(2, 10), (1, 0)]
    assert not makers.any()
    assert counts == {"records_at_odds": 0}
