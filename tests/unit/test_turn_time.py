"""The time of an ingress's turn is later than that of the turn before, whatever the clock does."""

from exchange.clock import ManualTime
from exchange.native import Arena, store_int64
from exchange.transport.network_agents import STAMPED_NS, WORDS_BYTES, turn_time_ns

START_NS = 1_700_000_000_000_000_000


def test_a_clock_that_stands_still_gives_no_two_turns_the_same_time() -> None:
    arena, time = Arena.private(WORDS_BYTES + 64, huge_pages="never"), ManualTime(START_NS)
    words = arena.allocate(WORDS_BYTES)
    assert turn_time_ns(words, time.clock) == START_NS
    assert turn_time_ns(words, time.clock) == START_NS, "nothing was taken in that turn"
    for later in range(1, 4):
        store_int64(words + STAMPED_NS, turn_time_ns(words, time.clock))
        assert turn_time_ns(words, time.clock) == START_NS + later
    time.advance(1_000)
    assert turn_time_ns(words, time.clock) == START_NS + 1_000
