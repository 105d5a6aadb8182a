"""The LOBSTER reader, line by line: what each event becomes, what is reconstructed, what is refused and where."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.messages import BUY, SELL, CommandKind, TimeInForce

NEW, CANCEL = CommandKind.NEW, CommandKind.CANCEL
FIELDS = ("kind", "side", "order_id", "price_ticks", "quantity_lots", "timestamp_ns")


@pytest.fixture
def read(tmp_path: Path):
    """Write the text to a file of LOBSTER's naming and read it."""

    def reader(
        text: str | bytes, name: str = "XYZ_2012-06-21_34200000_37800000_message_10.csv", **options
    ) -> Flow:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_flow(str(path), **options)

    return reader


def told(flow: Flow) -> list[tuple[int, ...]]:
    return [tuple(int(command[field]) for field in FIELDS) for command in flow.commands]


def test_a_submission_becomes_a_new_day_order(read):
    flow = read("34200.5,1,7,100,5853300,1\n34200.75,1,8,20,5859100,-1\n")
    assert told(flow) == [
        (NEW, BUY, 7, 5_853_300, 100, 0),
        (NEW, SELL, 8, 5_859_100, 20, 250_000_000),
    ]
    assert (flow.commands["time_in_force"] == TimeInForce.DAY).all()
    assert flow.symbols == ("XYZ",)
    assert flow.duration_ns == 250_000_000


def test_partial_cancels_and_deletions_become_cancels(read):
    flow = read("1.0,1,7,100,50,1\n1.1,2,7,30,50,1\n1.2,3,7,70,50,1\n")
    assert told(flow)[1:] == [(CANCEL, 0, 7, 0, 30, 100_000_000), (CANCEL, 0, 7, 0, 0, 200_000_000)]


def test_the_feed_reading_takes_an_execution_from_the_order_it_names(read):
    flow = read("1.0,1,7,100,50,1\n1.0,4,7,40,50,1\n", reading="feed")
    assert told(flow)[1] == (CANCEL, 0, 7, 0, 40, 0)
    assert flow.expected_maker.tolist() == [0, 0]


def test_the_flow_reading_sends_the_aggressive_order_of_an_execution(read):
    flow = read("1.0,1,7,100,50,1\n1.0,1,8,100,60,-1\n1.0,4,7,40,50,1\n1.0,4,8,10,60,-1\n", reading="flow")
    assert told(flow)[2:] == [(NEW, SELL, -1, 50, 40, 0), (NEW, BUY, -2, 60, 10, 0)]
    assert flow.commands["time_in_force"][2:].tolist() == [TimeInForce.IMMEDIATE_OR_CANCEL] * 2
    assert flow.expected_maker.tolist() == [0, 0, 7, 8]
    assert set(flow.commands["session_id"][:2]) != set(flow.commands["session_id"][2:])


def test_hidden_executions_crosses_and_halts_are_counted_and_left_out(read):
    flow = read(
        "1.0,1,7,100,50,1\n1.0,5,0,30,55,-1\n2.0,5,0,3,55,1\n3.0,6,-1,900,56,-1\n4.0,7,0,0,-1,-1\n4.0,7,0,0,1,-1\n"
    )
    assert len(flow.commands) == 1
    assert flow.notes["hidden_executions_left_out"] == 2
    assert flow.notes["hidden_lots_left_out"] == 33
    assert flow.notes["cross_trades_left_out"] == 1
    assert flow.notes["halts_left_out"] == 2
    assert flow.notes["records"] == 6


@pytest.mark.parametrize(
    ("written", "nanoseconds"),
    [
        ("34200", 34_200_000_000_000),
        ("34200.00426064", 34_200_004_260_640),
        ("34200.000000001", 34_200_000_000_001),
        ("34200.999999999", 34_200_999_999_999),
        ("35821.088778456004", 35_821_088_778_456),
    ],
)
def test_times_are_exact_to_the_nanosecond(read, written, nanoseconds):
    assert read(f"{written},1,7,100,50,1\n").notes["first_record_ns"] == nanoseconds


def test_a_missing_submission_stands_where_its_id_places_it(read):
    """Order 15 was never submitted; ids rise with time, so it came between 10 and 20."""
    flow = read(
        "1.0,1,10,1,50,1\n2.0,1,20,1,51,1\n3.0,1,12,1,52,1\n4.0,2,15,30,49,-1\n5.0,4,15,3,49,-1\n6.0,3,15,7,49,-1\n"
    )
    assert flow.commands["order_id"][:4].tolist() == [10, 15, 20, 12]
    assert told(flow)[1] == (NEW, SELL, 15, 49, 40, 1_000_000_000)  # all that it loses, at order 20's time
    assert flow.notes["submissions_reconstructed"] == 1
    assert flow.notes["records_at_odds"] == 0


def test_missing_submissions_older_than_the_file_come_first_in_the_order_of_their_ids(read):
    flow = read("34200.5,1,10,1,50,1\n34201.0,3,4,6,40,1\n34202.0,3,3,5,41,-1\n")
    assert told(flow)[:3] == [
        (NEW, SELL, 3, 41, 5, 0),
        (NEW, BUY, 4, 40, 6, 0),
        (NEW, BUY, 10, 50, 1, 500_000_001),  # they are stamped 34199.999999999
    ]


def test_a_missing_submission_never_comes_after_the_first_record_that_names_it(read):
    flow = read("1.0,1,10,1,50,1\n2.0,3,99,5,40,1\n3.0,1,20,1,50,1\n")
    assert told(flow)[1:3] == [(NEW, BUY, 99, 40, 5, 1_000_000_000), (CANCEL, 0, 99, 0, 0, 1_000_000_000)]


def test_a_file_without_any_submission(read):
    flow = read("1.5,3,9,5,40,1\n")
    assert told(flow) == [(NEW, BUY, 9, 40, 5, 0), (CANCEL, 0, 9, 0, 0, 500_000_001)]


def test_records_that_make_no_sense_are_left_out_and_counted(read):
    flow = read("1.0,1,7,10,50,1\n1.0,1,7,10,50,1\n1.0,3,7,10,50,1\n1.0,3,7,10,50,1\n", reading="feed")
    assert len(flow.commands) == 2
    assert flow.notes["records_at_odds"] == 2


def test_an_execution_of_more_than_the_order_has_is_cut_and_counted(read):
    flow = read("1.0,1,7,10,50,1\n1.0,4,7,11,50,1\n", reading="flow")
    assert told(flow)[1] == (NEW, SELL, -1, 50, 10, 0)
    assert flow.notes["records_at_odds"] == 1


def test_windows_line_ends_and_a_missing_last_line_end(read):
    assert len(read("1.0,1,7,10,50,1\r\n1.0,1,8,10,50,1\r\n").commands) == 2
    assert len(read("1.0,1,7,10,50,1\n1.0,1,8,10,50,-1").commands) == 2


def test_gzip_is_recognised_by_content(read):
    packed = gzip.compress(b"1.0,1,7,10,50,1\n")
    assert len(read(packed, name="no_telling_name").commands) == 1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "the time is not a number"),
        ("x,1,7,10,50,1", "the time is not a number"),
        ("-1.0,1,7,10,50,1", "the time is not a number"),
        ("1.0e5,1,7,10,50,1", "the time is not a number"),
        ("9999999,1,7,10,50,1", "the time is larger than any time"),
        ("2.0,1,7,10,50", "ends after 5 of 6 fields"),
        ("2.0,1,7,10,50,1,9", "goes on after the 6 fields"),
        ("2.0,1,7,10,50,1x", "the direction is not a number"),
        ("2.0,1,7,1O,50,1", "the size is not a number"),
        ("2.0,1,7,9999999999999999999,50,1", "the size is larger than any size"),
        ("2.0,8,7,10,50,1", "the type is 8, allowed is 1 to 7"),
        ("2.0,0,7,10,50,1", "the type is 0"),
        ("2.0,1,0,10,50,1", "the order id is 0, allowed is 1 or more"),
        ("2.0,1,7,-10,50,1", "the size is -10, allowed is 1 to"),
        ("2.0,3,7,0,50,1", "the size is 0"),
        ("2.0,1,7,4294967296,50,1", "the size is 4294967296"),
        ("2.0,1,7,10,0,1", "the price is 0"),
        ("2.0,5,0,10,-5,1", "the price is -5"),
        ("2.0,1,7,10,50,0", "the direction is 0, allowed is 1 (buy) or -1 (sell)"),
        ("0.5,1,7,10,50,1", "the time is before that of the line above"),
    ],
)
def test_a_wrong_line_is_named_with_line_and_byte(read, line, complaint):
    good = "1.0,1,1,10,50,1\n"
    with pytest.raises(UserError) as error:
        read(f"{good}{line}\n3.0,1,2,10,50,1\n")
    assert complaint in str(error.value)
    assert "XYZ_2012-06-21" in str(error.value)
    assert f"byte {len(good)}" in str(error.value)
    assert "line 2" in str(error.value)


def test_an_order_that_loses_more_than_an_order_can_have_is_refused(read):
    with pytest.raises(UserError, match="byte 0: order 9 loses 8000000000 lots"):
        read("1.0,2,9,4000000000,50,1\n1.0,2,9,4000000000,50,1\n")


def test_a_cut_last_line_is_refused_unless_allowed(read):
    text = "1.0,1,7,10,50,1\n1.0,1,8,10,5"
    with pytest.raises(UserError, match=r"byte 16: line 2: .*cut off"):
        read(text)
    assert len(read(text, allow_truncated=True).commands) == 1


def test_a_wrong_line_in_the_middle_is_refused_even_if_a_cut_is_allowed(read):
    with pytest.raises(UserError, match="line 1"):
        read("1.0,1,8,10\n1.0,1,7,10,50,1\n", allow_truncated=True)


def test_an_order_book_file_is_told_apart(read):
    with pytest.raises(UserError, match="an order book file"):
        read("5859400,200,5853300,18\n")


def test_the_symbol_can_be_named(read):
    assert read("1.0,1,7,10,50,1\n", symbol="ABC").symbols == ("ABC",)


def test_all_fields_that_a_command_does_not_need_are_zero(read):
    flow = read("1.0,1,7,10,50,1\n1.0,4,7,10,50,1\n")
    for field in ("sequence", "new_order_id", "liability_lots", "tag", "order_type", "symbol_id"):
        assert not np.any(flow.commands[field])
