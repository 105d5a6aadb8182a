"""A message is a table, and the table is a class: name, kind and notes of each field, in the order of the bytes.

The specification's table of a message is written down once, like this::

    @message("X", "Cancel Order Request")
    class CancelOrder(Message, frozen=True):
        '''What it is for, and the section of the specification.'''

        user_reference_number: UInt32
        quantity: Annotated[UInt32, Range(0, 999_999), "new intended size; 0 = cancel all that is left"]

and everything else is derived from it:

* ``CancelOrder(7, 0).encode()`` and ``CancelOrder.decode(data)``: bytes and typed objects;
* ``message.check()``: the codes and ranges of the specification, which decoding leaves alone;
* ``CancelOrder.layout.offset("quantity")``, ``.size_bytes``, ``.type_byte``: what compiled code is written with;
* ``CancelOrder.layout.dtype``: a packed big-endian numpy dtype, for many messages laid end to end;
* ``CancelOrder.layout.fields``: the rows, from which ``docs/hooks/wire_tables.py`` makes the documentation.

A :class:`MessageTable` holds the messages of one direction of a protocol and chooses by the type byte.

What may stand in an annotation beside the type: exactly one kind (:mod:`exchange.wire.fields`), lists of codes, a
:class:`~exchange.wire.fields.Range`, notes, and :data:`OPTIONAL` for fields at the end that an edition leaves out.
Fields of a base class come first, so that a header is written once. A field that takes the rest of the message stands
last.

Rules: ``decode`` accepts a message that fills its bytes exactly, no byte more or less. ``encode`` of what it
returns gives the same bytes again (text padded on the other side, and ASCII numbers padded in any other way than on the
left, excepted: their padding is not part of the value). Both raise :class:`WireError` and nothing else."""

import struct
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Self, get_args, get_origin, get_type_hints

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple

from exchange.wire.fields import (
    Character,
    Code,
    Codes,
    Kind,
    NumberCode,
    Range,
    Tail,
    Unsigned,
    WireError,
    shown,
)


class _Optional(Enum):
    OPTIONAL = "may be absent"


OPTIONAL: Final = _Optional.OPTIONAL
"""In an annotation: the field may be missing, if all fields after it are missing too. Its value is then None."""

Buffer = bytes | bytearray | memoryview

PACKET_LENGTH: Final = "packet_length"
MESSAGE_TYPE: Final = "message_type"


class Field(NamedTuple):
    """One row of a message's table.

    ``offset`` counts from the message's first byte; ``kind`` of the last row may be a :class:`Tail`, whose size is only
    known in the message. ``derived`` rows (the type, lengths) are not part of the Python object.
    """

    name: str
    offset: int
    kind: Kind | Tail
    codes: tuple[Codes, ...]
    allowed: Range | None
    optional: bool
    note: str
    derived: bool

    @property
    def size_bytes(self) -> int | None:
        """How many bytes the field has; None for the rest of the message."""
        return getattr(self.kind, "size_bytes", None)


class Layout:
    """What is derived from a message's table.

    Attributes:
        title: the specification's name of the message.
        message_type: its type character; empty for what has none (a datagram's header).
        fields: the rows, derived ones included.
        size_bytes: size of the fixed part, which is the whole message unless ``has_tail``.
        dtype: packed big-endian numpy dtype of the fixed part.
    """

    def __init__(
        self, title: str, message_type: str, rows: Mapping[str, Any], *, length_prefixed: bool
    ) -> None:
        self.title = title
        self.message_type = message_type
        self.length_prefixed = length_prefixed
        self.fields = tuple(_fields_of(title, message_type, rows, length_prefixed))
        fixed = [field for field in self.fields if field.size_bytes is not None and not field.optional]
        assert self.fields[: len(fixed)] == tuple(fixed), (
            f"{title}: a field of fixed size after one of another"
        )
        kinds: list[Any] = [field.kind for field in fixed]
        self._struct = struct.Struct(">" + "".join(kind.struct_format for kind in kinds))
        self.size_bytes = self._struct.size
        self.dtype = np.dtype(
            [(field.name, kind.array_format) for field, kind in zip(fixed, kinds, strict=True)]
        )
        assert self.dtype.itemsize == self.size_bytes
        # A message is: length and type (the lead), what every message of the kind has (fixed), and the tail. Struct
        # reads lead and fixed part at once; most of the fixed part are integers, and those are the values already.
        self._lead = int(length_prefixed) + len(message_type)
        self._valued = tuple(field for field in self.fields if not field.derived)
        self._fixed: tuple[tuple[str, Any], ...] = tuple(
            (field.name, field.kind) for field in fixed if not field.derived
        )
        self._converted = tuple(
            (index, name, kind.from_wire)
            for index, (name, kind) in enumerate(self._fixed)
            if not (isinstance(kind, Unsigned) and kind.size_bytes != 6)
        )
        self._tail = self._valued[len(self._fixed) :]
        self._title = f"{title} ({message_type})" if message_type else title

    def __repr__(self) -> str:
        return f"<Layout {self._title}, {self.size_bytes} bytes{' and more' if self._tail else ''}>"

    @property
    def has_tail(self) -> bool:
        """Whether anything may follow the fixed part: optional fields, or one of variable size."""
        return bool(self._tail)

    @property
    def type_byte(self) -> int:
        """The type as compiled code compares it."""
        return ord(self.message_type)

    def offset(self, name: str) -> int:
        """Where a field begins, in bytes from the message's first byte. Raises KeyError for no such field."""
        for field in self.fields:
            if field.name == name:
                return field.offset
        raise KeyError(f"{self._title} has no field {name!r}")

    def decode_values(self, data: Buffer) -> list[Any]:
        """The fields' values, in order, without the derived ones. Raises WireError."""
        if len(data) < self.size_bytes or (len(data) != self.size_bytes and not self._tail):
            more = " or more" if self._tail else ""
            raise WireError(f"{self._title}: {len(data):,} bytes, allowed are {self.size_bytes}{more}")
        raws = self._struct.unpack_from(data)
        self._check_lead(raws, len(data))
        values = list(raws[self._lead : self._lead + len(self._fixed)])
        for index, name, from_wire in self._converted:
            try:
                values[index] = from_wire(values[index])
            except WireError as error:
                raise self._error(name, error) from None
        if self._tail:
            self._decode_tail(bytes(data[self.size_bytes :]), raws[-1], values)
        return values

    def encode_values(self, values: tuple[Any, ...]) -> bytes:
        """The message of the fields' values. Raises WireError."""
        raws: list[Any] = [self.message_type.encode("ascii")] if self.message_type else []
        for (name, kind), value in zip(self._fixed, values, strict=False):
            try:
                raws.append(kind.to_wire(value))
            except WireError as error:
                raise self._error(name, error) from None
        tail = self._encode_tail(values[len(self._fixed) :])
        if self._tail and _is_counted(self._tail[-1]) and not self._tail[-1].optional:
            raws.append(self._bounded(len(tail)))
        if self.length_prefixed:
            raws.insert(0, self._bounded(self.size_bytes - LENGTH_BYTES + len(tail)))
        return self._struct.pack(*raws) + tail

    def check_values(self, values: tuple[Any, ...]) -> None:
        """Raise WireError for the first value that is not on its list of codes or not in its range."""
        for field, value in zip(self._valued, values, strict=True):
            if value is None and field.optional:
                continue
            try:
                check_value(field, value)
            except WireError as error:
                raise self._error(field.name, error) from None

    def _error(self, name: str, trouble: WireError | str) -> WireError:
        return WireError(f"{self._title}: {name} {trouble}")

    def _bounded(self, length: int) -> int:
        if length > LENGTH_LARGEST:
            raise self._error("length", f"is {length:,}, allowed is up to {LENGTH_LARGEST:,}")
        return length

    def _check_length(self, name: str, length: int, following: int) -> None:
        if length != following:
            raise self._error(name, f"is {length:,}, but {following:,} bytes follow it")

    def _check_lead(self, raws: tuple[Any, ...], size_bytes: int) -> None:
        if self.length_prefixed:
            self._check_length(PACKET_LENGTH, raws[0], size_bytes - LENGTH_BYTES)
        if self.message_type:
            found = raws[self._lead - 1]
            if found != self.message_type.encode("ascii"):
                raise self._error(MESSAGE_TYPE, f"is {found!r}, allowed is {self.message_type!r}")

    def _decode_tail(self, rest: bytes, last_raw: Any, values: list[Any]) -> None:
        for field in self._tail:
            if field.optional and not rest:
                values.append(None)
                continue
            if _is_counted(field):
                rest = self._counted(field, rest, last_raw)
            size = len(rest) if field.size_bytes is None else field.size_bytes
            try:
                values.append(read_value(field, rest[:size]))
            except WireError as error:
                raise self._error(field.name, error) from None
            rest = rest[size:]
        if rest:
            raise WireError(f"{self._title}: {len(rest):,} bytes too many")

    def _counted(self, field: Field, rest: bytes, last_raw: Any) -> bytes:
        """The rest after its length, which is part of the fixed part or, of an optional field, of the rest."""
        name = _length_name(field)
        if field.optional:
            if len(rest) < LENGTH_BYTES:
                raise self._error(name, f"has {len(rest)} bytes, allowed are {LENGTH_BYTES}")
            last_raw, rest = int.from_bytes(rest[:LENGTH_BYTES], "big"), rest[LENGTH_BYTES:]
        self._check_length(name, last_raw, len(rest))
        return rest

    def _encode_tail(self, values: tuple[Any, ...]) -> bytes:
        parts: list[bytes] = []
        absent = ""
        for field, value in zip(self._tail, values, strict=True):
            if value is None and field.optional:
                absent = absent or field.name
                continue
            if absent:
                raise self._error(field.name, f"is {shown(value)}, allowed is None while {absent} is absent")
            try:
                part = write_value(field, value)
            except WireError as error:
                raise self._error(field.name, error) from None
            if _is_counted(field) and field.optional:
                parts.append(self._bounded(len(part)).to_bytes(LENGTH_BYTES, "big"))
            parts.append(part)
        return b"".join(parts)


LENGTH_BYTES: Final = 2
"""The length in front of a packet, a message block or a message in a file. It does not count itself."""

LENGTH_LARGEST: Final = (1 << 8 * LENGTH_BYTES) - 1


class Message(Struct, frozen=True):
    """What every message can do. Subclasses are decorated with :func:`message`."""

    layout: ClassVar[Layout]

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """The message that fills ``data`` exactly. Raises WireError."""
        return cls(*cls.layout.decode_values(data))

    def encode(self) -> bytes:
        """The message's bytes. Raises WireError for a value that its field cannot hold."""
        return self.layout.encode_values(astuple(self))

    def check(self) -> Self:
        """The message itself if every code is on its list and every number in its range. Raises WireError."""
        self.layout.check_values(astuple(self))
        return self


def message[M: Message](
    message_type: str, title: str, *, length_prefixed: bool = False
) -> Callable[[type[M]], type[M]]:
    """Decorate a message's class: derive its layout from its annotations.

    Args:
        message_type: the type character, which becomes the first field; empty if the message has none.
        title: the specification's name of the message.
        length_prefixed: whether a 2-byte length stands in front of the type and counts everything after itself.
    """

    def derive(cls: type[M]) -> type[M]:
        hints = get_type_hints(cls, include_extras=True)
        rows = {name: hints[name] for name in cls.__struct_fields__}
        cls.layout = Layout(title, message_type, rows, length_prefixed=length_prefixed)
        return cls

    return derive


class MessageTable(Mapping[str, type[Message]]):
    """The messages of one direction of a protocol, by their type character."""

    def __init__(self, protocol: str, *classes: type[Message]) -> None:
        self.protocol = protocol
        self._classes = {cls.layout.message_type: cls for cls in classes}
        assert len(self._classes) == len(classes), f"{protocol}: a type twice"
        self._type_offset = LENGTH_BYTES if classes[0].layout.length_prefixed else 0
        self._by_byte = {cls.layout.type_byte: cls for cls in classes}

    def __getitem__(self, message_type: str) -> type[Message]:
        return self._classes[message_type]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def decode(self, data: Buffer) -> Message:
        """The message that fills ``data`` exactly, of the class that its type byte names. Raises WireError."""
        if len(data) <= self._type_offset:
            raise WireError(f"{self.protocol}: {len(data)} bytes are no message, not even a type")
        found = self._by_byte.get(data[self._type_offset])
        if found is None:
            given = bytes(data[self._type_offset : self._type_offset + 1])
            raise WireError(
                f"{self.protocol}: {MESSAGE_TYPE} is {given!r}, allowed is one of {', '.join(self)}"
            )
        return found.decode(data)


def _fields_of(
    title: str, message_type: str, rows: Mapping[str, Any], length_prefixed: bool
) -> Iterator[Field]:
    """The rows of the table with their offsets: what is derived first, and the length of a counted tail before it."""
    found: list[Field] = []
    if length_prefixed:
        found.append(_derived(PACKET_LENGTH, Unsigned(LENGTH_BYTES), "bytes that follow it"))
    if message_type:
        found.append(_derived(MESSAGE_TYPE, Character(), f"`{message_type}`"))
    for name, annotation in rows.items():
        field = field_of(title, name, annotation)
        if _is_counted(field):
            length = _derived(_length_name(field), Unsigned(LENGTH_BYTES), "bytes that follow it")
            found.append(length._replace(optional=field.optional))
        found.append(field)
    offsets = accumulate((field.size_bytes or 0 for field in found), initial=0)
    return (field._replace(offset=offset) for field, offset in zip(found, offsets, strict=False))


def _derived(name: str, kind: Kind, note: str) -> Field:
    return Field(name, 0, kind, (), None, False, note, True)


def field_of(title: str, name: str, annotation: Any) -> Field:
    """The row that an annotation says, such as ``Annotated[UInt32, Range(1, 5), "how many"]``; without its offset."""
    assert get_origin(annotation) is Annotated, f"{title}: {name} names no kind of field"
    extras = get_args(annotation)[1:]
    kinds = [extra for extra in extras if hasattr(extra, "label")]
    assert len(kinds) == 1, f"{title}: {name} names {len(kinds)} kinds of field"
    codes = tuple(extra for extra in extras if _is_codes(extra))
    allowed = next((extra for extra in extras if isinstance(extra, Range)), None)
    note = "; ".join(extra for extra in extras if isinstance(extra, str))
    return Field(name, 0, kinds[0], codes, allowed, OPTIONAL in extras, note, False)


def _is_codes(extra: Any) -> bool:
    return isinstance(extra, type) and issubclass(extra, Code | NumberCode)


def _length_name(field: Field) -> str:
    return getattr(field.kind, "length_name", "")


def _is_counted(field: Field) -> bool:
    return bool(_length_name(field))


@cache
def _values_of(codes: tuple[Codes, ...]) -> tuple[Any, ...]:
    return tuple(code.value for listed in codes for code in listed)


def check_value(field: Field, value: Any) -> None:
    """Raise WireError, without the field's name, for a value that is not on its lists of codes or not in its range."""
    if field.codes and value not in _values_of(field.codes):
        listed = ", ".join(map(str, _values_of(field.codes)))
        raise WireError(f"is {shown(value)}, allowed is one of {listed}")
    if field.allowed is not None and not field.allowed.smallest <= value <= field.allowed.largest:
        raise WireError(f"is {shown(value)}, allowed is {field.allowed}")
    if field.size_bytes is None:
        field.kind.check(value)  # type: ignore[union-attr]


def read_value(field: Field, raw: bytes) -> Any:
    """The value of all of ``raw``. Raises WireError, without the field's name."""
    kind: Any = field.kind
    if field.size_bytes is None:
        return kind.read(raw)
    if len(raw) != field.size_bytes:
        raise WireError(f"has {len(raw):,} bytes, allowed are {field.size_bytes}")
    return kind.from_wire(struct.unpack(">" + kind.struct_format, raw)[0])


def write_value(field: Field, value: Any) -> bytes:
    """The bytes of a value. Raises WireError, without the field's name."""
    kind: Any = field.kind
    if field.size_bytes is None:
        return bytes(kind.write(value))
    return struct.pack(">" + kind.struct_format, kind.to_wire(value))
