"""The ITCH 5.0 reader, message by message: what each becomes, which symbol, what is refused and where."""

from pathlib import Path
from struct import pack

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.flow.itch import MESSAGE_BYTES
from exchange.messages import BUY, SELL, CommandKind, TimeInForce

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
FIELDS = ("kind", "side", "symbol_id", "order_id", "new_order_id", "price_ticks", "quantity_lots")


def block(letter: str, body: bytes, locate: int = 1, time_ns: int = 1_000) -> bytes:
    """A length-prefixed message; the body is filled up to the length of its type."""
    message = letter.encode() + pack(">HH", locate, 0) + time_ns.to_bytes(6, "big") + body
    message = message.ljust(MESSAGE_BYTES[letter], b" ")
    return pack(">H", len(message)) + message


def directory(name: str, locate: int) -> bytes:
    return block("R", name.ljust(8).encode(), locate)


def add(
    order: int, side: str, shares: int, price: int, locate: int = 1, time_ns: int = 1_000, letter: str = "A"
) -> bytes:
    body = pack(">QcI8sI", order, side.encode(), shares, b"STOCK%-3d" % locate, price)
    return block(letter, body, locate, time_ns)


def executed(order: int, shares: int, locate: int = 1, time_ns: int = 1_000) -> bytes:
    return block("E", pack(">QIQ", order, shares, 5), locate, time_ns)


def executed_at(order: int, shares: int, price: int) -> bytes:
    return block("C", pack(">QIQcI", order, shares, 5, b"Y", price))


def cancel(order: int, shares: int) -> bytes:
    return block("X", pack(">QI", order, shares))


def delete(order: int, locate: int = 1, time_ns: int = 1_000) -> bytes:
    return block("D", pack(">Q", order), locate, time_ns)


def replace(order: int, new_order: int, shares: int, price: int) -> bytes:
    return block("U", pack(">QQII", order, new_order, shares, price))


def trade(shares: int, locate: int = 1) -> bytes:
    return block("P", pack(">QcI8sIQ", 0, b"B", shares, b"STOCK", 500, 6), locate)


@pytest.fixture
def read(tmp_path: Path):
    def reader(*blocks: bytes, **options) -> Flow:
        path = tmp_path / "day.itch50"
        path.write_bytes(b"".join(blocks))
        return load_flow(str(path), **options)

    return reader


def told(flow: Flow) -> list[tuple[int, ...]]:
    return [tuple(int(command[field]) for field in FIELDS) for command in flow.commands]


def test_adds_with_and_without_member_become_new_orders(read):
    flow = read(add(7, "B", 100, 5_000), add(8, "S", 50, 6_000, time_ns=1_500, letter="F"))
    assert told(flow) == [(NEW, BUY, 0, 7, 0, 5_000, 100), (NEW, SELL, 0, 8, 0, 6_000, 50)]
    assert flow.commands["timestamp_ns"].tolist() == [0, 500]
    assert flow.notes["itch_messages_F"] == 1


def test_cancels_and_deletes(read):
    flow = read(add(7, "B", 100, 5_000), cancel(7, 30), delete(7))
    assert told(flow)[1:] == [(CANCEL, 0, 0, 7, 0, 0, 30), (CANCEL, 0, 0, 7, 0, 0, 0)]


@pytest.mark.parametrize("execution", [executed(7, 30), executed_at(7, 30, 4_990)])
def test_executions_at_any_price(read, execution):
    """The aggressive order meets the resting one at the resting one's price, whatever was printed."""
    feed = read(add(7, "B", 100, 5_000), execution, reading="feed")
    assert told(feed)[1] == (CANCEL, 0, 0, 7, 0, 0, 30)
    flow = read(add(7, "B", 100, 5_000), execution, reading="flow")
    assert told(flow)[1] == (NEW, SELL, 0, -1, 0, 5_000, 30)
    assert flow.commands["time_in_force"][1] == TimeInForce.IMMEDIATE_OR_CANCEL
    assert flow.expected_maker.tolist() == [0, 7]


@pytest.mark.parametrize("reading", ["flow", "feed"])
def test_a_replace_stays_a_replace(read, reading):
    flow = read(add(7, "S", 100, 5_000), replace(7, 9, 80, 5_100), delete(9), reading=reading)
    assert told(flow)[1:] == [(REPLACE, 0, 0, 7, 9, 5_100, 80), (CANCEL, 0, 0, 9, 0, 0, 0)]


def test_a_replace_that_would_keep_its_place_here_loses_it_as_it_did_there(read):
    flow = read(add(7, "S", 100, 5_000), replace(7, 9, 80, 5_000))
    assert told(flow)[1:] == [(CANCEL, 0, 0, 7, 0, 0, 100), (NEW, SELL, 0, 9, 0, 5_000, 80)]


def test_more_at_the_same_price_loses_its_place_in_both(read):
    flow = read(add(7, "S", 100, 5_000), replace(7, 9, 101, 5_000))
    assert told(flow)[1:] == [(REPLACE, 0, 0, 7, 9, 5_000, 101)]


def test_what_the_book_does_not_see_is_counted(read):
    others = [block(letter, b"") for letter in "SHYLVWKJhBINO"]
    flow = read(add(7, "S", 100, 5_000), trade(40), trade(2), block("Q", bytes(29)), *others)
    assert len(flow.commands) == 1
    assert flow.notes["hidden_executions_left_out"] == 2
    assert flow.notes["hidden_lots_left_out"] == 42
    assert flow.notes["cross_trades_left_out"] == 1
    assert flow.notes["records"] == 4 + len(others)


def test_symbols_are_numbered_in_the_order_of_their_locates_if_they_have_orders(read):
    flow = read(
        directory("ZED", 5),
        directory("IDLE", 3),
        directory("ANT", 9),
        add(1, "B", 1, 1, 9),
        add(2, "B", 1, 1, 5),
    )
    assert flow.symbols == ("ZED", "ANT")
    assert flow.commands["symbol_id"].tolist() == [1, 0]


def test_one_symbol_can_be_chosen(read):
    blocks = (
        directory("ZED", 5),
        directory("ANT", 9),
        add(1, "B", 1, 1, 9),
        add(2, "B", 1, 1, 5),
        trade(7, 5),
    )
    flow = read(*blocks, symbol="ANT")
    assert flow.symbols == ("ANT",)
    assert told(flow) == [(NEW, BUY, 0, 1, 0, 1, 1)]
    assert flow.notes["hidden_executions_left_out"] == 0
    with pytest.raises(UserError, match="no symbol 'BEE' among its 2"):
        read(*blocks, symbol="BEE")


def test_a_symbol_without_directory_message_is_named_by_its_orders(read):
    assert read(add(1, "B", 1, 1, 4)).symbols == ("STOCK4",)


def test_records_of_unknown_orders_are_left_out_and_counted(read):
    flow = read(
        delete(3), executed(3, 1), cancel(3, 1), replace(3, 4, 1, 1), add(5, "B", 1, 1), add(5, "B", 1, 1)
    )
    assert len(flow.commands) == 1
    assert flow.notes["records_at_odds"] == 5


def test_a_replace_under_a_number_that_is_taken_is_left_out(read):
    flow = read(add(5, "B", 1, 1), add(6, "B", 1, 1), replace(5, 6, 1, 2), replace(5, 5, 2, 2))
    assert len(flow.commands) == 2
    assert flow.notes["records_at_odds"] == 2


def test_a_number_can_come_again_once_its_order_is_gone(read):
    flow = read(add(5, "B", 1, 1), delete(5), add(5, "S", 3, 9))
    assert told(flow)[2] == (NEW, SELL, 0, 5, 0, 9, 3)


def test_the_end_mark_ends_the_file(read):
    assert len(read(add(5, "B", 1, 1), b"\0\0").commands) == 1
    with pytest.raises(UserError, match="byte 38: 3 bytes follow the end mark"):
        read(add(5, "B", 1, 1), b"\0\0", b"abc")


def test_a_file_without_orders_is_an_empty_flow(read):
    flow = read(directory("ZED", 5))
    assert len(flow.commands) == 0
    assert flow.duration_ns == 0


GOOD = add(5, "B", 1, 1)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (b"\0", "ends within a message"),
        (b"\0\x24", "ends within a message"),
        (GOOD[:-1], r"of 36 bytes, 35 are there"),
        (b"\0\x24Z" + bytes(35), "'Z' is no ITCH 5.0 message type"),
        (b"\0\x25" + GOOD[2:] + b" ", "message 'A' of 37 bytes, it should have 36"),
        (b"\1\x24" + GOOD[2:], "message 'A' of 292 bytes, it should have 36"),
        (add(6, "B", 1, 1, time_ns=999), "its time is before"),
        (add(6, "B", 1, 1, locate=0), "stock locate 0"),
        (add(0, "B", 1, 1), "order reference number"),
        (add(2**63, "B", 1, 1), "order reference number"),
        (add(6, "X", 1, 1), "neither 'B' nor 'S'"),
        (add(6, "B", 0, 1), "0 shares"),
        (add(6, "B", 1, 0), "price 0"),
        (cancel(5, 0), "0 shares"),
        (replace(5, 0, 1, 1), "order reference number"),
        (replace(5, 6, 1, 0), "price 0"),
    ],
)
def test_a_wrong_block_is_named_with_its_byte(read, wrong, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        read(GOOD, wrong)
    assert "day.itch50: byte 38:" in str(error.value)


def test_a_cut_file_can_be_read_as_far_as_it_goes(read):
    flow = read(GOOD, GOOD[:-1], allow_truncated=True)
    assert len(flow.commands) == 1
    with pytest.raises(UserError, match="no ITCH"):
        read(GOOD, b"\0\x24Z", allow_truncated=True)


def test_all_message_types_of_the_specification_have_their_length():
    letters = dict(
        zip(
            "SRHYLVWKJhAFECXDUPQBINO",
            [12, 39, 25, 20, 26, 35, 12, 28, 35, 21, 36, 40, 31, 36, 23, 19, 35, 44, 40, 19, 50, 20, 48],
            strict=True,
        )
    )
    assert letters == MESSAGE_BYTES


def test_largest_fields_survive(read):
    flow = read(add(2**63 - 1, "S", 2**32 - 1, 2**32 - 1, locate=65_535))
    assert told(flow) == [(NEW, SELL, 0, 2**63 - 1, 0, 2**32 - 1, 2**32 - 1)]
    assert not np.any(flow.expected_maker)
