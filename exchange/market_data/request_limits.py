"""How much one requester may have sent again: token buckets, for a re-request server that anybody can ask.

A request of 20 bytes has up to 1,472 sent and takes the control plane some microseconds. So who asks pays: with the
bytes of the request and of its answer, out of a bucket that fills with so many bytes a second and holds the fill of
:data:`BURST_SECONDS`. An empty bucket means no answer, which a subscriber takes for a loss: it asks again later, and
asks for less at a time (:mod:`exchange.market_data.subscriber`).

A requester is an address with its port. Since both can be made up, all of them together have a bucket as well, of
:data:`REQUESTERS_AT_ONCE` times the size, and no more than :data:`REQUESTERS_MAX` are remembered: the one that has been
quiet for longest is forgotten first, which gives it a full bucket when it comes back, as its silence would have.

Rules: one thread; the time is an argument, in nanoseconds, and never goes back.
"""

from typing import Final

BURST_SECONDS: Final = 0.25
"""A bucket holds what fills it in so long: a loss of some thousand messages is mended without a pause."""

REQUESTERS_AT_ONCE: Final = 4
"""So many requesters at their limit get all that they may have; more share it."""

REQUESTERS_MAX: Final = 1_024


class TokenBucket:
    """Fills at a steady rate, up to its size, and is paid from.

    Args:
        bytes_per_second: how quickly it fills.
        now_ns: it is full at this time.
    """

    __slots__ = ("_filled_at_ns", "_per_ns", "_size_bytes", "_tokens_bytes")

    def __init__(self, bytes_per_second: int, now_ns: int) -> None:
        self._per_ns = bytes_per_second / 1e9
        self._size_bytes = bytes_per_second * BURST_SECONDS
        self._tokens_bytes = self._size_bytes
        self._filled_at_ns = now_ns

    def has_any(self, now_ns: int) -> bool:
        """Whether there is something left to pay with."""
        gained = (now_ns - self._filled_at_ns) * self._per_ns
        self._tokens_bytes = min(self._size_bytes, self._tokens_bytes + gained)
        self._filled_at_ns = now_ns
        return self._tokens_bytes > 0

    def pay(self, size_bytes: int) -> None:
        """Take so much out; the last payment may take more than there is, which is owed."""
        self._tokens_bytes -= size_bytes


class RequestLimits:
    """The buckets of all requesters.

    Args:
        bytes_per_second: what one requester may cause.

    Attributes:
        refused: how many requests were not looked at.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self.refused = 0
        self._bytes_per_second: Final = bytes_per_second
        self._all: Final = TokenBucket(REQUESTERS_AT_ONCE * bytes_per_second, 0)
        self._buckets: dict[tuple[str, int], TokenBucket] = {}

    @property
    def requesters(self) -> int:
        """How many are remembered."""
        return len(self._buckets)

    def allows(self, requester: tuple[str, int], now_ns: int) -> bool:
        """Whether a request is to be answered; if not, it is counted."""
        bucket = self._buckets.pop(requester, None)
        if bucket is None:
            bucket = TokenBucket(self._bytes_per_second, now_ns)
            if len(self._buckets) >= REQUESTERS_MAX:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[requester] = bucket  # the last one of the dictionary is the one that asked last
        if bucket.has_any(now_ns) and self._all.has_any(now_ns):
            return True
        self.refused += 1
        return False

    def pay(self, requester: tuple[str, int], size_bytes: int) -> None:
        """What was allowed a moment ago took so many bytes."""
        self._buckets[requester].pay(size_bytes)
        self._all.pay(size_bytes)
