"""Finding and reading profile files: from a name or a path to the chain of layers that it stands on.

A profile is a TOML file; ``extends`` names the one it builds on. This module turns text into :class:`Layer`
objects and knows nothing of what the keys mean. What a layer adds to plain TOML is *where* each value was
written, so that whoever finds a value wrong can say so with file and line.

Rules:

* A name without ``/`` and ``.toml`` is a profile that comes with the exchange; anything else is a path,
  relative to the current directory on the command line and to the naming file in ``extends``. A file of the
  same name in the current directory therefore never changes what ``lockfree`` means in a result.
* ``--set`` options form a layer of their own on top of the chain.
* Every mistake is a :class:`~exchange.errors.UserError` of one line.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple

import exchange
from exchange import limits
from exchange.errors import UserError

KeyPath = tuple[str, ...]

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")
_OPTION = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\s*=\s*(.*)", re.DOTALL)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STATEMENT_LINES_MAX: Final = 100
"""No value of a profile is this long, and the search for a statement's end is quadratic."""
_SHOWN_DEPTH_MAX: Final = 4
_SHOWN_CHARACTERS_MAX: Final = 80


class Layer(NamedTuple):
    """One profile file, or the ``--set`` options together.

    ``document`` is the parsed TOML, ``folder`` what relative paths in its values are relative to. ``places``
    maps a key path to where it was written as errors name it (``lockfree.toml:7``,
    ``--set``), ``origins`` to the short form that ``profile show`` prints. The empty path stands for
    the layer as a whole.
    """

    name: str
    folder: Path
    document: dict[str, object]
    places: dict[KeyPath, str]
    origins: dict[KeyPath, str]

    def place(self, *key_path: str) -> str:
        """Where ``key_path``, or else the nearest table around it, was written, for an error message."""
        return _nearest(self.places, key_path)

    def origin(self, *key_path: str) -> str:
        """The same in short, for a reader of ``profile show``."""
        return _nearest(self.origins, key_path)


def show_value(value: object) -> str:
    """``value`` as TOML would write it, for a message: on one line, and cut to a length."""
    return _cut(toml_value(value))


def toml_value(value: object, depth: int = 0) -> str:
    """``value`` (anything TOML can hold) as TOML on one line; what is nested too deeply becomes ``…``."""
    if depth > _SHOWN_DEPTH_MAX:
        return "…"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; DEL and the C1 controls are escaped as well, or a terminal would obey.
        text = json.dumps(value, ensure_ascii=False)
        return re.sub(r"[\x7f-\x9f\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", text)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item, depth + 1) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{show_key(str(key))} = {toml_value(item, depth + 1)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"(an integer of {value.bit_length()} bits)"
    return str(value)


def show_key(key: str) -> str:
    """A key as TOML writes it: bare where it can be, quoted where it must."""
    return _cut(key) if _BARE_KEY.fullmatch(key) else show_value(key)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX - 1] + "…"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`` (did you mean X?)`` for the nearest of ``known``, or nothing when none is near."""
    near = get_close_matches(word.lower(), known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def builtin_folder() -> Path:
    """Where the profiles that come with the exchange lie.

    A wheel carries a copy inside the package; in a source tree (also one that is installed editable) it is
    the ``profiles`` folder beside the package. The copy goes first: what lies beside an installed package is
    not ours.
    """
    package = Path(exchange.__file__).parent
    installed = package / "profiles"
    return installed if installed.is_dir() else package.parent / "profiles"


def builtin_names() -> tuple[str, ...]:
    """Names of the profiles that come with the exchange, in alphabetical order."""
    return tuple(sorted(path.stem for path in builtin_folder().glob("*.toml")))


def read_chain(name_or_path: str | Path) -> tuple[Layer, ...]:
    """The profile and all it builds on, the profile itself first, the root of the chain last.

    Raises UserError for a missing or unreadable file, text that is not TOML, an ``extends`` that is no name
    or path, a cycle, and a chain longer than ``limits.PROFILE_CHAIN_MAX``.
    """
    path = _find(str(name_or_path), Path(), "")
    chain: list[Layer] = []
    seen: list[str] = []
    while True:
        layer = _read(path)
        chain.append(layer)
        seen.append(os.path.realpath(path))
        if "extends" not in layer.document:
            return tuple(chain)
        parent = layer.document["extends"]
        complaint = f"{layer.place('extends')}: extends = {show_value(parent)}: "
        if not isinstance(parent, str):
            raise UserError(complaint + "must be a string, the name of one profile or the path of its file")
        path = _find(parent, layer.folder, complaint)
        if os.path.realpath(path) in seen:
            first = seen.index(os.path.realpath(path))
            circle = [*(link.name for link in chain[first:]), chain[first].name]
            raise UserError(complaint + "a cycle: " + " → ".join(circle))
        if len(chain) == limits.PROFILE_CHAIN_MAX:
            raise UserError(complaint + f"a chain has at most {limits.PROFILE_CHAIN_MAX} profiles")


def override_layer(overrides: Sequence[str]) -> Layer:
    """The layer that ``--set`` options make: ``["queue.capacity_slots=4096", "idle.kind=park"]``.

    A value is read as TOML; what is not TOML is taken as a string, so that quotes may be left out. Of two
    options for one key the later counts. Raises UserError for an option that is not TABLE.KEY=VALUE.
    """
    document: dict[str, object] = {}
    places: dict[KeyPath, str] = {(): "--set"}
    for option in overrides:
        match = _OPTION.fullmatch(option.strip())
        if match is None or match[1] in ("extends", "description"):
            raise UserError(f"--set {show_value(option)}: must be TABLE.KEY=VALUE, as in queue.kind=spsc")
        table, key, text = match.groups()
        entries = document.setdefault(table, {})
        assert isinstance(entries, dict)
        entries[key] = _option_value(option, text)
        places[(table, key)] = "--set"
    return Layer("--set", Path.cwd(), document, places, dict.fromkeys(places, "--set"))


def line_numbers(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which a valid TOML ``text`` first writes each key and table, to a depth of three.

    ``tomllib`` keeps no positions. But a document is a row of statements, and the shortest run of lines that
    parses alone is one statement; so the parser itself tells where each one ends.
    """
    numbers: dict[KeyPath, int] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    table: KeyPath = ()
    start = 0
    while start < len(lines):
        statement, end = _statement(lines, start)
        if statement is None:
            break
        if lines[start].lstrip().startswith("["):
            table = _only_path(statement)
            numbers.setdefault(table, start + 1)
        else:
            for path in _paths(statement, table):
                numbers.setdefault(path, start + 1)
        start = end
    return numbers


def _statement(lines: list[str], start: int) -> tuple[dict[str, object] | None, int]:
    """The statement that begins on line ``start`` (None when its end is too far away) and the line after
    it."""
    for end in range(start + 1, min(len(lines), start + _STATEMENT_LINES_MAX) + 1):
        try:
            return tomllib.loads("\n".join(lines[start:end])), end
        except (ValueError, RecursionError):
            continue
    return None, start


def _only_path(statement: dict[str, object]) -> KeyPath:
    """The path of the table that a header such as ``[a.b]`` opens."""
    path: list[str] = []
    value: object = statement
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)


def _paths(value: object, above: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, dict) and len(above) < 3:
        for key, item in value.items():
            yield (*above, key)
            yield from _paths(item, (*above, key))


def _nearest(texts: dict[KeyPath, str], key_path: KeyPath) -> str:
    while key_path not in texts:
        key_path = key_path[:-1]
    return texts[key_path]


def _find(name_or_path: str, folder: Path, complaint: str) -> Path:
    """The file of a name or path; ``complaint`` opens the error message."""
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        path = folder / name_or_path
        if not os.path.isfile(path):
            raise UserError(f"{complaint}no such profile file: {_shown_path(path)}")
        return path
    path = builtin_folder() / f"{name_or_path}.toml"
    if not os.path.isfile(path):
        names = builtin_names()
        raise UserError(
            f"{complaint}no profile is called {show_value(name_or_path)}{did_you_mean(name_or_path, names)};"
            f" there are {', '.join(names)}, and a file of your own is named by its path, as in ./mine.toml"
        )
    return path


def _shown_path(path: Path) -> str:
    """Relative to the current directory where it lies below, with line breaks and the like escaped."""
    absolute = os.path.abspath(path)
    inside = os.path.relpath(absolute)
    text = absolute if inside.startswith("..") else inside
    return text if text.isprintable() else show_value(text)


def _read(path: Path) -> Layer:
    shown = _shown_path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(limits.PROFILE_BYTES_MAX + 1)
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from error
    if len(content) > limits.PROFILE_BYTES_MAX:
        raise UserError(f"{shown}: too large for a profile: more than {limits.PROFILE_BYTES_MAX} bytes")
    text = _decode(content, shown)
    document = _parse(text, shown)
    lines = line_numbers(text)
    folder = path.absolute().parent
    label = path.name if folder == builtin_folder().absolute() else shown
    return Layer(
        name=path.stem,
        folder=folder,
        document=document,
        places={(): shown} | {key: f"{shown}:{line}" for key, line in lines.items()},
        origins={(): label} | {key: f"{label}:{line}" for key, line in lines.items()},
    )


def _decode(content: bytes, shown: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{shown}:{line}: not TOML: byte {error.start} is not UTF-8") from error


def _parse(text: str, shown: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UserError(f"{shown}: not a profile: its values are nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        message = str(error).replace("\n", "\\n")
        match = _POSITION.search(message)
        line, column = str(text.rstrip().count("\n") + 1), "the end of the file"
        if match is not None and match[1] is not None:
            line, column = match[1], f"column {match[2]}"
        raise UserError(f"{shown}:{line}: not valid TOML: {_POSITION.sub('', message)} ({column})") from error
    except ValueError as error:
        raise UserError(f"{shown}: not a profile: an integer has too many digits") from error


def _option_value(option: str, text: str) -> object:
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError) as error:
        if text[:1] in ("[", "{", '"', "'"):
            raise UserError(f"--set {show_value(option)}: the value is not valid TOML") from error
        return text
    return document["value"] if len(document) == 1 else text
