"""Settings as text: a resolved profile as TOML, and the reference of all keys as Markdown.

Both are made from the structs, so neither can say what the code does not do. :func:`settings_toml` is itself
a valid profile that resolves to the same values, which makes "show, save, edit" a way to start one. The page
``docs/profiles.md`` holds :func:`settings_reference` between two markers, and a test compares them.
"""

from collections.abc import Sequence

from exchange.matching.symbol_owners import spread_symbols, symbols_by_shard
from exchange.profile_files import toml_value
from exchange.settings import Resolved, Settings, tables, to_dict
from exchange.settings_schema import Key, Table, allowed_values
from exchange.transport.config import MemoryTransportConfig

_COMMENT_COLUMN = 40
_SHOWN_SYMBOLS = 12


def settings_toml(resolved: Resolved) -> str:
    """The resolved profile as TOML, each line with a comment that says where its value came from."""
    document = to_dict(resolved.settings)
    lines = [
        f"# {' → '.join(resolved.chain)}",
        f"description = {toml_value(resolved.settings.description)}",
    ]
    for table, content in document.items():
        if isinstance(content, dict):
            lines += ["", f"[{table}]"]
            for key, value in content.items():
                statement = f"{key} = {toml_value(value)}"
                lines.append(f"{statement:<{_COMMENT_COLUMN}} # {resolved.origins[f'{table}.{key}']}")
            if table == "shards":
                lines += _owners(resolved.settings)
    return "\n".join(lines) + "\n"


def _owners(settings: Settings) -> list[str]:
    """Which shard owns which symbols, as comments; nothing where there is one shard."""
    count, symbols = settings.shards.count, settings.gateway.symbols
    if count == 1:
        return []
    if isinstance(settings.transport, MemoryTransportConfig):
        return [f"# in memory symbols have numbers and no names: symbol n is on shard n % {count}"]
    owned = symbols_by_shard(symbols, spread_symbols(settings, len(symbols)), count)
    return [f"# shard {shard}: {_some(names)}" for shard, names in enumerate(owned)]


def _some(names: Sequence[str]) -> str:
    """The first names of many."""
    more = f" and {len(names) - _SHOWN_SYMBOLS} more" if len(names) > _SHOWN_SYMBOLS else ""
    return (", ".join(names[:_SHOWN_SYMBOLS]) + more) or "no symbols"


def settings_reference() -> str:
    """Every table, kind and key of a profile as Markdown: type, unit, default, what is allowed."""
    return "\n".join(line for table in tables().values() for line in _table_reference(table))


def _table_reference(table: Table) -> list[str]:
    lines = [f"### `[{table.name}]`", ""]
    if table.kinds:
        lines += ["| `kind` | what it chooses |", "|---|---|"]
        for written, variant in zip(table.kinds, table.variants.values(), strict=True):
            default = " (default)" if variant.kind == table.default_kind else ""
            lines.append(f"| `{written}`{default} | {_cell(variant.summary)} |")
    else:
        lines.append(table.variants[None].summary)
    keys: dict[str, Key] = {}
    for variant in table.variants.values():
        keys |= variant.keys
    if keys:
        of_kind, rule = ("of kind | ", "---|") if len(table.variants) > 1 else ("", "")
        lines += ["", f"| key | {of_kind}takes | unit | default | meaning |", f"|---|{rule}---|---|---|---|"]
        lines += [_key_row(table, key) for key in keys.values()]
    return [*lines, ""]


def _key_row(table: Table, key: Key) -> str:
    cells = [f"`{key.name}`"]
    if len(table.variants) > 1:
        having = [variant for variant in table.variants.values() if key.name in variant.keys]
        named = ", ".join("`file:…`" if one.is_user_file else f"`{one.kind}`" for one in having)
        cells.append("all" if len(having) == len(table.variants) else named)
    cells += [allowed_values(key), key.unit, f"`{toml_value(key.default)}`", key.description]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(settings_reference())
