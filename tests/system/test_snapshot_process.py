"""Snapshots that a process beside a served exchange makes: a restart begins with them, and nobody needs that process.

The exchange is a process of its own and ends as it does in life; what is waited for is looked up in its log, its
folder and the table of processes."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from exchange.client import Client, Side
from exchange.journal.layout import first_sequence_of
from exchange.recovery.snapshots import snapshot_paths
from exchange.recovery.twin import Twin
from exchange.wire.layout import Message
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled
from tests.gateway_driver import PASSWORD, SETTINGS
from tests.system.kill_campaign import Day, Options
from tests.system.kill_processes import Process, Starter, starting

SECONDS_MAX: Final = 300.0
OPTIONS: Final = Options("mapped", "synced", 1, "64KiB")
SEGMENT: Final = "shard-0/*[0-9].segment"


class Place:
    """A folder with everything that an exchange and its next lives take."""

    def __init__(self, folder: Path, starter: Starter) -> None:
        self.journal: Final = folder / "journal"
        self.archive: Final = folder / "archive"
        self._folder: Final = folder
        self._starter: Final = starter
        self._lives = 0
        (self.archive / "shard-0").mkdir(parents=True)
        Day.write_users(folder / "users")
        starter.prepare(OPTIONS.overrides())

    def start(self, *, every_ms: int) -> Process:
        """An exchange that has snapshots made."""
        self._lives += 1
        settings = (
            *SETTINGS,
            *OPTIONS.overrides(),
            f"journal.directory={self.journal}",
            f"journal.snapshot_every_ns={every_ms * 1_000_000}",
        )
        sets = [part for one in settings for part in ("--set", one)]
        users = str(self._folder / "users")
        return self._starter.start(
            f"life-{self._lives}", ["serve", "journaled", "--users", users, *sets], forked=False
        )

    def keep_segments(self) -> None:
        """A second name for every segment, under which it is there also when the exchange needs it no more."""
        for path in self.journal.glob(SEGMENT):
            with suppress(FileExistsError, FileNotFoundError):
                (self.archive / "shard-0" / path.name).hardlink_to(path)

    def digest_of_all(self) -> str:
        """What all segments that there ever were come to in the textbook's books."""
        self.keep_segments()
        for name in ("identity.json", "sessions.json"):
            shutil.copy(self.journal / name, self.archive)
        with Twin(self.archive, book="naive", from_snapshot=False) as twin:
            twin.replay()
            return str(twin.exchange.digest())

    def first_sequence(self) -> int:
        """With which sequence the oldest segment that is still there begins."""
        return min(first_sequence_of(path.name) or 0 for path in self.journal.glob(SEGMENT))

    def positions(self) -> list[int]:
        """How many records are in each snapshot, the newest first."""
        return [int(path.stem) for path in snapshot_paths(self.journal)]


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    with starting(folder) as starter:
        yield Place(folder, starter)


def run(scenario: Callable[[Place], Awaitable[None]], folder: Path) -> None:
    async def bounded(here: Place) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await scenario(here)

    with place(folder) as here:
        asyncio.run(bounded(here))


async def log_on(process: Process) -> Client:
    return await Client.connect("127.0.0.1", await process.port(), "alice", PASSWORD, reconnect_seconds=0)


async def trade_until(client: Client, heard: list[Message], condition: Callable[[], bool]) -> None:
    """Enter orders, and cancel all but every tenth, until something is so."""
    while not condition():
        number = await client.place("AAPL", Side.BUY, 100, price_ticks=100_0000)
        await hear(client, heard, OrderAccepted, number)
        if number % 10:
            await client.cancel(number)
            await hear(client, heard, OrderCanceled, number)


async def hear(client: Client, heard: list[Message], kind: type[Message], number: int) -> None:
    """Listen until an order was answered in that way."""
    while not (
        heard
        and isinstance(last := heard[-1], kind)
        and isinstance(last, OrderAccepted | OrderCanceled)
        and last.user_reference_number == number
    ):
        heard.append(await client.next_answer())


def told_of_orders(messages: list[Message]) -> list[Message]:
    """What there is besides answers to a client's question which number is free."""
    return [one for one in messages if isinstance(one, OrderAccepted | OrderCanceled)]


def worker_of(exchange: Process) -> Process | None:
    """The process that makes a snapshot for an exchange at this moment."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == exchange.number and b"\0--gently\0" in (folder / "cmdline").read_bytes():
                return Process(int(folder.name), exchange.output, exchange.log)
    return None


async def next_worker(exchange: Process) -> Process:
    while (found := worker_of(exchange)) is None:
        await asyncio.sleep(0.001)
    return found


async def logged(process: Process, pattern: str) -> re.Match[str]:
    """Wait until a line of the log says so."""
    while (found := re.search(pattern, process.log.read_text())) is None:
        assert not process.has_ended(), process.log.read_text()
        await asyncio.sleep(0.005)
    return found


def test_a_restart_begins_with_the_snapshot_and_old_segments_are_gone(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        first, heard = here.start(every_ms=1000), list[Message]()
        client = await log_on(first)

        def is_made() -> bool:
            here.keep_segments()
            return len(here.positions()) == 2 and here.first_sequence() > 1

        await trade_until(client, heard, is_made)
        await logged(first, r"(?s)(INFO snapshot said=\"[^\n]*\.snapshot: [\d,]+ bytes.*){2}")
        sequence = len(heard)
        await trade_until(client, heard, lambda: len(heard) > sequence + 50)
        first.signal(signal.SIGKILL)
        await first.end()
        heard = told_of_orders(heard)
        await client.close()
        positions = here.positions()
        assert len(positions) == 2, "the two newest are kept"
        kept = sorted(first_sequence_of(path.name) or 0 for path in here.journal.glob(SEGMENT))
        assert kept[0] <= positions[1] + 1, "the older one and what lies behind it is enough for a restart"
        assert len(kept) < 2 or kept[1] > positions[1] + 1, "and no more than that is kept"

        second = here.start(every_ms=0)
        client = await log_on(second)
        again: list[Message] = []
        while len(again) < len(heard):
            again += told_of_orders([await client.next_answer()])
        assert again == heard
        told = await logged(second, r"recovered .*")
        assert f"snapshot_commands={positions[0]} " in told[0]
        assert not re.search(r"replayed_commands=0 ", told[0])
        alive = sum(isinstance(one, OrderAccepted) for one in heard) - sum(
            isinstance(one, OrderCanceled) for one in heard
        )
        assert f"live_orders={alive} " in told[0]
        second.signal(signal.SIGKILL)
        await second.end()
        await client.close()
        assert told[0].endswith(f"digest={here.digest_of_all()}")

    run(scenario, tmp_path)


def test_the_process_ends_with_the_exchange_however_that_ends(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            exchange, heard = here.start(every_ms=50), list[Message]()
            client = await log_on(exchange)
            sequence = client.next_sequence
            await trade_until(client, heard, lambda: client.next_sequence > sequence + 50)  # noqa: B023
            worker = await next_worker(exchange)
            worker.signal(signal.SIGSTOP)  # it has hardly begun
            before = here.positions()
            exchange.signal(number)
            if number == signal.SIGKILL:
                await exchange.end()
                worker.signal(signal.SIGCONT)
            else:
                await exchange.end()
                assert worker.has_ended(), "an end in order waits for it"
            await worker.end()
            await client.close()
            assert here.positions() == before
            assert "snapshot failed" not in exchange.log.read_text()
            assert "Traceback" not in exchange.log.read_text()

    run(scenario, tmp_path)


def test_one_that_is_killed_is_said_and_the_next_one_makes_a_snapshot(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        exchange, heard = here.start(every_ms=50), list[Message]()
        client = await log_on(exchange)
        (here.journal / "snapshots").mkdir()
        left = here.journal / "snapshots" / f"{7:020d}.snapshot.partial"
        left.write_bytes(os.urandom(100))  # what one that was killed had written
        worker = await next_worker(exchange)
        worker.signal(signal.SIGKILL)
        await logged(exchange, r"ERROR snapshot failed status=-9")
        await trade_until(client, heard, lambda: bool(here.positions()))
        assert not left.exists()
        damaged = snapshot_paths(here.journal)[0]
        damaged.write_bytes(damaged.read_bytes()[:-1])
        newest = int(damaged.stem)
        await trade_until(client, heard, lambda: max(here.positions(), default=0) > newest)
        await trade_until(client, heard, lambda: damaged.with_name(f"{damaged.name}.unusable").exists())
        exchange.signal(signal.SIGTERM)
        await exchange.end()
        await client.close()

    run(scenario, tmp_path)


def test_damage_is_said_while_the_exchange_runs(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        exchange, heard = here.start(every_ms=300), list[Message]()
        client = await log_on(exchange)
        segment = here.journal / "shard-0" / f"{1:020d}.segment"
        await trade_until(client, heard, lambda: len([*here.journal.glob(SEGMENT)]) > 1)
        with segment.open("r+b") as file:
            file.seek(4096 + 64 * 20)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 4]))
        await logged(exchange, rf"ERROR snapshot failed status=2 said=\"exchange: journal {segment}, offset")
        answered = len(heard)
        await trade_until(client, heard, lambda: len(heard) > answered + 10)
        exchange.signal(signal.SIGTERM)
        await exchange.end()
        await client.close()

    run(scenario, tmp_path)
