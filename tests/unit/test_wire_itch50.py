"""ITCH 5.0, message by message: sizes and places of the specification, both directions, codes, the arrays of numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.wire import itch50
from exchange.wire.fields import WireError, unsigned48
from exchange.wire.itch50 import MESSAGES, AddOrder, OrderReplace, StockDirectory, SystemEvent, decode
from exchange.wire.layout import Message
from tests.wire_messages import messages_of

quick = settings(max_examples=100, deadline=None)
each_type = pytest.mark.parametrize("letter", MESSAGES)

SIZES = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36, "F": 40,
    "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50, "N": 20, "O": 48,
}  # fmt: skip


def test_every_type_of_the_specification_has_its_size() -> None:
    assert itch50.MESSAGE_BYTES == SIZES
    assert itch50.MESSAGE_BYTES_MAX == 50


@each_type
def test_every_message_begins_with_the_same_eleven_bytes(letter: str) -> None:
    layout = MESSAGES[letter].layout
    names = ("message_type", "stock_locate", "tracking_number", "timestamp")
    assert [layout.offset(name) for name in names] == [0, 1, 3, 5]
    assert layout.fields[4].offset == itch50.HEADER_BYTES == 11


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("ADD_SIDE", 19), ("ADD_SHARES", 20), ("ADD_STOCK", 24), ("ADD_PRICE", 32), ("TAKEN_SHARES", 19), ("MATCH", 23),
        ("NEW_REFERENCE", 19), ("NEW_SHARES", 27), ("NEW_PRICE", 31), ("TRADE_SHARES", 20), ("TRADE_PRICE", 32),
        ("TRADE_MATCH", 36), ("STOCK", 11), ("TRADING_STATE", 19), ("EVENT_CODE", 11), ("REFERENCE", 11),
    ],
)  # fmt: skip
def test_compiled_code_finds_the_fields_where_the_specification_has_them(name: str, offset: int) -> None:
    assert getattr(itch50, name) == offset


def test_what_compiled_code_takes_for_one_offset_is_one_in_every_message() -> None:
    for letter in "AFECXDP":
        assert MESSAGES[letter].layout.offset("order_reference_number") == itch50.REFERENCE
    assert OrderReplace.layout.offset("original_order_reference_number") == itch50.REFERENCE
    for name in ("buy_sell_indicator", "shares", "stock", "price"):
        assert len({MESSAGES[letter].layout.offset(name) for letter in "AFP"}) == 1
    assert {MESSAGES[letter].layout.offset("executed_shares") for letter in "EC"} == {itch50.TAKEN_SHARES}
    assert MESSAGES["X"].layout.offset("canceled_shares") == itch50.TAKEN_SHARES
    assert MESSAGES["C"].layout.offset("match_number") == itch50.MATCH
    assert MESSAGES["H"].layout.offset("stock") == itch50.STOCK


@quick
@given(st.data())
@each_type
def test_what_is_encoded_is_decoded_again(letter: str, data: st.DataObject) -> None:
    message = data.draw(messages_of(MESSAGES[letter]))
    encoded = message.encode()
    assert len(encoded) == SIZES[letter]
    assert encoded[:1] == letter.encode()
    assert decode(encoded) == message
    assert type(decode(encoded)) is MESSAGES[letter]
    record = np.frombuffer(encoded, MESSAGES[letter].layout.dtype)[0]
    assert record["stock_locate"] == message.stock_locate
    assert unsigned48(record["timestamp"]) == message.timestamp
    assert record.tobytes() == encoded


def test_a_known_message_byte_by_byte() -> None:
    """The Add Order of the golden captures: IVOO, 1,600 shares at 87.39 dollars."""
    add = AddOrder(5528, 0, 34_199_999_894_278, 23_508_286, "B", 1600, "IVOO", 873_900)
    assert add.encode().hex() == (
        "41" "1598" "0000" "1f1aced85306" "000000000166b53e" "42" "00000640" "49564f4f20202020" "000d55ac"
    )  # fmt: skip
    assert add.check() is add


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (b"", "ITCH 5.0: 0 bytes are no message, not even a type"),
        (b"Z" + bytes(35), "ITCH 5.0: message_type is b'Z', allowed is one of S, R, H"),
        (b"A" + bytes(36), r"Add Order \(A\): 37 bytes, allowed are 36"),
        (b"S" + bytes(10), r"System Event \(S\): 11 bytes, allowed are 12"),
        (b"S" + bytes(10) + b"\xff", r"System Event \(S\): event_code is b'\\xff'"),
    ],
)
def test_what_is_no_message_is_refused_in_words(wrong: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode(wrong)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (SystemEvent(0, 0, 0, "X"), "event_code is 'X', allowed is one of O, S, Q, M, E, C"),
        (AddOrder(1, 0, 0, 1, "T", 1, "A", 1), "buy_sell_indicator is 'T', allowed is one of B, S"),
    ],
)
def test_codes_are_checked_when_one_asks_for_it(message: Message, complaint: str) -> None:
    assert decode(message.encode()) == message
    with pytest.raises(WireError, match=complaint):
        message.check()


def test_a_field_that_cannot_hold_its_value_is_named() -> None:
    with pytest.raises(WireError, match=r"System Event \(S\): timestamp is 281,474,976,710,656"):
        SystemEvent(0, 0, 1 << 48, "O").encode()
    directory = StockDirectory(1, 0, 0, "TOOLONGNAME", *"QN", 100, *"NC", "Z", *"PNN1N", 1, "N")
    with pytest.raises(WireError, match=r"stock is 'TOOLONGNAME', allowed are at most 8"):
        directory.encode()
