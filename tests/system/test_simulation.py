"""The simulator finds nothing in the exchange as it is, the same every time, and finds what is put into it.

A bug is planted without touching the exchange's files: the simulation is given another body for an agent, or a function
of the control plane is replaced. Each must be found within the seeds of :data:`FOUND_WITHIN`."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exchange.gateway import control
from exchange.gateway.session_memory import LAST_USER_REFERENCE
from exchange.matching.shard import PENDING
from exchange.native import load_int64, store_int64
from exchange.simulation import simulator
from exchange.simulation.campaign import Options, run_campaign
from exchange.simulation.simulator import Outcome, simulate
from exchange.simulation.venue import SteppedAgent

REPOSITORY = Path(__file__).parents[2]
ONE_SHARD = ("shards.count=1",)
"""One loop less to compile; all seeds of a test that does not ask for several shards."""
FOUND_WITHIN = range(1, 1001)
OWN_BODY = "a body of the test's"


def failures(seeds: Iterator[int] | range, overrides: tuple[str, ...] = ONE_SHARD) -> Iterator[Outcome]:
    return (one for seed in seeds if (one := simulate(seed, overrides=overrides)).failure is not None)


def test_seeds_find_nothing() -> None:
    assert list(failures(range(1, 26), ())) == []


def test_a_seed_is_the_same_every_time() -> None:
    first, second = simulate(11, overrides=ONE_SHARD), simulate(11, overrides=ONE_SHARD)
    assert first == second
    assert first.messages > 50
    assert simulate(12, overrides=ONE_SHARD).digest != first.digest


def test_a_seed_is_the_same_in_another_process() -> None:
    there = []
    outcomes = run_campaign(range(11, 13), 2, Options(overrides=ONE_SHARD), there.append)
    assert [one.seed for one in outcomes] == [11, 12]
    assert sorted(there) == outcomes == [simulate(11, overrides=ONE_SHARD), simulate(12, overrides=ONE_SHARD)]


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


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "an event lost at a full queue": (
        plant_an_event_lost_at_a_full_queue,
        "told is what happened|everything is told",
    ),
    "a message skipped on replay": (plant_a_message_skipped_on_replay, "a message stays what it is|told is"),
    "a replay from another place": (plant_a_replay_from_another_place, "no message is lost"),
    "a number forgotten with the connection": (
        plant_a_number_forgotten_with_the_connection,
        "one answer for each order",
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, expected = PLANTED[bug]
    plant(monkeypatch)
    found = next(failures(FOUND_WITHIN))
    assert re.match(expected, found.failure or ""), found.failure
    again = simulate(found.seed, overrides=ONE_SHARD)
    assert again == found


def test_the_command_shows_the_steps_of_a_seed() -> None:
    command = [sys.executable, "-m", "exchange", "simulate", "--seed", "11", "--set", *ONE_SHARD]
    shown = subprocess.run(
        [*command, "--verbose"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    *steps, last = shown.stdout.splitlines()
    outcome = simulate(11, overrides=ONE_SHARD)
    assert len(steps) == outcome.steps
    assert outcome.digest in last


def test_the_command_counts_seeds() -> None:
    command = [sys.executable, "-m", "exchange", "simulate", "--seeds", "11..13", "--set", *ONE_SHARD]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.startswith("3 seeds, 0 failed")
