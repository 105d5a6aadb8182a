"""Which shard owns a symbol: the same everywhere, and with one more shard nothing moves but to the new one; and what a
journal says of it."""

from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.journal.identity import Identity, JournalDirectory, Opening, Outcomes, outcomes_of, owners_of
from exchange.matching.symbol_owners import (
    owner_by_name,
    owners_by_name,
    owners_by_number,
    spread_symbols,
    symbols_by_shard,
    weight_of,
)
from exchange.settings import Settings, load_profile, resolve
from exchange.settings_text import settings_toml
from tests.journal_driver import OUTCOMES

symbols = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8)
counts = st.integers(1, 64)

NAMES = ("AAPL", "MSFT", "NVDA", "AMZN", "INTC", "CSCO", "TSLA", "QQQ")


@given(symbols, counts)
def test_one_more_shard_takes_symbols_and_moves_none_between_the_others(symbol: str, count: int) -> None:
    before, after = owner_by_name(symbol, count), owner_by_name(symbol, count + 1)
    assert 0 <= before < count
    assert after in (before, count)


@given(st.lists(symbols, unique=True, min_size=1, max_size=40), counts, st.randoms(use_true_random=False))
def test_a_symbol_goes_where_it_goes_whatever_else_is_traded(
    names: list[str], count: int, chance: Random
) -> None:
    owners = dict(zip(names, owners_by_name(names, count), strict=True))
    chance.shuffle(names)
    some = names[: len(names) // 2 + 1]
    assert owners_by_name(some, count) == [owners[symbol] for symbol in some]


@given(st.lists(symbols, unique=True, min_size=1, max_size=40), st.data())
def test_an_owner_that_is_named_holds_and_moves_nothing_else(names: list[str], data: st.DataObject) -> None:
    count = data.draw(counts)
    assigned = data.draw(st.dictionaries(st.sampled_from(names), st.integers(0, count - 1)))
    owners = dict(zip(names, owners_by_name(names, count, assigned), strict=True))
    assert owners == {name: owner_by_name(name, count) for name in names} | assigned


def test_the_weights_are_for_ever() -> None:
    """Journals would find their symbols on other shards."""
    assert weight_of("AAPL", 0) == 4011981267465698035
    assert owners_by_name(NAMES, 4) == [3, 0, 0, 3, 0, 0, 0, 2]
    assert owners_by_name(NAMES, 1) == [0] * 8
    shown = (Path(__file__).parents[2] / "docs/sharding.md").read_text()
    for name in ("AAPL", "NVDA", "MSFT"):
        weights = [str(round(100 * weight_of(name, shard) / 2**64)) for shard in range(4)]
        (row,) = [line.split() for line in shown.splitlines() if line.startswith(f" {name} ")]
        assert row[1:6] == [*weights, str(owner_by_name(name, 3))]
        assert row[6].rstrip(",") == str(owner_by_name(name, 4))


def test_many_symbols_are_spread_as_evenly_as_dice_and_few_of_them_move() -> None:
    names = [f"S{number}" for number in range(8_000)]
    before, after = owners_by_name(names, 8), owners_by_name(names, 9)
    for owners, count in ((before, 8), (after, 9)):
        mean = len(names) / count
        assert all(abs(found - mean) < 4 * mean**0.5 for found in Counter(owners).values())
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert abs(moved - 8_000 / 9) < 4 * (8_000 / 9) ** 0.5
    by_number = zip(owners_by_number(8_000, 8), owners_by_number(8_000, 9), strict=True)
    assert sum(one != other for one, other in by_number) > 7 * moved


def test_an_exchange_spreads_names_and_a_transport_in_memory_numbers() -> None:
    served = load_profile(
        "serve", ("shards.count=2", "shards.threads=auto", "shards.assign={AAPL=0, TSLA=1}")
    )
    assert spread_symbols(served, 8) == [0, 0, 0, 0, 0, 0, 1, 0]
    assert spread_symbols(load_profile("lockfree"), 5) == [0, 1, 0, 1, 0]
    assert symbols_by_shard(NAMES, spread_symbols(served, 8), 3)[1:] == [["TSLA"], []]


def test_a_profile_shows_who_owns_what() -> None:
    overrides = ("shards.count=2", "shards.threads=auto", "shards.assign={QQQ=1}")
    lines = settings_toml(resolve("serve", overrides)).splitlines()
    assert "# shard 0: MSFT, NVDA, AMZN, INTC, CSCO, TSLA" in lines
    assert "# shard 1: AAPL, QQQ" in lines
    assert "# in memory symbols have numbers and no names: symbol n is on shard n % 2" in settings_toml(
        resolve("lockfree")
    )
    many = [f"S{number}" for number in range(40)]
    lines = settings_toml(resolve("serve", (*overrides[:2], f"gateway.symbols={many}"))).splitlines()
    assert sum(line.startswith("# shard ") and " more" in line for line in lines) == 2


# What a journal says of it.


def settings_of(*overrides: str) -> Settings:
    return load_profile("serve", ("shards.count=2", "shards.threads=auto", *overrides))


def asked(*overrides: str) -> Outcomes:
    return outcomes_of(settings_of(*overrides), Opening("day", 0, 0))


def dealt_out() -> Outcomes:
    """What a journal has that was begun before owners were written down."""
    return msgspec.structs.replace(asked(), shard_of_symbol=())


def test_the_identity_of_one_shard_is_what_it_was_before_there_were_owners() -> None:
    document = msgspec.json.decode(msgspec.json.encode(Identity(1, 7, OUTCOMES)))
    assert list(document["outcomes"]) == [
        name for name in Outcomes.__struct_fields__ if name != "shard_of_symbol"
    ]
    assert Identity(1, 7, OUTCOMES).digest == 4930853768686167705
    assert outcomes_of(load_profile("serve"), Opening("day", 0, 0)).shard_of_symbol == ()


def test_a_journal_says_who_owns_what_and_an_older_one_dealt_its_symbols_out() -> None:
    assert owners_of(asked()) == [1, 0, 0, 0, 0, 0, 0, 0]
    assert owners_of(dealt_out()) == [0, 1, 0, 1, 0, 1, 0, 1]
    assert owners_of(OUTCOMES) == [0, 0]


def test_a_journal_whose_symbols_would_move_is_refused_with_what_keeps_them(tmp_path: Path) -> None:
    with JournalDirectory(tmp_path, dealt_out()):
        pass
    with pytest.raises(UserError) as caught:
        JournalDirectory(tmp_path, asked())
    told = str(caught.value)
    assert "AAPL was on shard 0 and is on 1, MSFT was on shard 1 and is on 0" in told
    kept = "{ AAPL = 0, MSFT = 1, AMZN = 1, CSCO = 1, QQQ = 1 }"
    assert f"(shards.assign = {kept} keeps them where they were)" in told
    with JournalDirectory(tmp_path, asked(f"shards.assign={kept}")) as directory:
        assert not directory.is_new
    with JournalDirectory(tmp_path / "new", asked()) as directory:
        assert directory.identity.outcomes.shard_of_symbol == (1, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(
        UserError, match=r"TSLA was on shard 0 and is on 1 \(without shards.assign they stay\)"
    ):
        JournalDirectory(tmp_path / "new", asked("shards.assign={TSLA=1}"))
    with JournalDirectory(tmp_path / "new", asked("shards.assign={TSLA=0}")):
        pass
