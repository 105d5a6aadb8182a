"""Two ends over a line that loses, doubles and delays: everything arrives, in order, once. No socket and no clock."""

import heapq
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.wire.soupbintcp import UnsequencedData
from exchange.wire.soupbinudp import (
    WINDOW_BYTES,
    EndOfSession,
    SequencedData,
    number_of,
)
from exchange.wire.soupbinudp_connection import DatagramConnection

SESSION, TOKEN = 3, 0xFEDC_BA98_7654_3210
SECONDS_MAX = 200.0


def packet(number: int, size_bytes: int) -> bytes:
    return UnsequencedData(number.to_bytes(4, "big") + bytes(size_bytes)).encode()


class Line:
    """A network in simulated time."""

    def __init__(self, seed: int, trouble: float) -> None:
        self.chance, self.trouble = random.Random(seed), trouble
        self.on_the_way: list[tuple[float, int, int, bytes]] = []
        self.count = 0

    def carry(self, to: int, data: bytes, now: float) -> None:
        assert number_of(data) == (SESSION, TOKEN)
        for _ in range(1 + (self.chance.random() < self.trouble)):
            if self.chance.random() >= self.trouble:
                late = self.chance.random() * 0.02 if self.chance.random() < self.trouble else 0.0
                self.count += 1
                heapq.heappush(self.on_the_way, (now + 0.001 + late, self.count, to, data))

    def arrived(self, now: float) -> list[tuple[int, bytes]]:
        found = []
        while self.on_the_way and self.on_the_way[0][0] <= now:
            _, _, to, data = heapq.heappop(self.on_the_way)
            found.append((to, data))
        return found


@given(
    st.integers(0, 1 << 30),
    st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 400)), max_size=300),
)
@settings(deadline=None, max_examples=60)
def test_everything_arrives_in_order_and_once(seed: int, trouble: float, said: list[tuple[int, int]]) -> None:
    ends = [DatagramConnection(SESSION, TOKEN, 1, 0.0) for _ in range(2)]
    line, now = Line(seed, trouble), 0.0
    heard: list[list[bytes]] = [[], []]
    wanted = [[packet(n, size) for n, (to, size) in enumerate(said) if to == end] for end in (0, 1)]
    waiting = [(to, packet(n, size)) for n, (to, size) in enumerate(said)]
    while heard != wanted or any(end.unacknowledged for end in ends):
        for to, one in waiting[:5]:
            ends[1 - to].put(one)
        del waiting[:5]
        for index, end in enumerate(ends):
            for data in end.due(now):
                line.carry(1 - index, data, now)
        now += 0.001
        for to, data in line.arrived(now):
            heard[to] += ends[to].receive(data, now)
        assert now < SECONDS_MAX
        assert heard[0] == wanted[0][: len(heard[0])]
        assert heard[1] == wanted[1][: len(heard[1])]
    assert not any(end.is_closed for end in ends)


def test_no_more_than_the_window_is_on_its_way() -> None:
    end = DatagramConnection(SESSION, TOKEN, 1, 0.0)
    for number in range(500):
        end.put(packet(number, 200))
    sent = sum(len(data) for data in end.due(0.0))
    assert WINDOW_BYTES * 0.9 < sent < WINDOW_BYTES * 1.1
    assert end.due(0.001) == []
    assert end.due(1.0) != [], "without an acknowledgement everything is sent again"


def test_an_end_of_session_counts_when_everything_before_it_has_come() -> None:
    end = DatagramConnection(SESSION, TOKEN, 1, 0.0)
    head = (SESSION, TOKEN)
    assert end.receive(EndOfSession(*head, 2, 1, 0).encode(), 0.0) == []
    assert (end.has_ended, end.is_closed) == (False, True)
    end = DatagramConnection(SESSION, TOKEN, 1, 0.0)
    assert len(end.receive(SequencedData(*head, 1, 1, 1, packet(1, 0)).encode(), 0.0)) == 1
    end.receive(EndOfSession(*head, 2, 1, 0).encode(), 0.0)
    assert (end.has_ended, end.is_closed) == (True, False)


def test_who_is_not_heard_of_is_gone_and_who_says_nothing_sends_heartbeats() -> None:
    end = DatagramConnection(SESSION, TOKEN, 1, 0.0)
    beats = [data for second in range(15) for data in end.due(float(second))]
    assert len(beats) == 14
    assert all(SequencedData.decode(data).message_count == 0 for data in beats)
    end.due(16.0)
    assert end.is_closed
