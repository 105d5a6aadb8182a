"""The kinds of fields that messages are made of, and the names by which the message tables call them.

A kind knows how many bytes a field has, what those bytes mean, and which values they can hold. A message's table
(:mod:`exchange.wire.layout`) names one for each field, as an annotation that a type checker reads as well:
``quantity: UInt32`` is an ``int`` in the program and four big-endian bytes on the wire.

Conventions of all these protocols:

* Integers are big-endian and unsigned, unless the kind says signed. Nothing is padded or aligned.
* Text is printable ASCII, padded with spaces on the right (``Alpha``) or, where the specification says so, on the
  left. Padding is not part of the value; on reading SoupBinTCP's texts it is taken off on both sides.
* ``Char`` is one printable character; a space is a value of its own.
* Prices are integers with 4 or 8 implied decimals: a ``Price4`` of 12,345 is 1.2345 dollars. They stay integers.
* Times are nanoseconds since midnight, US Eastern time, in 8 bytes (OUCH) or 6 (ITCH).

What a kind refuses, it refuses with :class:`WireError`, in both directions. Lists of codes are another matter: a newer
edition of a specification adds letters, so reading keeps a letter that is not on the list, and
:meth:`~exchange.wire.layout.Message.check` is there for who wants to refuse it.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError


class WireError(UserError):
    """Bytes that are no message, or a value that no bytes can carry; one line that names message and field."""


class Kind(Protocol):
    """What every kind of field with a fixed size can do. ``raw`` is what :mod:`struct` makes of its bytes."""

    @property
    def label(self) -> str:
        """What the documentation calls the kind."""

    @property
    def size_bytes(self) -> int:
        """How many bytes a field of this kind has."""

    @property
    def struct_format(self) -> str:
        """The field's part of a :mod:`struct` format."""

    @property
    def array_format(self) -> Any:
        """The field's part of a numpy dtype."""

    def from_wire(self, raw: Any) -> Any:
        """The value of the bytes. Raises WireError for bytes that the specification does not allow."""

    def to_wire(self, value: Any) -> Any:
        """The bytes of a value, as :mod:`struct` wants them. Raises WireError for what they cannot hold."""


class Tail(Protocol):
    """A kind without a fixed size: it takes the rest of the message, and so stands last."""

    @property
    def label(self) -> str:
        """What the documentation calls the kind."""

    @property
    def length_name(self) -> str:
        """Name of a 2-byte field in front, which counts the bytes of this one; empty for none."""

    def read(self, rest: bytes) -> Any:
        """The value of the rest of a message. Raises WireError for bytes that the specification does not allow."""

    def write(self, value: Any) -> bytes:
        """The bytes of a value. Raises WireError for what they cannot hold."""

    def check(self, value: Any) -> None:
        """Raise WireError for what the specification does not list, although bytes can carry it."""


@dataclass(frozen=True)
class Unsigned:
    """A big-endian unsigned integer of 1, 2, 4, 6 or 8 bytes; ``decimals`` are implied ones."""

    size_bytes: int
    decimals: int = 0

    @property
    def label(self) -> str:
        """``u32``; ``price4`` for four implied decimals, with the width where it is not the usual one."""
        width = f"u{8 * self.size_bytes}"
        return width if not self.decimals else f"price{self.decimals} ({width})"

    @property
    def struct_format(self) -> str:
        """Six bytes have no letter of their own and come as bytes."""
        return {1: "B", 2: "H", 4: "I", 6: "6s", 8: "Q"}[self.size_bytes]

    @property
    def array_format(self) -> Any:
        """Six bytes stay bytes: see :func:`unsigned48`."""
        return ("u1", (6,)) if self.size_bytes == 6 else f">u{self.size_bytes}"

    def from_wire(self, raw: Any) -> int:
        """Every pattern of bits is a value."""
        return int.from_bytes(raw, "big") if self.size_bytes == 6 else raw

    def to_wire(self, value: Any) -> Any:
        """An integer in the range of the width."""
        largest = (1 << 8 * self.size_bytes) - 1
        number = _integer(value, 0, largest)
        return number.to_bytes(6, "big") if self.size_bytes == 6 else number


@dataclass(frozen=True)
class Signed:
    """A big-endian signed integer of 4 bytes; ``decimals`` are implied ones."""

    size_bytes: int = 4
    decimals: int = 0
    struct_format: str = "i"
    array_format: str = ">i4"

    @property
    def label(self) -> str:
        """``i32``; ``price4 (i32)`` for four implied decimals."""
        return f"price{self.decimals} (i32)" if self.decimals else "i32"

    def from_wire(self, raw: Any) -> int:
        """Every pattern of bits is a value."""
        return raw  # type: ignore[no-any-return]

    def to_wire(self, value: Any) -> int:
        """An integer in the range of the width."""
        return _integer(value, -(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True)
class Character:
    """One printable ASCII character."""

    label: str = "char"
    size_bytes: int = 1
    struct_format: str = "c"
    array_format: str = "S1"

    def from_wire(self, raw: Any) -> str:
        """One character, from space to tilde."""
        if not b" " <= raw <= b"~":
            raise WireError(f"is {shown(raw)}, allowed is a printable ASCII character")
        return raw.decode("ascii")  # type: ignore[no-any-return]

    def to_wire(self, value: Any) -> bytes:
        """The character's byte."""
        if not isinstance(value, str) or len(value) != 1 or not " " <= value <= "~":
            raise WireError(f"is {shown(value)}, allowed is one printable ASCII character")
        return value.encode("ascii")


@dataclass(frozen=True)
class _Padded:
    """What the kinds of text have in common."""

    size_bytes: int

    @property
    def struct_format(self) -> str:
        """So many bytes."""
        return f"{self.size_bytes}s"

    @property
    def array_format(self) -> str:
        """Bytes, with their padding."""
        return f"S{self.size_bytes}"


@dataclass(frozen=True)
class Text(_Padded):
    """Printable ASCII of at most ``size_bytes`` characters, padded with spaces.

    Attributes:
        size_bytes: the field's width.
        padded: the side where spaces are added on writing.
        tolerant: whether spaces are taken off on both sides on reading, and not only where they are added.
        secret: whether errors keep the value to themselves.
    """

    padded: Literal["left", "right"] = "right"
    tolerant: bool = False
    secret: bool = False
    label: str = "alpha"

    def from_wire(self, raw: Any) -> str:
        """The text without its padding."""
        if not raw.isascii() or not (text := raw.decode("ascii")).isprintable():
            raise WireError(f"is {self._shown(raw)}, allowed is printable ASCII")
        if self.tolerant:
            return text.strip(" ")  # type: ignore[no-any-return]
        return text.rstrip(" ") if self.padded == "right" else text.lstrip(" ")  # type: ignore[no-any-return]

    def to_wire(self, value: Any) -> bytes:
        """The text with its padding."""
        if not isinstance(value, str) or len(value) > self.size_bytes or not _is_printable(value):
            raise WireError(
                f"is {self._shown(value)}, allowed are at most {self.size_bytes} printable ASCII characters"
            )
        encoded = value.encode("ascii")
        if self.padded == "right":
            return encoded.ljust(self.size_bytes)
        return encoded.rjust(self.size_bytes)

    def _shown(self, value: Any) -> str:
        return "not shown" if self.secret else shown(value)


@dataclass(frozen=True)
class AsciiNumber(_Padded):
    """Decimal digits as text. Spaces pad them on the left when written, and on either side when read."""

    label: str = "ascii number"

    def from_wire(self, raw: Any) -> int:
        """The number. Leading zeros are accepted; no digit at all is not."""
        digits = raw.strip(b" ")
        if not digits.isdigit():
            raise WireError(f"is {shown(raw)}, allowed are decimal digits padded with spaces")
        return int(digits)

    def to_wire(self, value: Any) -> bytes:
        """The digits, with spaces on the left."""
        number = _integer(value, 0, 10**self.size_bytes - 1)
        return str(number).encode("ascii").rjust(self.size_bytes)


@dataclass(frozen=True)
class Rest:
    """The rest of the message as bytes: a message of the next protocol, which is none of this one's business."""

    label: str = "bytes"
    length_name: str = ""

    def read(self, rest: bytes) -> bytes:
        """All of it."""
        return rest

    def write(self, value: Any) -> bytes:
        """All of it."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise WireError(f"is {shown(value)}, allowed are bytes")
        return bytes(value)

    def check(self, value: Any) -> None:
        """Nothing is listed."""


class Range(NamedTuple):
    """Which integers :meth:`~exchange.wire.layout.Message.check` accepts; decoding accepts the whole width."""

    smallest: int
    largest: int

    def __str__(self) -> str:
        return f"{self.smallest:,} to {self.largest:,}"


class Code(StrEnum):
    """A list of one-letter codes. A member is its letter; what it means is its name, or the text beside it."""

    _meaning: str

    def __new__(cls, letter: str, meaning: str = "") -> Self:
        """``NAME = "x"`` or ``NAME = "x", "what it means"``."""
        member = str.__new__(cls, letter)
        member._value_ = letter
        member._meaning = meaning
        return member

    @property
    def meaning(self) -> str:
        """What the code means, for people."""
        return self._meaning or self.name.lower().replace("_", " ")


class NumberCode(IntEnum):
    """A list of codes that are numbers. What a code means is its name."""

    @property
    def meaning(self) -> str:
        """What the code means, for people."""
        return self.name.lower().replace("_", " ")


Codes = type[Code] | type[NumberCode]

UInt8 = Annotated[int, Unsigned(1)]
UInt16 = Annotated[int, Unsigned(2)]
UInt32 = Annotated[int, Unsigned(4)]
UInt64 = Annotated[int, Unsigned(8)]
Price4 = Annotated[int, Unsigned(4, decimals=4)]
Price4Long = Annotated[int, Unsigned(8, decimals=4)]
Price8 = Annotated[int, Unsigned(8, decimals=8)]
SignedPrice4 = Annotated[int, Signed(decimals=4)]
Timestamp48 = Annotated[int, Unsigned(6), "nanoseconds since midnight"]
Timestamp64 = Annotated[int, Unsigned(8), "nanoseconds since midnight"]
Char = Annotated[str, Character()]
Alpha2 = Annotated[str, Text(2)]
Alpha4 = Annotated[str, Text(4)]
Alpha8 = Annotated[str, Text(8)]
Alpha14 = Annotated[str, Text(14)]
AsciiNumber20 = Annotated[int, AsciiNumber(20)]
Payload = Annotated[bytes, Rest()]


def unsigned48(column: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers in a column of 6-byte fields (shape ``(n, 6)`` or ``(6,)``), such as ``records["timestamp"]``."""
    shifts = np.arange(40, -1, -8, dtype=np.int64)
    numbers: NDArray[np.int64] = (column.astype(np.int64) << shifts).sum(axis=-1)
    return numbers


def unsigned48_bytes(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Numbers from 0 to 2**48 - 1 as a column of 6-byte fields, to be stored with ``records["timestamp"] = ...``."""
    shifts = np.arange(40, -1, -8, dtype=np.int64)
    return (np.asarray(numbers, np.int64)[..., np.newaxis] >> shifts & 0xFF).astype(np.uint8)


def shown(value: Any) -> str:
    """A refused value as an error tells it: numbers with thousands apart, everything cut to a readable length."""
    if type(value) is int:
        return f"{value:,}" if abs(value) < 1 << 100 else f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _integer(value: Any, smallest: int, largest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise WireError(f"is {shown(value)}, allowed is an integer from {smallest:,} to {largest:,}")
    return int(value)
