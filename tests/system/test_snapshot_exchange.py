"""A served exchange that goes on from a snapshot: clients resume by sequence, and what they had asked for still stands.

The first exchange ends, what it held is saved, and another one is built that has nothing but the file.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from exchange.errors import UserError
from exchange.gateway import server as server_module
from exchange.gateway.credentials import User, Users
from exchange.gateway.firm_requests import begin_mass_cancel
from exchange.gateway.options import NO_FIRM, NO_GROUP
from exchange.gateway.server import Server, open_day
from exchange.messages import ALL_SYMBOLS
from exchange.recovery.kept import keep_sessions
from exchange.settings import load_profile
from exchange.snapshot.parts import Parts, restore_parts, save_parts
from exchange.snapshot.sections import SectionFile
from exchange.wire import ouch42
from exchange.wire.layout import Message
from exchange.wire.moldudp64 import Request
from exchange.wire.ouch50 import (
    AccountQuery,
    AccountQueryResponse,
    CancelOrder,
    DisableOrderEntry,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    Rejected,
    RejectReason,
)
from exchange.wire.ouch50_options import Option, OptionTag
from exchange.wire.ouch_codes import Side
from exchange.wire.soupbintcp import LoginAccepted, SequencedData, ServerHeartbeat
from tests.gateway_driver import (
    PASSWORD,
    SETTINGS,
    BareClient,
    eventually,
    order,
    order42,
    replacement,
    run,
    running,
    users,
)
from tests.snapshot_driver import HEADER

OPENING = open_day("UTC", 1_700_000_000_000_000_000)


def built(monkeypatch: pytest.MonkeyPatch, who: Users) -> Server:
    """A server of the same session as every other one that is built here."""
    with monkeypatch.context() as patch:
        patch.setattr(server_module, "open_day", lambda _zone, _time_ns: OPENING)
        return Server(load_profile("serve", SETTINGS), who)


def parts_of(server: Server) -> Parts:
    assert server.feed is not None
    names = [user.name for user in server.control.users.users]
    return Parts(server.exchange.shards, server.transport.memory, names, server.feed.publisher)


def save(path: Path, server: Server) -> None:
    position = tuple(status.commands for status in server.exchange.status() if status is not None)
    save_parts(path, HEADER._replace(position=position), parts_of(server))


def restore(path: Path, server: Server) -> None:
    with SectionFile(path) as file:
        restore_parts(file, parts_of(server))
    assert server.feed is not None
    server.feed.go_on()
    statuses = [status for status in server.exchange.status() if status is not None]
    commands, events = (sum(getattr(status, name) for status in statuses) for name in ("commands", "events"))
    server.transport.go_on(commands, events)


async def sequenced(client: BareClient, count: int) -> list[bytes]:
    """The next messages as they were sent, without heartbeats."""
    told: list[bytes] = []
    while len(told) < count:
        packet = await client.packet()
        if isinstance(packet, SequencedData):
            told.append(packet.message)
        else:
            assert isinstance(packet, ServerHeartbeat), packet
    return told


async def answers(client: BareClient, count: int) -> list[Message]:
    """The next answers, without the ends and the starts of days in between."""
    told: list[Message] = []
    while len(told) < count:
        answer = await client.answer()
        if type(answer).__name__ != "SystemEvent":
            told.append(answer)
    return told


async def resumed(server: Server, name: str, sequence: int, **changes: str) -> BareClient:
    client = await BareClient.log_on(server, name, sequence, **changes)
    accepted = await client.packet()
    assert accepted == LoginAccepted(server.control.session_name, sequence)
    return client


def heard(messages: Sequence[Message], kind: type[Message]) -> list[Message]:
    return [message for message in messages if isinstance(message, kind)]


def test_clients_resume_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = (
        tmp_path / "snapshot",
        [*(order(number, price=100_0000 - number) for number in range(1, 40))],
    )

    async def scenario() -> None:
        first = built(monkeypatch, users(["alice", "bob", "carla"], ["bob"]))
        told: dict[str, list[bytes]] = {}
        async with running(first):
            alice, bob = await resumed(first, "alice", 1), await resumed(first, "bob", 1)
            await alice.request(*asked, replacement(3, 40, 70, 99_0000), CancelOrder(5, 10))
            await alice.request(order(41, symbol="QQQ", side=Side.SELL), DisableOrderEntry(42, "LIME"))
            told["alice"] = await sequenced(alice, 44)
            await bob.request(order42("one", Side.SELL, 30, 99_9999), order42("two", Side.BUY, 5, 50_0000))
            told["bob"] = await sequenced(bob, 4)
            told["alice"] += await sequenced(alice, 1)
        feed = told_again(first)
        before = first.exchange.digest()
        save(path, first)
        sessions = path.with_name("sessions.json")
        keep_sessions(sessions, first.control.users)
        arranged = keep_sessions(sessions, users(["zoe", "carla", "bob", "alice"], ["bob"]))
        second = built(monkeypatch, arranged)
        restore(path, second)
        assert second.exchange.digest() == before
        async with running(second):
            await goes_on(second, told)
        assert told_again(second)[: len(feed)] == feed
        assert second.feed is not None
        assert second.feed.publisher.public_digest() == second.exchange.digest(public=True)

    run(scenario())


async def goes_on(server: Server, told: dict[str, list[bytes]]) -> None:
    """What clients find after the restart; ``told``: all that they heard before, but for the end of the day."""
    alice, bob = await resumed(server, "alice", 8), await resumed(server, "bob", 1)
    assert await sequenced(alice, len(told["alice"]) - 7) == told["alice"][7:]
    assert await sequenced(bob, len(told["bob"])) == told["bob"]
    lime, plum = ((Option(OptionTag.FIRM, firm),) for firm in ("LIME", "PLUM"))
    await alice.request(AccountQuery(), CancelOrder(7, 0), order(40))
    await alice.request(order(43, options=lime), order(44, quantity=7, options=plum))
    account, canceled, rejected, accepted = await answers(alice, 4)
    assert isinstance(account, AccountQueryResponse)
    assert account.next_user_reference_number == 43
    assert isinstance(canceled, OrderCanceled)
    assert (canceled.user_reference_number, canceled.quantity) == (7, 100)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == RejectReason.FIRM_NOT_AUTHORIZED
    assert isinstance(accepted, OrderAccepted)
    assert accepted.user_reference_number == 44
    await bob.request(order42("one"), ouch42.CancelOrder("two", 0), order42("three", Side.SELL, 100, 99_9998))
    gone, taken, *sold = await answers(bob, 5)
    assert isinstance(gone, ouch42.Canceled)
    assert (gone.order_token, gone.decrement_shares) == ("two", 5)
    assert isinstance(taken, ouch42.Accepted)
    assert taken.order_token == "three"
    trades = await answers(alice, 3)
    assert all(isinstance(one, OrderExecuted) for one in trades)
    assert [(one.user_reference_number, one.quantity) for one in trades] == [(44, 7), (1, 70), (2, 23)]  # type: ignore[attr-defined]
    numbers = [one.match_number for one in sold]  # type: ignore[attr-defined]
    assert numbers == [one.match_number for one in trades] == [2, 3, 4]  # type: ignore[attr-defined]


def test_what_was_under_way_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mass cancel that had not been done to its end, and the orders of who wants them gone with the line."""
    path = tmp_path / "snapshot"

    async def scenario() -> None:
        first = built(monkeypatch, users(["alice", "bob"]))
        async with running(first):
            for name in ("alice", "bob"):
                client = await resumed(first, name, 1)
                await client.request(*[order(number) for number in range(1, 6)])
                await client.answers(6)
        alice = first.transport.memory.address(0)
        begin_mass_cancel(alice, ALL_SYMBOLS, NO_FIRM, NO_GROUP, 0)
        save(path, first)
        gone = User.create("bob", PASSWORD, 2, cancels_on_disconnect=True)
        second = built(monkeypatch, Users([*users(["alice"]).users, gone]))
        restore(path, second)
        async with running(second):
            alices = await resumed(second, "alice", 7)
            told = await answers(alices, 5)
            assert [one.user_reference_number for one in heard(told, OrderCanceled)] == [1, 2, 3, 4, 5]  # type: ignore[attr-defined]
            await eventually(lambda: live_orders(second) == 0)
        assert second.feed is not None
        assert second.feed.publisher.live_orders() == 0

    run(scenario())


def test_a_snapshot_of_other_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "snapshot"
    server = built(monkeypatch, users(["alice"]))
    save(path, server)
    parts = parts_of(server)
    with SectionFile(path) as file:
        for changed, told in (
            (
                parts._replace(shards=[*parts.shards] * 2),
                "has no 'shard-1/state', and the settings ask for 2 shards",
            ),
            (parts._replace(sessions=None), "has 'sessions/table', and the settings ask for none"),
            (parts._replace(publisher=None), "has 'feed/state', and the settings ask for none"),
        ):
            with pytest.raises(UserError, match=told):
                restore_parts(file, changed)
    save_parts(path, HEADER._replace(position=(0,)), parts._replace(publisher=None))
    with (
        SectionFile(path) as file,
        pytest.raises(UserError, match="no 'feed/state', and the settings ask for a feed"),
    ):
        restore_parts(file, parts)
    server.close()


def live_orders(server: Server) -> int | None:
    (status,) = server.exchange.status()
    return None if status is None else status.live_orders


def told_again(server: Server) -> list[bytes | None]:
    """All messages of a feed, as who asks for each of them is told."""
    assert server.feed is not None
    store = server.feed.store
    return [
        store.answer(Request(store.session, number, 1).encode()) for number in range(1, store.next_sequence)
    ]
