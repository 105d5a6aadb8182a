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
* ``CancelOrder.layout.fields``: the rows, from which :mod:`exchange.wire.markdown` makes the documentation.

A :class:`MessageTable` holds the messages of one direction of a protocol and chooses by the type byte.

What may stand in an annotation beside the type: exactly one kind (:mod:`exchange.wire.fields`), a list of codes, a
:class:`~exchange.wire.fields.Range`, a note, and :data:`OPTIONAL` for fields at the end that an edition leaves out.
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
    known in the message. ``constant`` rows (the type, a packet's length) are not part of the Python object.
    """

    name: str
    offset: int
    kind: Kind | Tail
    codes: Codes | None
    allowed: Range | None
    optional: bool
    note: str
    constant: bool

    @property
    def size_bytes(self) -> int | None:
        """How many bytes the field has; None for the rest of the message."""
        return getattr(self.kind, "size_bytes", None)


class Layout:
    """What is derived from a message's table.

    Attributes:
        title: the specification's name of the message.
        message_type: its type character; empty for what has none (a datagram's header).
        fields: the rows, constants included.
        size_bytes: size of the fixed part, which is the whole message unless ``has_tail``.
        has_tail: whether fields follow that are optional or of variable size.
        dtype: packed big-endian numpy dtype of the fixed part.
    """

    def __init__(
        self, title: str, message_type: str, rows: Mapping[str, Any], *, length_prefixed: bool
    ) -> None:
        self.title = title
        self.message_type = message_type
        self.length_prefixed = length_prefixed
        self.fields = tuple(_fields_of(title, message_type, rows, length_prefixed))
        fixed = [field for field in self.fields if _is_fixed(field)]
        assert self.fields[: len(fixed)] == tuple(fixed), f"{title}: a field of fixed size after a tail"
        kinds: list[Any] = [field.kind for field in fixed]
        self._struct = struct.Struct(">" + "".join(kind.struct_format for kind in kinds))
        self.size_bytes = self._struct.size
        self.dtype = np.dtype(
            [(field.name, kind.array_format) for field, kind in zip(fixed, kinds, strict=True)]
        )
        assert self.dtype.itemsize == self.size_bytes
        constants = sum(field.constant for field in self.fields)
        self._fixed = tuple((field.name, field.kind) for field in fixed[constants:])
        self._tail = tuple((field.name, field.kind, field.optional) for field in self.fields[len(fixed) :])
        self._constants = constants
        self._title = f"{title} ({message_type})" if message_type else title

    def __repr__(self) -> str:
        return f"<Layout {self._title}, {self.size_bytes} bytes{' and more' if self._tail else ''}>"

    @property
    def has_tail(self) -> bool:
        """Whether anything may follow the fixed part."""
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
        """The fields' values, in order, without the constants. Raises WireError."""
        if len(data) < self.size_bytes or (len(data) != self.size_bytes and not self._tail):
            more = " or more" if self._tail else ""
            raise WireError(f"{self._title}: {len(data)} bytes, allowed are {self.size_bytes}{more}")
        raws = self._struct.unpack_from(data)
        self._check_constants(raws, len(data))
        values = []
        for (name, kind), raw in zip(self._fixed, raws[self._constants :], strict=True):
            try:
                values.append(kind.from_wire(raw))  # type: ignore[union-attr]
            except WireError as error:
                raise self._named(name, error) from None
        if self._tail:
            self._decode_tail(bytes(data[self.size_bytes :]), values)
        return values

    def encode_values(self, values: tuple[Any, ...]) -> bytes:
        """The message of the fields' values. Raises WireError."""
        raws: list[Any] = [self.message_type.encode("ascii")] if self.message_type else []
        for (name, kind), value in zip(self._fixed, values, strict=False):
            try:
                raws.append(kind.to_wire(value))  # type: ignore[union-attr]
            except WireError as error:
                raise self._named(name, error) from None
        tail = self._encode_tail(values[len(self._fixed) :]) if self._tail else b""
        if self.length_prefixed:
            length = self.size_bytes - LENGTH_BYTES + len(tail)
            if length > PACKET_LENGTH_MAX:
                raise WireError(f"{self._title}: {length:,} bytes, allowed are {PACKET_LENGTH_MAX:,}")
            raws.insert(0, length)
        return self._struct.pack(*raws) + tail

    def check_values(self, values: tuple[Any, ...]) -> None:
        """Raise WireError for the first value that is not on its list of codes or not in its range."""
        for field, value in zip(self.fields[self._constants :], values, strict=True):
            if field.codes is not None and value is not None and value not in _values_of(field.codes):
                listed = ", ".join(str(code.value) for code in field.codes)
                raise WireError(f"{self._title}: {field.name} is {shown(value)}, allowed is one of {listed}")
            if field.allowed is not None and not field.allowed.smallest <= value <= field.allowed.largest:
                raise WireError(f"{self._title}: {field.name} is {shown(value)}, allowed is {field.allowed}")

    def _named(self, name: str, error: WireError) -> WireError:
        return WireError(f"{self._title}: {name} {error}")

    def _check_constants(self, raws: tuple[Any, ...], length: int) -> None:
        if self.length_prefixed and raws[0] != length - LENGTH_BYTES:
            raise WireError(
                f"{self._title}: {PACKET_LENGTH} is {raws[0]:,}, but {length - LENGTH_BYTES:,} bytes follow it"
            )
        if self.message_type:
            found = raws[self._constants - 1]
            if found != self.message_type.encode("ascii"):
                raise WireError(
                    f"{self._title}: {MESSAGE_TYPE} is {found!r}, allowed is {self.message_type!r}"
                )

    def _decode_tail(self, rest: bytes, values: list[Any]) -> None:
        for name, kind, optional in self._tail:
            if optional and not rest:
                values.append(None)
                continue
            size = getattr(kind, "size_bytes", len(rest))
            try:
                values.append(_read(kind, rest[:size]))
            except WireError as error:
                raise self._named(name, error) from None
            rest = rest[size:]
        if rest:
            raise WireError(f"{self._title}: {len(rest)} bytes too many")

    def _encode_tail(self, values: tuple[Any, ...]) -> bytes:
        parts: list[bytes] = []
        absent = ""
        for (name, kind, optional), value in zip(self._tail, values, strict=True):
            if value is None and optional:
                absent = absent or name
                continue
            if absent:
                raise WireError(
                    f"{self._title}: {name} is {shown(value)}, allowed is None while {absent} is absent"
                )
            try:
                parts.append(_write(kind, value))
            except WireError as error:
                raise self._named(name, error) from None
        return b"".join(parts)


LENGTH_BYTES: Final = 2
"""The length in front of a packet, a message block or a message in a file. It does not count itself."""

PACKET_LENGTH_MAX: Final = (1 << 8 * LENGTH_BYTES) - 1


class Message(Struct, frozen=True):
    """What every message can do. Subclasses are decorated with :func:`message`."""

    layout: ClassVar[Layout]

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """The message that fills ``data`` exactly. Raises WireError."""
        return cls(*cls.layout.decode_values(data))

    def encode(self) -> bytes:
        """The message's bytes. Raises WireError for a value that its field cannot hold."""
        return self.layout.encode_values(self._values())

    def check(self) -> Self:
        """The message itself if every code is on its list and every number in its range. Raises WireError."""
        self.layout.check_values(self._values())
        return self

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__)


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
    """The rows of the table, constants first, with their offsets."""
    found: list[Field] = []
    if length_prefixed:
        note = "bytes that follow it"
        found.append(Field(PACKET_LENGTH, 0, Unsigned(LENGTH_BYTES), None, None, False, note, True))
    if message_type:
        found.append(Field(MESSAGE_TYPE, 0, Character(), None, None, False, f"`{message_type}`", True))
    found.extend(_field_of(title, name, annotation) for name, annotation in rows.items())
    offsets = accumulate((field.size_bytes or 0 for field in found), initial=0)
    return (field._replace(offset=offset) for field, offset in zip(found, offsets, strict=False))


def _field_of(title: str, name: str, annotation: Any) -> Field:
    assert get_origin(annotation) is Annotated, f"{title}: {name} names no kind of field"
    extras = get_args(annotation)[1:]
    kinds = [extra for extra in extras if hasattr(extra, "label")]
    assert len(kinds) == 1, f"{title}: {name} names {len(kinds)} kinds of field"
    codes = next((extra for extra in extras if _is_codes(extra)), None)
    allowed = next((extra for extra in extras if isinstance(extra, Range)), None)
    note = "; ".join(extra for extra in extras if isinstance(extra, str))
    return Field(name, 0, kinds[0], codes, allowed, OPTIONAL in extras, note, False)


def _is_codes(extra: Any) -> bool:
    return isinstance(extra, type) and issubclass(extra, Code | NumberCode)


def _is_fixed(field: Field) -> bool:
    return field.size_bytes is not None and not field.optional


@cache
def _values_of(codes: Codes) -> frozenset[Any]:
    return frozenset(code.value for code in codes)


def _read(kind: Any, rest: bytes) -> Any:
    """The value of a field of the tail, whether its kind has a size or takes the rest."""
    if not hasattr(kind, "struct_format"):
        return kind.read(rest)
    if len(rest) != kind.size_bytes:
        raise WireError(f"has {len(rest)} bytes, allowed are {kind.size_bytes}")
    return kind.from_wire(struct.unpack(">" + kind.struct_format, rest)[0])


def _write(kind: Any, value: Any) -> bytes:
    """The bytes of a field of the tail."""
    if not hasattr(kind, "struct_format"):
        return bytes(kind.write(value))
    return struct.pack(">" + kind.struct_format, kind.to_wire(value))
