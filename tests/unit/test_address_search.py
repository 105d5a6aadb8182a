"""Which address is asked when: with a clock of our own, and on an event loop where addresses refuse or are silent."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import address_search
from exchange.address_search import (
    PAUSE_CUT,
    PAUSE_PART,
    PAUSE_SECONDS_FIRST,
    PAUSE_SECONDS_MAX,
    SUSPECT_SECONDS,
    TURN_SECONDS,
    AddressSearch,
    LogonTurns,
    find,
)

LATE_SECONDS = 0.000_001


def test_all_addresses_are_asked_at_once_and_the_silent_one_later() -> None:
    assert AddressSearch(3, 7.0).due(7.0) == [0, 1, 2]
    search = AddressSearch(3, 7.0, suspect=1)
    assert search.due(7.0) == [0, 2]
    assert search.next_at == 7.0 + SUSPECT_SECONDS
    assert search.due(7.0 + SUSPECT_SECONDS) == [1]
    assert search.next_at == float("inf")
    assert not search.has_failed_everywhere


def test_the_only_address_is_asked_at_once_though_it_was_silent() -> None:
    assert AddressSearch(1, 0.0, suspect=0).due(0.0) == [0]


def test_an_address_that_is_avoided_is_never_asked_and_is_not_waited_for() -> None:
    now, asked = 7.0, [0] * 3
    search = AddressSearch(3, now, suspect=1, avoided=1, chance=random.Random(1))
    for _ in range(50):
        assert not search.has_failed_everywhere or min(asked[0], asked[2]) > 0
        for index in search.due(now):
            asked[index] += 1
            search.failed(index, now)
        now = search.next_at
    assert asked[1] == 0
    assert min(asked[0], asked[2]) > 1
    assert search.has_failed_everywhere


@given(
    st.integers(1, 4),
    st.integers(0, 1 << 20),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), min_size=1, max_size=60),
)
def test_pauses_are_a_part_of_the_search_and_no_address_is_asked_twice_at_a_time(
    count: int, seed: int, attempts: list[tuple[float, bool]]
) -> None:
    """Attempts of any length that all fail: each address has its turn again, soon, and never while it is asked."""
    now = 0.0
    search = AddressSearch(count, now, chance=random.Random(seed))
    asking: dict[int, float] = {}
    failed: dict[int, float] = {}
    for seconds, is_oldest in attempts:
        for index in search.due(now):
            assert index not in asking
            if index in failed:
                pause, part = now - failed[index], PAUSE_PART * failed[index]
                most = min(max(part, PAUSE_SECONDS_FIRST), PAUSE_SECONDS_MAX)
                assert pause >= most * (1 - PAUSE_CUT) - LATE_SECONDS
            asking[index] = now
        if asking:
            index = (min if is_oldest else max)(asking)
            now += seconds
            del asking[index]
            failed[index] = now
            search.failed(index, now)
            pause = search.next_at - now
            assert pause <= min(max(PAUSE_PART * now, PAUSE_SECONDS_FIRST), PAUSE_SECONDS_MAX) + LATE_SECONDS
        else:
            now = search.next_at
    assert search.has_failed_everywhere == (len(failed) == count)


class Places:
    """Addresses that do what they are told: refuse, say nothing, or let in after a while."""

    def __init__(self, *behaviours: float | str) -> None:
        self.behaviours = list(behaviours)
        self.asked = [0] * len(behaviours)
        self.let_go: list[int] = []
        self.cancelled: list[int] = []

    async def attempt(self, index: int) -> int:
        self.asked[index] += 1
        behaviour = self.behaviours[index]
        try:
            if behaviour == "refuses":
                raise ConnectionRefusedError("nobody listens")
            if behaviour == "is wrong":
                raise ValueError("not an exchange")
            await asyncio.sleep(3600 if isinstance(behaviour, str) else behaviour)
        except asyncio.CancelledError:
            self.cancelled.append(index)
            raise
        return 10 + index

    async def discard(self, answer: int) -> None:
        self.let_go.append(answer - 10)

    async def find(self, give_up_after: float | None, avoided: int | None = None) -> tuple[int, int]:
        now = asyncio.get_running_loop().time()
        give_up_at = None if give_up_after is None else now + give_up_after
        search = AddressSearch(len(self.behaviours), now, avoided=avoided)
        return await find(search, self.attempt, self.discard, give_up_at)


def test_neither_a_silent_address_nor_one_that_refuses_holds_up_the_one_that_answers() -> None:
    places = Places("is silent", "refuses", 0.05)
    assert asyncio.run(places.find(30.0)) == (2, 12)
    assert places.asked[1] > 1
    assert (places.asked[0], places.asked[2]) == (1, 1)
    assert places.cancelled == [0]


def test_whoever_avoids_an_address_goes_on_at_another_or_nowhere() -> None:
    places = Places(0.0, 0.05)
    assert asyncio.run(places.find(30.0, avoided=0)) == (1, 11)
    for give_up_after in (None, 0.05):
        with pytest.raises(TimeoutError, match="nobody answers"):
            asyncio.run(Places(0.0).find(give_up_after, avoided=0))
    refusing = Places(0.0, "refuses")
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(refusing.find(None, avoided=0))
    assert (places.asked, refusing.asked) == ([0, 1], [0, 1])


def test_an_address_that_opens_later_is_found() -> None:
    places = Places("refuses", "refuses")

    async def scenario() -> tuple[int, int]:
        search = asyncio.create_task(places.find(30.0))
        await asyncio.sleep(0.1)
        places.behaviours[1] = 0.0
        return await search

    assert asyncio.run(scenario()) == (1, 11)


def test_of_two_answers_in_the_same_moment_one_is_let_go() -> None:
    places = Places(0.0, 0.0, "is silent")
    assert asyncio.run(places.find(None)) == (0, 10)
    assert places.let_go == [1]
    assert places.cancelled == [2]


def test_the_search_ends_when_all_have_refused_or_the_time_is_over() -> None:
    places = Places("refuses", "refuses")
    with pytest.raises(ConnectionRefusedError, match="nobody listens"):
        asyncio.run(places.find(None))
    assert places.asked == [1, 1]
    with pytest.raises(TimeoutError, match="nobody answers"):
        asyncio.run(Places("is silent").find(0.05))
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(Places("refuses", "is silent").find(0.05))
    with pytest.raises(TimeoutError):
        asyncio.run(Places(0.0).find(0.0))


def test_what_is_not_a_matter_of_trying_again_ends_the_search() -> None:
    places = Places("is silent", "is wrong")
    with pytest.raises(ValueError, match="not an exchange"):
        asyncio.run(places.find(30.0))
    assert places.cancelled == [0]


def test_logons_take_turns_but_do_not_wait_for_one_that_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address_search, "TURN_SECONDS", 0.05)
    assert TURN_SECONDS > 0.05
    said: list[str] = []

    async def log_on(turns: LogonTurns, name: str, seconds: float) -> None:
        async with turns.turn():
            said.append(f"{name} begins")
            await asyncio.sleep(seconds)
            said.append(f"{name} ends")

    async def scenario() -> None:
        turns = LogonTurns()
        await asyncio.gather(
            *(log_on(turns, *one) for one in (("a", 0.01), ("b", 0.01), ("c", 0.2), ("d", 0.01)))
        )

    asyncio.run(scenario())
    assert said == [
        "a begins", "a ends", "b begins", "b ends", "c begins", "d begins", "d ends", "c ends"
    ]  # fmt: skip
