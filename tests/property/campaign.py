"""Naive against ladder over many seeds: every event, byte for byte.

Run the whole campaign, or repeat one seed that a test has printed, from the root of the repository::

    python -m tests.property.campaign --commands 10000000
    python -m tests.property.campaign --commands 20000 --seed 1234

It prints how many commands and events were compared, which kinds of events there were (a campaign that never trades
compares little), and a digest of all of them: the same seeds give the same digest on any machine with the same
version of numpy. After each seed the ladder's memory is audited as well.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass, field

import numpy as np

from exchange.messages import EVENT_DTYPE, EventKind
from tests.book_driver import BookDriver, first_difference
from tests.property.book_flows import random_flow
from tests.property.ladder_audit import audit_ladder

COMMANDS_PER_SEED = 20_000


@dataclass
class Tally:
    """What has been compared so far."""

    commands: int = 0
    seeds: int = 0
    events_by_kind: np.ndarray = field(default_factory=lambda: np.zeros(7, np.int64))
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.events_by_kind[kind]:,} {kind.name.lower()}" for kind in EventKind)
        return (
            f"{self.commands:,} commands over {self.seeds:,} seeds, {self.events_by_kind.sum():,} identical events "
            f"({kinds}), sha256 {self.digest.hexdigest()[:16]}"
        )


def compare_books(seed: int, command_count: int, tally: Tally) -> None:
    """Run the flow of one seed through both books.

    Raises:
        AssertionError: their events differ; the text has the first difference and how to repeat it.
    """
    regime, commands = random_flow(seed, command_count)
    drivers = [
        BookDriver(
            kind,
            symbol_count=regime.symbol_count,
            capacity_orders=regime.capacity_orders,
            price_min_ticks=regime.price_min_ticks,
            price_max_ticks=regime.price_max_ticks,
        )
        for kind in ("naive", "ladder")
    ]
    naive, ladder = (driver.play(commands, regime.batch_commands) for driver in drivers)
    if naive != ladder:
        raise AssertionError(
            f"naive and ladder differ: {first_difference(commands, naive, ladder)}\n{regime}\n"
            f"repeat with: python -m tests.property.campaign --commands {command_count} --seed {seed}"
        )
    audit_ladder(drivers[1].owner)
    for symbol_id in range(regime.symbol_count):
        assert drivers[0].orders(symbol_id) == drivers[1].orders(symbol_id), f"seed {seed}"
    tally.commands += command_count
    tally.seeds += 1
    tally.events_by_kind += np.bincount(np.frombuffer(naive, EVENT_DTYPE)["kind"], minlength=7)
    tally.digest.update(naive)


def run_campaign(base_seed: int, command_count: int, *, progress: bool = False) -> Tally:
    """Compare the books over as many seeds, counting up from ``base_seed``, as ``command_count`` commands need."""
    tally = Tally()
    shown = time.monotonic()
    while tally.commands < command_count:
        seed = base_seed + tally.seeds
        compare_books(seed, min(COMMANDS_PER_SEED, command_count - tally.commands), tally)
        if progress and time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{tally.commands:,} commands, {tally.seeds:,} seeds ...", file=sys.stderr, flush=True)
    return tally


def main() -> None:
    """Read the options, run, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.campaign", description=__doc__)
    parser.add_argument("--commands", type=int, default=10_000_000, help="how many commands in all")
    parser.add_argument("--seed", type=int, default=1, help="first seed; the following ones count up")
    options = parser.parse_args()
    started = time.monotonic()
    tally = run_campaign(options.seed, options.commands, progress=True)
    print(f"{tally}; seeds from {options.seed}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
