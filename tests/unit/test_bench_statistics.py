"""Medians, spreads and ratios: known answers, and what must hold for any rounds."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exchange.bench.statistics import (
    CONFIDENCE,
    FEWEST_TO_BOOTSTRAP,
    independent_ratio,
    paired_ratio,
    spread,
)

POSITIVE = st.floats(1e-3, 1e12)
ROUNDS = st.lists(POSITIVE, min_size=1, max_size=20)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=20)


def by_round(values):
    return dict(enumerate(values))


def unzip(pairs):
    return by_round([one for one, _ in pairs]), by_round([other for _, other in pairs])


def test_spread_of_known_rounds():
    found = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.minimum, found.lower_quartile, found.median) == (1.0, 2.0, 3.0)
    assert (found.upper_quartile, found.maximum, found.rounds) == (4.0, 5.0, 5)


def test_one_bad_round_does_not_move_the_median():
    assert spread([10.0, 10.1, 9.9, 10.0, 0.1]).median == 10.0


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_rounds_that_are_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="one or more finite numbers"):
        spread(values)


@settings(deadline=None)
@given(ROUNDS)
def test_a_spread_is_in_order_and_within_the_rounds(values):
    found = spread(values)
    ordered = [found.minimum, found.lower_quartile, found.median, found.upper_quartile, found.maximum]
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(ordered))
    assert (found.minimum, found.maximum) == (min(values), max(values))


def test_paired_ratio_of_known_rounds_is_the_median_of_the_ratios():
    found = paired_ratio(by_round([1.0, 2.0, 4.0]), by_round([3.0, 4.0, 40.0]))
    assert found is not None
    assert (found.ratio, found.low, found.high, found.rounds) == (3.0, 2.0, 10.0, 3)


def test_what_slows_a_whole_round_down_cancels():
    mood = [1.0, 0.2, 0.7, 3.0, 1.4]
    found = paired_ratio(by_round([10 * one for one in mood]), by_round([25 * one for one in mood]))
    assert found is not None
    assert found.low == pytest.approx(2.5)
    assert found.high == pytest.approx(2.5)


def test_only_rounds_that_both_have_are_paired():
    found = paired_ratio({0: 1.0, 1: 1.0, 5: 1.0}, {1: 7.0, 5: 7.0, 9: 100.0})
    assert found is not None
    assert (found.ratio, found.rounds) == (7.0, 2)


def test_no_common_round_or_a_zero_baseline_gives_no_ratio():
    assert paired_ratio({0: 1.0}, {1: 1.0}) is None
    assert paired_ratio({0: 0.0}, {0: 1.0}) is None
    assert independent_ratio([0.0, 1.0], [1.0]) is None


def test_one_round_has_a_ratio_but_no_interval_and_proves_nothing():
    found = paired_ratio({0: 1.0}, {0: 100.0})
    assert found is not None
    assert (found.ratio, found.low, found.high, found.confidence) == (100.0, None, None, 0.0)
    assert not found.differs


@pytest.mark.parametrize(("rounds", "confidence"), [(2, 0.5), (3, 0.75), (5, 0.9375), (20, CONFIDENCE)])
def test_few_rounds_claim_no_more_than_they_can(rounds, confidence):
    values = by_round(np.linspace(1, 2, rounds))
    found = paired_ratio(dict.fromkeys(values, 1.0), values)
    assert found is not None
    assert found.confidence == confidence


@settings(deadline=None)
@given(PAIRS)
def test_the_interval_encloses_the_ratio_and_stays_within_the_rounds(pairs):
    baseline, candidate = unzip(pairs)
    found = paired_ratio(baseline, candidate)
    assert found is not None
    ratios = [other / one for one, other in pairs]
    assert min(ratios) * (1 - 1e-9) <= found.ratio <= max(ratios) * (1 + 1e-9)
    if found.low is not None and found.high is not None:
        assert min(ratios) * (1 - 1e-9) <= found.low <= found.ratio * (1 + 1e-9)
        assert found.ratio * (1 - 1e-9) <= found.high <= max(ratios) * (1 + 1e-9)


@settings(deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert paired_ratio(*unzip(pairs)) == paired_ratio(*unzip(shuffled))


@settings(deadline=None)
@given(PAIRS, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_of_the_values_does_not_matter(pairs, factor):
    scaled = [(factor * one, factor * other) for one, other in pairs]
    assert paired_ratio(*unzip(pairs)) == paired_ratio(*unzip(scaled))


@settings(deadline=None)
@given(PAIRS)
def test_swapping_the_sides_gives_the_reciprocal(pairs):
    assume(len(pairs) % 2 == 1 and len(pairs) < FEWEST_TO_BOOTSTRAP)
    there = paired_ratio(*unzip(pairs))
    back = paired_ratio(*unzip([(other, one) for one, other in pairs]))
    assert there is not None
    assert back is not None
    assert back.ratio == pytest.approx(1 / there.ratio)
    if there.low is not None and back.high is not None:
        assert back.high == pytest.approx(1 / there.low)


@pytest.mark.parametrize("rounds", [5, 7, 12])
def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says(rounds):
    generator = np.random.default_rng(rounds)
    trials, hits, confidence = 300, 0, 0.0
    for _ in range(trials):
        noise = generator.standard_t(3, (2, rounds)) * 0.1
        found = paired_ratio(by_round(np.exp(noise[0])), by_round(2 * np.exp(noise[1])))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        confidence = found.confidence
        hits += found.low <= 2.0 <= found.high
    assert abs(hits / trials - confidence) < 0.06


@settings(deadline=None)
@given(ROUNDS, ROUNDS)
def test_independent_ratio_is_the_ratio_of_medians_within_its_interval(before, after):
    found = independent_ratio(before, after)
    assert found is not None
    assert found.ratio == pytest.approx(np.median(after) / np.median(before))
    if found.low is not None and found.high is not None:
        assert found.low <= found.ratio * (1 + 1e-9)
        assert found.ratio <= found.high * (1 + 1e-9)


def test_independent_runs_that_overlap_do_not_differ_and_distant_ones_do():
    calm = [10.0, 10.2, 9.9, 10.1, 10.0]
    overlapping, distant = (
        independent_ratio(calm, [10.1, 9.8, 10.3]),
        independent_ratio(calm, [20.0, 20.5, 19.8]),
    )
    assert overlapping is not None
    assert distant is not None
    assert not overlapping.differs
    assert distant.differs
