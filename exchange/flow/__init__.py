"""The flow layer: where the commands of a benchmark, a replay or a test come from.

========== ========================================= ========================================================
kind       what it is                                 what it is good for
========== ========================================= ========================================================
synthetic  a seeded model of a busy market            any length, no file needed, the same on every machine
scenario   one of five published regimes, seeded      figures that can be compared with other engines
lobster    LOBSTER message file (CSV)                 one real symbol, hour or day, as researchers have it
itch       NASDAQ TotalView-ITCH 5.0 file             the exchange's own recording, all symbols of a day
========== ========================================= ========================================================

A *flow* is an array of commands in time order, ready to be sent. What all of them promise:

* ``timestamp_ns`` of a command is its intended time, counted from the first command; it never decreases. When
  it is really sent is the load generator's business (:mod:`exchange.flow.pacing`).
* The same source, settings and seed give the same bytes, on every machine.
* Prices are the source's own ticks: 1/10,000 dollar for recordings (as both file formats write them), one
  cent for the synthetic market, half a cent for the scenarios. Quantities are shares.
* Nothing is dropped silently: what a recording holds and the commands do not (hidden executions, crosses,
  halts) is counted in ``notes``.
* A flow is never written to: whoever stamps ``sequence`` or rewrites times works on a copy.

A recording is recognised by its content: gzip by its magic number, LOBSTER by a leading digit, ITCH by the
two length bytes. The variants, and with them numba, are imported when one of them is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.flow.config import (
    FlowConfig,
    Reading,
    RecordedConfig,
    ScenarioConfig,
    SyntheticConfig,
    check_ranges,
)

SYNTHETIC = "synthetic"
"""The name under which :func:`load_flow` makes the synthetic flow; any other source is a path."""


@dataclass(frozen=True, eq=False)
class Flow:
    """Commands in time order, and what is known about them.

    Attributes:
        commands: shape (n,), ``COMMAND_DTYPE``.
        name: a word for tables and plots.
        description: one sentence for a report.
        symbols: their names; ``symbol_id`` is the index.
        notes: what was counted while the flow was made; a key with its underscores as spaces can be printed.
        expected_maker: shape (n,), int64: the resting order that the recording says a command traded with; 0
            for commands that are no recorded execution.
    """

    commands: NDArray[Any]
    name: str
    description: str
    symbols: tuple[str, ...]
    notes: Mapping[str, int]
    expected_maker: NDArray[np.int64]

    @property
    def duration_ns(self) -> int:
        """Time from the first command to the last; 0 for an empty flow."""
        return int(self.commands["timestamp_ns"][-1]) if len(self.commands) else 0

    def first(self, count: int) -> "Flow":
        """The flow that ends after its first ``count`` commands; ``notes`` still tell of the whole."""
        return replace(self, commands=self.commands[:count], expected_maker=self.expected_maker[:count])


def build_flow(config: FlowConfig) -> Flow:
    """Make the flow that ``config`` describes.

    Raises:
        UserError: a setting is out of range; a file cannot be read, is cut or corrupt (file and byte offset
            named).
    """
    check_ranges(config)
    match config:
        case SyntheticConfig():
            from exchange.flow.synthetic import synthetic_flow

            return synthetic_flow(config)
        case ScenarioConfig():
            from exchange.flow.scenario import scenario_flow

            return scenario_flow(config)
        case RecordedConfig():
            from exchange.flow.recorded import recorded_flow

            return recorded_flow(config)
        case _:
            assert_never(config)


def load_flow(
    source: str,
    *,
    reading: Reading = "flow",
    symbol: str | None = None,
    allow_truncated: bool = False,
    synthetic: SyntheticConfig | None = None,
    scenario: ScenarioConfig | None = None,
) -> Flow:
    """Make a flow from what a person names: the word ``synthetic``, or the path of a recording.

    Args:
        source: ``"synthetic"``, or a LOBSTER or ITCH 5.0 file, plain or gzip.
        reading: what a recorded execution becomes, see :data:`~exchange.flow.config.Reading`.
        symbol: read only this symbol of an ITCH file that holds several.
        allow_truncated: of a file that is cut, read what is whole.
        synthetic: the model's settings, if ``source`` is ``"synthetic"``.
        scenario: one of the five scenarios instead, if ``source`` is ``"synthetic"``.

    Raises:
        UserError: as :func:`build_flow`; a scenario beside a recording or beside the other model's settings.
    """
    if scenario is not None:
        if source != SYNTHETIC or synthetic is not None:
            raise UserError(
                f"scenario {scenario.scenario}: it is a flow of its own; name no other flow beside it"
            )
        return build_flow(scenario)
    if source == SYNTHETIC:
        return build_flow(synthetic or SyntheticConfig())
    return build_flow(RecordedConfig(source, reading, symbol, allow_truncated))


__all__ = [
    "SYNTHETIC",
    "Flow",
    "FlowConfig",
    "Reading",
    "RecordedConfig",
    "ScenarioConfig",
    "SyntheticConfig",
    "build_flow",
    "load_flow",
]
