"""The primary of a pair is killed under load, and the other one goes on with everything that anybody was told.

A small part of ``python -m tests.system.failover_campaign``, which says what is held against what; and the other ends
that a pair can come to. A lease is longer here than by default, for the machine may be busy with other tests."""

import asyncio
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exchange.client import Client
from exchange.failover.nodes import free_port
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.market_data.glimpse_client import GlimpseLogin
from exchange.recovery.snapshots import snapshot_paths
from exchange.recovery.twin import Twin, make_snapshot
from exchange.replication.control_line import ControlLine, LineTrouble
from exchange.replication.control_wire import GoOn
from exchange.wire.layout import Message
from exchange.wire.ouch50 import OrderAccepted
from exchange.wire.ouch_codes import Side
from exchange.wire.soupbintcp import EndOfSession, LoginRequest, SequencedData
from tests.gateway_driver import PASSWORD, BareClient, eventually, order
from tests.market_data_driver import GROUP, book, follow, has_multicast
from tests.market_data_driver import free_port as free_udp_port
from tests.replication_driver import needs_fabric
from tests.system.failover_campaign import HOST, SECRET, Node, Options, PairDay
from tests.system.kill_processes import ROOT, Process, Starter, starting
from tests.udp_driver import UDP

LEASE_NS = 700_000_000
SECONDS_MAX = 240.0
ORDERS_AT_ONCE = 20
RECEIVED = Options("received", lease_ns=LEASE_NS)


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    folder = tmp_path_factory.mktemp("pairs")
    before = os.environ.get("EXCHANGE_STATE")
    os.environ["EXCHANGE_STATE"] = str(folder / "state")
    try:
        with starting(folder) as one:
            one.prepare(RECEIVED.overrides())
            yield one
    finally:
        if before is None:
            del os.environ["EXCHANGE_STATE"]
        else:
            os.environ["EXCHANGE_STATE"] = before


@pytest.fixture
def day(tmp_path: Path, starter: Starter) -> PairDay:
    """A pair that was not started yet."""
    return PairDay(tmp_path / tmp_path.name.replace("_", "-"), RECEIVED, 1, starter)


def bounded(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, SECONDS_MAX))


KILLS = {"received": 6, "applied": 4}


@pytest.mark.parametrize("gate", KILLS)
def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path, starter: Starter, gate: str) -> None:
    fail_over(tmp_path / f"kills-{gate}", starter, RECEIVED._replace(gate=gate), KILLS[gate])


@needs_fabric
def test_nothing_is_lost_over_one_sided_writes(tmp_path: Path, starter: Starter) -> None:
    options = RECEIVED._replace(kind="rdma")
    starter.prepare(options.overrides())
    fail_over(tmp_path / "kills-rdma", starter, options, 2)


def test_nothing_is_lost_of_two_shards(tmp_path: Path, starter: Starter) -> None:
    options = RECEIVED._replace(shards=2, journal="file")
    starter.prepare(options.overrides())
    fail_over(tmp_path / "kills-two", starter, options, 2)


def fail_over(folder: Path, starter: Starter, options: Options, kills: int) -> None:
    day = PairDay(folder, options, 1, starter)
    bounded(day.run(kills))
    assert day.counts["failovers"] == kills
    assert day.counts["trades"] > 0
    assert day.counts["messages sent again and equal"] > 0


async def in_sync(day: PairDay, *, forked: bool = True) -> None:
    """Start both, and wait until the backup is in sync."""
    day.primary.start(forked=forked)
    await day.primary.listens()
    day.backup.start(day.primary)
    await day.primary.says("backup in sync")


async def bare(node: Node, sequence: int) -> BareClient:
    """A client that has logged on."""
    client = BareClient(*await asyncio.open_connection(HOST, node.clients_port))
    await client.send(LoginRequest("alice", PASSWORD, "", sequence).encode())
    await client.packet()
    return client


async def accepted(client: BareClient, number: int, **changes: Any) -> OrderAccepted:
    """Place an order, and wait until it is accepted."""
    await client.request(order(number, **changes))
    while True:
        answer = await client.answer()
        if isinstance(answer, OrderAccepted) and answer.user_reference_number == number:
            return answer


def threads_of(node: Node) -> set[str]:
    """In which states its threads are, as the kernel calls them."""
    assert node.process is not None
    stats = Path(f"/proc/{node.process.number}/task").glob("*/stat")
    return {path.read_text().rpartition(") ")[2][0] for path in stats}


async def everything(client: BareClient) -> list[Message]:
    """What comes until the other side hangs up."""
    heard = []
    try:
        while True:
            heard.append(await client.packet())
    except EOFError:
        return heard


def command(day: PairDay, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An operator's command."""
    sets = [part for one in day.primary.overrides() for part in ("--set", one)]
    return subprocess.run(
        [sys.executable, "-m", "exchange", *arguments, "journaled", *sets],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def end(day: PairDay) -> None:
    """An end in order of both, which come to the same."""
    assert day.primary.process is not None
    assert day.backup.process is not None
    day.primary.process.signal(signal.SIGTERM)
    await day.primary.process.end()
    await day.backup.process.end()
    digests = []
    for node in (day.primary, day.backup):
        is_whole = not snapshot_paths(node.journal)
        with Twin(
            node.journal, book="ladder" if node is day.primary else "naive", from_snapshot=not is_whole
        ) as twin:
            twin.replay()
            digests.append((twin.exchange.digest(), twin.message_count()))
    assert digests[0] == digests[1]


def test_a_primary_that_was_stopped_releases_nothing_and_its_journal_has_diverged(day: PairDay) -> None:
    async def scenario() -> None:
        await in_sync(day, forked=False)
        old, new = day.primary, day.backup
        assert old.process is not None
        client = await bare(old, 2)
        await accepted(client, 1)
        old.process.signal(signal.SIGSTOP)
        await eventually(lambda: threads_of(old) == {"T"})
        await client.request(order(2, quantity=222))
        await new.listens()
        moved = await bare(new, 3)
        assert (await accepted(moved, 2, quantity=333)).quantity == 333
        old.process.signal(signal.SIGCONT)
        heard = await everything(client)
        assert not [one for one in heard if isinstance(one, SequencedData | EndOfSession)]
        await old.process.end()
        assert old.process.status() == 3
        said = old.process.log.read_text()
        assert f"exchange: replaced as primary by {new.name} ({HOST}:{new.clients_port}), in epoch 2" in said
        with Twin(old.journal) as twin:
            twin.replay()
            live_orders = twin.live_orders()
        # It may have found out that it was replaced before it read the second order: then it has what both have.
        assert live_orders in ([1], [2])
        day.primary, day.backup = new, old
        old.start(new)
        await new.says("backup in sync")
        aside = old.journal.with_name(old.journal.name + ".aside-1")
        assert ("backup needs a copy" in new.log()) == aside.exists() == (live_orders == [2])
        if aside.exists():
            assert "of epoch 1, and the primary's of epoch 2" in new.log()
            with Twin(aside) as twin:
                twin.replay()
                assert twin.live_orders() == live_orders
        await accepted(moved, 3)
        await end(day)
        for one in (client, moved):
            await one.close()

    bounded(scenario())


def test_a_primary_whose_backup_is_lost_goes_on_alone_and_does_not_hand_over(day: PairDay) -> None:
    async def scenario() -> None:
        await in_sync(day)
        client = await bare(day.primary, 2)
        await accepted(client, 1)
        await day.backup.kill()
        await accepted(client, 2)
        await day.primary.says("backup gone")
        refused = command(day, "promote")
        assert refused.returncode == 2
        assert re.search(r"refused: 'a' cannot hand over: alone.*\. There is no backup\.", refused.stderr), (
            refused
        )
        for number in range(3, 60):
            await accepted(client, number)
        shutil.rmtree(day.backup.journal)
        await eventually(lambda: make_snapshot(day.primary.journal) is not None)
        day.backup.start(day.primary)
        await day.primary.says("backup in sync", 2)
        assert len(snapshot_paths(day.backup.journal)) == 1
        status = command(day, "status")
        assert (
            f"lease: a is primary in epoch 1, for clients at {HOST}:{day.primary.clients_port}; b is in sync"
            in (status.stdout)
        )
        assert "b, backup in epoch 1, in sync" in status.stdout
        await end(day)
        await client.close()

    bounded(scenario())


def test_a_backup_that_is_asked_to_end_takes_its_leave(day: PairDay) -> None:
    async def scenario() -> None:
        await in_sync(day)
        assert day.backup.process is not None
        day.backup.process.signal(signal.SIGINT)
        await day.backup.process.end()
        await day.primary.says("backup gone")
        assert "reason" not in day.primary.log().partition("backup gone")[2].partition("\n")[0]
        client = await bare(day.primary, 2)
        await accepted(client, 1)
        await client.close()
        day.backup.extra = ("replication.node=a",)
        await refuses(day.backup.start(day.primary), "replication.node = 'a': " + called_too(day))

    bounded(scenario())


async def refuses(process: Process, reason: str) -> None:
    """Wait until it has ended, for a mistake that is told in one line."""
    await process.end()
    *_, last = process.log.read_text().splitlines()
    assert last.startswith(f"exchange: {reason}")


def called_too(day: PairDay) -> str:
    return (
        f"the primary at {HOST}:{day.primary.place.pair_port} is called 'a' too; the two of a pair need names of their"
        " own, such as --set replication.node=a-b"
    )


@pytest.mark.skipif(not has_multicast(), reason="no multicast over this machine's loopback")
def test_a_primary_hands_over_and_the_feed_goes_on(day: PairDay) -> None:
    """There and back again, asked of either node; who joins late, at the new primary, has the same books."""
    feed_port, glimpse = free_udp_port(), GlimpseLogin(HOST, free_port(), "alice", PASSWORD)
    for node in (day.primary, day.backup):
        node.extra = (f"market_data.address={GROUP}", f"market_data.port={feed_port}")
    day.backup.extra += ("market_data.glimpse=process", f"market_data.glimpse_port={glimpse.port}")

    async def scenario(heard: FeedReceiver, early: FeedReceiver, stack: ExitStack) -> None:
        await in_sync(day)
        client = await Client.connect(
            HOST, day.primary.clients_port, "alice", PASSWORD, backups=[(HOST, day.backup.clients_port)]
        )
        for price in (99_0000, 98_0000):
            await client.place("AAPL", Side.BUY, 100, price_ticks=price)
        await heard_orders(client, 2)
        await hand_over(day, day.primary)
        await client.place("AAPL", Side.SELL, 150, price_ticks=98_0000)
        await heard_orders(client, 1)
        await day.primary.says("glimpse listening")
        late = stack.enter_context(
            FeedReceiver(GROUP, feed_port, book, requests=[(HOST, free_udp_port())], glimpse=[glimpse])
        )
        following = asyncio.create_task(follow(late, lambda: late.subscriber.counts().snapshots == 1))
        await client.place("AAPL", Side.BUY, 70, price_ticks=97_0000)
        await following
        day.backup.start(day.primary)
        await day.primary.says("backup in sync")
        await hand_over(day, day.backup)
        await client.place("AAPL", Side.BUY, 80, price_ticks=96_0000)
        await heard_orders(client, 2)
        day.backup.start(day.primary)
        await day.primary.says("backup in sync")
        await end(day)
        await client.close()
        await follow(early, lambda: early.subscriber.has_ended)
        await follow(late, lambda: late.subscriber.has_ended)
        messages, sources = datagrams(heard._feed)
        assert list(messages) == list(range(1, len(messages) + 1))
        assert len(sources) == 3
        with Twin(day.primary.journal) as twin:
            twin.replay()
            digests = [one.subscriber.book.digest(public=True) for one in (early, late)]
            assert digests == [twin.exchange.digest(public=True)] * 2
        assert early.subscriber.counts().snapshots == 0

    with (
        FeedReceiver(GROUP, feed_port, book) as heard,
        FeedReceiver(GROUP, feed_port, book) as early,
        ExitStack() as stack,
    ):
        bounded(scenario(heard, early, stack))


async def hand_over(day: PairDay, asked: Node) -> None:
    """Have the backup take over by asking one of the two; the one that was primary has ended then."""
    done = await asyncio.to_thread(command, day, "promote", "--node", f"{HOST}:{asked.place.pair_port}")
    assert done.stdout == f"{day.primary.name!r} has handed over to {day.backup.name!r}\n", done
    day.primary, day.backup = day.backup, day.primary
    assert day.backup.process is not None
    await day.backup.process.end()
    assert f"handed over to {day.primary.name}" in day.backup.log()


def test_a_primary_whose_disk_has_no_room_hands_over(day: PairDay) -> None:
    for node in (day.primary, day.backup):
        node.extra = ("journal.segment_bytes=64KiB",)

    async def scenario() -> None:
        await in_sync(day, forked=False)
        old = day.primary
        client = await Client.connect(
            HOST, old.clients_port, "alice", PASSWORD, backups=[(HOST, day.backup.clients_port)]
        )
        await client.place("AAPL", Side.BUY, 100, price_ticks=99_0000)
        await heard_orders(client, 1)
        assert old.process is not None
        resource.prlimit(old.process.number, resource.RLIMIT_FSIZE, (1 << 15, resource.RLIM_INFINITY))
        while not old.process.has_ended():
            for _ in range(ORDERS_AT_ONCE):
                await client.place("AAPL", Side.BUY, 1, price_ticks=98_0000)
            await heard_orders(client, ORDERS_AT_ONCE)
        day.primary, day.backup = day.backup, old
        said = old.log()
        assert f"handed over to={day.primary.name} epoch=1" in said
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith(f"exchange: journal {old.journal}/shard-0")
        assert said.endswith(": File too large\n")
        assert old.process.status() == 2
        day.backup.start(day.primary)
        await day.primary.says("backup in sync")
        await end(day)
        await client.close()

    bounded(scenario())


def test_clients_over_udp_go_on_though_the_primary_dies_as_soon_as_it_has_a_backup(
    tmp_path: Path, starter: Starter
) -> None:
    """The backup has asked the store last before that said that it is in sync."""
    day = PairDay(tmp_path / "over-udp", RECEIVED, 1, starter)
    starter.prepare((*RECEIVED.overrides(), *UDP))
    for node in (day.primary, day.backup):
        node.extra = (*UDP, f"replication.renew_every_ns={LEASE_NS // 2}")

    async def scenario() -> None:
        day.primary.start()
        await day.primary.listens()
        places = [(HOST, node.clients_port) for node in (day.primary, day.backup)]
        client = await Client.connect(
            *places[0], "alice", PASSWORD, backups=places[1:], answer_seconds=1.0, transport="udp"
        )
        for price in (99_0000, 98_0000, 97_0000):
            await client.place("AAPL", Side.BUY, 100, price_ticks=price)
            await heard_orders(client, 1)
            day.backup.start(day.primary)
            await day.primary.says("backup in sync")
            await day.primary.kill()
            day.primary, day.backup = day.backup, day.primary
            await client.place("AAPL", Side.SELL, 50, price_ticks=price)
            await heard_orders(client, 1)
        assert client.reconnections == 3
        assert client.taken_back == 0
        day.backup.start(day.primary)
        await day.primary.says("backup in sync")
        await end(day)
        await client.close()

    bounded(scenario())


async def heard_orders(client: Client, count: int) -> None:
    """Wait until so many orders were accepted."""
    while count:
        count -= isinstance(await client.next_answer(), OrderAccepted)


def datagrams(receiver: socket.socket) -> tuple[dict[int, bytes], set[Any]]:
    """The feed's messages by their numbers, each told alike by whoever told it; and who has told some."""
    messages: dict[int, bytes] = {}
    sources = set()
    while True:
        try:
            data, source = receiver.recvfrom(1 << 16)
        except BlockingIOError:
            return dict(sorted(messages.items())), sources
        number, count, place = int.from_bytes(data[10:18], "big"), int.from_bytes(data[18:20], "big"), 20
        for index in range(count if count != 0xFFFF else 0):
            size = int.from_bytes(data[place : place + 2], "big")
            message = data[place + 2 : place + 2 + size]
            assert messages.setdefault(number + index, message) == message
            place += 2 + size
            sources.add(source)


def test_two_that_do_not_know_one_another_are_no_pair(day: PairDay) -> None:
    async def scenario() -> None:
        day.primary.start()
        await day.primary.listens()
        other = day.backup.folder / "other-secret"
        other.touch(mode=0o600)
        other.write_text("what-nobody-else-knows")
        day.backup.extra = (f"replication.secret_file={other}",)
        day.backup.start(day.primary)
        await eventually(lambda: "you do not know the pair's secret" in day.backup.log())
        await day.primary.says("'b' does not know the pair's secret")
        await day.backup.kill()
        day.backup.extra = ("replication.node=a",)
        await refuses(day.backup.start(day.primary), "replication.node = 'a': " + called_too(day))
        assert not day.backup.journal.exists()
        await refuses(
            day.backup.start(),
            f"replication.group = {day.primary.folder.name!r}: 'a' (another process of this name)",
        )
        with (
            ControlLine.connect(
                (HOST, day.primary.place.pair_port), "a", "join", SECRET.replace(" ", "-")
            ) as line,
            pytest.raises(LineTrouble, match="'a' is the primary's name"),
        ):
            line.expect(GoOn, 5)

    bounded(scenario())
