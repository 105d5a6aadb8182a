"""Kill a served exchange again and again, and hold what comes back against what its clients were told.

The tests run a small part of it. The long version is a command::

    python -m tests.system.kill_campaign --kills 1000

A *day* is one journal folder, its settings drawn by the seed, and some dozen lives of an exchange in it. In each life
four clients log on, resume, and trade with each other as fast as they can, one of them in OUCH 4.2 and one with cancel
on disconnect, until the exchange is killed with SIGKILL: under load, while clients resume, while it starts and
recovers, while it ends, or while another process makes a snapshot, which may be killed as well. What is held against it
each time is in :mod:`tests.system.kill_client`. Now and then, and at the end of a day, the journal is replayed here:

* every message that a client has got is in the log of its session, at its place; at the end there are no others;
* the orders that clients believe alive are those in the books;
* both sides of each trade have heard of it, once;
* the textbook's books, from the first record on, come to the same digest, and so does the exchange's next start.

With ``--transport dpdk`` orders and answers go over a card, memif's: whenever the exchange is killed its link goes
down, and the traders' process, in which the card stays open, has it back when the next exchange is there. Each exchange
is then started as a person does it, for a card cannot be forked, and the settings are always the same.

Equal seeds draw equal days; what the machine makes of them differs. Most exchanges are forked
(:mod:`tests.system.kill_processes`); some are started as a person does it. A folder that failed is kept and named."""

import argparse
import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from exchange.book.protocol import export_orders, live_order_count
from exchange.gateway.credentials import User, write_user
from exchange.journal.identity import IDENTITY_NAME
from exchange.line import Line
from exchange.messages import BUY, COMMAND_DTYPE
from exchange.native import address_of
from exchange.recovery.twin import Twin
from tests.gateway_driver import PASSWORD, SETTINGS
from tests.system.kill_client import Live, Trader, open_tcp
from tests.system.kill_processes import Process, Starter, starting

if TYPE_CHECKING:
    from exchange.card_line import ClientCard

NAMES: Final = ("alice", "bob", "carol", "dave")
IN_OUCH42: Final = "carol"
CANCELS: Final = "dave"
"""Whose orders are cancelled when its line is gone."""

CARD_ADDRESSES: Final = ("10.0.0.1", "10.0.0.2")
"""The exchange's on the wire, and its clients'."""

LIFE_SECONDS: Final = 0.4
KILLS_OF_A_DAY: Final = 20
AS_A_PERSON_CHANCE: Final = 0.03
LOOK_CHANCE: Final = 0.1
FIRST_SEGMENT: Final = "00000000000000000001.segment"
THREADS: Final = {
    1: '[["ingress","shard.0","egress"],["journal"]]',
    2: '[["ingress","shard.0","shard.1","egress"],["journal"]]',
}
APART: Final = {
    1: '[["ingress","egress"],["shard.0"]]',
    2: '[["ingress","egress"],["shard.0","shard.1"]]',
}
"""The same where shards are processes, on as few cores."""
ASSIGNED: Final = {1: "{}", 2: "{AAPL=0, MSFT=1, NVDA=0, AMZN=1, INTC=0, CSCO=1, TSLA=0, QQQ=1}"}
"""Of so few symbols one shard would get nearly all."""
MOMENTS: Final = {"load": 50, "resume": 10, "start": 15, "end": 10, "snapshot": 15}
"""When the exchange is killed, and how often of a hundred."""


class Options(NamedTuple):
    """What of a day's settings is drawn."""

    kind: str
    gate: str
    shards: int
    segment_bytes: str
    transport: str = "tcp"
    run_as: str = "threads"

    def overrides(self) -> tuple[str, ...]:
        """As a profile has them."""
        return (
            f"journal.kind={self.kind}",
            f"journal.gate={self.gate}",
            f"shards.count={self.shards}",
            f"shards.run_as={self.run_as}",
            f"shards.threads={THREADS[self.shards] if self.run_as == 'threads' else APART[self.shards]}",
            f"shards.assign={ASSIGNED[self.shards]}",
            f"journal.segment_bytes={self.segment_bytes}",
            "gateway.log_bytes=32MiB",
            *(("transport.kind=dpdk", "transport.port=9005", "idle.kind=park", f"transport.device={memif('server')}")
              if self.transport == "dpdk" else ()),
        )  # fmt: skip


def memif(role: str) -> str:
    """One end of the memory through which an exchange and this process's clients have each other's frames."""
    return f"net_memif0,role={role},socket=exchange-kills-{os.getpid()}"


def draw_options(chance: random.Random) -> Options:
    """A day's settings."""
    return Options(
        chance.choice(["mapped", "file"]),
        chance.choice(["written", "synced"]),
        chance.choice([1, 2]),
        chance.choice(["1MiB", "1MiB", "64MiB"]),
        run_as=chance.choice(["threads", "threads", "processes"]),
    )


OVER_A_CARD: Final = Options("mapped", "written", 1, "1MiB", "dpdk")


class Day:
    """One journal, and the lives of exchanges in it.

    Attributes:
        counts: how many kills of each kind, and other things that a summary tells.
    """

    def __init__(self, folder: Path, options: Options, seed: int, starter: Starter) -> None:
        self.folder: Final = folder
        self.options: Final = options
        self.journal: Final = folder / "journal"
        self.counts: Final[Counter[str]] = Counter()
        self._chance: Final = random.Random(seed)
        self._starter: Final = starter
        self._lives = 0
        self._start_seconds = 0.2
        self._card: ClientCard | None = None
        self._open: Final = AsyncExitStack()
        folder.mkdir()
        self.write_users(folder / "users")
        self.traders: Final = [
            Trader(
                name, seed * 10 + number, speaks_ouch42=name == IN_OUCH42, is_ordered=options.shards == 1,
                cancels_on_disconnect=name == CANCELS, open_line=self._open_line,
            )
            for number, name in enumerate(NAMES)
        ]  # fmt: skip

    @staticmethod
    def write_users(path: Path) -> None:
        """Write who may log on."""
        for name in NAMES:
            protocol, cancels = "ouch42" if name == IN_OUCH42 else "ouch50", name == CANCELS
            write_user(path, User.create(name, PASSWORD, 2, cancels_on_disconnect=cancels, protocol=protocol))

    async def run(self, moments: Sequence[str]) -> None:
        """Live and be killed at these moments; then the last life, which ends in order, and the reckoning."""
        async with self._open:
            for moment in moments:
                await self.live(moment)
                if self._chance.random() < LOOK_CHANCE:
                    self.look()
            await self.last_life()

    async def _open_line(self, port: int) -> Line:
        """A line of a trader's: over the card, if there is one, which is opened when the first exchange is there."""
        if self.options.transport == "tcp":
            return await open_tcp(port)
        if self._card is None:
            from exchange.card_line import ClientCard

            self._card = ClientCard(memif("client"), CARD_ADDRESSES[1])
            await self._open.enter_async_context(self._card)
        return await self._card.open(CARD_ADDRESSES[0], port)

    def _start(self) -> Process:
        self._lives += 1
        settings = (*SETTINGS, *self.options.overrides(), f"journal.directory={self.journal}")
        sets = [part for one in settings for part in ("--set", one)]
        arguments = ["serve", "journaled", "--users", str(self.folder / "users"), *sets]
        forked = self._chance.random() >= AS_A_PERSON_CHANCE and self.options.transport == "tcp"
        return self._starter.start(f"{self.folder.name}-{self._lives}", arguments, forked=forked)

    async def live(self, moment: str) -> None:
        """A life, and its end by a kill at some moment."""
        process = self._start()
        if moment == "start":
            await asyncio.sleep(self._chance.uniform(0, 1.1 * self._start_seconds))
            await self._kill(process, moment)
            return
        trading, snapshot = [], None
        for trader in self.traders:
            trader.resumed.clear()
        try:
            began = time.monotonic()
            port = await process.port()
            self._start_seconds += 0.2 * (time.monotonic() - began - self._start_seconds)
            trading = [asyncio.create_task(self._trade(one, port, moment)) for one in self.traders]
            if moment == "resume":
                await asyncio.sleep(self._chance.uniform(0, 0.1))
            else:
                await asyncio.gather(*(one.resumed.wait() for one in self.traders))
                await asyncio.sleep(self._chance.uniform(0.01, LIFE_SECONDS))
            if moment == "snapshot":
                name = f"{self.folder.name}-{self._lives}-snapshot"
                snapshot = self._starter.start(name, ["journal", "snapshot", str(self.journal)])
                await asyncio.sleep(self._chance.uniform(0, 0.5))
            if moment == "end":
                process.signal(signal.SIGTERM)
                await asyncio.sleep(self._chance.uniform(0, 0.3))
            self._check_process(process)
        finally:
            await self._kill(process, moment)
            if snapshot is not None:
                await self._end_snapshot(snapshot)
        await asyncio.gather(*trading)

    async def _trade(self, trader: Trader, port: int, moment: str) -> None:
        try:
            await trader.resume(port)
            await trader.trade()
        except EOFError:
            assert moment in ("resume", "end"), f"{trader.name}: the exchange hung up"
        finally:
            trader.resumed.set()

    async def _kill(self, process: Process, moment: str) -> None:
        is_hit = process.signal(signal.SIGKILL)
        self.counts[f"killed: {moment}" if is_hit else f"over before the kill: {moment}"] += 1
        await process.end()

    async def _end_snapshot(self, snapshot: Process) -> None:
        if self._chance.random() < 0.5 and snapshot.signal(signal.SIGKILL):
            self.counts["snapshots killed"] += 1
        await snapshot.end()
        text = snapshot.log.read_text()
        assert text == "", f"a snapshot failed: {text}"
        if ".snapshot" in snapshot.output.read_text():
            self.counts["snapshots made"] += 1

    def _check_process(self, process: Process) -> None:
        text = process.log.read_text()
        assert "Traceback" not in text, text
        assert "exchange:" not in text, text

    def look(self) -> None:
        """While nobody runs, the journal has everything that anybody was told."""
        if not (self.journal / IDENTITY_NAME).exists():
            assert not any(trader.messages for trader in self.traders)
            self.counts["killed before there was a journal"] += 1
            return
        with Twin(self.journal) as twin:
            twin.replay()
            for trader, told in zip(self.traders, twin.told(), strict=True):
                count = len(trader.messages)
                assert told[:count] == trader.messages, (
                    f"{trader.name}: {count} messages are known and {_alike(told, trader.messages)} are in the journal"
                )
        self.counts["replays compared"] += 1

    async def last_life(self) -> None:
        """The one that ends in order, and the reckoning."""
        process = self._start()
        try:
            port = await process.port()
            await asyncio.gather(*(one.resume(port) for one in self.traders))
            process.signal(signal.SIGTERM)
            await asyncio.gather(*(one.listen() for one in self.traders))
            await process.end()
            self._check_process(process)
        except BaseException:
            process.signal(signal.SIGKILL)
            raise
        self._check_trades()
        digest = self._check_replay()
        process = self._start()
        await process.port()
        text = process.log.read_text()
        process.signal(signal.SIGKILL)
        await process.end()
        assert f"digest={digest}" in text, f"the digest is {digest}, and the next start says: {text}"
        self.counts["days"] += 1

    def _check_trades(self) -> None:
        sides = Counter(match for trader in self.traders for match, _ in trader.matches)
        wrong = {match: count for match, count in sides.items() if count != 2}
        assert not wrong, f"trades that not exactly two orders have heard of: {wrong}"
        everything = [(trader.name, *one) for trader in self.traders for one in trader.matches]
        assert len(set(everything)) == len(everything), "an order has heard of a trade twice"
        for trader in self.traders:
            assert not trader.due.intersection(trader.live), (
                f"{trader.name}: orders that had to be cancelled live"
            )
        self.counts["trades"] += len(sides)

    def _check_replay(self) -> str:
        with Twin(self.journal) as twin:
            twin.replay()
            for trader, told in zip(self.traders, twin.told(), strict=True):
                assert told == trader.messages, (
                    f"{trader.name}: {len(trader.messages)} messages were heard and {len(told)} are in the journal,"
                    f" {_alike(told, trader.messages)} of them alike"
                )
                assert trader.ended_in_order(), f"{trader.name}: was not told the end"
            assert live_orders(twin) == sorted(
                (number, *order)
                for number, trader in enumerate(self.traders)
                for order in trader.live.values()
            )
            digest = twin.exchange.digest()
        is_whole = all((path / FIRST_SEGMENT).exists() for path in self.journal.glob("shard-*"))
        with Twin(self.journal, book="naive", from_snapshot=not is_whole) as twin:
            twin.replay()
            assert twin.exchange.digest() == digest
        self.counts["replays compared" if is_whole else "replays compared, from a snapshot"] += 1
        return digest


def live_orders(twin: Twin) -> list[tuple[int, *tuple[Any, ...]]]:
    """The orders in the books: session, and what a client knows of it."""
    found = []
    for symbol_id, symbol in enumerate(twin.identity.outcomes.symbols):
        book = twin.exchange.book_of(symbol_id)
        records = np.zeros(live_order_count(book) + 1, COMMAND_DTYPE)
        for record in records[: export_orders(book, symbol_id, address_of(records))]:
            side = "B" if record["side"] == BUY else "S"
            order = Live(symbol, side, int(record["price_ticks"]), int(record["quantity_lots"]))
            found.append((int(record["session_id"]), *order))
    return sorted(found)


def _alike(told: list[bytes], known: list[bytes]) -> int:
    """How many messages are alike from the first on."""
    pairs = zip(told, known, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one != other), min(len(told), len(known))
    )


def draw_moments(chance: random.Random, count: int) -> list[str]:
    """When the exchanges of a day are killed."""
    return chance.choices(list(MOMENTS), list(MOMENTS.values()), k=count)


async def run_day(
    folder: Path, options: Options, seed: int, moments: Sequence[str], starter: Starter
) -> Counter[str]:
    """One day; what it counted."""
    if options.transport == "tcp":
        starter.prepare(options.overrides())
    day = Day(folder, options, seed, starter)
    await day.run(moments)
    counts = day.counts
    counts["messages"] = sum(len(one.messages) for one in day.traders)
    counts["messages sent again and equal"] = sum(one.kept for one in day.traders)
    counts["orders that a kill swallowed"] = sum(one.lost for one in day.traders)
    return counts


def killed(counts: Counter[str]) -> int:
    """How many kills there were."""
    return sum(count for name, count in counts.items() if name.startswith("killed: "))


def main() -> None:
    """Days until there were enough kills."""
    parser = argparse.ArgumentParser(description="Kill served exchanges and compare what comes back.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transport", choices=("tcp", "dpdk"), default="tcp")
    asked = parser.parse_args()
    folder, total, began, number = (
        Path(tempfile.mkdtemp(prefix="exchange-kills-")),
        Counter[str](),
        time.monotonic(),
        0,
    )
    with starting(folder) as starter:
        while killed(total) < asked.kills:
            seed = asked.seed * 1_000_000 + number
            chance = random.Random(seed)
            options = OVER_A_CARD if asked.transport == "dpdk" else draw_options(chance)
            day = folder / f"day-{number}"
            moments = draw_moments(chance, min(KILLS_OF_A_DAY, asked.kills - killed(total)))
            try:
                total += asyncio.run(run_day(day, options, seed, moments, starter))
            except BaseException:
                print(
                    f"failed: day {number} of seed {asked.seed}, {options}; its files are in {folder}",
                    flush=True,
                )
                raise
            for path in (day, *folder.glob(f"{day.name}-*")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            number += 1
            seconds = time.monotonic() - began
            print(f"{killed(total):,} kills in {seconds:,.0f} s: {' '.join(map(str, options))}", flush=True)
    shutil.rmtree(folder)
    for name, count in sorted(total.items()):
        print(f"{count:>12,}  {name}")


if __name__ == "__main__":
    main()
