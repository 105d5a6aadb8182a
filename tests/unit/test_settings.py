"""Settings: what a profile may say, how profiles build on each other, and what follows from them.

What a profile may not say is the subject of ``test_settings_errors.py``.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import pytest

from exchange import limits
from exchange.agent_layout import agent_names, thread_layout
from exchange.errors import UserError
from exchange.matching.config import ShardsConfig
from exchange.messages import ALL_SYMBOLS, COMMAND_DTYPE
from exchange.queues.config import LockedQueueConfig, SpscQueueConfig, UserQueueConfig
from exchange.settings import (
    BusySpinIdle,
    ParkIdle,
    Settings,
    SpinThenYieldIdle,
    diff,
    list_profiles,
    load_profile,
    resolve,
    tables,
    to_dict,
    warnings,
)
from exchange.settings_schema import Problem, check_value, tables_of


@pytest.fixture(autouse=True)
def _in_tmp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "mine.toml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return f"./{name}"


def load(text: str, *overrides: str) -> Settings:
    return load_profile(write(text), overrides)


# What a profile may say.


def test_an_empty_profile_is_the_textbook() -> None:
    textbook = load_profile("textbook")
    assert diff(load(""), textbook) == ()


def test_a_profile_is_called_what_its_file_is_called_and_describes_itself() -> None:
    write('description = "the parent"', "parent.toml")
    assert load('extends = "./parent.toml"').description == ""
    assert load('description = "mine"').name == "mine"


@pytest.mark.parametrize(
    ("text", "park_ns"),
    [
        ("50000", 50_000),
        ('"50000ns"', 50_000),
        ('"50us"', 50_000),
        ('"50 µs"', 50_000),
        ('"50 μs"', 50_000),
        ('" 1.5 ms "', 1_500_000),
        ('"0.05s"', 50_000_000),
        ("0xC350", 50_000),
    ],
)
def test_times_are_nanoseconds_or_carry_their_unit(text: str, park_ns: int) -> None:
    assert load(f'[idle]\nkind = "park"\npark_ns = {text}').idle == ParkIdle(park_ns=park_ns)


class _Memory(msgspec.Struct, frozen=True):
    arena_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0


class _Memories(msgspec.Struct):
    memory: _Memory = _Memory()


@pytest.mark.parametrize(("value", "size"), [(4096, 4096), ("2MiB", 2**21), ("1.5 KiB", 1536), ("7B", 7)])
def test_sizes_are_bytes_or_carry_their_unit(value: object, size: int) -> None:
    key = tables_of(_Memories)["memory"].variants[None].keys["arena_bytes"]
    assert check_value(key, value) == size
    with pytest.raises(Problem, match='wrong unit "MB": arena_bytes is in bytes and takes B, KiB, MiB, GiB'):
        check_value(key, "2MB")
    with pytest.raises(Problem, match='wrong unit "us"'):
        check_value(key, "2us")


def test_a_user_queue_is_found_beside_the_profile_that_names_it(tmp_path: Path) -> None:
    write("class MyQueue: ...", "lab/my_queue.py")
    write('[queue]\nkind = "file:./my_queue.py:MyQueue"\ncapacity_slots = 8', "lab/mine.toml")
    expected = UserQueueConfig(str(tmp_path / "lab/my_queue.py"), "MyQueue", 8)
    assert load_profile("lab/mine.toml").queue == expected
    # A child elsewhere inherits the queue, not the words for its path.
    assert load('extends = "lab/mine.toml"').queue == expected
    assert to_dict(load('extends = "lab/mine.toml"'))["queue"] == {
        "kind": f"file:{tmp_path}/lab/my_queue.py:MyQueue",
        "capacity_slots": 8,
    }


def test_a_user_queue_of_an_option_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    write("class MyQueue: ...", "my_queue.py")
    queue = load_profile("lockfree", ["queue.kind=file:./my_queue.py:MyQueue"]).queue
    assert queue == UserQueueConfig(str(tmp_path / "my_queue.py"), "MyQueue")


# How profiles build on each other.


def test_a_child_overrides_key_by_key() -> None:
    write('[queue]\nkind = "spsc"\ncapacity_slots = 16\nhuge_pages = "never"', "parent.toml")
    assert load('extends = "./parent.toml"\n[queue]\ncapacity_slots = 32').queue == SpscQueueConfig(
        32, "never"
    )


def test_a_change_of_kind_keeps_what_the_new_kind_knows_and_drops_the_rest() -> None:
    write('[idle]\nkind = "park"\nspins = 7\npark_ns = 2000', "parent.toml")
    assert load('extends = "./parent.toml"\nidle.kind = "spin-then-yield"').idle == SpinThenYieldIdle(7)
    assert load('extends = "./parent.toml"\nidle.kind = "busy-spin"').idle == BusySpinIdle()


def test_what_a_change_of_kind_dropped_does_not_come_back() -> None:
    write('[idle]\nkind = "park"\nspins = 7\npark_ns = 2000', "grandparent.toml")
    write('extends = "./grandparent.toml"\nidle.kind = "busy-spin"', "parent.toml")
    assert load('extends = "./parent.toml"\nidle.kind = "park"').idle == ParkIdle()


def test_options_go_on_top_and_the_later_of_two_counts() -> None:
    settings = load_profile(
        "lockfree", ["queue.capacity_slots=16", "idle.kind=park", "queue.capacity_slots=32"]
    )
    assert settings.queue == SpscQueueConfig(32)
    assert settings.idle == ParkIdle()


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("idle.park_ns=50us", "idle.park_ns", 50_000),
        ('idle.park_ns="50us"', "idle.park_ns", 50_000),
        ("queue.huge_pages = never", "queue.huge_pages", "never"),
        ("placement.reserve_os_core=false", "placement.reserve_os_core", False),
        ("bench.offered_load_fractions=[0.5, 1]", "bench.offered_load_fractions", (0.5, 1.0)),
    ],
)
def test_an_option_is_toml_whose_quotes_may_be_left_out(option: str, key: str, value: object) -> None:
    table, _, name = key.partition(".")
    settings = load_profile("pinned", ["idle.kind=park", option])
    assert getattr(getattr(settings, table), name) == value


def test_every_value_knows_where_it_came_from() -> None:
    path = write('extends = "lockfree"\n\n[queue]\n# a comment\ncapacity_slots = 16')
    resolved = resolve(path, ["shards.count=3"])
    assert resolved.chain == ("mine", "lockfree", "locked-sharded", "compiled", "textbook")
    assert resolved.origins["queue.capacity_slots"] == "mine.toml:5"
    assert resolved.origins["queue.kind"].startswith("lockfree.toml:")
    assert resolved.origins["shards.count"] == "--set"
    assert resolved.origins["shards.threads"] == "default"
    assert resolved.origins.keys() == {
        f"{table}.{key}"
        for table, content in to_dict(resolved.settings).items()
        if isinstance(content, dict)
        for key in content
    }


def test_a_file_here_does_not_change_what_a_name_means() -> None:
    write("[shards]\ncount = 9", "lockfree.toml")
    write("[shards]\ncount = 9", "profiles/lockfree.toml")
    assert load_profile("lockfree").shards.count == 2
    assert (
        load_profile("./lockfree.toml").shards.count
        == load_profile("profiles/lockfree.toml").shards.count
        == 9
    )


def test_settings_are_json() -> None:
    document = json.loads(json.dumps(to_dict(load_profile("pinned"))))
    assert document["queue"] == {"kind": "spsc", "capacity_slots": 65536, "huge_pages": "advise"}
    assert document["name"] == "pinned"


def test_a_difference_shows_keys_that_one_side_lacks() -> None:
    first, second = load("idle.kind = 'busy-spin'"), load("idle.kind = 'park'")
    assert diff(first, second) == (
        ("idle.kind", "busy-spin", "park"),
        ("idle.spins", None, 200),
        ("idle.park_ns", None, 50_000),
    )
    assert diff(first, first) == ()


# Threads.


def layout(cores: int, count: int, lanes: int = 1) -> tuple[tuple[str, ...], ...]:
    settings = load_profile("compiled", [f"shards.count={count}", f"transport.ingress_lanes={lanes}"])
    return thread_layout(settings, cores)


def test_the_automatic_layout_gives_the_clients_a_thread_and_the_shards_the_rest() -> None:
    assert layout(2, 2) == (("ingress", "egress"), ("shard.0", "shard.1"))
    assert layout(1, 1) == (("ingress", "egress"), ("shard.0",))
    assert layout(3, 2) == (("ingress", "egress"), ("shard.0",), ("shard.1",))
    assert layout(3, 3) == (("ingress", "egress"), ("shard.0",), ("shard.1", "shard.2"))
    assert layout(64, 1, lanes=2) == (("ingress.0", "ingress.1", "egress"), ("shard.0",))


@pytest.mark.parametrize("cores", [1, 2, 5, 64, 200])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_the_automatic_layout_names_every_agent_once(cores: int, count: int) -> None:
    threads = layout(cores, count, lanes=3)
    names = agent_names(load_profile("compiled", [f"shards.count={count}", "transport.ingress_lanes=3"]))
    assert sorted(agent for thread in threads for agent in thread) == sorted(names)
    assert all(threads)
    assert 2 <= len(threads) <= max(2, cores)


def test_a_layout_of_the_profile_is_taken_as_it_stands() -> None:
    settings = load('[shards]\nthreads = [["ingress", "shard.0", "egress"]]')
    assert thread_layout(settings, 8) == (("ingress", "shard.0", "egress"),)


def test_more_spinning_threads_than_cores_are_worth_a_warning() -> None:
    spinning = load("idle.kind = 'busy-spin'")
    assert warnings(spinning, 2) == ()
    (warning,) = warnings(spinning, 1)
    assert "busy-spin with 2 threads on 1 core:" in warning
    assert len(warnings(load_profile("pinned", ["idle.kind=busy-spin"]), 1)) == 2
    assert warnings(load_profile("textbook"), 1) == ()


# The stairs, and the bounds.

STAIRS = {
    "textbook": set(),
    "compiled": {"queue", "book"},
    "locked-sharded": {"shards"},
    "lockfree": {"queue"},
    "pinned": {"placement"},
}


def test_the_stairs_come_in_order() -> None:
    assert [name for name in list_profiles() if name in STAIRS] == list(STAIRS)


@pytest.mark.parametrize(("lower", "upper"), list(pairwise(STAIRS)))
def test_each_stair_differs_from_the_one_below_in_one_technique(lower: str, upper: str) -> None:
    assert resolve(upper).chain[1] == lower
    changed = {key.partition(".")[0] for key, _, _ in diff(load_profile(lower), load_profile(upper))}
    assert changed == STAIRS[upper]


@pytest.mark.parametrize("name", list_profiles())
def test_every_profile_says_what_to_expect(name: str) -> None:
    settings = load_profile(name)
    assert settings.description
    assert name == "textbook" or "Expect" in settings.description
    assert load_profile(name, ["queue.capacity_slots=2"]).queue.capacity_slots == 2


def test_the_mutex_is_all_that_lockfree_removes() -> None:
    assert load_profile("locked-sharded").queue == LockedQueueConfig()
    assert load_profile("lockfree").queue == SpscQueueConfig()


def test_the_defaults_are_allowed() -> None:
    for table in tables().values():
        for variant in table.variants.values():
            for key in variant.keys.values():
                value = list(key.default) if isinstance(key.default, tuple) else key.default
                assert check_value(key, value) == value


def test_variants_of_a_table_must_agree_about_a_key() -> None:
    class First(msgspec.Struct, frozen=True, tag_field="kind", tag="first"):
        size: Annotated[int, msgspec.Meta(ge=1)] = 1

    class Second(msgspec.Struct, frozen=True, tag_field="kind", tag="second"):
        size: Annotated[int, msgspec.Meta(ge=2)] = 2

    bad = msgspec.defstruct("Bad", [("table", First | Second, First())])
    with pytest.raises(TypeError, match=r"the variants of \[table\] disagree about size"):
        tables_of(bad)


def test_the_bounds_are_those_of_the_records() -> None:
    def most(field: str) -> int:
        return int(np.iinfo(COMMAND_DTYPE[field]).max)

    assert limits.SYMBOLS_MAX == ALL_SYMBOLS == most("symbol_id")
    assert most("session_id") + 1 == limits.SESSIONS_MAX
    assert most("quantity_lots") == limits.QUANTITY_LOTS_MAX
    assert 0 < limits.PRICE_TICKS_MIN < limits.PRICE_TICKS_MAX < most("price_ticks")


def test_the_bound_of_orders_is_within_reach_of_the_books_links() -> None:
    from exchange.book.ladder import LINKED_BYTES_MAX
    from exchange.book.ladder_layout import place_ladder, shape_ladder

    def linked_bytes(orders: int) -> int:
        shape = shape_ladder(1, orders, limits.PRICE_TICKS_MIN, limits.PRICE_TICKS_MAX)
        return int(place_ladder(shape).id_slots)

    assert linked_bytes(limits.BOOK_CAPACITY_ORDERS_MAX) < LINKED_BYTES_MAX
    assert linked_bytes(2 * limits.BOOK_CAPACITY_ORDERS_MAX) > LINKED_BYTES_MAX


def test_settings_built_by_hand_need_only_a_name() -> None:
    assert Settings("mine", shards=ShardsConfig(count=2)) == load("[shards]\ncount = 2")


# Replication.

BACKED_UP = "[journal]\nkind = 'mapped'\n[replication]\nkind = 'tcp'"


def test_the_replicator_is_an_agent_on_the_thread_of_the_clients() -> None:
    settings = load(BACKED_UP)
    assert agent_names(settings) == ("ingress", "shard.0", "replicator", "egress", "journal")
    assert thread_layout(settings, 2) == (("ingress", "replicator", "egress"), ("shard.0",), ("journal",))


def test_the_replicator_may_be_left_out_of_a_list_and_comes_before_the_egress() -> None:
    listed = "[shards]\nthreads = [['ingress', 'shard.0', 'egress'], ['journal']]\n"
    assert thread_layout(load(listed + BACKED_UP), 2)[0] == ("ingress", "shard.0", "replicator", "egress")
    assert thread_layout(load(listed), 2)[0] == ("ingress", "shard.0", "egress")
    listed = "[shards]\nthreads = [['ingress', 'shard.0', 'egress'], ['replicator']]\n"
    assert thread_layout(load(listed + BACKED_UP), 2)[1] == ("replicator",)
    assert thread_layout(load(listed), 2) == (("ingress", "shard.0", "egress"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[replication]\nkind = 'rdma'",
            'replication.kind = "rdma": a backup that comes late or falls behind',
        ),
        (BACKED_UP + "\nnode = 'a.b'", 'replication.node = "a.b": must be 1 to 64 letters'),
        (BACKED_UP + "\ngroup = ''", 'replication.group = "": must be 1 to 64 letters'),
        (
            BACKED_UP + "\nlease_ns = '20ms'",
            "replication.lease_ns = 20000000: renew_every_ns = 30000000 is more than half of",
        ),
        (
            BACKED_UP + "\nlease_store = 'etcd://x'",
            'replication.lease_store = "etcd://x": must be "embedded" or',
        ),
        (
            BACKED_UP + "\nring_bytes = '64KiB'",
            "replication.ring_bytes = 65536: a batch's frame takes up to 32832",
        ),
    ],
)
def test_replication_that_cannot_be_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError) as refusal:
        load(text)
    assert problem in str(refusal.value)
