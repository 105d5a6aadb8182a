"""Messages of any wire protocol, made from its tables: for hypothesis, and by a plain seeded generator for fuzzing.

What a field can hold follows from its kind alone, so a protocol that is added needs nothing here.
"""

import random
from typing import Any

from hypothesis import strategies as st

from exchange.wire.fields import AsciiNumber, Character, Rest, Signed, Text, Unsigned
from exchange.wire.layout import Field, Message, MessageTable
from exchange.wire.ouch50_options import OPTION_FIELDS, Appendage, Option

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
UNKNOWN_TAGS = [tag for tag in range(256) if tag not in OPTION_FIELDS]


def integers(smallest: int, largest: int) -> st.SearchStrategy[int]:
    """Integers of a range, its ends more often than chance would give them."""
    return st.one_of(st.sampled_from([smallest, largest]), st.integers(smallest, largest))


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Every value that a field of this kind can hold and give back unchanged."""
    match kind:
        case Unsigned(size_bytes=size):
            return integers(0, (1 << 8 * size) - 1)
        case Signed():
            return integers(-(1 << 31), (1 << 31) - 1)
        case Character():
            return st.sampled_from(PRINTABLE)
        case Text(size_bytes=size, tolerant=tolerant):
            text = st.text(PRINTABLE, max_size=size)
            return text.map(lambda t: t.strip(" ") if tolerant else t.rstrip(" "))
        case AsciiNumber(size_bytes=size):
            return integers(0, 10**size - 1)
        case Rest():
            return st.binary(max_size=300)
        case Appendage():
            return appendages()
    raise TypeError(f"no values of {kind!r}")


@st.composite
def appendages(draw: st.DrawFn) -> tuple[Option, ...]:
    """Options of known tags, and some of tags that are not in the table."""
    known = draw(st.lists(st.sampled_from(sorted(OPTION_FIELDS)), max_size=6, unique=True))
    unknown = draw(st.lists(st.sampled_from(UNKNOWN_TAGS), max_size=2, unique=True))
    options = [Option(tag, draw(values(OPTION_FIELDS[tag].kind))) for tag in known]
    options += [Option(tag, draw(st.binary(max_size=254))) for tag in unknown]
    return tuple(draw(st.permutations(options)))


@st.composite
def messages(draw: st.DrawFn, table: MessageTable) -> Message:
    """Any message of a protocol's direction."""
    return draw(messages_of(table[draw(st.sampled_from(sorted(table)))]))


@st.composite
def messages_of(draw: st.DrawFn, cls: type[Message]) -> Message:
    """Any message of one class. Of the optional fields, a first part is there and the rest is absent."""
    fields = [field for field in cls.layout.fields if not field.derived]
    optional = sum(field.optional for field in fields)
    absent_from = len(fields) - draw(st.integers(0, optional))
    drawn = [draw(values(field.kind)) if index < absent_from else None for index, field in enumerate(fields)]
    return cls(*drawn)


def random_message(chance: random.Random, cls: type[Message]) -> Message:
    """As :func:`messages_of`, a thousand times quicker and without shrinking."""
    fields = [field for field in cls.layout.fields if not field.derived]
    optional = sum(field.optional for field in fields)
    absent_from = len(fields) - chance.randint(0, optional)
    return cls(*(_random_value(chance, field) if i < absent_from else None for i, field in enumerate(fields)))


def _random_value(chance: random.Random, field: Field) -> Any:
    if field.codes and chance.random() < 0.9:
        return chance.choice([code.value for codes in field.codes for code in codes])
    match field.kind:
        case Unsigned(size_bytes=size):
            return chance.choice(
                [0, (1 << 8 * size) - 1, chance.getrandbits(8 * size), chance.randrange(200)]
            )
        case Signed():
            return chance.choice([-1, 0, 1, chance.getrandbits(31)])
        case Character():
            return chance.choice(PRINTABLE)
        case Text(size_bytes=size):
            return "".join(chance.choices(PRINTABLE, k=chance.randint(0, size))).strip(" ")
        case AsciiNumber(size_bytes=size):
            return chance.randrange(10 ** chance.randint(1, size))
        case Rest():
            return chance.randbytes(chance.choice([0, 1, 40, 300]))
        case Appendage(tags=tags):
            chosen = chance.sample(tags, chance.randint(0, min(4, len(tags))))
            options = [Option(tag, _random_value(chance, OPTION_FIELDS[tag])) for tag in chosen]
            if chance.random() < 0.2:
                options.append(Option(chance.choice(UNKNOWN_TAGS), chance.randbytes(chance.randrange(9))))
            return tuple(options)
    raise TypeError(f"no values of {field.kind!r}")


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Bytes that were a message before somebody changed, cut, doubled or replaced some of them."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(7):
            case 0 if changed:
                changed[place % len(changed)] = chance.randrange(256)
            case 1 if changed:
                changed[place % len(changed)] ^= 1 << chance.randrange(8)
            case 2:
                del changed[place:]
            case 3:
                del changed[place : place + chance.randrange(1, 5)]
            case 4:
                changed[place:place] = chance.randbytes(chance.randrange(1, 5))
            case 5:
                changed += changed[: chance.randrange(1, 40)]
            case _:
                changed[place : place + 2] = b"\xff\xff" if chance.random() < 0.5 else b"\0\0"
    return bytes(changed)
