"""Who may knock and how often, on a clock of the test's; passwords in turns; and few lines about what was refused."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from exchange.gateway.admission import (
    ADDRESSES_MAX,
    CONTROL_LIMITS,
    NAMES_MAX,
    AdmissionLimits,
    Doorkeeper,
    Places,
    network_of,
)
from exchange.gateway.config import GatewayConfig
from exchange.gateway.credentials import User, Users
from exchange.gateway.password_checks import PasswordChecks, VoidCheck
from exchange.gateway.refusals import KINDS_MAX, RefusalLog
from exchange.wire import soupbinudp

LIMITS = AdmissionLimits.of(
    GatewayConfig(
        connections_per_second=10, connections_burst=20, logon_failures=3, logon_lockout_ns=60_000_000_000
    )
)


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


def test_a_limit_has_the_bounds_of_its_setting() -> None:
    assert set(CONTROL_LIMITS) == set(AdmissionLimits.__slots__)
    for name, limit in CONTROL_LIMITS.items():
        assert limit.least <= getattr(GatewayConfig(), name) <= limit.most


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_address_of_ipv6_counts_with_its_neighbours(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_an_address_has_a_burst_and_then_a_rate() -> None:
    clock = Clock()
    keeper = Doorkeeper(LIMITS, clock)
    assert sum(keeper.may_connect("a") for _ in range(100)) == 20
    assert keeper.may_connect("b"), "another address has its own"
    clock.now += 0.5
    assert sum(keeper.may_connect("a") for _ in range(100)) == 5
    clock.now += 1e6
    assert sum(keeper.may_connect("a") for _ in range(100)) == 20


def test_a_name_that_fails_waits_longer_each_time_and_only_there() -> None:
    clock = Clock()
    keeper = Doorkeeper(LIMITS, clock)
    waits = []
    for failure in range(1, 13):
        assert not keeper.must_wait("bad", "alice")
        keeper.failed("bad", "alice")
        began = clock.now
        while keeper.must_wait("bad", "ALICE"):
            clock.now += 0.5
        waits.append(clock.now - began)
        assert not keeper.must_wait("good", "alice"), failure
        assert not keeper.must_wait("bad", "bob")
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    keeper.succeeded("bad", "alice")
    keeper.failed("bad", "alice")
    assert not keeper.must_wait("bad", "alice"), "a logon makes up for it"
    for _ in range(3):
        keeper.failed("bad", "alice")
    clock.now += 1000
    keeper.failed("bad", "alice")
    assert not keeper.must_wait("bad", "alice"), "so does time"


def test_many_names_from_one_address_count_as_one() -> None:
    keeper = Doorkeeper(LIMITS, Clock())
    tried = 0
    for number in range(10 * NAMES_MAX):
        if not keeper.must_wait("bad", f"u{number}"):
            tried += 1
            keeper.failed("bad", f"u{number}")
    assert tried == NAMES_MAX + LIMITS.logon_failures
    assert keeper.must_wait("bad", "alice")
    assert not keeper.must_wait("good", "alice")


def test_memory_is_bounded_and_strangers_do_not_displace_the_known() -> None:
    keeper = Doorkeeper(LIMITS, Clock())
    keeper.succeeded("good", "alice")
    for number in range(3 * ADDRESSES_MAX):
        keeper.may_connect(f"stranger {number}")
        keeper.failed(f"stranger {number}", "alice")
    assert len(keeper) == ADDRESSES_MAX + 1
    assert keeper.is_known("good")
    for number in range(2 * ADDRESSES_MAX):
        keeper.succeeded(f"friend {number}", "alice")
    assert len(keeper) <= 2 * ADDRESSES_MAX


def test_a_newcomer_gets_the_place_of_who_has_most() -> None:
    async def scenario() -> None:
        places, never = Places(8), asyncio.Event()

        async def wait() -> None:
            await never.wait()

        def come(network: str) -> asyncio.Task[None]:
            task = asyncio.create_task(wait())
            places.add(network, task)
            return task

        crowd = [come("crowd") for _ in range(7)]
        come("few")
        assert places.taken == 8
        assert places.put_out("crowd") is None, "nobody has more than itself"
        assert places.put_out("newcomer") == "crowd"
        newcomer = come("newcomer")
        assert (places.taken, places.taken_by("crowd")) == (8, 6)
        await asyncio.gather(crowd[0], return_exceptions=True)
        assert [task.cancelled() for task in crowd] == [True] + [False] * 6
        waiting = asyncio.create_task(places.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        newcomer.cancel()
        await waiting
        assert places.taken == 7
        for task in places.tasks:
            task.cancel()
        await asyncio.gather(*places.tasks, return_exceptions=True)
        assert (places.taken, places.tasks) == (0, ())

    run(scenario())


USERS = Users([User.create("alice", "secret", cost=2)])


class Watched(Users):
    """Users that write down whose password was looked at."""

    def __init__(self) -> None:
        super().__init__(USERS.users)
        self.seen: list[str] = []

    def authenticate(self, name: str, password: str) -> int | None:
        self.seen.append(name)
        return super().authenticate("alice", password)


def test_addresses_take_turns_and_the_known_need_not_wait_for_all_strangers() -> None:
    async def scenario() -> None:
        users = Watched()
        checks = PasswordChecks(users)

        def ask(network: str, *, is_known: bool) -> asyncio.Task[int | None]:
            return asyncio.create_task(
                checks.authenticate(network, is_known, network, "secret", lambda: False)
            )

        flood = [ask("flood", is_known=False) for _ in range(50)]
        await asyncio.sleep(0)
        others = [ask("stranger", is_known=False), ask("friend", is_known=True)]
        assert await asyncio.gather(*flood, *others) == [0] * 52
        # How many of the flood are checked before they have asked depends on how fast two threads are.
        assert users.seen.index("friend") <= 8
        assert users.seen.index("stranger") <= 12
        assert checks.waiting == 0
        checks.close()

    run(scenario())


def test_who_leaves_the_line_is_not_waited_for() -> None:
    async def scenario() -> None:
        users = Watched()
        checks = PasswordChecks(users)
        tasks = [
            asyncio.create_task(checks.authenticate("a", False, f"n{number}", "secret", lambda: False))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        for task in tasks[2:-1]:
            task.cancel()
        assert await asyncio.gather(tasks[0], tasks[1], tasks[-1]) == [0, 0, 0]
        assert sorted(users.seen) == ["n0", "n1", "n19"]
        with pytest.raises(VoidCheck):
            await checks.authenticate("a", False, "n20", "secret", lambda: True)
        assert await checks.authenticate("a", False, "n21", "wrong", lambda: False) is None
        assert len(users.seen) == 4
        checks.close()

    run(scenario())


def test_no_answer_to_a_login_datagram_is_longer_than_it() -> None:
    request = soupbinudp.LoginRequest.layout.size_bytes
    for answer in (soupbinudp.LoginAccepted, soupbinudp.LoginRejected):
        assert answer.layout.size_bytes <= request, answer


def messages(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [{"event": one.message, **one.exchange_fields} for one in caplog.records]  # type: ignore[attr-defined]


def test_a_flood_of_refusals_is_a_line_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    caplog.set_level(logging.INFO)
    refusals = RefusalLog(clock)
    for _ in range(1000):
        refusals.note("refused", "10.0.0.1", "too many")
    refusals.note("login rejected", "10.0.0.1", "not authorized", user="alice")
    assert messages(caplog) == [
        {"event": "refused", "peer": "10.0.0.1", "reason": "too many"},
        {"event": "login rejected", "peer": "10.0.0.1", "user": "alice", "reason": "not authorized"},
    ]
    caplog.clear()
    clock.now += 1.1
    refusals.note("refused", "10.0.0.1", "too many")
    assert messages(caplog) == [
        {"event": "refused", "peer": "10.0.0.1", "reason": "too many", "more": 999},
        {"event": "refused", "peer": "10.0.0.1", "reason": "too many"},
    ]
    assert refusals.total == 1002


def test_a_flood_from_everywhere_is_bounded_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        refusals = RefusalLog()
        for number in range(5000):
            refusals.note("refused", f"10.0.{number // 250}.{number % 250}", "too many")
        while "more" not in caplog.records[-1].exchange_fields:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)

    run(scenario())
    told = messages(caplog)
    assert len(told) <= 2 * KINDS_MAX + 1
    assert sum(one.get("more", 1) for one in told) == 5000
