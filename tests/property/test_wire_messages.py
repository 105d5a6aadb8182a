"""Every message of every wire protocol: what is encoded is decoded, and back, and noise is refused."""

import random
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.wire.fields import AsciiNumber, Character, Signed, Text, Unsigned, WireError, unsigned48
from exchange.wire.layout import Field, Message, MessageTable
from tests.property.wire_campaign import PARSERS, TABLES, attack
from tests.wire_messages import PRINTABLE, messages, messages_of, random_message

quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
few = settings(max_examples=20, deadline=None)

CLASSES = [(table, cls) for table in TABLES.values() for cls in table.values()]

each_table = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
each_class = pytest.mark.parametrize(
    ("table", "cls"), CLASSES, ids=[f"{table.protocol} {cls.layout.message_type}" for table, cls in CLASSES]
)


@each_table
@quick
@given(data=st.data())
def test_what_is_encoded_is_decoded(table: MessageTable, data: st.DataObject) -> None:
    message = data.draw(messages(table))
    encoded = message.encode()
    assert table.decode(encoded) == message
    assert type(table.decode(memoryview(encoded))) is type(message)
    assert table.decode(encoded).encode() == encoded


@each_class
@few
@given(data=st.data())
def test_valid_bytes_are_decoded_and_encoded_to_the_same_bytes(
    table: MessageTable, cls: type[Message], data: st.DataObject
) -> None:
    """The bytes of each fixed field are drawn from what its kind allows; ``encode`` has no part in them."""
    encoded = bytearray(data.draw(messages_of(cls)).encode())
    for field in cls.layout.fields:
        if not field.derived and not field.optional and field.size_bytes is not None:
            raw = data.draw(valid_bytes(field))
            encoded[field.offset : field.offset + len(raw)] = raw
    assert cls.decode(encoded).encode() == encoded


def valid_bytes(field: Field) -> st.SearchStrategy[bytes]:
    size = field.size_bytes or 0
    match field.kind:
        case Unsigned() | Signed():
            return st.binary(min_size=size, max_size=size)
        case Text(tolerant=True, padded=padded):
            text = st.text(PRINTABLE, max_size=size).map(lambda t: t.strip(" ").encode())
            return text.map(lambda t: t.ljust(size) if padded == "right" else t.rjust(size))
        case Text() | Character():
            return st.text(PRINTABLE, min_size=size, max_size=size).map(str.encode)
        case AsciiNumber():
            return st.integers(0, 10**size - 1).map(lambda number: str(number).encode().rjust(size))
    raise TypeError(field.kind)


@each_class
def test_every_field_lies_where_the_layout_says(table: MessageTable, cls: type[Message]) -> None:
    """Changing one field changes the bytes of that field, to its value, and no others."""
    chance = random.Random(1)
    names = [field.name for field in cls.layout.fields if not field.derived]
    for field in cls.layout.fields:
        if field.derived or field.optional or field.size_bytes is None:
            continue
        message = random_message(chance, cls)
        before = message.encode()
        begin, end = field.offset, field.offset + field.size_bytes
        for value, raw in boundary_values(field):
            fields = {name: getattr(message, name) for name in names} | {field.name: value}
            after = cls(**fields).encode()
            assert after[begin:end] == raw
            assert (after[:begin], after[end:]) == (before[:begin], before[end:])
            assert getattr(cls.decode(after), field.name) == value


def boundary_values(field: Field) -> list[tuple[object, bytes]]:
    """The ends of what a field can hold, and the bytes of each."""
    size = field.size_bytes or 0
    match field.kind:
        case Unsigned():
            return [(0, bytes(size)), ((1 << 8 * size) - 1, b"\xff" * size), (1, bytes(size - 1) + b"\1")]
        case Signed():
            return [(-(1 << 31), b"\x80\0\0\0"), ((1 << 31) - 1, b"\x7f\xff\xff\xff"), (-1, b"\xff" * 4)]
        case Character():
            return [(" ", b" "), ("~", b"~"), ("A", b"A")]
        case Text(padded="right"):
            return [("", b" " * size), ("A", b"A" + b" " * (size - 1)), ("~" * size, b"~" * size)]
        case Text():
            return [("", b" " * size), ("A", b" " * (size - 1) + b"A"), ("~" * size, b"~" * size)]
        case AsciiNumber():
            return [(0, b" " * (size - 1) + b"0"), (10**size - 1, b"9" * size)]
    raise TypeError(field.kind)


@each_class
def test_a_value_outside_a_field_is_refused_with_its_name(table: MessageTable, cls: type[Message]) -> None:
    chance = random.Random(2)
    names = [field.name for field in cls.layout.fields if not field.derived]
    for field in cls.layout.fields:
        if field.derived:
            continue
        message = random_message(chance, cls)
        fields = {name: getattr(message, name) for name in names}
        for value in (-(1 << 70), 1 << 70, "x" * 70, "é", b"\0", True, 1.5, object()):
            if isinstance(value, bytes) and field.kind.label == "bytes":
                continue
            with pytest.raises(
                WireError, match=rf"^{re.escape(cls.layout.title)} \(.\): {field.name} "
            ) as refusal:
                cls(**(fields | {field.name: value})).encode()
            assert "\n" not in str(refusal.value)
            assert len(str(refusal.value)) < 200


@each_class
@few
@given(data=st.data())
def test_the_dtype_reads_what_decode_reads(
    table: MessageTable, cls: type[Message], data: st.DataObject
) -> None:
    message = data.draw(messages_of(cls))
    layout = cls.layout
    record = np.frombuffer(message.encode()[: layout.size_bytes], layout.dtype)[0]
    for field in layout.fields:
        if field.derived or field.optional or field.size_bytes is None:
            continue
        value, raw = getattr(message, field.name), record[field.name]
        match field.kind:
            case Unsigned(size_bytes=6):
                assert unsigned48(raw) == value
            case Unsigned() | Signed():
                assert int(raw) == value
            case AsciiNumber():
                assert int(raw.decode()) == value
            case Character():
                assert raw.decode() == value
            case _:
                assert raw.decode().strip(" ") == value.strip(" ")


@each_table
def test_another_size_is_refused(table: MessageTable) -> None:
    chance = random.Random(3)
    for cls in table.values():
        encoded = random_message(chance, cls).encode()
        smallest = cls.layout.size_bytes
        for size in range(smallest):
            with pytest.raises(WireError):
                table.decode(encoded[:size])
        if not cls.layout.has_tail:
            with pytest.raises(WireError, match=f"allowed are {smallest}$"):
                table.decode(encoded + b" ")


@pytest.mark.parametrize("name", PARSERS)
def test_random_and_mutated_bytes_are_messages_or_wire_errors(name: str) -> None:
    tally = attack(name, 20_000, seed=7)
    assert tally.messages + tally.refused >= 20_000
    assert min(tally.messages, tally.refused) > 1000
