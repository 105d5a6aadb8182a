"""Whatever a profile holds, it becomes settings or one clear line: no other exception, no second line.

A random document would only ever meet the first check. So most documents here are valid ones with a mistake
or two in them, and the words of the mistakes come from a profile's own vocabulary.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from exchange.agent_layout import thread_layout
from exchange.errors import UserError
from exchange.profile_files import override_layer, show_key, toml_value
from exchange.settings import (
    Resolved,
    diff,
    list_profiles,
    load_profile,
    resolve,
    tables,
    to_dict,
)
from exchange.settings_schema import Key, Problem, Table, check_value
from exchange.settings_text import settings_toml

VARIANTS = [variant for table in tables().values() for variant in table.variants.values()]
WORDS = [
    *sorted({key for variant in VARIANTS for key in variant.keys}),
    *sorted({kind for table in tables().values() for kind in table.kinds}),
    *tables(),
    *("kind", "extends", "description", "name", "park_us", "capacity", "auto", "ingress", "shard.0"),
]
PARENTS = [*list_profiles(), "./fuzz.toml", "./other.toml", "no-such-profile", ""]

words = st.sampled_from(WORDS) | st.text(max_size=8)
quantities = st.builds(
    "{}{}".format,
    st.integers(-5, 10**6) | st.floats(0, 10),
    st.sampled_from(["ns", "us", " µs", "ms", "s", "MiB", "kB", " ", "e"]),
)
scalars = (
    words
    | quantities
    | st.integers()
    | st.sampled_from([0, 1, 2, 64, 4096, 2**24, 2**36, 2**300])
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.builds("file:{}:{}".format, words, words)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module", autouse=True)
def _in_a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("fuzz"))
        Path("other.toml").write_text('extends = "lockfree"\nidle.kind = "park"')
        yield


def resolve_or_refuse(content: bytes, overrides: tuple[str, ...] = ()) -> Resolved | str:
    """The resolved settings, checked for use, or the message of the refusal, checked for its form."""
    Path("fuzz.toml").write_bytes(content)
    try:
        resolved = resolve("./fuzz.toml", overrides)
    except UserError as error:
        message = str(error)
    else:
        json.dumps(to_dict(resolved.settings))
        assert thread_layout(resolved.settings, 2)
        return resolved
    assert message.splitlines() == [message]
    assert message.startswith(("fuzz.toml", "--set"))
    return message


def as_toml(document: dict[str, object]) -> bytes:
    lines = [f"{show_key(key)} = {toml_value(value)}" for key, value in document.items()]
    return "\n".join(lines).encode("utf-8", "replace")


def allowed(key: Key) -> st.SearchStrategy[object]:
    """Values that ``key`` takes, whatever the other keys say."""
    match key.type:
        case inspect.IntType(ge=int(low), le=int(high)) if key.power_of_two:
            return st.integers(low.bit_length() - 1, high.bit_length() - 1).map(lambda power: 2**power)
        case inspect.IntType(ge=low, le=high):
            return st.integers(low, high)
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType(values=words_of_key):
            return st.sampled_from(words_of_key)
        case inspect.UnionType():
            return st.just("auto")
        case inspect.VarTupleType(item_type=inspect.FloatType(ge=low, le=high)):
            return st.sets(st.floats(low, high), min_size=1, max_size=4).map(sorted)
        case inspect.StrType():
            return st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=9)
        case inspect.DictType(value_type=inspect.IntType(ge=low, le=high)):
            return st.dictionaries(words, st.integers(low, high), max_size=3)
        case inspect.VarTupleType(item_type=inspect.StrType()):
            return st.lists(st.text("ABC", max_size=9), min_size=1, max_size=4)
        case _:
            raise TypeError(key)


@st.composite
def valid_table(draw: st.DrawFn, table: Table) -> dict[str, object]:
    kind = draw(st.sampled_from([kind for kind in table.variants if kind != "file"]))
    content: dict[str, object] = {} if kind is None else {"kind": kind}
    for key in table.variants[kind].keys.values():
        if draw(st.booleans()):
            content[key.name] = draw(allowed(key))
    return content


@st.composite
def valid_document(draw: st.DrawFn) -> dict[str, dict[str, object]]:
    chosen = draw(st.sets(st.sampled_from(sorted(tables()))))
    return {name: draw(valid_table(tables()[name])) for name in sorted(chosen)}


@st.composite
def damaged_document(draw: st.DrawFn) -> dict[str, object]:
    document: dict[str, object] = dict(draw(valid_document()))
    document["extends"] = draw(st.sampled_from(list_profiles()))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(["value", "value", "value", "key", "table", "top", "extends"]))
        name = draw(st.sampled_from(sorted(tables())))
        content = document.setdefault(name, {})
        if place == "extends":
            document["extends"] = draw(st.sampled_from(PARENTS) | values)
        elif place == "top":
            document[draw(words)] = draw(values)
        elif place == "table" or not isinstance(content, dict):
            document[name] = draw(values)
        else:
            known = [*content, *tables()[name].variants[tables()[name].default_kind].keys, "kind"]
            content[draw(st.sampled_from(known) if place == "value" else words)] = draw(values)
    return document


options = st.builds("{}.{}={}".format, words, words, scalars) | st.text(max_size=20)


@given(damaged_document(), st.lists(options, max_size=1))
@settings(max_examples=400, deadline=None)
def test_documents_with_mistakes(document: dict[str, object], overrides: list[str]) -> None:
    resolve_or_refuse(as_toml(document), tuple(overrides))


@given(st.dictionaries(words, values, max_size=4))
@settings(max_examples=100, deadline=None)
def test_documents_of_any_shape(document: dict[str, object]) -> None:
    resolve_or_refuse(as_toml(document))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes(content: bytes) -> None:
    resolve_or_refuse(content)


@given(st.data(), st.sampled_from(list_profiles()))
@settings(max_examples=200, deadline=None)
def test_profiles_with_damaged_bytes(data: st.DataObject, name: str) -> None:
    content = bytearray(settings_toml(resolve(name)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 20))
        content[position : position + length] = data.draw(st.binary(max_size=4))
    resolve_or_refuse(bytes(content))


@given(valid_document(), st.sampled_from(list_profiles()))
@settings(max_examples=200, deadline=None)
def test_allowed_values_are_taken_and_survive_being_shown(
    document: dict[str, dict[str, object]], parent: str
) -> None:
    resolved = resolve_or_refuse(as_toml({"extends": parent, **document}))
    if isinstance(resolved, str):
        impossible = (
            "above price_max_ticks",
            "GiB are allowed",
            "a disruptor has one producer",
            "newer requests could overtake",
            "threads leave out",
            "is none of gateway.symbols",
            "threads name an unknown agent",
            "several take tcp",
            "block sleeps until",
            "block watches one",
            "must be OWNER:LIMIT=NUMBER",
            "and a segment has",
            "so there must be one",
            "must be 1 to 64 letters",
            "one renewal that fails",
            "or nats://",
            "the ring must hold four",
            "only shards are in processes",
            "processes do not go with",
        )
        assert any(words_of_refusal in resolved for words_of_refusal in impossible)
        return
    built = to_dict(resolved.settings)
    for table, content in document.items():
        as_built = built[table]
        assert isinstance(as_built, dict)
        for key, value in content.items():
            assert as_built[key] == (tuple(value) if isinstance(value, list) else value)
    Path("shown.toml").write_text(settings_toml(resolved))
    assert diff(load_profile("./shown.toml"), resolved.settings) == ()


@given(st.integers(0, 10**12), st.sampled_from([("ns", 0), ("us", 3), ("µs", 3), ("ms", 6), ("s", 9)]))
def test_a_time_with_a_unit_is_exact(duration_ns: int, unit_and_digits: tuple[str, int]) -> None:
    unit, digits = unit_and_digits
    whole, part = divmod(duration_ns, 10**digits)
    text = f"{whole}.{part:0{digits}d}{unit}" if digits else f"{whole}{unit}"
    key = tables()["bench"].variants[None].keys["point_duration_ns"]
    assert isinstance(key.type, inspect.IntType)
    if key.type.ge is not None and key.type.le is not None and key.type.ge <= duration_ns <= key.type.le:
        assert check_value(key, text) == duration_ns
    else:
        with pytest.raises(Problem, match="out of range"):
            check_value(key, text)


@given(options | st.text(max_size=30))
def test_an_option_is_a_layer_of_one_value_or_an_error(option: str) -> None:
    try:
        layer = override_layer([option])
    except UserError as error:
        message = str(error)
    else:
        ((table, content),) = layer.document.items()
        assert isinstance(content, dict)
        assert option.strip().startswith(f"{table}.{next(iter(content))}")
        return
    assert message.splitlines() == [message]
