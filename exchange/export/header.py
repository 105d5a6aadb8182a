"""``exchange_book.h``, written from the definitions that the code itself uses.

The template ``exchange_book.h.in`` is ordinary C with names between ``@`` signs. What stands for them comes
from the record types, the enumerations, the ring's layout and the table of functions. Each structure is
followed by assertions that its members lie where the compiled code looks for them, so that a compiler which
would lay it out differently refuses the header.
"""

import hashlib
import textwrap
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import numpy as np

from exchange import __version__, limits
from exchange.export.book_calls import LEVEL_DTYPE
from exchange.export.book_handle import CONFIG_DTYPE, SMALL_PAGES
from exchange.export.c_api import FUNCTIONS, CFunction
from exchange.export.event_ring import CAPACITY
from exchange.messages import (
    ALL_SYMBOLS,
    COMMAND_DTYPE,
    EVENT_DTYPE,
    CommandKind,
    EventKind,
    OrderType,
    Reason,
    Side,
    TimeInForce,
)
from exchange.native import FALSE_SHARING_BYTES
from exchange.queues.ring_memory import HEAD, HEAD_SEEN, REFUSED, SLOTS, TAIL, TAIL_SEEN

TEMPLATE: Final = Path(__file__).with_name("exchange_book.h.in")
LINE_MAX: Final = 118

RING_DTYPE: Final = np.dtype(
    {
        "names": ["magic", "capacity_slots", "tail", "head_seen", "head", "tail_seen", "refused"],
        "formats": ["<i8"] * 7,
        "offsets": [0, CAPACITY, TAIL, HEAD_SEEN, HEAD, TAIL_SEEN, REFUSED],
        "itemsize": SLOTS,
    }
)
"""The control block of a ring of one lane, as far as a consumer needs it."""

_C_TYPES: Final = {"u1": "uint8_t", "u2": "uint16_t", "u4": "uint32_t", "i8": "int64_t"}


def header_text() -> str:
    """The whole file."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, replacement in {
        **_parts(),
        "VERSION": __version__,
        "ABI": f"UINT32_C({abi_number():#010x})",
    }.items():
        assert f"@{name}@" in text, name
        text = text.replace(f"@{name}@", replacement)
    return text


def abi_number() -> int:
    """32 bits that change whenever a declaration does (or its comment, which does no harm)."""
    text = TEMPLATE.read_text(encoding="utf-8") + "\n".join(_parts().values())
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _parts() -> Mapping[str, str]:
    return {
        "CONSTANTS": "\n".join(_constants()),
        "ENUMS": "\n\n".join(
            _enum(name, members)
            for name, members in (
                ("side", Side),
                ("command_kind", CommandKind),
                ("time_in_force", TimeInForce),
                ("order_type", OrderType),
                ("event_kind", EventKind),
                ("reason", Reason),
            )
        ),
        "COMMAND": _struct("exchange_command", COMMAND_DTYPE),
        "EVENT": _struct("exchange_event", EVENT_DTYPE),
        "LEVEL": _struct("exchange_level", LEVEL_DTYPE),
        "CONFIG": _struct("exchange_book_config", CONFIG_DTYPE),
        "RING": _struct("exchange_ring", RING_DTYPE),
        "SYMBOLS_MAX": str(limits.SYMBOLS_MAX),
        "CAPACITY_ORDERS_MAX": str(limits.BOOK_CAPACITY_ORDERS_MAX),
        "FUNCTIONS": "\n\n".join(
            f"{_comment(function.contract)}\n{prototype(function)};" for function in FUNCTIONS
        ),
    }


def _constants() -> Iterator[str]:
    yield f"#define EXCHANGE_ALL_SYMBOLS {ALL_SYMBOLS:#x} /* symbol_id of a mass cancel in every symbol */"
    yield f"#define EXCHANGE_BOOK_SMALL_PAGES {SMALL_PAGES}u"
    yield f"#define EXCHANGE_PRICE_LOWEST INT64_C({limits.PRICE_TICKS_LOWEST})"
    yield f"#define EXCHANGE_PRICE_HIGHEST INT64_C({limits.PRICE_TICKS_HIGHEST})"
    yield f"#define EXCHANGE_RING_ALIGNMENT {FALSE_SHARING_BYTES}"
    yield f"#define EXCHANGE_RING_CAPACITY_MIN {limits.QUEUE_CAPACITY_SLOTS_MIN}"
    yield f"#define EXCHANGE_RING_CAPACITY_MAX {limits.QUEUE_CAPACITY_SLOTS_MAX}"


def _enum(name: str, members: type[IntEnum]) -> str:
    prefix = f"EXCHANGE_{name}".removesuffix("_kind").upper()
    lines = [f"    {prefix}_{member.name} = {member.value}," for member in members]
    return "\n".join([_comment(members.__doc__ or ""), f"enum exchange_{name} {{", *lines, "};"])


def _struct(name: str, layout: np.dtype[Any]) -> str:
    """A structure whose members have the offsets of ``layout``, gaps filled, and the assertions that they do."""
    members, assertions, end = [], [f"sizeof({name}) == {layout.itemsize}"], 0
    assert layout.fields is not None
    for field, (kind, offset, *_) in layout.fields.items():
        if offset > end:
            members.append(f"uint8_t padding_{end}[{offset - end}]")
        members.append(f"{_C_TYPES[kind.str[1:]]} {field}")
        assertions.append(f"offsetof({name}, {field}) == {offset}")
        end = offset + kind.itemsize
    if layout.itemsize > end:
        members.append(f"uint8_t padding_{end}[{layout.itemsize - end}]")
    lines = [f"typedef struct {name} {{", *(f"    {member};" for member in members), f"}} {name};"]
    return "\n".join(lines + [f"EXCHANGE_ASSERT_LAYOUT({assertion});" for assertion in assertions])


def prototype(function: CFunction) -> str:
    """The declaration of a function, without its semicolon."""
    parameters = ", ".join(_declare(kind, name) for kind, name in function.parameters)
    text = f"{_declare(function.result, function.name)}({parameters})"
    return "\n".join(textwrap.wrap(text, LINE_MAX, subsequent_indent="    "))


def _declare(kind: str, name: str) -> str:
    return f"{kind}{name}" if kind.endswith("*") else f"{kind} {name}"


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, LINE_MAX - 6, break_long_words=False)
    return "/* " + "\n * ".join(lines) + " */"
