"""What a profile may say, read off the settings structs, and the checks that hold a profile's values against
it.

The structs are the only source: names, types, ranges, defaults and descriptions of all keys come from their
annotations through ``msgspec.inspect``. msgspec could decode a profile alone, but its messages speak of JSON
paths; these speak of tables, kinds and units, and know the nearest right answer.

Rules:

* The last word of a key is its unit. ``_ns`` takes whole nanoseconds or a string such as "50us", ``_bytes``
  takes bytes or a string such as "2MiB"; every other number is a plain count.
* A problem is reported as a :class:`Problem`, which does not know where the value was written; the caller
  adds that.
* ``Meta(extra={"power_of_two": True})`` asks for a power of two, ``{"from_kind": True}`` marks a field that
  is no key because ``kind = "file:PATH:NAME"`` carries it.
"""

import os
import re
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
from msgspec import inspect

from exchange.profile_files import did_you_mean, show_value

FILE_KIND: Final = "file"

_QUANTITY = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z\u00b5\u03bc]+)\s*")
_TIME_UNITS_NS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_BYTE_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNIT_NAMES: Final = {
    "ns": "nanoseconds",
    "bytes": "bytes",
    "slots": "slots",
    "orders": "orders",
    "commands": "commands",
    "ticks": "ticks",
    "lanes": "lanes",
    "fractions": "fractions",
}
_UNIT_HINTS: Final = {
    "nanoseconds": ' (nanoseconds, or a string such as "50us")',
    "bytes": ' (bytes, or a string such as "2MiB")',
}
_UNIT_WORDS: Final = {*_UNIT_NAMES, "us", "ms", "s", "sec", "seconds", "kb", "mb", "gb", "kib", "mib", "gib"}


class Problem(Exception):
    """What is wrong with a value, without where it was written."""


class Key(NamedTuple):
    """One key of one variant."""

    name: str
    type: inspect.Type
    default: object
    description: str
    power_of_two: bool

    @property
    def unit(self) -> str:
        """``nanoseconds`` and the like, or nothing for a plain number, a word or a list."""
        return _UNIT_NAMES.get(self.name.rpartition("_")[2], "")


class Variant(NamedTuple):
    """One struct: the keys that a table knows when its kind is ``kind`` (None for a table without kinds).

    ``is_user_file`` says that it is a class of the user's own, whose kind is written ``file:PATH:NAME``. A kind may
    also be called ``file`` because it is about files.
    """

    kind: str | None
    summary: str
    keys: dict[str, Key]
    is_user_file: bool

    @property
    def written_kind(self) -> str | None:
        """The kind as a profile writes it."""
        return "file:PATH:NAME" if self.is_user_file else self.kind


class Table(NamedTuple):
    """One table of a profile with its variants; ``default_kind`` is what holds where no profile names a
    kind."""

    name: str
    default_kind: str | None
    variants: dict[str | None, Variant]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds as a profile writes them; none for a table without kinds."""
        written = (variant.written_kind for variant in self.variants.values())
        return tuple(kind for kind in written if kind is not None)

    @property
    def takes_user_files(self) -> bool:
        """Whether a class of the user's own may stand in."""
        return any(variant.is_user_file for variant in self.variants.values())


def tables_of(settings: type[msgspec.Struct]) -> dict[str, Table]:
    """The tables of a settings struct: each of its fields that is a struct, or a union of tagged structs.

    A key that several variants of a table have must be the same in all of them, so that a child profile which
    changes the kind can inherit its value; TypeError if it is not.
    """
    tables = {}
    for field in _struct_type(settings).fields:
        structs = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        variants = [_variant(struct) for struct in structs if isinstance(struct, inspect.StructType)]
        if variants:
            default_kind = _kind_of(_struct_type(type(field.default)))
            tables[field.name] = Table(
                field.name, default_kind, {variant.kind: variant for variant in variants}
            )
            _check_alike(tables[field.name])
    return tables


def keys_of(struct: type[msgspec.Struct]) -> dict[str, Key]:
    """The keys of one variant, by name."""
    return _variant(_struct_type(struct)).keys


def _struct_type(struct: type[object]) -> inspect.StructType:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info


def _variant(struct: inspect.StructType) -> Variant:
    keys, is_user_file = {}, False
    for field in struct.fields:
        description, extra, plain = "", {}, field.type
        if isinstance(plain, inspect.Metadata):
            description = (plain.extra_json_schema or {}).get("description", "")
            extra = plain.extra or {}
            plain = plain.type
        if "from_kind" in extra:
            is_user_file = True
        else:
            default = field.default_factory() if callable(field.default_factory) else field.default
            keys[field.name] = Key(field.name, plain, default, description, "power_of_two" in extra)
    summary = " ".join((struct.cls.__doc__ or "").split())
    return Variant(_kind_of(struct), summary, keys, is_user_file)


def _kind_of(struct: inspect.StructType) -> str | None:
    return struct.tag if isinstance(struct.tag, str) else None


def _check_alike(table: Table) -> None:
    first: dict[str, Key] = {}
    for variant in table.variants.values():
        for key in variant.keys.values():
            if first.setdefault(key.name, key) != key:
                raise TypeError(f"the variants of [{table.name}] disagree about {key.name}")


def parse_kind(table: Table, value: object, folder: str) -> tuple[str, dict[str, object]]:
    """The variant's kind that ``kind = value`` chooses, and the fields that the value itself carries.

    ``file:PATH:NAME`` gives ``("file", {"path": absolute, "name": NAME})``, where PATH is relative to
    ``folder``. Raises Problem for a kind that the table does not have, and for a PATH without a file.
    """
    allowed = f"allowed: {', '.join(table.kinds)}"
    if not isinstance(value, str):
        raise Problem(f"must be a string; {allowed}")
    if value.startswith("file:") or (value == FILE_KIND and FILE_KIND not in table.kinds):
        if not table.takes_user_files:
            raise Problem(f"[{table.name}] cannot be loaded from a file; {allowed}")
        return FILE_KIND, _user_file(value, folder)
    if value not in table.variants:
        raise Problem(f"unknown kind{did_you_mean(value, table.kinds)}; {allowed}")
    return value, {}


def _user_file(value: str, folder: str) -> dict[str, object]:
    path, _, name = value.removeprefix("file:").rpartition(":")
    if not path or not name.isidentifier():
        raise Problem("must be file:PATH:NAME, a Python file and its class, as in file:./my_queue.py:MyQueue")
    absolute = os.path.abspath(os.path.join(folder, path))
    if not absolute.endswith(".py"):
        raise Problem(f"PATH must end in .py, not {show_value(os.path.basename(absolute))}")
    if not os.path.isfile(absolute):
        raise Problem(f"there is no file {show_value(absolute)}")
    return {"path": absolute, "name": name}


def unknown_key(tables: dict[str, Table], table: Table, kind: str | None, name: str) -> str:
    """Why ``name`` is no key of ``table`` when its kind is ``kind``, and what was probably meant."""
    keys = table.variants[kind].keys
    having = [str(other) for other, variant in table.variants.items() if name in variant.keys]
    if having:
        return f"not a key of kind {show_value(kind)}, only of {', '.join(having)}"
    for other in tables.values():
        if any(name in variant.keys for variant in other.variants.values()):
            return f"unknown key of [{table.name}] (did you mean {other.name}.{name}?)"
    allowed = f"allowed: {', '.join([*(['kind'] if table.kinds else []), *keys])}"
    meant = _same_stem(name, keys)
    if meant is not None:
        unit = f" ({meant.unit})" if meant.unit else ""
        return f"unknown key (did you mean {meant.name}{unit}?); {allowed}"
    return f"unknown key{did_you_mean(name, ['kind', *keys] if table.kinds else [*keys])}; {allowed}"


def _same_stem(name: str, keys: dict[str, Key]) -> Key | None:
    """The key that differs from ``name`` in its unit only."""
    stem, _, last = name.lower().rpartition("_")
    stems = {name.lower(), stem} if last in _UNIT_WORDS and stem else {name.lower()}
    for key in keys.values():
        key_stem, _, key_last = key.name.rpartition("_")
        if key_last in _UNIT_NAMES and key_stem in stems:
            return key
    return None


def check_value(key: Key, value: object) -> object:
    """``value`` as ``msgspec.convert`` takes it, units resolved; raises Problem if it is not allowed."""
    if isinstance(key.type, inspect.IntType):
        return _check_integer(key, key.type, value)
    if isinstance(key.type, inspect.VarTupleType) and isinstance(key.type.item_type, inspect.FloatType):
        return _check_numbers(key, key.type, key.type.item_type, value)
    if not _fits(key.type, value):
        raise Problem(f"must be {allowed_values(key)}")
    return value


def allowed_values(key: Key) -> str:
    """What the key takes, in words: for the error message and for the reference."""
    plain = key.type
    if isinstance(plain, inspect.IntType):
        return f"{'a power of two' if key.power_of_two else 'an integer'} from {plain.ge} to {plain.le}"
    if isinstance(plain, inspect.VarTupleType) and isinstance(plain.item_type, inspect.FloatType):
        item = plain.item_type
        return f"a list of {plain.min_length} to {plain.max_length} numbers, each from {item.ge} to {item.le}"
    return _in_words(plain)


def _in_words(plain: inspect.Type) -> str:
    match plain:
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return " or ".join(show_value(value) for value in plain.values)
        case inspect.UnionType():
            return " or ".join(_in_words(part) for part in plain.types)
        case inspect.StrType():
            return "a string"
        case inspect.VarTupleType(item_type=inspect.VarTupleType(item_type=inspect.StrType())):
            return "a list of lists of strings"
        case inspect.VarTupleType(item_type=inspect.StrType(), min_length=least, max_length=most):
            return f"a list of {least} to {most} strings"
        case inspect.DictType(value_type=inspect.IntType(ge=least, le=most)):
            return f"a table of integers from {least} to {most}, such as {{ NAME = {least} }}"
        case _:
            raise TypeError(f"no words for a setting of type {plain}")


def _fits(plain: inspect.Type, value: object) -> bool:
    match plain:
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.LiteralType():
            return isinstance(value, str) and value in plain.values
        case inspect.UnionType():
            return any(_fits(part, value) for part in plain.types)
        case inspect.VarTupleType():
            return (
                isinstance(value, list)
                and (plain.min_length or 0) <= len(value) <= (plain.max_length or len(value))
                and all(_fits(plain.item_type, item) for item in value)
            )
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.IntType(ge=least, le=most):
            return type(value) is int and (least is None or most is None or least <= value <= most)
        case inspect.DictType():
            return isinstance(value, dict) and all(_fits(plain.value_type, item) for item in value.values())
        case _:
            raise TypeError(f"no check for a setting of type {plain}")


def _check_integer(key: Key, plain: inspect.IntType, value: object) -> int:
    number = _with_unit(key, value) if isinstance(value, str) else value
    allowed = f"must be {allowed_values(key)}{_UNIT_HINTS.get(key.unit, '')}"
    if isinstance(number, bool) or not isinstance(number, int):
        raise Problem(allowed)
    if (plain.ge is not None and number < plain.ge) or (plain.le is not None and number > plain.le):
        raise Problem(f"out of range; {allowed}")
    if key.power_of_two and number & (number - 1):
        below = 1 << (number.bit_length() - 1)
        raise Problem(f"{allowed}; the nearest are {below} and {2 * below}")
    return number


def _with_unit(key: Key, text: str) -> object:
    """The number that a string such as "50us" says in the key's unit, or the string itself if it says
    none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return text
    number, unit = match[1], re.sub("[\u00b5\u03bc]", "u", match[2])  # the micro sign, the Greek letter mu
    units = {"nanoseconds": _TIME_UNITS_NS, "bytes": _BYTE_UNITS}.get(key.unit)
    if units is None:
        counts = f"counts {key.unit} and " if key.unit else ""
        raise Problem(f"wrong unit {show_value(unit)}: {key.name} {counts}takes a plain integer")
    if unit not in units:
        raise Problem(
            f"wrong unit {show_value(unit)}: {key.name} is in {key.unit} and takes {', '.join(units)}"
        )
    scaled = Decimal(number) * units[unit]
    if scaled != int(scaled):
        raise Problem(f"must be a whole number of {key.unit}")
    return int(scaled)


def _check_numbers(
    key: Key, plain: inspect.VarTupleType, item: inspect.FloatType, value: object
) -> list[float]:
    allowed = f"must be {allowed_values(key)}"
    if not isinstance(value, list):
        raise Problem(allowed)
    if not (plain.min_length or 0) <= len(value) <= (plain.max_length or len(value)):
        raise Problem(f"has {len(value)} numbers; {allowed}")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Problem(f"{show_value(number)} is no number; {allowed}")
        if item.ge is not None and item.le is not None and not item.ge <= number <= item.le:
            raise Problem(f"{show_value(number)} is out of range; {allowed}")
    return [float(number) for number in value]
