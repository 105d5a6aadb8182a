"""Naive against ladder over many seeds: every event, byte for byte.

Run the whole campaign, or repeat one seed that a test has printed, from the root of the repository::

    python -m tests.property.campaign --commands 10000000
    python -m tests.property.campaign --seed 1234 --commands 20000

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
from numpy.typing import NDArray

from exchange.book.naive import NaiveBook
from exchange.messages import EVENT_DTYPE
from tests.book_driver import BOOK_EVENTS, BOOK_REASONS, BookDriver, first_difference
from tests.property.book_flows import aim_at_live_orders, random_flow
from tests.property.ladder_audit import audit_ladder

COMMANDS_PER_SEED = 20_000
COMMANDS_PER_LOOK = 32
"""After so many commands the next ones are aimed anew at what lives in the book."""


@dataclass
class Tally:
    """What has been compared so far."""

    commands: int = 0
    seeds: int = 0
    events_by_kind: np.ndarray = field(default_factory=lambda: np.zeros(max(BOOK_EVENTS) + 1, np.int64))
    events_by_reason: np.ndarray = field(default_factory=lambda: np.zeros(max(BOOK_REASONS) + 1, np.int64))
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.events_by_kind[kind]:,} {kind.name.lower()}" for kind in BOOK_EVENTS)
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
    random = np.random.default_rng([seed, 1])
    naive, ladder = bytearray(), bytearray()
    for start in range(0, command_count, COMMANDS_PER_LOOK):
        block = commands[start : start + COMMANDS_PER_LOOK]
        aim_at_live_orders(random, block, _live_orders(drivers[0].owner))
        naive += drivers[0].play(block, regime.batch_commands)
        ladder += drivers[1].play(block, regime.batch_commands)
    if naive != ladder:
        raise AssertionError(
            f"naive and ladder differ: {first_difference(commands, naive, ladder)}\n{regime}\n"
            f"repeat with: python -m tests.property.campaign --seed {seed} --commands {command_count} "
            f"--commands-per-seed {command_count}"
        )
    audit_ladder(drivers[1].owner)
    for symbol_id in range(regime.symbol_count):
        assert drivers[0].orders(symbol_id) == drivers[1].orders(symbol_id), f"seed {seed}"
    tally.commands += command_count
    tally.seeds += 1
    events = np.frombuffer(naive, EVENT_DTYPE)
    tally.events_by_kind += np.bincount(events["kind"], minlength=7)
    tally.events_by_reason += np.bincount(events["reason"], minlength=19)
    tally.digest.update(naive)


def _live_orders(naive: NaiveBook) -> NDArray[np.int64]:
    fields = [
        (order.symbol_id, order.session_id, order.order_id, order.price_ticks)
        for order in naive.orders.values()
    ]
    return np.array(fields, np.int64).reshape(-1, 4)


def run_campaign(
    base_seed: int, command_count: int, commands_per_seed: int = COMMANDS_PER_SEED, *, progress: bool = False
) -> Tally:
    """Compare the books over as many seeds, counting up from ``base_seed``, as ``command_count`` commands need."""
    tally = Tally()
    shown = time.monotonic()
    while tally.commands < command_count:
        seed = base_seed + tally.seeds
        compare_books(seed, min(commands_per_seed, command_count - tally.commands), tally)
        if progress and time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{tally.commands:,} commands, {tally.seeds:,} seeds ...", file=sys.stderr, flush=True)
    return tally


def main() -> None:
    """Read the options, run, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.campaign", description=__doc__)
    parser.add_argument("--commands", type=int, default=10_000_000, help="how many commands in all")
    parser.add_argument("--seed", type=int, default=1, help="first seed; the following ones count up")
    parser.add_argument("--commands-per-seed", type=int, default=COMMANDS_PER_SEED)
    options = parser.parse_args()
    started = time.monotonic()
    tally = run_campaign(options.seed, options.commands, options.commands_per_seed, progress=True)
    print(f"{tally}; seeds from {options.seed}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
