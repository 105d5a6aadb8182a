"""Latencies counted in the buckets of an HdrHistogram: recording costs one addition, whatever the value.

A latency distribution spans six powers of ten, and what matters is in its tail, so neither a list of samples
(too big) nor equal-width buckets (too coarse here, too fine there) will do. HdrHistogram (Gil Tene,
http://hdrhistogram.org) uses *log-linear* buckets: exact up to 2047, then each doubling of the value is cut
into 1024 equal parts. A value is therefore never off by more than one part in 1024, which is "three
significant digits".

The counts are a plain int64 array, so that a compiled loop records with ``counts[bucket_index(latency_ns)] +=
1``: no object, no allocation, no branch on the size of the value. The layout is that of ``HdrHistogram(1,
3_600_000_000_000, 3)``, slot by slot; :func:`encode` gives the base64 text that every HdrHistogram
implementation reads.

Rules: one writer for each array; merge by adding arrays. Negative values are counted as 0 and values over one
hour as one hour, so that no sample is ever dropped.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from exchange.bench.results import LatencyPercentiles
from exchange.errors import UserError
from exchange.native import count_leading_zeros, inlined

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

type Counts = npt.NDArray[np.int64]
"""Shape (COUNTS_LENGTH,), one count for each bucket."""

SIGNIFICANT_DIGITS: Final = 3
HIGHEST_NS: Final = 3_600_000_000_000
"""One hour: longer than any benchmark round, so nothing is clipped in practice."""

_HALF_BITS: Final = 10
"""Each doubling has 2**10 buckets: the smallest power of two that separates three digits (1000 parts)."""
_HALF_COUNT: Final = 1 << _HALF_BITS
_EXACT_MASK: Final = 2 * _HALF_COUNT - 1
_DOUBLINGS: Final = HIGHEST_NS.bit_length() - (_HALF_BITS + 1)

COUNTS_LENGTH: Final = (_DOUBLINGS + 2) * _HALF_COUNT


@inlined
def bucket_index(value_ns: int) -> int:
    """Return the bucket of a value, 0 .. COUNTS_LENGTH - 1 (plain int64 arithmetic)."""
    clamped_ns = int(
        min(max(value_ns, 0), HIGHEST_NS)
    )  # int(): interpreted, this may be given numpy's integers
    shift = (64 - (_HALF_BITS + 1)) - count_leading_zeros(clamped_ns | _EXACT_MASK)
    return (shift << _HALF_BITS) + (clamped_ns >> shift)


def bucket_value_ns(index: int) -> int:
    """Return the lowest value that is counted in bucket ``index``."""
    shift = max((index >> _HALF_BITS) - 1, 0)
    return (index - (shift << _HALF_BITS)) << shift


def bucket_top_ns(index: int) -> int:
    """Return the highest value that is counted in bucket ``index``: the one that percentiles report."""
    return bucket_value_ns(index + 1) - 1


def empty_counts() -> Counts:
    """Return a new array of zeros to record into."""
    return np.zeros(COUNTS_LENGTH, dtype=np.int64)


def values_at_percentiles_ns(counts: Counts, percentiles: Sequence[float]) -> list[int]:
    """Return, for each of ``percentiles``, the value that so many % of the samples did not exceed.

    A value is rounded up to the top of its bucket, and a rank as HdrHistogram does it, so that both give the
    same answers.

    Raises:
        ValueError: no samples, or a percentile outside (0, 100].
    """
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    if total == 0:
        raise ValueError("the histogram is empty: it has no percentiles")
    for percentile in percentiles:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile is {percentile}; allowed is more than 0 and at most 100")
    ranks = [max(int(percentile * total / 100 + 0.5), 1) for percentile in percentiles]
    return [bucket_top_ns(index) for index in np.searchsorted(cumulative, ranks).tolist()]


def latency_percentiles(counts: Counts) -> LatencyPercentiles | None:
    """Return the percentiles of a result file, or ``None`` for an empty histogram."""
    if not counts.any():
        return None
    return LatencyPercentiles(*values_at_percentiles_ns(counts, (50, 90, 99, 99.9, 99.99, 100)))


def to_hdr_histogram(counts: Counts) -> "HdrHistogram":
    """Return the same distribution as the ``hdrhistogram`` package holds it: for its iterators, for logs."""
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    for index in np.flatnonzero(counts).tolist():
        histogram.record_value(bucket_value_ns(index), int(counts[index]))
    return histogram


def encode(counts: Counts) -> str:
    """Return the V2 compressed base64 form, as in HdrHistogram's log files."""
    text: bytes = to_hdr_histogram(counts).encode()
    return text.decode("ascii")


def decode(text: str) -> Counts:
    """Return the counts of an encoded histogram.

    Raises:
        UserError: not an HdrHistogram in V2 form, or one of another range or precision.
    """
    import zlib

    from hdrh.codec import (  # type: ignore[import-untyped]
        HdrCookieException,
        HdrHistogramSettingsException,
        HdrLengthException,
    )
    from hdrh.histogram import HdrHistogram

    known = (HdrCookieException, HdrHistogramSettingsException, HdrLengthException, ValueError, zlib.error)
    try:
        histogram = HdrHistogram.decode(text)
    except known as error:
        raise UserError(f"histogram: {text[:16]!r}... is not an encoded HdrHistogram: {error}") from error
    if (histogram.highest_trackable_value, histogram.significant_figures) != (HIGHEST_NS, SIGNIFICANT_DIGITS):
        raise UserError(
            f"histogram: it reaches to {histogram.highest_trackable_value} with "
            f"{histogram.significant_figures} digits; allowed is {HIGHEST_NS} with {SIGNIFICANT_DIGITS}"
        )
    return np.frombuffer(histogram.counts, dtype=np.uint64).astype(np.int64)
