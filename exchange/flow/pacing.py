"""When each command of a flow is meant to be sent: the schedule of an open-loop load generator.

A closed-loop generator sends the next command when the answer to the last has come, so a slow exchange slows
its own measurement down, and the delays that clients would have suffered are never seen ("coordinated
omission"). An open-loop generator fixes all times beforehand, sends late when it must, and measures from the
*intended* time.

Each function returns int64 nanoseconds from the start of the run, shape (n,), non-decreasing, one for each
command of the flow, and leaves the flow as it is. They are computed as integers, or from seeded draws, so
that the same arguments give the same schedule.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.flow import Flow

SECOND_NS: Final = 1_000_000_000
DURATION_NS_MAX: Final = 1 << 62
"""146 years; no sum of times near it overflows 64 bits."""


def saturation(flow: Flow) -> NDArray[np.int64]:
    """Everything at once: each command is due as soon as there is room for it."""
    return np.zeros(len(flow.commands), np.int64)


def constant_rate(flow: Flow, commands_per_second: float) -> NDArray[np.int64]:
    """One command after the other at equal distances, the first at 0.

    Raises:
        UserError: the rate is not above 0, or the last command would be due in more than a century.
    """
    gap_ns = _mean_gap_ns(flow, commands_per_second)
    return np.rint(np.arange(len(flow.commands)) * gap_ns).astype(np.int64)


def poisson(flow: Flow, commands_per_second: float, seed: int) -> NDArray[np.int64]:
    """Independent arrivals: exponential gaps of the given mean rate, the first command after a gap as well.

    Constant distances hide queueing: real clients do not wait for each other, and bursts are where delays
    come from.

    Raises:
        UserError: as :func:`constant_rate`.
    """
    gap_ns = _mean_gap_ns(flow, commands_per_second)
    gaps = np.random.default_rng(seed).exponential(gap_ns, len(flow.commands))
    return np.rint(np.cumsum(gaps)).astype(np.int64)


def recorded(flow: Flow, speed_factor: float = 1.0) -> NDArray[np.int64]:
    """The flow's own times, run ``speed_factor`` times as fast as they happened.

    Raises:
        UserError: the factor is not above 0, or so small that the run would take more than a century.
    """
    if not 0 < speed_factor < np.inf:
        raise UserError(f"speed factor: {speed_factor} is not allowed, it must be above 0")
    _check_duration(flow.duration_ns / speed_factor, f"speed factor: {speed_factor}")
    if speed_factor == 1.0:
        return flow.commands["timestamp_ns"].astype(np.int64)
    return np.rint(flow.commands["timestamp_ns"] / speed_factor).astype(np.int64)


def _mean_gap_ns(flow: Flow, commands_per_second: float) -> float:
    if not 0 < commands_per_second < np.inf:
        raise UserError(f"rate: {commands_per_second} commands per second is not allowed, it must be above 0")
    gap_ns = SECOND_NS / commands_per_second
    _check_duration(
        2 * gap_ns * (len(flow.commands) + 32), f"rate: {commands_per_second} commands per second"
    )
    return gap_ns


def _check_duration(duration_ns: float, what: str) -> None:
    if duration_ns > DURATION_NS_MAX:
        raise UserError(f"{what} is too slow: the run would take more than a century")
