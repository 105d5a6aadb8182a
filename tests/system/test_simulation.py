"""The simulator finds nothing in the exchange as it is, the same every time, and finds what is put into it.

A bug is planted without touching the exchange's files: the simulation is given another body for an agent, or a function
of the control plane is replaced. Each must be found within the seeds of :data:`FOUND_WITHIN`."""

import gc
import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from exchange.agent import do_work
from exchange.assembly import Exchange
from exchange.errors import UserError
from exchange.gateway import control
from exchange.gateway.order_table import order_at, remove_order
from exchange.gateway.session_memory import LAST_USER_REFERENCE, WAYS
from exchange.journal.config import FileJournalConfig, MappedJournalConfig, NoneJournalConfig
from exchange.journal.layout import (
    FRAME_CHECKED,
    FRAME_CHECKSUM,
    FRAME_HEADER_BYTES,
    FRAME_RECORD_COUNT,
    SEGMENT_HEADER_BYTES,
    frame_bytes,
)
from exchange.journal.none import NoneWriter
from exchange.journal.segmented import SegmentedJournal
from exchange.journal.words import APPENDED, DURABLE, OFFSET, PLACE, SYNC_FAILURE
from exchange.logs import LOGGER
from exchange.matching.shard import HELD, PENDING, SEQUENCE
from exchange.native import body_for, crc32c_of, load_int64, store_int64
from exchange.recovery.kept import KeptJournal
from exchange.settings import Settings
from exchange.simulation import simulator
from exchange.simulation.campaign import Options, run_campaign
from exchange.simulation.disk import SimulatedDisk
from exchange.simulation.plan import draw_plan
from exchange.simulation.simulator import Outcome, simulate
from exchange.simulation.venue import Made, SimulatedVenue, SteppedAgent
from exchange.transport.network import NetworkTransport

REPOSITORY = Path(__file__).parents[2]
NO_JOURNAL = ("shards.count=1", "journal.kind=none", "risk.kind=none")
JOURNAL = ("shards.count=1", "journal.kind=mapped", "journal.gate=synced", "risk.kind=limits")
TWO_SHARDS = ("shards.count=2", "journal.kind=mapped", "risk.kind=limits")
FILE = ("shards.count=1", "journal.kind=file", "journal.gate=synced", "risk.kind=limits")
"""Some loops less to compile than if the seed draws these as well."""
SEEDS = int(os.environ.get("EXCHANGE_TEST_SIMULATOR_SEEDS", "12"))
"""How many are run of each exchange; ``exchange simulate --seeds`` runs any number, with other settings each."""
FOUND_WITHIN = range(1, 1001)
SET = [word for override in NO_JOURNAL for word in ("--set", override)]


def failures(seeds: Iterator[int] | range, overrides: tuple[str, ...] = NO_JOURNAL) -> Iterator[Outcome]:
    return (one for seed in seeds if (one := simulate(seed, overrides=overrides)).failure is not None)


@cache
def told(overrides: tuple[str, ...]) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """What came of some seeds, and all that they did; run once for all tests that look into it."""
    steps: list[str] = []
    outcomes = tuple(simulate(seed, overrides=overrides, tell=steps.append) for seed in range(1, SEEDS + 1))
    return outcomes, tuple(steps)


@pytest.mark.parametrize("overrides", [NO_JOURNAL, JOURNAL, FILE, TWO_SHARDS])
def test_seeds_find_nothing(overrides: tuple[str, ...]) -> None:
    assert [one for one in told(overrides)[0] if one.failure is not None] == []


@pytest.mark.parametrize("overrides", [NO_JOURNAL, JOURNAL, FILE])
def test_a_seed_is_the_same_every_time(overrides: tuple[str, ...]) -> None:
    first, second = simulate(11, overrides=overrides), simulate(11, overrides=overrides)
    assert first == second
    assert first.messages > 50
    assert simulate(12, overrides=overrides).digest != first.digest


def test_exchanges_end_in_both_ways_and_recover() -> None:
    words = [step.split()[1:] for step in told(JOURNAL)[1]]
    assert {"kill", "power", "recovered", "sectors", "snapshot"} <= {line[0] for line in words}
    assert any(line[0] == "recovered" and line[2] != line[3] for line in words), "nothing was ever lost"


@pytest.mark.parametrize("overrides", [JOURNAL, FILE])
def test_disks_are_full_and_fail_and_exchanges_go_on(overrides: tuple[str, ...]) -> None:
    seen = Counter(re.sub(r"^ *\d+ ([a-z -]*[a-z]).*", r"\1", step) for step in told(overrides)[1])
    for fault in ("disk full", "disk has room", "refused shard", "does not start", "sync failed"):
        assert seen[fault] > 0, f"{fault} never happened"
    assert seen["journal-full shard"] >= seen["journal-has-room shard"] > 0
    assert seen["sync fails shard"] >= seen["sync failed"]


def test_a_full_disk_refuses_writes_wholly_and_in_part() -> None:
    """Of a journal in files: part of a frame is taken, or nothing of it."""
    failures = Counter[int]()

    class WatchingVenue(SimulatedVenue):
        def step(self, agent: SteppedAgent) -> tuple[int, Made | None]:
            journal = self.journal_of(agent)
            before = 0 if journal is None else journal.refused_count()
            result = super().step(agent)
            if journal is not None and journal.refused_count() > before:
                place, offset = (load_int64(journal.words + word) for word in (PLACE, OFFSET))
                failures[offset < journal.segment_bytes and any(os.pread(place, 1, offset))] += 1
            return result

    with pytest.MonkeyPatch.context() as context:
        context.setattr(simulator, "SimulatedVenue", WatchingVenue)
        for seed in range(1, 26):
            simulate(seed, overrides=FILE)
            if failures[True] and failures[False]:
                return
    raise AssertionError(f"only {failures}")


def test_each_seed_has_a_journal_of_some_kind_or_none() -> None:
    kinds = Counter(type(draw_plan(seed).settings.journal) for seed in range(100))
    assert set(kinds) == {NoneJournalConfig, MappedJournalConfig, FileJournalConfig}
    assert min(kinds.values()) > 5


@pytest.mark.parametrize("overrides", [JOURNAL, FILE])
def test_the_process_is_afterwards_as_it_was_before(overrides: tuple[str, ...], tmp_path: Path) -> None:
    simulate(1, overrides=overrides, folder=tmp_path)
    gc.collect()
    before = os.posix_fallocate, time.monotonic_ns, resource.getrlimit(resource.RLIMIT_FSIZE)
    files = len(os.listdir("/proc/self/fd"))
    for seed in range(1, 6):
        simulate(seed, overrides=overrides, folder=tmp_path)
    gc.collect()
    assert (os.posix_fallocate, time.monotonic_ns, resource.getrlimit(resource.RLIMIT_FSIZE)) == before
    assert len(os.listdir("/proc/self/fd")) == files
    assert LOGGER.handlers == []


def test_a_seed_is_the_same_in_another_process() -> None:
    there = []
    outcomes = run_campaign(range(11, 13), 2, Options(overrides=JOURNAL), there.append)
    assert [one.seed for one in outcomes] == [11, 12]
    assert sorted(there) == outcomes == [simulate(seed, overrides=JOURNAL) for seed in (11, 12)]


def with_bodies(
    monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[SteppedAgent], Callable[..., int]]
) -> None:
    """Give every agent whose name begins with ``kind`` another body."""

    class ChangedVenue(simulator.SimulatedVenue):
        def step(self, agent: SteppedAgent) -> object:
            changed = agent._replace(body=change(agent)) if agent.name.startswith(kind) else agent
            return super().step(changed)

    monkeypatch.setattr(simulator, "SimulatedVenue", ChangedVenue)


def plant_an_event_lost_at_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(agent: SteppedAgent) -> Callable[..., int]:
        def body(state: object) -> int:
            done = int(agent.body(state))
            pending = load_int64(agent.state.words + PENDING)
            store_int64(agent.state.words + PENDING, max(pending - 1, 0))
            return done

        return body

    with_bodies(monkeypatch, "shard", lossy)


def plant_a_message_skipped_on_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = control.position_of

    def skipping(sessions: object, session: int, wanted: int) -> tuple[int, int]:
        start, sequence = whole(sessions, session, wanted)
        return (whole(sessions, session, wanted + 1)[0] if wanted > 20 else start), sequence

    monkeypatch.setattr(control, "position_of", skipping)


def plant_a_replay_from_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = control.position_of

    def late(sessions: object, session: int, wanted: int) -> tuple[int, int]:
        return whole(sessions, session, wanted + 1 if wanted > 1 else wanted)

    monkeypatch.setattr(control, "position_of", late)


def plant_a_number_forgotten_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = control.position_of

    def forgetful(sessions: object, session: int, wanted: int) -> tuple[int, int]:
        store_int64(session + LAST_USER_REFERENCE, 0)
        return whole(sessions, session, wanted)

    monkeypatch.setattr(control, "position_of", forgetful)


def plant_an_acknowledgement_before_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    class EagerVenue(SimulatedVenue):
        def __init__(self, settings: Settings, *more: Any) -> None:
            hasty = structs.replace(settings.journal, gate="written")
            super().__init__(structs.replace(settings, journal=hasty), *more)

    monkeypatch.setattr(simulator, "SimulatedVenue", EagerVenue)


def plant_a_sequence_skipped_on_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KeptJournal.recover

    def skipping(kept: KeptJournal, exchange: Exchange, transport: NetworkTransport, feed: None) -> None:
        whole(kept, exchange, transport, feed)
        words = exchange.shards[0].words
        if load_int64(words + SEQUENCE) > 0:
            store_int64(words + SEQUENCE, load_int64(words + SEQUENCE) + 1)

    monkeypatch.setattr(KeptJournal, "recover", skipping)


def plant_a_checksum_that_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in the place of a frame's checksum after a power cut, it is the right one."""
    whole = SimulatedDisk.lose_power

    def forgiving(disk: SimulatedDisk, stream: str = "") -> None:
        whole(disk, stream)
        for path in disk.folder.rglob("*.segment"):
            content = bytearray(path.read_bytes())
            for place in range(SEGMENT_HEADER_BYTES, len(content), FRAME_HEADER_BYTES):
                count = int.from_bytes(content[place + FRAME_RECORD_COUNT :][:4], "little")
                end = place + frame_bytes(count)
                if content[place : place + 4] == b"FRM1" and end <= len(content):
                    checksum = crc32c_of(bytes(content[place + FRAME_CHECKED : end]))
                    content[place + FRAME_CHECKSUM : place + FRAME_CHECKED] = checksum.to_bytes(4, "little")
            path.write_bytes(content)

    monkeypatch.setattr(SimulatedDisk, "lose_power", forgiving)


def plant_an_order_forgotten_by_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KeptJournal.recover

    def forgetful(kept: KeptJournal, exchange: Exchange, transport: NetworkTransport, feed: None) -> None:
        whole(kept, exchange, transport, feed)
        sessions, session = transport.memory.sessions, transport.memory.address(0)
        for place in range(sessions.sets * WAYS):
            if order_at(sessions, session, place)[0] > 0:
                remove_order(sessions, session, place)
                return

    monkeypatch.setattr(KeptJournal, "recover", forgetful)


def plant_an_append_refused_and_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard whose journal has no room does without it."""

    def careless(agent: SteppedAgent) -> Callable[..., int]:
        without = agent.state._replace(journal=NoneWriter())

        def body(state: object) -> int:
            done = int(agent.body(state))
            if load_int64(agent.state.words + HELD) > 0:
                done += int(body_for(do_work, without)(without))
            return done

        return body

    with_bodies(monkeypatch, "shard", careless)


def plant_a_full_disk_that_nobody_hears_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentedJournal, "_log", lambda *_fields, **_more: None)


def plant_a_failed_sync_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's agent takes what could not be synced for synced, and events leave that waited for it."""

    def trusting(agent: SteppedAgent) -> Callable[..., int]:
        def body(state: object) -> int:
            done = int(agent.body(state))
            for journal in agent.state.journals:
                words = journal.shape.words
                if load_int64(words + SYNC_FAILURE) != 0:
                    store_int64(words + DURABLE, load_int64(words + APPENDED))
            return done

        return body

    with_bodies(monkeypatch, "journal", trusting)


def plant_a_failed_sync_that_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentedJournal, "_check_failures", lambda _journal: None)


def plant_orders_that_outlive_their_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NetworkTransport, "cancel_on_disconnect", lambda *_arguments: None)


class PlantedBug(NamedTuple):
    """How it is planted, which invariant it breaks, and in which exchange."""

    plant: Callable[[pytest.MonkeyPatch], None]
    breaks: str
    overrides: tuple[str, ...] = NO_JOURNAL


PLANTED = {
    "an event lost at a full queue": PlantedBug(
        plant_an_event_lost_at_a_full_queue, "told is what happened|everything is told"
    ),
    "a message skipped on replay": PlantedBug(
        plant_a_message_skipped_on_replay, "a message stays what it is|told is what happened"
    ),
    "a replay from another place": PlantedBug(plant_a_replay_from_another_place, "no message is lost"),
    "a number forgotten with the connection": PlantedBug(
        plant_a_number_forgotten_with_the_connection, "one answer for each order|told is what happened"
    ),
    "an acknowledgement before the gate": PlantedBug(
        plant_an_acknowledgement_before_the_gate,
        "nothing acknowledged is lost|told is what happened",
        JOURNAL,
    ),
    "a sequence skipped on replay": PlantedBug(
        plant_a_sequence_skipped_on_replay, "nothing written is lost|an exchange can be recovered", JOURNAL
    ),
    "a checksum that is not checked": PlantedBug(
        plant_a_checksum_that_is_not_checked,
        "the journal is the stream|an exchange can be recovered|nothing written is lost",
        JOURNAL,
    ),
    "an append refused and acknowledged": PlantedBug(
        plant_an_append_refused_and_acknowledged, "what is not written is not done", JOURNAL
    ),
    "a full disk that nobody hears of": PlantedBug(
        plant_a_full_disk_that_nobody_hears_of, "a full disk is told of", FILE
    ),
    "a failed sync taken for one": PlantedBug(
        plant_a_failed_sync_taken_for_one,
        "an exchange can be recovered: .* is known to have been in the stream|nothing acknowledged is lost",
        FILE,
    ),
    "a failed sync that ends nothing": PlantedBug(
        plant_a_failed_sync_that_ends_nothing, "a sync that fails ends the exchange", JOURNAL
    ),
    "orders that outlive their connection": PlantedBug(
        plant_orders_that_outlive_their_connection, "orders are cancelled on disconnect"
    ),
    "an order forgotten by the restart": PlantedBug(
        plant_an_order_forgotten_by_the_restart,
        "no order is left in a table|everything is told|told is what happened",
        JOURNAL,
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = PLANTED[bug]
    planted.plant(monkeypatch)
    found = next(failures(FOUND_WITHIN, planted.overrides))
    assert re.match(planted.breaks, found.failure or ""), found.failure
    assert simulate(found.seed, overrides=planted.overrides) == found


def test_what_followed_is_put_behind_what_it_followed_also_if_the_clock_stood_still() -> None:
    """In this seed the record of the order of two shards' events is lost, and one shard's orders had their places in a
    session's table from what the other shard had ended, all within one reading of the clock."""
    assert simulate(7082).failure is None


def test_the_command_shows_the_steps_of_a_seed() -> None:
    command = [sys.executable, "-m", "exchange", "simulate", "--seed", "11", *SET]
    shown = subprocess.run(
        [*command, "--verbose"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    *steps, last = shown.stdout.splitlines()
    outcome = simulate(11, overrides=NO_JOURNAL)
    assert len(steps) == outcome.steps
    assert outcome.digest in last


def test_the_command_counts_seeds() -> None:
    command = [sys.executable, "-m", "exchange", "simulate", "--seeds", "11..13", *SET]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.startswith("3 seeds, 0 failed")


@pytest.mark.parametrize("override", ["market_data.kind=moldudp64", "transport.kind=udp"])
def test_what_is_not_simulated_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=r"profile serve: \w+\.kind must be \w+ to be simulated"):
        simulate(1, "serve", (override,))
