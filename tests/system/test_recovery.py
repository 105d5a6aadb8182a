"""An exchange that ended, however it ended, comes back: books, sessions and feed, byte for byte.

A journal that is copied while the exchange runs is what a kill at that moment leaves behind: all that was written, in
whatever state. The tests with real kills are in ``tests/system/test_kill.py``."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from exchange.cli_journal import journal
from exchange.errors import UserError
from exchange.gateway.server import Server, open_day
from exchange.gateway.session_memory import LOG_END, SessionMemory
from exchange.journal.identity import JournalDirectory, outcomes_of
from exchange.journal.reading import JournalDamage
from exchange.native import is_compiled, load_int64, view_bytes
from exchange.recovery.inspecting import survey_journal
from exchange.recovery.replayer import Position
from exchange.recovery.snapshots import hold_snapshots
from exchange.recovery.twin import Twin, make_snapshot
from exchange.settings import load_profile
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    AccountQuery,
    AccountQueryResponse,
    CancelOrder,
    DisableOrderEntry,
    EnableOrderEntry,
    MassCancel,
    ModifyOrder,
    OrderAccepted,
    OrderCanceled,
    Rejected,
    RejectReason,
)
from tests.gateway_driver import (
    SETTINGS,
    BareClient,
    eventually,
    order,
    order42,
    replacement,
    run,
    serving,
    users,
)

NAMES = ("alice", "bob", "carol")
DEALT_OUT = "shards.assign={AAPL=0, MSFT=1, NVDA=0, AMZN=1, INTC=0, CSCO=1, TSLA=0, QQQ=1}"
SHARDS = {
    "one": ('shards.threads=[["ingress","shard.0","egress"],["journal"]]',),
    "two": (
        "shards.count=2",
        'shards.threads=[["ingress","shard.0","shard.1","egress"],["journal"]]',
        "shards.assign={AAPL=0, MSFT=1}",
    ),
}


def overrides(path: Path, *, kind: str, gate: str, shards: str) -> tuple[str, ...]:
    """The settings of an exchange with a journal."""
    return (
        f"journal.kind={kind}",
        f"journal.directory={path}",
        f"journal.gate={gate}",
        "journal.segment_bytes=1MiB",
        *SHARDS[shards],
    )


def logs(server: Server) -> list[bytes]:
    """The logs of all sessions."""
    return logs_of(server.transport.memory)


def logs_of(memory: SessionMemory) -> list[bytes]:
    """The same of an exchange that is not served."""
    addresses = [memory.address(number) for number in range(memory.sessions.session_count)]
    return [
        bytes(view_bytes(address + memory.sessions.log_offset, load_int64(address + LOG_END)))
        for address in addresses
    ]


def feed_messages(server: Server) -> list[bytes]:
    """All that the feed has published, without what it says at its end."""
    assert server.feed is not None
    store = server.feed.store
    slots = (store.state.slots + 64 * (number & store.state.mask) for number in range(1, store.next_sequence))
    return [bytes(view_bytes(slot + 2, int.from_bytes(view_bytes(slot, 2), "big"))) for slot in slots]


@asynccontextmanager
async def copied(path: Path, copy: Path, *names: str, **options: str) -> AsyncIterator[Server]:
    """An exchange that goes on from a copy of a journal that another one is writing."""
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("lock"))
    async with serving(*names, overrides=overrides(copy, **options), speak_ouch42=("carol",)) as server:
        yield server


async def trade(alice: BareClient, bob: BareClient, carol: BareClient) -> None:
    """Everything that a session can ask for."""
    await alice.request(*(order(number) for number in range(1, 21)))
    await alice.answers(20)
    await bob.request(
        order(1, "S", 150), order(2, "S", 10, symbol="NOPE"), order(3, "T", 40, 101_0000, symbol="MSFT")
    )
    await bob.answers(5)
    await alice.request(CancelOrder(5, 40), replacement(6, 30, 70, 99_0000), ModifyOrder(7, "B", 60))
    await carol.request(order42("first", "S", 100, 100_0000, stock="MSFT"), order42("wrong", stock="NOPE"))
    await carol.answers(2)
    await bob.request(ModifyOrder(3, "E", 30), DisableOrderEntry(4, "LIME"), AccountQuery())
    await bob.request(order(9, "B", 30, 102_0000, symbol="MSFT"))


async def traded(server: Server) -> list[BareClient]:
    """The clients, who have logged on and done everything, when all of it has come out."""
    clients = [await BareClient.log_on(server, name) for name in NAMES]
    for client in clients:
        await client.packet()
        await client.answer()
    await trade(*clients)
    await settled(server)
    return clients


VARIANTS = [
    {"kind": "mapped", "gate": "written", "shards": "one"},
    {"kind": "file", "gate": "synced", "shards": "two"},
]
"""Other agents on a thread are another loop to compile, so not every combination is here."""


@pytest.mark.parametrize("options", VARIANTS)
def test_what_was_written_comes_back_byte_for_byte(tmp_path: Path, options: dict[str, str]) -> None:
    path = tmp_path / "journal"

    async def scenario() -> None:
        async with serving(*NAMES, overrides=overrides(path, **options), speak_ouch42=("carol",)) as server:
            clients = await traded(server)
            before, feed, digest = logs(server), feed_messages(server), None
            async with copied(path, tmp_path / "copy", *NAMES, **options) as again:
                assert logs(again) == before
                assert feed_messages(again) == feed
                assert again.control.session_name == server.control.session_name
                digest = again.exchange.digest()
                await goes_on(again)
            for client in clients:
                await client.close()
        assert server.exchange.digest() == digest

    compile_recovery(overrides(tmp_path / "compiling", **options))
    run(scenario(), overrides(tmp_path / "compiling", **options))


def test_a_lost_order_of_events_is_replaced_by_that_of_the_commands(tmp_path: Path) -> None:
    """An order in shard 0 has the room, in its session's table, of one in shard 1 that was cancelled before."""
    few, options = ("gateway.capacity_orders=64",), VARIANTS[1]
    path, copy = tmp_path / "journal", tmp_path / "copy"
    numbers = range(8, 8 * 8 + 1, 8)  # as many as there is room for

    async def scenario() -> None:
        async with serving("alice", overrides=(*overrides(path, **options), *few)) as server:
            alice = await BareClient.log_on(server, "alice")
            await alice.packet()
            await alice.answer()
            await alice.request(*(order(number, symbol="MSFT") for number in numbers))
            await alice.answers(8)
            await alice.request(*(CancelOrder(number, 0) for number in numbers))
            await alice.answers(8)
            await alice.request(*(order(64 + number, symbol="AAPL") for number in numbers))
            assert all(isinstance(one, OrderAccepted) for one in await alice.answers(8))
            await settled(server)
            before, digest = logs(server), server.exchange.digest()
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("lock", "merge"))
            await alice.close()
        for _ in range(2):  # the second time in the order that the first time wrote down
            again = Server(
                load_profile("serve", [*SETTINGS, *overrides(copy, **options), *few]), users(["alice"])
            )
            assert again.journal is not None
            again.journal.recover(again.exchange, again.transport, again.feed)
            assert logs(again) == before
            assert again.exchange.digest() == digest
            again.close()
        cut = CliRunner().invoke(journal, ["replay", str(copy), "--until", "1", "--book", "naive"])
        assert "shard-0: sequence 1, 1 records" in cut.output
        beyond = CliRunner().invoke(journal, ["replay", str(copy), "--until", "999", "--book", "naive"])
        assert str(beyond.exception).startswith("--until 999: the streams end before that, shard-0 at ")

    compile_recovery((*overrides(tmp_path / "compiling", **options), *few))
    run(scenario(), (*overrides(tmp_path / "compiling", **options), *few))


def compile_recovery(settings: tuple[str, ...]) -> None:
    """Compile what a restart takes, so that no test waits for it."""
    server = Server(load_profile("serve", [*SETTINGS, *settings]), users(["nobody"]))
    assert server.journal is not None
    server.journal.recover(server.exchange, server.transport, server.feed)
    directory = server.journal.directory.path
    server.close()
    for book in ("ladder", "naive"):
        with Twin(directory, book=book) as twin:
            twin.replay()


def is_durable(server: Server) -> bool:
    """Whether the disk has all that the shards have appended."""
    journals: list[Any] = list(server.exchange.journals.shards)
    return all(journal.durable_sequence() == journal.appended_sequence() for journal in journals)


async def settled(server: Server) -> None:
    """Wait until what the clients asked for has come out."""
    seen: list[bytes] = []

    def is_quiet() -> bool:
        nonlocal seen
        last, seen = seen, logs(server)
        return last == seen and server.transport.waiting() == 0

    for _ in range(5):
        await eventually(is_quiet)
        await asyncio.sleep(0.02)


async def goes_on(server: Server) -> None:
    """Clients resume where they were, and their orders are there."""
    alice = await BareClient.log_on(server, "alice", sequence=3)
    accepted = await alice.packet()
    assert accepted.sequence_number == 3  # type: ignore[attr-defined]
    first: Message = await alice.answer()
    assert isinstance(first, OrderAccepted)
    assert first.user_reference_number == 2
    bob = await BareClient.log_on(server, "bob", sequence=0)
    await bob.packet()
    await bob.request(AccountQuery())
    while not isinstance(answer := await bob.answer(), AccountQueryResponse):
        pass
    assert answer.next_user_reference_number == 10
    await bob.request(order(10), MassCancel(11, "", ""))
    while not isinstance(answer := await bob.answer(), Rejected):
        pass
    assert answer.reason == RejectReason.FIRM_NOT_AUTHORIZED, "order entry was disabled before"
    await bob.request(EnableOrderEntry(12, "LIME"), order(13))
    while not isinstance(answer := await bob.answer(), OrderAccepted) or answer.user_reference_number != 13:
        pass
    await bob.request(CancelOrder(13, 0))
    while not isinstance(answer := await bob.answer(), OrderCanceled) or answer.user_reference_number != 13:
        pass
    for client in (alice, bob):
        await client.close()


@pytest.mark.parametrize("options", VARIANTS)
def test_a_twin_is_what_the_exchange_was_and_a_snapshot_of_it_goes_on(
    tmp_path: Path, options: dict[str, str]
) -> None:
    path = tmp_path / "journal"

    async def scenario() -> None:
        async with serving(*NAMES, overrides=overrides(path, **options), speak_ouch42=("carol",)) as server:
            clients = await traded(server)
            # A snapshot goes as far as later frames say that the disk has it.
            await eventually(lambda: is_durable(server))
            await clients[0].request(order(60), order(61, symbol="MSFT"))
            await settled(server)
            before, feed = logs(server), feed_messages(server)
            with Twin(path) as twin:
                twin.replay()
                assert logs_of(twin.transport.memory) == before
                digest = twin.exchange.digest()
            with Twin(path, book="naive") as twin:
                twin.replay()
                assert twin.exchange.digest() == digest
            snapshot = make_snapshot(path)
            assert snapshot is not None
            refuse_damage(shutil.copytree(path, tmp_path / "damaged"))
            async with copied(path, tmp_path / "copy", *NAMES, **options) as again:
                assert logs(again) == before
                assert feed_messages(again) == feed
                assert again.exchange.digest() == digest
                await goes_on(again)
            for client in clients:
                await client.close()

    compile_recovery(overrides(tmp_path / "compiling", **options))
    run(scenario(), overrides(tmp_path / "compiling", **options))


def refuse_damage(journal: Path) -> None:
    """Neither a twin nor a snapshot takes damage, or a segment that is gone, for the end of a stream."""
    with hold_snapshots(journal), pytest.raises(UserError, match="another process makes a snapshot"):
        make_snapshot(journal)
    stream = journal / "shard-0"
    segment = min(path for path in stream.iterdir() if path.name[0] == "0")
    content = bytearray(segment.read_bytes())
    segment.write_bytes(content[:4200] + bytes([content[4200] ^ 4]) + content[4201:])
    with (
        pytest.raises(JournalDamage, match="bit 2 of byte 4200 is flipped"),
        Twin(journal, from_snapshot=False) as twin,
    ):
        twin.replay()
    with Twin(journal, from_snapshot=False) as twin:
        twin.replay(Position((0,) * twin.identity.outcomes.shard_count))
    report = survey_journal(journal)
    assert (report.is_damaged, [one.flaw for one in report.snapshots]) == (True, [""])
    shutil.rmtree(stream)
    assert "a snapshot has it to sequence" in survey_journal(journal).streams[0].detail
    with pytest.raises(JournalDamage, match="there is no segment"), Twin(journal) as twin:
        twin.replay()
    with pytest.raises(JournalDamage, match="there is no segment"):
        make_snapshot(journal)


def test_a_journal_whose_symbols_were_dealt_out_is_gone_on_with_if_the_profile_says_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    settings = overrides(path, **VARIANTS[1])
    dealt_out = load_profile("serve", [*SETTINGS, *settings, DEALT_OUT])
    began = msgspec.structs.replace(
        outcomes_of(dealt_out, open_day("UTC", time.time_ns())), shard_of_symbol=()
    )
    with JournalDirectory(path, began):
        pass
    with pytest.raises(UserError, match=r"QQQ was on shard 1 and is on 0 \(shards.assign = \{ AAPL = 0, "):
        Server(load_profile("serve", [*SETTINGS, *settings, "shards.assign={NVDA=1}"]), users(NAMES))

    async def scenario() -> None:
        async with serving("alice", overrides=(*settings, DEALT_OUT)) as server:
            alice = await BareClient.log_on(server, "alice")
            await alice.packet()
            await alice.answer()
            for number, symbol in enumerate(server.settings.gateway.symbols, 1):
                await alice.request(order(number, symbol=symbol))
                await alice.answer()
            await settled(server)
            with Twin(path) as twin:
                twin.replay()
                assert twin.live_orders() == [4, 4]
                assert twin.exchange.digest() == server.exchange.digest()
            await alice.close()

    compile_recovery(overrides(tmp_path / "compiling", **VARIANTS[1]))
    run(scenario(), overrides(tmp_path / "compiling", **VARIANTS[1]))


def test_after_an_end_in_order_the_day_begins_again_in_the_same_session(tmp_path: Path) -> None:
    settings = overrides(tmp_path / "journal", **VARIANTS[0])

    async def scenario() -> None:
        async with serving("alice", overrides=settings) as server:
            alice = await BareClient.log_on(server, "alice")
            await alice.packet()
            await alice.answer()
            await alice.request(order(1))
            await alice.answer()
            session = server.control.session_name
        first_feed = feed_messages(server)
        async with serving("newbie", "alice", overrides=settings) as again:
            assert again.control.session_name == session
            alice = await BareClient.log_on(again, "alice")
            await alice.packet()
            told = [await alice.answer() for _ in range(4)]
            assert [getattr(one, "event_code", "") for one in told] == ["S", "", "E", "S"]
            await alice.request(CancelOrder(1, 0))
            canceled = await alice.answer()
            assert isinstance(canceled, OrderCanceled)
            assert canceled.quantity == 100
            newbie = await BareClient.log_on(again, "newbie")
            await newbie.packet()
            assert (await newbie.answer()).event_code == "S"  # type: ignore[attr-defined]
            await newbie.request(order(1, "S"))
            assert isinstance(await newbie.answer(), OrderAccepted)
            for client in (alice, newbie):
                await client.close()
            feed, before = feed_messages(again), logs(again)
            async with copied(
                tmp_path / "journal", tmp_path / "copy", "alice", "newbie", **VARIANTS[0]
            ) as third:
                assert logs(third) == before, "who came later has not been told of the days before"
        assert feed[: len(first_feed)] == first_feed
        stages = [message[-1:] for message in feed if message[:1] == b"S"]
        assert stages == [b"O", b"S", b"Q", b"M", b"E", b"C", b"O", b"S", b"Q"]

    compile_recovery(overrides(tmp_path / "compiling", **VARIANTS[0]))
    run(scenario(), overrides(tmp_path / "compiling", **VARIANTS[0]))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (('gateway.symbols=["AAPL"]',), "gateway.symbols"),
        (("book.capacity_orders=32768",), "book.capacity_orders was 65536 and is 32768"),
        (("market_data.capacity_messages=65536",), "market_data.capacity_messages"),
    ],
)
def test_a_journal_of_other_settings_is_refused(tmp_path: Path, changed: tuple[str, ...], named: str) -> None:
    settings = overrides(tmp_path / "journal", **VARIANTS[0])
    Server(load_profile("serve", [*SETTINGS, *settings]), users(["alice"])).close()
    with pytest.raises(UserError, match=named):
        Server(load_profile("serve", [*SETTINGS, *settings, *changed]), users(["alice"]))


def test_a_user_with_a_session_must_be_there_and_speak_as_before(tmp_path: Path) -> None:
    settings = load_profile("serve", [*SETTINGS, *overrides(tmp_path / "journal", **VARIANTS[0])])
    Server(settings, users(["alice", "bob"])).close()
    with pytest.raises(
        UserError, match="the user ALICE has a session in this journal and is no user any more"
    ):
        Server(settings, users(["bob"]))
    with pytest.raises(
        UserError, match="the user BOB has spoken ouch50 in this journal and is to speak ouch42"
    ):
        Server(settings, users(["alice", "bob"], ["bob"]))


def test_a_twin_with_the_compiled_book_is_compiled(tmp_path: Path) -> None:
    settings = load_profile("serve", [*SETTINGS, *overrides(tmp_path / "journal", **VARIANTS[0])])
    Server(settings, users(["alice"])).close()
    for book, expected in (("ladder", True), ("naive", False)):
        with Twin(tmp_path / "journal", book=book) as twin:
            assert is_compiled(twin.exchange.shards[0]) == expected
