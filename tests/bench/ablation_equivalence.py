"""Plays random markets through the ladder book and through every variant that lacks an idea; all must answer alike.

``python -m tests.bench.ablation_equivalence [--markets N] [--commands N] [NAME ...]`` prints a line for each variant
and ends with 1 if one differs. Compiled, that is a minute for each variant, nearly all of it compiling; with
``NUMBA_DISABLE_JIT=1`` the same sources run as plain Python, which is how the tests do it.
"""

import argparse
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exchange.bench.ablations import ABLATIONS
from exchange.bench.variant_book import idea_of, load_variant
from exchange.messages import EVENT_DTYPE
from tests.book_driver import BOOK_EVENTS, BookDriver, first_difference
from tests.property.book_flows import Regime, random_flow

BOOK_ABLATIONS: Final = tuple(name for name in ABLATIONS if "book" in idea_of(name).measured)


def random_market(seed: int, count: int) -> tuple[Regime, NDArray[Any]]:
    """Settings and commands; the ids have been made dense, as one of the ablations wants them."""
    regime, commands = random_flow(seed, count)
    ids = np.stack([commands["order_id"], commands["new_order_id"]])
    _, places = np.unique(ids, return_inverse=True)
    commands["order_id"], commands["new_order_id"] = places.reshape(ids.shape) + 1
    return regime, commands


def play(regime: Regime, commands: NDArray[Any], name: str | None) -> bytes:
    """All events of a flow; of the core itself if there is no ablation."""
    driver = BookDriver(
        "ladder",
        symbol_count=regime.symbol_count,
        capacity_orders=regime.capacity_orders,
        price_min_ticks=regime.price_min_ticks,
        price_max_ticks=regime.price_max_ticks,
    )
    if name is not None:
        driver.owner = load_variant(name).ladder.Ladder(
            regime.symbol_count, regime.capacity_orders, regime.price_min_ticks, regime.price_max_ticks
        )
        driver.state = driver.owner.state
    return driver.play(commands, regime.batch_commands)


def rare_kinds(events: bytes, fewest: int) -> list[str]:
    """Kinds of events of which there were fewer than so many: what the markets do not try enough."""
    kinds = np.frombuffer(events, EVENT_DTYPE)["kind"]
    return [kind.name for kind in BOOK_EVENTS if np.count_nonzero(kinds == int(kind)) < fewest]


def main() -> int:
    """Compare; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these ablations")
    parser.add_argument("--markets", type=int, default=24)
    parser.add_argument("--commands", type=int, default=1_500)
    options = parser.parse_args()
    markets = [random_market(seed, options.commands) for seed in range(options.markets)]
    expected = [play(*market, None) for market in markets]
    if rare := rare_kinds(b"".join(expected), options.markets):
        print("too few", *rare)
        return 1
    for name in options.names or BOOK_ABLATIONS:
        for seed, ((regime, commands), events) in enumerate(zip(markets, expected, strict=True)):
            found = play(regime, commands, name)
            if found != events:
                print(f"{name}: market {seed}: {first_difference(commands, events, found)}")
                return 1
        print(f"{name}: {sum(map(len, expected)) // EVENT_DTYPE.itemsize} events alike")
    return 0


if __name__ == "__main__":
    sys.exit(main())
