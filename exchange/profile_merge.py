"""Merging a chain of layers, table by table and key by key, into one set of checked values.

A child's table is laid over its parent's: keys that it does not mention keep the parent's values. When a
child changes a table's ``kind``, values that the new kind does not know are left behind; but a key that a
layer writes itself must be one of the kind that holds in that layer. Every value is checked in the layer that
writes it, so a mistake in a parent is reported in the parent's file even where a child hides it.

Errors are :class:`~exchange.errors.UserError` of one line: ``file:line: table.key = value: what is wrong;
allowed``.
"""

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from exchange.errors import UserError
from exchange.profile_files import Layer, did_you_mean, show_key, show_value
from exchange.settings_schema import Problem, Table, check_value, parse_kind, unknown_key


class Entry(NamedTuple):
    """One value that a layer writes, checked; ``depth`` counts layers from the root of the chain."""

    value: object
    place: str
    origin: str
    depth: int


class MergedTable(NamedTuple):
    """What the layers together say of one table.

    ``carried`` are the fields that the kind itself carries (``file:PATH:NAME``); ``entries`` holds the keys
    written anywhere in the chain, ``kind`` among them where it was.
    """

    kind: str | None
    carried: dict[str, object]
    entries: dict[str, Entry]

    def values(self) -> dict[str, object]:
        """The table as ``msgspec.convert`` takes it."""
        written = {key: entry.value for key, entry in self.entries.items() if key != "kind"}
        return ({} if self.kind is None else {"kind": self.kind}) | self.carried | written


def merge_layers(layers: Sequence[Layer], tables: dict[str, Table]) -> dict[str, MergedTable]:
    """The tables that ``layers``, the root of the chain first, say together; UserError for the first
    mistake."""
    merged: dict[str, MergedTable] = {}
    for depth, layer in enumerate(layers):
        for name, content in layer.document.items():
            if name in tables:
                if not isinstance(content, dict):
                    _refuse(layer, (name,), content, f"must be a table: a line [{name}] and its keys below")
                under = merged.get(name, MergedTable(tables[name].default_kind, {}, {}))
                merged[name] = _lay_over(under, layer, depth, tables, tables[name], content)
            elif name == "description":
                if not isinstance(content, str):
                    _refuse(layer, (name,), content, "must be a string")
            elif name != "extends":
                _refuse(layer, (name,), content, _unknown_name(name, content, tables))
    return merged


def _lay_over(
    under: MergedTable,
    layer: Layer,
    depth: int,
    tables: dict[str, Table],
    table: Table,
    content: dict[str, object],
) -> MergedTable:
    kind, carried, entries = under.kind, under.carried, dict(under.entries)

    def write(key: str, value: object) -> None:
        entries[key] = Entry(value, layer.place(table.name, key), layer.origin(table.name, key), depth)

    if "kind" in content and table.kinds:
        try:
            kind, carried = parse_kind(table, content["kind"], str(layer.folder))
        except Problem as problem:
            _refuse(layer, (table.name, "kind"), content["kind"], str(problem))
        entries = {key: entry for key, entry in entries.items() if key in table.variants[kind].keys}
        write("kind", content["kind"])
    keys = table.variants[kind].keys
    for name, value in content.items():
        if name == "kind" and table.kinds:
            continue
        if name not in keys:
            _refuse(layer, (table.name, name), value, unknown_key(tables, table, kind, name))
        try:
            write(name, check_value(keys[name], value))
        except Problem as problem:
            _refuse(layer, (table.name, name), value, str(problem))
    return MergedTable(kind, carried, entries)


def _unknown_name(name: str, content: object, tables: dict[str, Table]) -> str:
    written = [f"[{table}]" for table in tables]
    if name == "name":
        return "unknown key; a profile is called what its file is called"
    if isinstance(content, dict):
        return f"unknown table{did_you_mean(name, written)}; allowed: {', '.join(written)}"
    hint = did_you_mean(name, ["extends", "description"])
    for table in tables.values():
        if any(name in variant.keys for variant in table.variants.values()):
            hint = f" outside of a table (did you mean {table.name}.{name}?)"
    return f"unknown key{hint}; allowed: extends, description, {', '.join(written)}"


def _refuse(layer: Layer, key_path: tuple[str, ...], value: object, problem: str) -> NoReturn:
    name = ".".join(show_key(key) for key in key_path)
    raise UserError(f"{layer.place(*key_path)}: {name} = {show_value(value)}: {problem}")
