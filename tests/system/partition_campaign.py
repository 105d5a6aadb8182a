"""Put a pair of exchanges, the store of their lease and their clients on hosts of their own, break the network between
them and the processes on them, and have a checker decide whether what came of it is what one exchange could have done.

The tests run a small part of it. The long version is a command, which needs root::

    python -m tests.system.partition_campaign --rounds 20 --seed 1 --gate received

Hosts are network namespaces (:mod:`tests.network_driver`): one for each exchange, one for the lease store, one for
the clients. A *round* is a fault, drawn by the seed; then everything is healed, what has ended is started again as the
backup of the other one, and the next round begins when the pair is in sync and every client is answered. So many
rounds are a *day*; it ends in order, and then the history is checked (:mod:`tests.history_checker`): the clients'
notes, the exchanges' logs, and every journal that is left.

Beside that each fault says what has to come of the pair: a primary that cannot reach the store, or is stopped past
its lease, is replaced; one that is cut off from its backup only, goes on. A client that is not answered within a
minute after everything is healed is a failure too.

Equal seeds draw equal faults; what the machine makes of them differs. A folder that failed is kept and named."""

import argparse
import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from exchange.client import Client, Side
from exchange.gateway.credentials import User, write_user
from exchange.recovery.twin import Twin
from exchange.wire.ouch50 import OrderAccepted
from tests.gateway_driver import PASSWORD
from tests.history_checker import History, Life, Survivor, count_late, find_violations
from tests.network_driver import Network, Weather, inside, why_no_network
from tests.recording_client import RecordingClient
from tests.system.kill_processes import Process, Starter
from tests.system.partition_nodes import (
    CLIENTS,
    CLIENTS_PORT,
    NODES,
    STORE,
    STORE_PORT,
    Node,
    Options,
    hosts,
    read_journal,
    read_log,
)

NAMES: Final = ("alice", "bob", "carol")
FOLLOWER: Final = "dave"
"""Who uses the library's client now and then, and notes nothing."""
WAIT_SECONDS_MAX: Final = 180.0
"""For a machine with other things to do; it is a few seconds."""
PROGRESS_SECONDS_MAX: Final = 60.0
END_SECONDS: Final = 5.0
"""A client that had just lost its line when the exchange ended is not waited for."""
ROUNDS_OF_A_DAY: Final = 6
LOAD_SECONDS: Final = 0.3


class Fault(NamedTuple):
    """What is broken, and what has to come of it: ``moves`` is whether the other one has to be primary in the end, or
    may not be; None says nothing."""

    name: str
    happens: Callable[["PartitionDay"], Awaitable[None]]
    moves: bool | None


def has_lapsed(process: Process) -> bool:
    """Whether a primary has found that its lease had run out, as it does where it gets too little of the machine."""
    return any(event == "lease lapsed" for event, _ in read_log(process.log))


class PartitionDay:
    """A pair on hosts of their own, and what is done to it.

    Attributes:
        counts: what a summary tells.
        violations: what the checker has found.
    """

    def __init__(
        self, folder: Path, options: Options, seed: int, net: Network, starters: dict[str, Starter]
    ) -> None:
        folder.mkdir()
        (folder / "secret").touch(mode=0o600)
        (folder / "secret").write_text("what-both-of-the-pair-know")
        for name in (*NAMES, FOLLOWER):
            write_user(folder / "users", User.create(name, PASSWORD, 2))
        self.options: Final = options
        self.network: Final = net
        self.counts: Final[Counter[str]] = Counter()
        self.violations: list[str] = []
        self.chance: Final = random.Random(seed)
        self.nodes: Final = {name: Node(name, folder, options, net, starters[name]) for name in NODES}
        self.primary, self.backup = self.nodes["a"], self.nodes["b"]
        self._folder: Final = folder
        self._starters: Final = starters
        self.store: Process | None = None
        addresses = [((one.address, CLIENTS_PORT), self._labels(one)) for one in self.nodes.values()]
        self.clients: Final = [
            RecordingClient(name, addresses, seed * 10 + number) for number, name in enumerate(NAMES)
        ]

    @staticmethod
    def _labels(node: Node) -> Callable[[], str]:
        return lambda: node.label

    async def run(self, faults: Sequence[Fault]) -> None:
        """The day: these faults, an end in order, and the reckoning."""
        arguments = ["lease-store", "--address", self.network.addresses[STORE], "--port", str(STORE_PORT)]
        arguments += ["--directory", str(self._folder / "leases")]
        self.store = self._starters[STORE].start(f"{self._folder.name}-store", arguments)
        trading: list[asyncio.Task[None]] = []
        try:
            self.primary.start(None)
            await self.primary.process.port()
            self.backup.start(self.primary)
            trading = [asyncio.create_task(one.run()) for one in self.clients]
            await self.settle()
            for fault in faults:
                await self._round(fault)
            await self._end()
            await asyncio.wait(trading, timeout=END_SECONDS)
        finally:
            self.network.heal()
            for task in trading:
                task.cancel()
            for found in await asyncio.gather(*trading, return_exceptions=True):
                if isinstance(found, Exception):
                    self.violations.append(f"a client has failed: {found!r}")
            await self._end_all()
            self._write_down()
        self.violations += find_violations(history := self.history())
        self.counts["messages"] += sum(len(one) for one in history.survivor.told.values())
        self.counts["messages that came late from a primary that was replaced"] += count_late(history)

    def _write_down(self) -> None:
        """What the clients have noted, for whoever looks into what has failed."""
        for client in self.clients:
            lines = "\n".join(str(one) for one in client.noted)
            (self._folder / f"{client.name}.noted").write_text(lines)
            self.counts["clients that were told the end"] += client.is_over

    async def _round(self, fault: Fault) -> None:
        await asyncio.sleep(self.chance.uniform(0.02, LOAD_SECONDS))
        before, life = self.primary, self.primary.process
        await fault.happens(self)
        self.network.heal()
        await self.settle()
        self.counts[f"fault: {fault.name}"] += 1
        self.counts["takeovers"] += self.primary is not before
        has_moved = self.primary is not before
        if has_moved and fault.moves is False and has_lapsed(life):
            self.counts["takeovers because the machine was too slow"] += 1
        elif fault.moves is not None and has_moved != fault.moves:
            self.violations.append(f"{fault.name}: {self.primary.name} is primary, and {before.name} was")

    async def until(self, condition: Callable[[], bool], what: str, limit: float = WAIT_SECONDS_MAX) -> None:
        """Wait for something. AssertionError if it does not come."""
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {limit} s; see {self._folder}*"
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Wait until there is a primary with a backup in sync, and every client is answered again."""
        await self.until(self._is_settled, "a primary with a backup in sync")
        for client in self.clients:
            before = client.answered
            await self.until(
                lambda one=client, count=before: one.answered > count,  # type: ignore[misc]
                f"an answer to {client.name}", PROGRESS_SECONDS_MAX,
            )  # fmt: skip

    def _is_settled(self) -> bool:
        self._start_what_has_ended()
        a, b = self.nodes.values()
        primary, backup = (a, b) if a.epoch > b.epoch else (b, a)
        if primary.epoch == 0 or not primary.has_backup_in_sync or backup.epoch > 0:
            return False
        self.primary, self.backup = primary, backup
        return not backup.process.has_ended()

    def _start_what_has_ended(self) -> None:
        """As the backup of the other one, which must be there."""
        for node, other in (tuple(self.nodes.values()), tuple(self.nodes.values())[::-1]):
            if not node.process.has_ended():
                continue
            assert not node.why_ended(), node.why_ended()
            if other.epoch > 0:
                node.start(other)

    def host(self, name: str) -> str:
        """Whose host is meant by ``primary`` or ``backup``; any other is its own name."""
        return {"primary": self.primary.name, "backup": self.backup.name}.get(name, name)

    async def takeover(self) -> None:
        """Wait until the backup has taken over."""
        await self.until(lambda: self.backup.epoch > 0, "a takeover")
        await asyncio.sleep(self.chance.uniform(0.0, 0.5))

    async def kill(self, node: Node) -> None:
        """Kill it with SIGKILL."""
        node.was_killed = True
        assert node.process.signal(signal.SIGKILL), "it has ended by itself"
        await node.process.end()

    async def _end(self) -> None:
        """An end in order of both."""
        self.primary.process.signal(signal.SIGTERM)
        for node in (self.primary, self.backup):
            await self.until(node.process.has_ended, f"the end of {node.label}")
            assert not node.why_ended(), node.why_ended()

    async def _end_all(self) -> None:
        for node in self.nodes.values():
            if node.processes and node.process.signal(signal.SIGKILL):
                await node.process.end()
        if self.store is not None and self.store.signal(signal.SIGTERM):
            await self.store.end()

    def history(self) -> History:
        """Everything that was written down."""
        lives = {
            f"{node.name}-{number}": Life(node.name, read_log(process.log))
            for node in self.nodes.values()
            for number, process in enumerate(node.processes, 1)
        }
        folders = [path for path in self._folder.iterdir() if path.name.partition(".")[0] in NODES]
        journals = {path.name: read_journal(path) for path in folders if (path / "identity.json").exists()}
        clients = {one.name: tuple(one.noted) for one in self.clients} | {FOLLOWER: ()}
        return History(clients, lives, journals, self._survivor())

    def _survivor(self) -> Survivor:
        digests = {
            f"{node.name} itself": str(fields["digest"])
            for node in (self.primary,)
            for event, fields in node.lines()
            if event == "ended" and "digest" in fields
        }
        assert digests, "the survivor has not said in which state it has ended"
        told: dict[str, list[bytes]] = {}
        replayed = [(self.primary, "ladder"), (self.primary, "naive")]
        # One that was given up in the last moments, when the network was hardly whole again, lacks these.
        if self.primary.has_backup_in_sync:
            replayed.append((self.backup, "ladder"))
        else:
            self.counts["days that ended without a backup in sync"] += 1
        for node, book in replayed:
            with Twin(node.journal, book=book, from_snapshot=book == "ladder") as twin:
                twin.replay()
                digests[f"{node.name} {book}"] = str(twin.exchange.digest())
                told = told or dict(zip((*NAMES, FOLLOWER), twin.told(), strict=True))
        return Survivor(self.primary.journal.name, told, digests)


def cut(*directions: tuple[str, str]) -> Callable[[PartitionDay], None]:
    """What cuts directions, whose ends are hosts, or ``primary`` and ``backup``."""

    def do(day: PartitionDay) -> None:
        for sender, receiver in directions:
            day.network.cut(day.host(sender), day.host(receiver))

    return do


def bad_weather(
    delay_seconds: float, loss: float, *directions: tuple[str, str]
) -> Callable[[PartitionDay], None]:
    """What has packets come late, up to twice as late, and some not at all."""

    def do(day: PartitionDay) -> None:
        weather = Weather(delay_seconds, delay_seconds, loss)
        for sender, receiver in directions:
            day.network.slow_down(
                day.host(sender), day.host(receiver), weather, day.chance.randrange(1 << 32)
            )

    return do


def both_ways(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Each pair in both directions."""
    return tuple(one for pair in pairs for one in (pair, pair[::-1]))


def until_it_moves(do: Callable[[PartitionDay], None]) -> Callable[[PartitionDay], Awaitable[None]]:
    """The fault lasts until the backup has taken over."""

    async def happen(day: PartitionDay) -> None:
        do(day)
        await day.takeover()

    return happen


def for_a_while(do: Callable[[PartitionDay], None]) -> Callable[[PartitionDay], Awaitable[None]]:
    """The fault lasts longer than a backup may be silent, and than a lease."""

    async def happen(day: PartitionDay) -> None:
        do(day)
        await asyncio.sleep(day.options.lease_seconds * day.chance.uniform(1.2, 1.8))

    return happen


async def stop_the_primary(day: PartitionDay) -> None:
    """SIGSTOP past the lease, and SIGCONT behind the takeover."""
    old = day.primary
    old.process.signal(signal.SIGSTOP)
    try:
        await day.takeover()
    finally:
        old.process.signal(signal.SIGCONT)
    await day.until(old.process.has_ended, f"the end of {old.label}, which was replaced")


async def stop_the_primary_for_a_moment(day: PartitionDay) -> None:
    """SIGSTOP for less than a lease: it may go on."""
    day.primary.process.signal(signal.SIGSTOP)
    await asyncio.sleep(day.options.lease_seconds * day.chance.uniform(0.1, 1.3))
    day.primary.process.signal(signal.SIGCONT)


async def stop_the_backup(day: PartitionDay) -> None:
    """SIGSTOP until the primary goes on alone, and SIGCONT."""
    backup = day.backup
    backup.process.signal(signal.SIGSTOP)
    try:
        await day.until(lambda: not day.primary.has_backup_in_sync, "a primary that goes on alone")
        await asyncio.sleep(day.chance.uniform(0.0, 0.5))
    finally:
        backup.process.signal(signal.SIGCONT)


async def kill_the_primary(day: PartitionDay) -> None:
    """SIGKILL."""
    await day.kill(day.primary)
    await day.takeover()


async def cut_off_the_primary_from_all_but_a_client(day: PartitionDay) -> None:
    """A client of the library's is not left behind with a primary that it can reach, and that may say nothing."""
    first, other = ((node.address, CLIENTS_PORT) for node in (day.primary, day.backup))
    client = await Client.connect(*first, FOLLOWER, PASSWORD, backups=[other])
    try:
        await _is_accepted(client)
        cut(*PAIR, *TO_STORE)(day)
        await day.takeover()
        async with asyncio.timeout(PROGRESS_SECONDS_MAX):
            await _is_accepted(client)
        assert client.address == other
    finally:
        await client.close()


async def _is_accepted(client: Client) -> None:
    number = await client.place("AAPL", Side.BUY, 10, price_ticks=1_0000)
    while True:
        answer = await client.next_answer()
        if isinstance(answer, OrderAccepted) and answer.user_reference_number == number:
            return


async def cut_off_the_backup_and_then_the_primary(day: PartitionDay) -> None:
    """The pair is cut, so the primary goes on alone; then it cannot reach the store. Nobody may take over."""
    cut(*PAIR)(day)
    await day.until(lambda: not day.primary.has_backup_in_sync, "a primary that goes on alone")
    cut(*TO_STORE)(day)
    await asyncio.sleep(day.options.lease_seconds * 1.5)


PAIR: Final = both_ways(("primary", "backup"))
TO_STORE: Final = both_ways(("primary", STORE))
TO_ALL: Final = both_ways(*(("primary", one) for one in ("backup", STORE, CLIENTS)))

FAULTS: Final = (
    Fault("primary | backup", for_a_while(cut(*PAIR)), False),
    Fault("primary > backup", for_a_while(cut(("primary", "backup"))), False),
    Fault("backup > primary", for_a_while(cut(("backup", "primary"))), False),
    Fault("primary | store", until_it_moves(cut(*TO_STORE)), True),
    Fault("primary > store", until_it_moves(cut(("primary", "store"))), True),
    Fault("store > primary", until_it_moves(cut(("store", "primary"))), True),
    Fault(
        "primary | backup and store",
        until_it_moves(cut(*PAIR, *TO_STORE)),
        True,
    ),
    Fault("primary | all but a client", cut_off_the_primary_from_all_but_a_client, True),
    Fault(
        "primary | everybody",
        until_it_moves(cut(*TO_ALL)),
        True,
    ),
    Fault("backup | store", for_a_while(cut(*both_ways(("backup", "store")))), False),
    Fault("store | both", for_a_while(cut(*both_ways(("a", "store"), ("b", "store")))), None),
    Fault("primary | backup, then | store", cut_off_the_backup_and_then_the_primary, False),
    Fault("primary | backup, late", for_a_while(bad_weather(0.03, 0.0, *PAIR)), False),
    Fault("primary | backup, lossy", for_a_while(bad_weather(0.001, 0.2, *PAIR)), False),
    Fault("primary | store, late and lossy", for_a_while(bad_weather(0.1, 0.2, *TO_STORE)), None),
    Fault("primary | everybody, late and lossy", for_a_while(bad_weather(0.02, 0.1, *TO_ALL)), None),
    Fault("primary stopped", stop_the_primary, True),
    Fault("primary stopped for a moment", stop_the_primary_for_a_moment, None),
    Fault("backup stopped", stop_the_backup, False),
    Fault("primary killed", kill_the_primary, True),
)


def draw_faults(chance: random.Random, count: int) -> list[Fault]:
    """So many faults: each once before one comes again."""
    found: list[Fault] = []
    while len(found) < count:
        found += chance.sample(FAULTS, len(FAULTS))
    return found[:count]


def run_day(
    folder: Path,
    options: Options,
    faults: Sequence[Fault],
    seed: int,
    net: Network,
    starters: dict[str, Starter],
) -> PartitionDay:
    """One day, in the clients' host; what it has counted and found is in it."""
    day = PartitionDay(folder, options, seed, net, starters)
    with inside(net.hosts[CLIENTS]):
        asyncio.run(day.run(faults))
    return day


def main() -> None:
    """Days until there were enough rounds."""
    parser = argparse.ArgumentParser(
        description="Break the network of a pair of exchanges and check what goes on."
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--gate", choices=("received", "applied"), default="received")
    parser.add_argument("--shards", type=int, choices=(1, 2), default=1)
    parser.add_argument("--lease-ms", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", choices=[one.name for one in FAULTS], help="only these")
    asked = parser.parse_args()
    if reason := why_no_network():
        raise SystemExit(reason)
    folder = Path(tempfile.mkdtemp(prefix="exchange-partitions-"))
    os.environ["EXCHANGE_STATE"] = str(folder / "state")
    options = Options(asked.gate, asked.shards, asked.lease_ms * 1_000_000)
    chance = random.Random(asked.seed)
    faults = draw_faults(chance, asked.rounds)
    if asked.fault:
        known = {one.name: one for one in FAULTS}
        faults = [known[asked.fault[place % len(asked.fault)]] for place in range(asked.rounds)]
    total, began, done = Counter[str](), time.monotonic(), 0
    with hosts(folder, options) as (net, starters):
        while done < len(faults):
            several = faults[done : done + ROUNDS_OF_A_DAY]
            path = folder / f"day-{done}"
            print(f"{', '.join(one.name for one in several)}:", flush=True)
            try:
                day = run_day(path, options, several, asked.seed * 1_000_000 + done, net, starters)
            except BaseException:
                print(f"failed: {path} of seed {asked.seed}, {options}; its files are in {folder}")
                raise
            if day.violations:
                print("\n".join(day.violations))
                raise SystemExit(
                    f"violations in {path} of seed {asked.seed}, {options}; its files are in {folder}"
                )
            done += len(several)
            total += day.counts
            print(f"{done} rounds in {time.monotonic() - began:,.0f} s, and no violation", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for name, count in sorted(total.items()):
        print(f"{count:>12,}  {name}")


if __name__ == "__main__":
    main()
