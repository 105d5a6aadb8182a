"""Kill the primary of a pair again and again, under load, and hold what the other one goes on with against what clients
were told.

The tests run a small part of it. The long version is a command::

    python -m tests.system.failover_campaign --kills 200 --gate received

A *day* is a pair of exchanges with a journal each and one lease, and some dozen failovers. In each, four clients trade
with each other as fast as they can, one of them in OUCH 4.2 and one with cancel on disconnect, until the primary is
killed with SIGKILL. They log on at the other one as soon as it lets them in, compare what they are sent again byte for
byte, send again what was not answered, and trade on; meanwhile the one that was killed is started as the backup of the
other, and comes back into sync. What is held against it each time is in :mod:`tests.system.kill_client`: no message
that a client has got is missing, or another one, and no order is answered twice. At the end of the day:

* both sides of each trade have heard of it, once, and the orders that clients believe alive are those in the books;
* both journals, replayed, come to the same digest, and to the logs that clients have got;
* the textbook's books, from the first record on, come to the same digest.

The time from the kill to the first acknowledgement by the new primary is measured at the clients. With gate ``async``
what was acknowledged last may be gone: then the clients forget it, and it is counted.

Equal seeds draw equal days; what the machine makes of them differs. A folder that failed is kept and named."""

import argparse
import asyncio
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from exchange.failover.nodes import HOST, NodePlace
from exchange.line import Line, TcpLine
from exchange.recovery.twin import Twin
from tests.gateway_driver import SETTINGS
from tests.system.kill_campaign import CANCELS, IN_OUCH42, NAMES, THREADS, Day, live_orders
from tests.system.kill_client import BEYOND_THE_END, Trader
from tests.system.kill_processes import Process, Starter, starting

SYNC_SECONDS_MAX: Final = 60.0
MOVE_SECONDS_MAX: Final = 30.0
LOAD_SECONDS: Final = 0.3
KILLS_OF_A_DAY: Final = 20
SECRET: Final = "what both of the pair know"


class Options(NamedTuple):
    """A day's settings."""

    gate: str = "received"
    kind: str = "tcp"
    shards: int = 1
    journal: str = "mapped"
    lease_ns: int = 150_000_000

    def overrides(self) -> tuple[str, ...]:
        """As a profile has them, but for what is a node's own."""
        return (
            f"replication.kind={self.kind}",
            f"replication.gate={self.gate}",
            f"replication.lease_ns={self.lease_ns}",
            f"replication.renew_every_ns={self.lease_ns // 5}",
            "replication.backup_timeout_ns=5000000000",  # the machine may be busy
            f"journal.kind={self.journal}",
            f"shards.count={self.shards}",
            f"shards.threads={THREADS[self.shards]}",
            "idle.kind=park",  # two exchanges and their clients share a machine
            "journal.segment_bytes=1MiB",
            "gateway.log_bytes=32MiB",
        )


class Node:
    """One of the pair: its folder, its ports, and the process that runs it now."""

    def __init__(self, name: str, folder: Path, options: Options, starter: Starter) -> None:
        self.name: Final = name
        self.place: Final = NodePlace.choose(name, folder, folder.name)
        self.journal: Final = self.place.journal
        self.clients_port: Final = self.place.clients_port
        self.process: Process | None = None
        self.starts = 0
        self.extra: tuple[str, ...] = ()
        self.folder: Final = folder
        self._options: Final = options
        self._starter: Final = starter

    def overrides(self) -> tuple[str, ...]:
        """What a profile has to say of this node."""
        return (*SETTINGS, *self._options.overrides(), *self.place.overrides(), *self.extra)

    def start(self, backup_of: "Node | None" = None, *, forked: bool = True, way: str = "") -> Process:
        """Run it, as the primary or as a backup, which finds its primary by another way if that is said."""
        self.starts += 1
        sets = [part for one in self.overrides() for part in ("--set", one)]
        arguments = ["serve", "journaled", "--users", str(self.folder / "users"), *sets]
        if backup_of is not None:
            arguments += ["--backup-of", way or backup_of.place.pair_address]
        self.process = self._starter.start(
            f"{self.folder.name}-{self.name}-{self.starts}", arguments, forked=forked
        )
        return self.process

    async def says(self, text: str, count: int = 1) -> str:
        """Wait until its log has a text so many times; all of it. AssertionError if the process ends before."""
        process, deadline = self.process, time.monotonic() + SYNC_SECONDS_MAX
        assert process is not None
        while (said := self.log()).count(text) < count:
            assert not process.has_ended(), f"{self.name} has ended: {said}"
            assert time.monotonic() < deadline, f"{self.name} does not say {text!r}: {said}"
            await asyncio.sleep(0.005)
        return said

    def log(self) -> str:
        """What its process says in its log."""
        assert self.process is not None
        return self.process.log.read_text()

    async def listens(self) -> None:
        """Wait until clients can connect."""
        assert self.process is not None
        assert await self.process.port() == self.clients_port

    async def kill(self) -> float:
        """Kill it with SIGKILL; when."""
        assert self.process is not None
        self.check()
        now = time.monotonic()
        assert self.process.signal(signal.SIGKILL), "it has ended by itself"
        await self.process.end()
        return now

    def check(self) -> None:
        """Nothing has gone wrong with it that would be a fault."""
        text = self.log()
        assert "Traceback" not in text, text
        assert "exchange:" not in text, text


class MovingTrader(Trader):
    """A trader that notes when it was told something new, and forgets what it was told last if the exchange has."""

    def __init__(self, name: str, seed: int, options: Options) -> None:
        super().__init__(
            name, seed, speaks_ouch42=name == IN_OUCH42, is_ordered=options.shards == 1,
            cancels_on_disconnect=name == CANCELS, open_line=open_when_it_listens,
        )  # fmt: skip
        self.told_at: float | None = None
        self.forgotten = 0
        self._may_forget: Final = options.gate == "async"

    async def _log_on(self, port: int, sequence: int) -> int:
        begin = await super()._log_on(port, sequence)
        if self._may_forget and sequence == BEYOND_THE_END and begin <= len(self.messages):
            self._forget(begin - 1)
        return begin

    def _forget(self, count: int) -> None:
        """Only so many messages were ever sent: what came after them has not happened."""
        kept, self.forgotten = self.messages[:count], self.forgotten + len(self.messages) - count
        for known in (self.messages, self.live, self.matches, self.due, self._known):
            known.clear()
        for payload in kept:
            self.messages.append(payload)
            self._learn(self._dialect.told(payload))

    def _begin(self, number: int, name: str) -> None:
        super()._begin(number, name)
        if self.told_at is None:
            self.told_at = time.monotonic()


async def open_when_it_listens(port: int) -> Line:
    """A connection, as soon as there is somebody who accepts it."""
    deadline = time.monotonic() + MOVE_SECONDS_MAX
    while True:
        try:
            return await TcpLine.open(HOST, port)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.002)


class PairDay:
    """A pair, its clients, and its failovers.

    Attributes:
        seconds: from each kill to the first acknowledgement by the other one.
        counts: what a summary tells.
    """

    def __init__(self, folder: Path, options: Options, seed: int, starter: Starter) -> None:
        folder.mkdir()
        (folder / "secret").touch(mode=0o600)
        (folder / "secret").write_text(SECRET.replace(" ", "-"))
        Day.write_users(folder / "users")
        self.options: Final = options
        self.seconds: Final[list[float]] = []
        self.counts: Final[Counter[str]] = Counter()
        self.primary = Node("a", folder, options, starter)
        self.backup = Node("b", folder, options, starter)
        self.traders: Final = [
            MovingTrader(name, seed * 10 + number, options) for number, name in enumerate(NAMES)
        ]
        self._chance: Final = random.Random(seed)
        self._trading: list[asyncio.Task[None]] = []
        self._is_moving = False

    async def run(self, kills: int) -> None:
        """The day: so many failovers, an end in order, and the reckoning."""
        self.primary.start()
        await self.primary.listens()
        self.begin_trading()
        self.backup.start(self.primary)
        await self.primary.says("backup in sync")
        for _ in range(kills):
            await asyncio.sleep(self._chance.uniform(0.02, LOAD_SECONDS))
            await self.fail_over()
            old = self.backup
            old.start(self.primary)
            await self.primary.says("backup in sync")
        await self.end()

    def begin_trading(self) -> None:
        """Have all traders log on at the primary and trade."""
        port = self.primary.clients_port
        for trader in self.traders:
            trader.resumed.clear()
        self._trading = [asyncio.create_task(self._trade(one, port)) for one in self.traders]

    async def _trade(self, trader: MovingTrader, port: int) -> None:
        try:
            await trader.resume(port)
            await trader.trade()
        except EOFError:
            assert self._is_moving, f"{trader.name}: the exchange hung up"

    async def fail_over(self) -> None:
        """Kill the primary under load; the clients move to the other one."""
        for trader in self.traders:
            await asyncio.wait_for(trader.resumed.wait(), MOVE_SECONDS_MAX)
        self._is_moving = True
        killed_at = await self.primary.kill()
        await asyncio.gather(*self._trading)
        self._is_moving = False
        for trader in self.traders:
            trader.told_at = None
        self.primary, self.backup = self.backup, self.primary
        self.begin_trading()
        deadline = time.monotonic() + MOVE_SECONDS_MAX
        while (told := [one.told_at for one in self.traders if one.told_at is not None]) == []:
            for task in self._trading:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, "nobody is answered by the other one"
            await asyncio.sleep(0.002)
        self.seconds.append(min(told) - killed_at)
        self.counts["failovers"] += 1

    async def end(self) -> None:
        """An end in order, of both, and what is held against it."""
        for trader in self.traders:
            await asyncio.wait_for(trader.resumed.wait(), MOVE_SECONDS_MAX)
        assert self.primary.process is not None
        assert self.backup.process is not None
        self.primary.process.signal(signal.SIGTERM)
        await asyncio.gather(*self._trading)
        await self.primary.process.end()
        await asyncio.wait_for(self.backup.process.end(), MOVE_SECONDS_MAX)
        for node in (self.primary, self.backup):
            node.check()
        self._check_trades()
        self._check_journals()
        self.counts["messages"] += sum(len(one.messages) for one in self.traders)
        self.counts["messages sent again and equal"] += sum(one.kept for one in self.traders)
        self.counts["orders that a kill swallowed"] += sum(one.lost for one in self.traders)
        self.counts["messages taken back"] += sum(one.forgotten for one in self.traders)

    def _check_trades(self) -> None:
        sides = Counter(match for trader in self.traders for match, _ in trader.matches)
        wrong = {match: count for match, count in sides.items() if count != 2}
        assert not wrong, f"trades that not exactly two orders have heard of: {wrong}"
        for trader in self.traders:
            assert not trader.due.intersection(trader.live), f"{trader.name}: orders live that had to go"
            assert trader.ended_in_order(), f"{trader.name}: was not told the end"
        self.counts["trades"] += len(sides)

    def _check_journals(self) -> None:
        known = sorted(
            (number, *order) for number, trader in enumerate(self.traders) for order in trader.live.values()
        )
        digests = set()
        for node in (self.primary, self.backup):
            with Twin(node.journal) as twin:
                twin.replay()
                for trader, told in zip(self.traders, twin.told(), strict=True):
                    assert told == trader.messages, (
                        f"{trader.name}: {len(trader.messages)} messages were heard, {node.name} has {len(told)}"
                    )
                assert live_orders(twin) == known
                digests.add(twin.exchange.digest())
        with Twin(self.backup.journal, book="naive") as twin:
            twin.replay()
            digests.add(twin.exchange.digest())
        assert len(digests) == 1, f"digests differ: {digests}"
        self.counts["journals compared"] += 2


async def run_day(
    folder: Path, options: Options, seed: int, kills: int, starter: Starter
) -> tuple[Counter[str], list[float]]:
    """One day: what it counted, and the seconds of its failovers."""
    starter.prepare(options.overrides())
    day = PairDay(folder, options, seed, starter)
    await day.run(kills)
    return day.counts, day.seconds


def describe(seconds: list[float]) -> str:
    """Times of failovers in a line."""
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return (
        f"from the kill to the first acknowledgement: median {statistics.median(ordered) * 1e3:.0f} ms,"
        f" {ordered[0] * 1e3:.0f} to {ordered[-1] * 1e3:.0f} ms, p99 {last * 1e3:.0f} ms, {len(ordered)} failovers"
    )


def main() -> None:
    """Days until there were enough kills."""
    parser = argparse.ArgumentParser(description="Kill the primary of a pair and compare what goes on.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--gate", choices=("async", "received", "applied"), default="received")
    parser.add_argument("--kind", choices=("tcp", "rdma"), default="tcp")
    parser.add_argument("--shards", type=int, choices=(1, 2), default=1)
    parser.add_argument("--lease-ms", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="exchange-failovers-"))
    os.environ["EXCHANGE_STATE"] = str(folder / "state")
    options = Options(asked.gate, asked.kind, asked.shards, lease_ns=asked.lease_ms * 1_000_000)
    total, seconds, number = Counter[str](), list[float](), 0
    began = time.monotonic()
    with starting(folder) as starter:
        while total["failovers"] < asked.kills:
            kills = min(KILLS_OF_A_DAY, asked.kills - total["failovers"])
            day = folder / f"day-{number}"
            try:
                counts, found = asyncio.run(
                    run_day(day, options, asked.seed * 1_000_000 + number, kills, starter)
                )
            except BaseException:
                print(f"failed: day {number} of seed {asked.seed}, {options}; its files are in {folder}")
                raise
            total, seconds, number = total + counts, seconds + found, number + 1
            for path in folder.glob(f"{day.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            print(
                f"{total['failovers']} kills in {time.monotonic() - began:,.0f} s: {describe(seconds)}",
                flush=True,
            )
    shutil.rmtree(folder, ignore_errors=True)
    for name, count in sorted(total.items()):
        print(f"{count:>12,}  {name}")
    print(describe(seconds))


if __name__ == "__main__":
    main()
