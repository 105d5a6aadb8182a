"""What is derived from a message's table: offsets, sizes, a dtype, a codec, checks; on tables made for the purpose."""

from typing import Annotated

import numpy as np
import pytest

from exchange.wire.fields import (
    Alpha4,
    AsciiNumber20,
    Char,
    Character,
    Code,
    NumberCode,
    Payload,
    Price4,
    Range,
    SignedPrice4,
    Text,
    Timestamp48,
    UInt8,
    UInt16,
    UInt64,
    WireError,
    unsigned48,
    unsigned48_bytes,
)
from exchange.wire.layout import OPTIONAL, Message, MessageTable, message


class Colour(Code):
    """Some letters."""

    RED = "R"
    DARK_BLUE = "b"
    OTHER = " ", "anything else"


class Extra(Code):
    """One letter more."""

    GREEN = "g"


class Weight(NumberCode):
    """Some numbers."""

    VERY_HEAVY = 700


class Head(Message, frozen=True):
    """A header, written once."""

    timestamp: Timestamp48


@message("F", "Fixed")
class Fixed(Head, frozen=True):
    """Every kind of fixed size."""

    small: UInt8
    weight: Annotated[UInt16, Weight]
    large: UInt64
    price: Annotated[Price4, Range(1, 50_000), "per share", "in dollars"]
    offset: SignedPrice4
    colour: Annotated[Char, Colour, Extra]
    name: Alpha4
    left: Annotated[str, Text(3, padded="left")]
    number: AsciiNumber20


@message("O", "Optional")
class Optional(Message, frozen=True):
    """Two fields that may be absent."""

    first: UInt8
    second: Annotated[str | None, Character(), Colour, OPTIONAL] = None
    third: Annotated[int | None, AsciiNumber20.__metadata__[0], OPTIONAL] = None


@message("P", "Packet", length_prefixed=True)
class Packet(Message, frozen=True):
    """A length in front, and the rest."""

    channel: UInt8
    message: Payload


@message("", "Header")
class Header(Message, frozen=True):
    """No type."""

    count: UInt16


TABLE = MessageTable("a protocol", Fixed, Optional)
EXAMPLE = Fixed(
    timestamp=1, small=2, weight=700, large=3, price=4, offset=-5, colour="R", name="AB", left="c", number=6
)


def test_offsets_and_sizes_follow_from_the_kinds() -> None:
    layout = Fixed.layout
    assert [(field.name, field.offset, field.size_bytes) for field in layout.fields] == [
        ("message_type", 0, 1),
        ("timestamp", 1, 6),
        ("small", 7, 1),
        ("weight", 8, 2),
        ("large", 10, 8),
        ("price", 18, 4),
        ("offset", 22, 4),
        ("colour", 26, 1),
        ("name", 27, 4),
        ("left", 31, 3),
        ("number", 34, 20),
    ]
    assert (layout.size_bytes, layout.has_tail, layout.type_byte) == (54, False, ord("F"))
    assert layout.offset("price") == 18
    with pytest.raises(KeyError, match="no field 'cost'"):
        layout.offset("cost")


def test_what_the_table_says_is_kept_for_the_documentation() -> None:
    price = next(field for field in Fixed.layout.fields if field.name == "price")
    assert (price.note, str(price.allowed), price.kind.label) == (
        "per share; in dollars",
        "1 to 50,000",
        "price4 (u32)",
    )
    colour = next(field for field in Fixed.layout.fields if field.name == "colour")
    assert colour.codes == (Colour, Extra)
    assert [field.optional for field in Optional.layout.fields] == [False, False, True, True]


def test_the_bytes_are_those_of_the_table() -> None:
    expected = (
        b"F" + b"\0\0\0\0\0\1" + b"\2" + b"\x02\xbc" + b"\0\0\0\0\0\0\0\3" + b"\0\0\0\4"
        b"\xff\xff\xff\xfb" + b"R" + b"AB  " + b"  c" + b"6".rjust(20)
    )  # fmt: skip
    assert EXAMPLE.encode() == expected
    for buffer in (expected, bytearray(expected), memoryview(expected)):
        assert Fixed.decode(buffer) == EXAMPLE
        assert TABLE.decode(buffer) == EXAMPLE


def test_the_dtype_reads_messages_laid_end_to_end() -> None:
    later = EXAMPLE.encode()[:1] + b"\xff" * 6 + EXAMPLE.encode()[7:]
    records = np.frombuffer(EXAMPLE.encode() + later, Fixed.layout.dtype)
    assert records["large"].tolist() == [3, 3]
    assert records["offset"].tolist() == [-5, -5]
    assert records["colour"].tolist() == [b"R", b"R"]
    assert unsigned48(records["timestamp"]).tolist() == [1, (1 << 48) - 1]


def test_six_byte_numbers_in_columns_go_both_ways() -> None:
    numbers = np.array([0, 1, 0x0102_0304_0506, (1 << 48) - 1], np.int64)
    column = unsigned48_bytes(numbers)
    assert column[2].tolist() == [1, 2, 3, 4, 5, 6]
    assert unsigned48(column).tolist() == numbers.tolist()
    assert unsigned48(column[3]) == (1 << 48) - 1


def test_padding_is_taken_off_and_a_space_is_a_character() -> None:
    data = bytearray(EXAMPLE.encode())
    data[26:34] = b" " + b" A  " + b" b "
    decoded = Fixed.decode(data)
    assert (decoded.colour, decoded.name, decoded.left) == (" ", " A", "b ")
    assert decoded.encode() == data


@pytest.mark.parametrize("digits", [b"1" + b" " * 19, b" " * 19 + b"1", b" 1".ljust(20), b"0" * 19 + b"1"])
def test_an_ascii_number_may_be_padded_anyhow(digits: bytes) -> None:
    assert Fixed.decode(EXAMPLE.encode()[:34] + digits).number == 1


@pytest.mark.parametrize(
    "digits", [b" " * 20, b"1 1".ljust(20), b"-1".rjust(20), b"+1".rjust(20), b"1_0".rjust(20)]
)
def test_but_it_has_digits_and_only_these(digits: bytes) -> None:
    with pytest.raises(WireError, match=r"^Fixed \(F\): number is b'.*', allowed are decimal digits"):
        Fixed.decode(EXAMPLE.encode()[:34] + digits)


@pytest.mark.parametrize(
    ("place", "byte", "text"),
    [
        (0, b"G", "Fixed (F): message_type is b'G', allowed is 'F'"),
        (26, b"\n", r"Fixed (F): colour is b'\n', allowed is a printable ASCII character"),
        (26, b"\x80", r"Fixed (F): colour is b'\x80', allowed is a printable ASCII character"),
        (28, b"\0", r"Fixed (F): name is b'A\x00  ', allowed is printable ASCII"),
        (31, b"\xe9", r"Fixed (F): left is b'\xe9 c', allowed is printable ASCII"),
    ],
)
def test_a_byte_that_no_field_can_have_is_named(place: int, byte: bytes, text: str) -> None:
    data = EXAMPLE.encode()
    with pytest.raises(WireError) as refusal:
        Fixed.decode(data[:place] + byte + data[place + 1 :])
    assert str(refusal.value) == text


def test_sizes_and_types_of_a_table() -> None:
    for data, text in [
        (b"", "a protocol: 0 bytes are no message, not even a type"),
        (b"X", "a protocol: message_type is b'X', allowed is one of F, O"),
        (b"F", "Fixed (F): 1 bytes, allowed are 54"),
        (EXAMPLE.encode() + b"?", "Fixed (F): 55 bytes, allowed are 54"),
        (b"O", "Optional (O): 1 bytes, allowed are 2 or more"),
    ]:
        with pytest.raises(WireError) as refusal:
            TABLE.decode(data)
        assert str(refusal.value) == text
    assert (list(TABLE), TABLE["F"], len(TABLE)) == (["F", "O"], Fixed, 2)


def test_codes_and_ranges_are_checked_only_when_asked() -> None:
    fields = {name: getattr(EXAMPLE, name) for name in EXAMPLE.__struct_fields__}
    assert EXAMPLE.check() is EXAMPLE
    for name, value, text in [
        ("colour", "r", "is 'r', allowed is one of R, b,  , g"),
        ("weight", 701, "is 701, allowed is one of 700"),
        ("price", 0, "is 0, allowed is 1 to 50,000"),
        ("price", 50_001, "is 50,001, allowed is 1 to 50,000"),
    ]:
        odd = Fixed(**(fields | {name: value}))
        assert Fixed.decode(odd.encode()) == odd
        with pytest.raises(WireError) as refusal:
            odd.check()
        assert str(refusal.value) == f"Fixed (F): {name} {text}"


def test_codes_are_their_letters_and_know_what_they_mean() -> None:
    assert (Colour.DARK_BLUE, Colour("b"), str(Colour.RED)) == ("b", Colour.DARK_BLUE, "R")
    assert [colour.meaning for colour in Colour] == ["red", "dark blue", "anything else"]
    assert (Weight.VERY_HEAVY.meaning, Weight(700)) == ("very heavy", 700)
    assert Fixed.decode(EXAMPLE.encode()).colour == Colour.RED


def test_fields_at_the_end_may_be_absent() -> None:
    for fields, data in [((1,), b"O\1"), ((1, "R"), b"O\1R"), ((1, "R", 7), b"O\1R" + b"7".rjust(20))]:
        assert Optional(*fields).encode() == data
        assert Optional.decode(data) == Optional(*fields)
        Optional(*fields).check()
    with pytest.raises(
        WireError, match=r"^Optional \(O\): third is 7, allowed is None while second is absent"
    ):
        Optional(1, None, 7).encode()
    with pytest.raises(WireError, match=r"^Optional \(O\): third has 2 bytes, allowed are 20"):
        Optional.decode(b"O\1R77")
    with pytest.raises(WireError, match=r"^Optional \(O\): 1 bytes too many"):
        Optional.decode(b"O\1R" + b"7".rjust(20) + b"!")
    with pytest.raises(WireError, match=r"^Optional \(O\): second is 'x', allowed is one of"):
        Optional(1, "x").check()


def test_a_length_in_front_counts_what_follows() -> None:
    assert Packet(5, b"abc").encode() == b"\0\5P\5abc"
    assert Packet.decode(b"\0\2P\5") == Packet(5, b"")
    assert (Packet.layout.offset("message_type"), Packet.layout.offset("message")) == (2, 4)
    with pytest.raises(WireError, match=r"^Packet \(P\): packet_length is 5, but 4 bytes follow it"):
        Packet.decode(b"\0\5P\5ab")
    with pytest.raises(WireError, match=r"^Packet \(P\): length is 65,536, allowed is up to 65,535"):
        Packet(5, bytes(65_534)).encode()
    packets = MessageTable("packets", Packet)
    assert packets.decode(b"\0\2P\5") == Packet(5, b"")
    with pytest.raises(WireError, match="message_type is b'Q'"):
        packets.decode(b"\0\1Q")
    with pytest.raises(WireError, match="not even a type"):
        packets.decode(b"\0\1")


def test_a_message_may_have_no_type() -> None:
    assert Header(258).encode() == b"\1\2"
    assert Header.decode(b"\1\2") == Header(258)
    assert repr(Header.layout) == "<Layout Header, 2 bytes>"


def test_a_table_that_cannot_be_a_message_is_a_fault_of_the_programmer() -> None:
    def define(annotation: object) -> None:
        class Odd(Message, frozen=True):
            field: annotation  # type: ignore[valid-type]
            last: UInt8

        message("X", "Odd")(Odd)

    for annotation, text in [
        (int, "field names no kind"),
        (Annotated[int, "a note only"], "field names 0 kinds"),
        (Payload, "of fixed size after"),
    ]:
        with pytest.raises(AssertionError, match=text):
            define(annotation)
    with pytest.raises(AssertionError, match="a type twice"):
        MessageTable("twice", Fixed, Fixed)
