"""A turn of the egress, with a gate and without: what it takes from the outboxes, and in which order it leaves."""

from typing import Any

import numpy as np
import pytest

from exchange.agent import do_work
from exchange.journal.none import NoneWriter
from exchange.matching.egress import BATCHES_MAX, Egress, EgressMemory
from exchange.matching.gated_egress import GatedEgress, GatedEgressMemory
from exchange.messages import COMMAND_DTYPE, EVENT_DTYPE, EventKind
from exchange.native import address_of
from exchange.queues import build_queue
from exchange.queues.config import SpscQueueConfig
from exchange.queues.protocol import try_push_batch
from exchange.replication.none import NoGate
from exchange.transport.memory import MemoryTransport

BATCH = 8


class Desk:
    """An egress behind so many outboxes, and a sink that keeps what leaves."""

    def __init__(self, kind: str, outbox_count: int) -> None:
        self.queues = [build_queue(SpscQueueConfig(capacity_slots=256)) for _ in range(outbox_count)]
        self.transport = MemoryTransport([np.zeros(0, COMMAND_DTYPE)], keep_events=1024)
        outboxes = tuple(queue.consumer(0) for queue in self.queues)
        self.memory: Any = EgressMemory(BATCH) if kind == "plain" else GatedEgressMemory(waits_for_disk=False)
        self.egress: Any
        if kind == "plain":
            self.egress = Egress(outboxes, self.transport.sink(), self.memory.batch, BATCH)
        else:
            self.egress = GatedEgress(
                outboxes=outboxes,
                sink=self.transport.sink(),
                journals=(NoneWriter(),) * outbox_count,
                merge=NoneWriter(),
                replica=NoGate(),
                waits_for_disk=0,
                words=self.memory.words,
                events=self.memory.events,
                events_slots=self.memory.events_slots,
                records=self.memory.records,
                runs=self.memory.runs,
                batch_events=BATCH,
            )

    def push(self, outbox: int, first: int, count: int) -> None:
        events = np.zeros(count, EVENT_DTYPE)
        events["kind"], events["command_sequence"] = int(EventKind.ACCEPTED), np.arange(first, first + count)
        assert try_push_batch(self.queues[outbox].producer(0), address_of(events), count) == count

    def left(self) -> list[int]:
        return [int(sequence) for sequence in self.transport.events()["command_sequence"]]


@pytest.mark.parametrize("kind", ["plain", "gated"])
@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, 3 * BATCH + 1, BATCHES_MAX * BATCH, 5 * BATCH + 3])
def test_a_turn_takes_several_batches_for_a_command_makes_more_than_one_event(kind: str, count: int) -> None:
    desk = Desk(kind, 1)
    desk.push(0, 1, count)
    first_turn = min(count, BATCHES_MAX * BATCH)
    assert (do_work(desk.egress) > 0) == (count > 0)
    assert desk.left() == list(range(1, first_turn + 1))
    do_work(desk.egress)
    assert desk.left() == list(range(1, count + 1))


@pytest.mark.parametrize("kind", ["plain", "gated"])
def test_a_shard_that_has_much_does_not_keep_another_waiting(kind: str) -> None:
    desk = Desk(kind, 2)
    desk.push(0, 1, 10 * BATCH)
    desk.push(1, 1001, 2)
    do_work(desk.egress)
    assert desk.left() == [*range(1, BATCHES_MAX * BATCH + 1), 1001, 1002]
    for _ in range(2):
        do_work(desk.egress)
    assert desk.left()[BATCHES_MAX * BATCH + 2 :] == list(range(BATCHES_MAX * BATCH + 1, 10 * BATCH + 1))
