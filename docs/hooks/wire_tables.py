"""MkDocs hook: the tables of the wire protocols, made from the very classes that encode and decode.

Three kinds of lines of a page are replaced while the site is built, so that there is no second copy of a table::

    <!-- wire messages exchange.wire.ouch50.INBOUND_MESSAGES -->    a section for each message of a MessageTable
    <!-- wire layout exchange.wire.moldudp64.PacketHeader -->       the table of one message, without a heading
    <!-- wire options exchange.wire.ouch50_options.OPTION_FIELDS -->  the table of the options of OUCH 5.0
    <!-- wire codes exchange.wire.ouch_codes -->                    every list of codes that a module defines

A row names the list of its codes as a link; so a page that shows messages shows their codes as well, and the strict
build fails if it does not.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exchange.wire.fields import Code, Codes, NumberCode
from exchange.wire.layout import Field, Message, MessageTable

_MARKER = re.compile(
    r"^<!-- wire (?P<what>messages|layout|options|codes) (?P<name>[\w.]+) -->$", re.MULTILINE
)
_WORDS = re.compile(r"[A-Z][a-z0-9]*")


def message_sections(table: MessageTable) -> Iterator[str]:
    """A heading, what the message is for, and its table, for each message."""
    for letter, cls in table.items():
        layout = cls.layout
        yield f"#### {letter} {layout.title} · {layout.size_bytes} bytes{_tail_of(layout.fields[-1])}\n"
        yield f"{inspect.getdoc(cls)}\n"
        yield from layout_table(cls)


def layout_table(cls: type[Message]) -> Iterator[str]:
    """The rows of one message."""
    yield "| offset | size | field | kind | notes |\n|---|---|---|---|---|"
    for field in cls.layout.fields:
        size = "rest" if field.size_bytes is None else field.size_bytes
        yield f"| {field.offset} | {size} | `{field.name}` | {field.kind.label} | {_notes(field)} |"
    yield ""


def option_table(options: Mapping[int, Field]) -> Iterator[str]:
    """The rows of an appendage's options."""
    yield "| tag | size | option | kind | notes |\n|---|---|---|---|---|"
    for tag, field in options.items():
        yield f"| {tag} | {field.size_bytes} | `{field.name}` | {field.kind.label} | {_notes(field)} |"
    yield ""


def code_sections(module: Any) -> Iterator[str]:
    """A heading and a table for each list of codes that the module itself defines."""
    for cls in vars(module).values():
        is_codes = inspect.isclass(cls) and issubclass(cls, Code | NumberCode)
        if is_codes and cls.__module__ == module.__name__:
            yield f"#### {_title(cls)} {{ #{_anchor(cls)} }}\n"
            yield f"{inspect.getdoc(cls)}\n"
            yield "| code | meaning | name in the program |\n|---|---|---|"
            yield from (f"| {_code(code)} | {code.meaning} | `{cls.__name__}.{code.name}` |" for code in cls)
            yield ""


def _tail_of(last: Field) -> str:
    """What a heading says of the part without a fixed size, if the last field has none."""
    if last.optional:
        return " and what may be absent"
    return f" + {last.kind.label}" if last.size_bytes is None else ""


def _notes(field: Field) -> str:
    """Codes, notes and range of a row."""
    parts = [f"[{_title(codes).lower()}](#{_anchor(codes)})" for codes in field.codes]
    if field.note:
        parts.append(field.note)
    if field.allowed is not None:
        parts.append(str(field.allowed))
    if field.optional:
        parts.append("may be absent")
    return "; ".join(parts).replace("|", "&#124;")


def _title(codes: Codes) -> str:
    """``CancelReason`` -> Cancel reason."""
    return " ".join(_WORDS.findall(codes.__name__)).capitalize()


def _anchor(codes: Codes) -> str:
    return "-".join([codes.__module__.rpartition(".")[2], *_WORDS.findall(codes.__name__)]).lower()


def _code(code: Code | NumberCode) -> str:
    if isinstance(code, NumberCode):
        in_hexadecimal = max(type(code)) < 1 << 16  # as the specification writes a number of two bytes
        return f"{code.value} = 0x{code.value:04X}" if in_hexadecimal else f"{code.value:,}"
    return "space" if code == " " else f"`{code.value}`"


def render(what: str, name: str) -> str:
    """What a marker stands for. Raises ImportError or AttributeError for a name that does not exist."""
    if what == "codes":
        return "\n".join(code_sections(importlib.import_module(name)))
    module, _, attribute = name.rpartition(".")
    shown = getattr(importlib.import_module(module), attribute)
    makers = {"messages": message_sections, "layout": layout_table, "options": option_table}
    return "\n".join(makers[what](shown))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return _MARKER.sub(lambda match: render(match["what"], match["name"]), markdown)
