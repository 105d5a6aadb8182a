"""The latency histogram agrees with the reference implementation, and errs no more than it says."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.bench.histogram import (
    COUNTS_LENGTH,
    HIGHEST_NS,
    SIGNIFICANT_DIGITS,
    bucket_index,
    bucket_top_ns,
    bucket_value_ns,
    decode,
    empty_counts,
    encode,
    latency_percentiles,
    to_hdr_histogram,
    values_at_percentiles_ns,
)
from exchange.errors import UserError
from exchange.native import kernel

VALUES_NS = st.integers(0, HIGHEST_NS)
PERCENTILES = (0.01, 1, 25, 50, 75, 90, 99, 99.9, 99.99, 99.999, 100)


@kernel
def record_all(counts, values_ns):
    for position in range(len(values_ns)):
        counts[bucket_index(values_ns[position])] += 1


def reference(values_ns):
    histogram = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    for value in values_ns:
        assert histogram.record_value(int(value))
    return histogram


def recorded(values_ns):
    counts = empty_counts()
    record_all(counts, np.asarray(values_ns, dtype=np.int64))
    return counts


def skewed_values(seed, count=5000):
    generator = np.random.default_rng(seed)
    return np.minimum(generator.lognormal(9, 3, count), HIGHEST_NS).astype(np.int64)


def test_layout_has_the_length_of_the_reference():
    assert reference([]).counts_len == COUNTS_LENGTH


@settings(deadline=None)
@given(VALUES_NS)
def test_every_value_has_the_slot_that_the_reference_gives_it(value_ns):
    assert bucket_index(value_ns) == reference([]).get_counts_array_index(value_ns)


@settings(deadline=None)
@given(VALUES_NS)
def test_a_bucket_encloses_its_values_and_is_narrower_than_one_part_in_1024(value_ns):
    index = bucket_index(value_ns)
    low, high = bucket_value_ns(index), bucket_top_ns(index)
    assert low <= value_ns <= high
    assert (high - low) * 1024 <= value_ns


@settings(deadline=None)
@given(st.integers(0, COUNTS_LENGTH - 2))
def test_buckets_follow_each_other_without_gap_or_overlap(index):
    assert bucket_top_ns(index) + 1 == bucket_value_ns(index + 1)


@pytest.mark.parametrize(
    ("value_ns", "counted_as_ns"),
    [(-1, 0), (-(2**63), 0), (HIGHEST_NS + 1, HIGHEST_NS), (2**63 - 1, HIGHEST_NS)],
)
def test_values_out_of_range_are_counted_at_the_nearest_end(value_ns, counted_as_ns):
    assert bucket_index(value_ns) == bucket_index(counted_as_ns)


@pytest.mark.parametrize("seed", range(4))
def test_percentiles_equal_those_of_values_recorded_in_the_reference(seed):
    values = skewed_values(seed)
    counts, expected = recorded(values), reference(values)
    found = values_at_percentiles_ns(counts, PERCENTILES)
    assert found == [expected.get_value_at_percentile(percentile) for percentile in PERCENTILES]


@settings(deadline=None)
@given(st.lists(VALUES_NS, min_size=1, max_size=60))
def test_percentiles_are_within_one_part_in_1024_of_the_exact_ones(values):
    counts, exact = recorded(values), sorted(values)
    percentiles = (50.0, 90.0, 100.0)
    for percentile, found in zip(percentiles, values_at_percentiles_ns(counts, percentiles), strict=True):
        rank = max(int(percentile * len(values) / 100 + 0.5), 1)
        assert exact[rank - 1] <= found <= exact[rank - 1] * (1 + 1 / 1024)


def test_summary_holds_the_percentiles_under_their_names():
    counts = recorded(range(1, 1001))
    summary = latency_percentiles(counts)
    assert summary is not None
    assert (summary.p50_ns, summary.p90_ns, summary.p99_ns, summary.p99_9_ns) == (500, 900, 990, 999)
    assert summary.max_ns == 1000


def test_an_empty_histogram_has_no_percentiles():
    assert latency_percentiles(empty_counts()) is None
    with pytest.raises(ValueError, match="empty"):
        values_at_percentiles_ns(empty_counts(), [50])


@pytest.mark.parametrize("percentile", [0, -1, 100.1])
def test_an_impossible_percentile_is_refused(percentile):
    with pytest.raises(ValueError, match="allowed is more than 0 and at most 100"):
        values_at_percentiles_ns(recorded([1]), [50, percentile])


@pytest.mark.parametrize("values", [[], [0], [HIGHEST_NS], [7, 7, 7]])
def test_encoding_survives_a_round_trip(values):
    counts = recorded(values)
    assert (decode(encode(counts)) == counts).all()


def test_encoded_text_is_what_the_reference_writes_for_the_same_values():
    values = skewed_values(11)
    assert encode(recorded(values)) == reference(values).encode().decode("ascii")


def test_conversion_keeps_count_and_mean():
    values = skewed_values(12)
    converted, expected = to_hdr_histogram(recorded(values)), reference(values)
    assert converted.get_total_count() == len(values)
    assert converted.get_mean_value() == expected.get_mean_value()


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "HISTFAAAABl4nA==", encode(empty_counts())[:-8]])
def test_text_that_is_no_histogram_is_refused_in_words(text):
    with pytest.raises(UserError, match=r"histogram: .* is not an encoded HdrHistogram"):
        decode(text)


def test_a_histogram_of_another_precision_is_refused_in_words():
    other = HdrHistogram(1, 1_000_000, 2)
    other.record_value(5)
    with pytest.raises(UserError, match="reaches to 1000000 with 2 digits"):
        decode(other.encode().decode("ascii"))
