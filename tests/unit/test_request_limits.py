"""The limits of a re-request server: what one requester may have, what all may have, and what is remembered."""

from exchange.market_data.request_limits import (
    BURST_SECONDS,
    REQUESTERS_AT_ONCE,
    REQUESTERS_MAX,
    RequestLimits,
    TokenBucket,
)

SECOND_NS = 1_000_000_000
ALICE, BOB = ("192.0.2.1", 5000), ("192.0.2.1", 5001)


def spend(limits: RequestLimits, requester: tuple[str, int], now_ns: int, size_bytes: int = 100) -> int:
    """Ask until there is no answer; how many bytes that was."""
    spent = 0
    while limits.allows(requester, now_ns):
        limits.pay(requester, size_bytes)
        spent += size_bytes
    return spent


def test_a_bucket_holds_a_burst_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(1_000, 0)
    assert bucket.has_any(0)
    bucket.pay(int(1_000 * BURST_SECONDS) + 100)  # the last payment may be larger than what is left
    assert not bucket.has_any(SECOND_NS // 10)
    assert bucket.has_any(SECOND_NS // 10 + SECOND_NS // 100)
    bucket.pay(1)
    assert bucket.has_any(3_600 * SECOND_NS)
    bucket.pay(int(1_000 * BURST_SECONDS))  # an hour fills no more than there is room for
    assert not bucket.has_any(3_600 * SECOND_NS)


def test_a_requester_gets_its_rate_and_no_more_and_the_other_gets_its_own() -> None:
    limits = RequestLimits(100_000)
    burst = spend(limits, ALICE, 0)
    assert burst == 100_000 * BURST_SECONDS
    assert spend(limits, BOB, 0) == burst
    assert (limits.refused, limits.requesters) == (2, 2)
    spent = sum(spend(limits, ALICE, step * SECOND_NS // 100) for step in range(1, 101))
    assert abs(spent - 100_000) <= 100
    assert limits.refused == 102


def test_all_together_have_a_limit() -> None:
    limits = RequestLimits(100_000)
    spent = sum(spend(limits, ("192.0.2.9", port), 0) for port in range(1, 100))
    assert spent == REQUESTERS_AT_ONCE * 100_000 * BURST_SECONDS


def test_no_more_are_remembered_than_there_is_room_for_and_the_quietest_is_forgotten() -> None:
    limits = RequestLimits(1 << 30)
    limits.allows(ALICE, 0)
    limits.pay(ALICE, (1 << 28) + 1_000)  # a little more than it has, and a quarter of what all have
    for port in range(REQUESTERS_MAX - 1):
        assert limits.allows(("192.0.2.9", port), 1)
    assert not limits.allows(ALICE, 1)  # it asks, so it is not the quietest
    for port in range(5):
        assert limits.allows(("192.0.2.8", port), 1)
    assert limits.requesters == REQUESTERS_MAX
    assert not limits.allows(ALICE, 1)
