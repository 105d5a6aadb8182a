"""What every queue promises, checked on every variant, a user's own included.

One thread at a time: what happens when several push and poll at once is in ``test_queue_torture.py``. Because nothing
here needs real atomics, ``test_native_interpreted.py`` runs this very file without a compiler as well.
"""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.native import Arena
from exchange.queues.disruptor import DisruptorQueue
from exchange.queues.locked import LockedQueue
from exchange.queues.mpsc import MpscQueue
from exchange.queues.spsc import SpscQueue
from tests.queue_drivers import CONFIGS, MANY_PRODUCERS, Desk, build, record

ALL = tuple(CONFIGS)
RINGS = {"locked": LockedQueue, "spsc": SpscQueue, "mpsc": MpscQueue, "disruptor": DisruptorQueue}

every_variant = pytest.mark.parametrize("variant", ALL)


@every_variant
def test_a_new_queue_is_empty(variant: str) -> None:
    desk = Desk(variant, 4)
    assert desk.poll(8) == []
    assert desk.refused == 0


@every_variant
def test_all_64_bytes_arrive_unchanged_and_in_order(variant: str) -> None:
    desk = Desk(variant, 8)
    records = [bytes(range(start, start + 64)) for start in range(5)]
    assert [desk.push(one) for one in records[:2]] == [True, True]
    assert desk.push_batch(records[2:]) == 3
    assert desk.poll(8) == records


@every_variant
@pytest.mark.parametrize("capacity", [2, 4, 64])
def test_every_slot_can_be_used_and_then_the_queue_is_full(variant: str, capacity: int) -> None:
    desk = Desk(variant, capacity)
    assert [desk.push(record(number)) for number in range(capacity)] == [True] * capacity
    assert desk.push(record(999)) is False
    assert desk.drain(capacity) == [record(number) for number in range(capacity)]


@every_variant
def test_a_refused_push_counts_once_as_back_pressure(variant: str) -> None:
    desk = Desk(variant, 2)
    assert desk.push_batch([record(0), record(1)]) == 2
    assert desk.refused == 0
    assert desk.push(record(2)) is False
    assert desk.push(record(2)) is False
    assert desk.refused == 2


@every_variant
def test_a_batch_that_does_not_fit_goes_in_as_far_as_it_fits(variant: str) -> None:
    desk = Desk(variant, 4)
    assert desk.push(record(0)) is True
    assert desk.push_batch([record(number) for number in range(1, 6)]) == 3
    assert desk.push_batch([record(9)]) == 0
    assert desk.drain(16) == [record(number) for number in range(4)]


@every_variant
def test_room_comes_back_as_records_are_polled(variant: str) -> None:
    desk = Desk(variant, 2)
    for number in range(0, 40, 2):
        assert desk.push_batch([record(number), record(number + 1), record(number + 2)]) == 2
        assert desk.poll(1) == [record(number)]
        assert desk.push(record(-number)) is True
        assert desk.poll(5) == [record(number + 1), record(-number)]


@every_variant
def test_poll_gives_no_more_than_the_limit(variant: str) -> None:
    desk = Desk(variant, 8)
    desk.push_batch([record(number) for number in range(8)])
    assert [len(desk.poll(3)) for _ in range(4)] == [3, 3, 2, 0]


@every_variant
@settings(max_examples=60, deadline=None)
@given(
    capacity=st.sampled_from([2, 4, 8]),
    steps=st.lists(st.tuples(st.sampled_from(["push", "batch", "poll"]), st.integers(1, 12)), max_size=40),
)
def test_it_behaves_as_a_bounded_deque(variant: str, capacity: int, steps: list[tuple[str, int]]) -> None:
    desk = Desk(variant, capacity)
    model: deque[bytes] = deque()
    next_number = 0
    refused = 0
    for action, size in steps:
        room = capacity - len(model)
        if action == "poll":
            expected = [model.popleft() for _ in range(min(size, len(model)))]
            assert desk.poll(size) == expected
            continue
        records = [record(next_number + index) for index in range(1 if action == "push" else size)]
        next_number += len(records)
        accepted = int(desk.push(records[0])) if action == "push" else desk.push_batch(records)
        assert accepted == min(room, len(records))
        model.extend(records[:accepted])
        refused += accepted < len(records)
        assert desk.refused == refused
    assert desk.drain(capacity) == list(model)


@pytest.mark.parametrize("variant", MANY_PRODUCERS)
def test_the_records_of_each_producer_keep_their_order(variant: str) -> None:
    desk = Desk(variant, 8, producers=3)
    sent: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for number in range(8):
        producer = number * 5 % 3
        if desk.push(record(producer * 1000 + number), producer):
            sent[producer].append(record(producer * 1000 + number))
    arrived = desk.drain(2)
    for records in sent.values():
        assert [one for one in arrived if one in records] == records
    assert len(arrived) == sum(map(len, sent.values()))


@pytest.mark.parametrize("variant", MANY_PRODUCERS)
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_busy_producer_starves_no_other(variant: str, limit: int) -> None:
    """The quiet producer's one record is through before the busy one has been served for long, whatever the limit."""
    desk = Desk(variant, 16, producers=3)
    desk.push_batch([record(number) for number in range(8)], producer=0)
    assert desk.push(record(777), producer=2) is True
    arrived: list[bytes] = []
    for number in range(100, 140):
        arrived += desk.poll(limit)
        if record(777) in arrived:
            break
        desk.push(record(number), producer=0)
    assert record(777) in arrived
    assert len(arrived) <= 9 + limit


@pytest.mark.parametrize("variant", MANY_PRODUCERS)
def test_back_pressure_is_summed_over_producers(variant: str) -> None:
    desk = Desk(variant, 2, producers=2)
    refusals = [desk.push(record(number), producer=number % 2) for number in range(12)].count(False)
    assert refusals >= 8
    assert desk.refused == refusals


def test_every_reader_of_a_disruptor_sees_every_record() -> None:
    desk = Desk("disruptor", 8, consumers=3)
    records = [record(number) for number in range(6)]
    desk.push_batch(records)
    assert [desk.drain(size, consumer) for consumer, size in ((0, 1), (1, 4), (2, 100))] == [records] * 3


def test_the_slowest_reader_of_a_disruptor_gates_its_producer() -> None:
    desk = Desk("disruptor", 4, consumers=2)
    desk.push_batch([record(number) for number in range(4)])
    assert len(desk.drain(4, consumer=0)) == 4
    assert desk.push(record(4)) is False
    assert desk.poll(1, consumer=1) == [record(0)]
    assert desk.push(record(4)) is True
    assert desk.push(record(5)) is False
    assert desk.refused == 2
    assert desk.drain(9, consumer=1) == [record(number) for number in range(1, 5)]
    assert desk.drain(9, consumer=0) == [record(4)]


@every_variant
@pytest.mark.parametrize("capacity", [0, 1, 3, -4, 12])
def test_a_capacity_that_is_no_power_of_two_is_refused(variant: str, capacity: int) -> None:
    with pytest.raises(UserError, match=f"capacity_slots = {capacity}: must be a power of two"):
        build(variant, capacity)


@every_variant
def test_more_producers_or_consumers_than_a_variant_takes_are_refused(variant: str) -> None:
    with pytest.raises(UserError, match="producers = 17: must be 1"):
        build(variant, 4, producers=17)
    with pytest.raises(UserError, match="consumers = 17: must be 1"):
        build(variant, 4, consumers=17)
    with pytest.raises(UserError, match="producers = 0: must be 1"):
        build(variant, 4, producers=0)


@pytest.mark.parametrize("variant", RINGS)
def test_two_owners_of_the_same_memory_are_the_same_queue(variant: str, shared_name: str) -> None:
    size_bytes = RINGS[variant].size_bytes(4, 1, 1) + 4096
    ours, theirs = Arena.create_shared(shared_name, size_bytes), Arena.attach_shared(shared_name)
    first, second = RINGS[variant](4, arena=ours), RINGS[variant](4, arena=theirs)
    assert (first.is_new, second.is_new) == (True, False)
    here, there = Desk(variant, 4), Desk(variant, 4)
    here.producers, there.consumers = [first.producer(0)], [second.consumer(0)]
    assert here.push(record(1)) is True
    assert there.poll(4) == [record(1)]


@pytest.mark.parametrize("variant", RINGS)
def test_a_shared_ring_that_was_built_for_something_else_is_refused(variant: str, shared_name: str) -> None:
    ours = Arena.create_shared(shared_name, RINGS[variant].size_bytes(8, 1, 1) + 4096)
    RINGS[variant](4, arena=ours)
    with pytest.raises(UserError, match="shared ring: its capacity_slots is 4, but 8 was asked for"):
        RINGS[variant](8, arena=Arena.attach_shared(shared_name))
    other = next(name for name in RINGS if name != variant)
    with pytest.raises(
        UserError, match=f"shared ring: its variant is '{variant[:7]}', but '{other}' was asked"
    ):
        RINGS[other](4, arena=Arena.attach_shared(shared_name))
