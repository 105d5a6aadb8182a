"""Schedules: how the intended times follow from rate, seed and recording."""

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import Flow
from exchange.flow.pacing import constant_rate, poisson, recorded, saturation
from exchange.messages import COMMAND_DTYPE


def flow_at(*times_ns: int) -> Flow:
    commands = np.zeros(len(times_ns), COMMAND_DTYPE)
    commands["timestamp_ns"] = times_ns
    return Flow(commands, "test", "", (), {}, np.zeros(len(times_ns), np.int64))


SCHEDULES = {
    "saturation": saturation,
    "constant": lambda flow: constant_rate(flow, 1e6),
    "poisson": lambda flow: poisson(flow, 1e6, 7),
    "recorded": recorded,
    "faster": lambda flow: recorded(flow, 2.5),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_schedule_has_a_time_for_each_command_and_never_goes_back(schedule, count):
    flow = flow_at(*range(0, 10 * count, 10))
    before = flow.commands.tobytes()
    times_ns = schedule(flow)
    assert times_ns.shape == (count,)
    assert times_ns.dtype == np.int64
    assert (np.diff(times_ns) >= 0).all()
    assert (times_ns >= 0).all()
    assert flow.commands.tobytes() == before


def test_constant_rate_does_not_drift():
    times_ns = constant_rate(flow_at(*[0] * 3_001), 3.0)
    assert times_ns[:4].tolist() == [0, 333_333_333, 666_666_667, 1_000_000_000]
    assert times_ns[-1] == 1_000_000_000_000


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process():
    times_ns = poisson(flow_at(*[0] * 100_000), 1e6, seed=1)
    gaps = np.diff(times_ns)
    assert gaps.mean() == pytest.approx(1_000, rel=0.02)
    assert gaps.std() == pytest.approx(1_000, rel=0.02)
    assert np.median(gaps) == pytest.approx(1_000 * np.log(2), rel=0.02)


def test_poisson_arrivals_are_reproducible():
    flow = flow_at(*[0] * 100)
    assert poisson(flow, 1e6, 3).tolist() == poisson(flow, 1e6, 3).tolist()
    assert poisson(flow, 1e6, 3).tolist() != poisson(flow, 1e6, 4).tolist()


def test_recorded_times_can_be_run_faster_and_slower():
    flow = flow_at(0, 1_000, 5_000)
    assert recorded(flow).tolist() == [0, 1_000, 5_000]
    assert recorded(flow, 10).tolist() == [0, 100, 500]
    assert recorded(flow, 0.5).tolist() == [0, 2_000, 10_000]


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf")])
def test_rates_and_factors_must_be_above_zero(wrong):
    flow = flow_at(0, 1)
    with pytest.raises(UserError, match="must be above 0"):
        constant_rate(flow, wrong)
    with pytest.raises(UserError, match="must be above 0"):
        poisson(flow, wrong, 1)
    with pytest.raises(UserError, match="must be above 0"):
        recorded(flow, wrong)


def test_runs_longer_than_a_century_are_refused():
    flow = flow_at(0, 10**15)
    with pytest.raises(UserError, match="more than a century"):
        constant_rate(flow, 1e-12)
    with pytest.raises(UserError, match="more than a century"):
        recorded(flow, 1e-9)
