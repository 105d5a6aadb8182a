"""The queue layer: how 64-byte records get from one thread to the next.

========== ====================================== ==========================================================
variant    what it is                             what it trades
========== ====================================== ==========================================================
python     deque and lock, plain Python           readable by anyone; the interpreter is on the path
locked     compiled ring under a pthread mutex    any number of threads; the lock is on the path
spsc       lanes: a ring for each producer        nothing on the path but loads and stores; no order between lanes
mpsc       one ring, compare-and-swap to claim    one order over all producers; they share one hot word
disruptor  one ring, each consumer sees all       one copy for many readers; the slowest gates; one producer
file:...   a class of your own                    yours to find out
========== ====================================== ==========================================================

What all of them promise stands in :mod:`exchange.queues.protocol`; the settings in
:mod:`exchange.queues.config`."""

from typing import TYPE_CHECKING, assert_never

from exchange.queues.config import (
    DisruptorQueueConfig,
    LockedQueueConfig,
    MpscQueueConfig,
    PythonQueueConfig,
    QueueConfig,
    SpscQueueConfig,
    UserQueueConfig,
)

if TYPE_CHECKING:
    from exchange.queues.protocol import Queue


def build_queue(config: QueueConfig, producers: int = 1, consumers: int = 1) -> "Queue":
    """A queue of the chosen variant, in private memory.

    Raises:
        UserError: the variant does not take so many producers or consumers; a user's file lacks something.
    """
    match config:
        case PythonQueueConfig():
            from exchange.queues.python import PythonQueue

            return PythonQueue(config.capacity_slots, producers, consumers)
        case LockedQueueConfig():
            from exchange.queues.locked import LockedQueue

            return LockedQueue(config.capacity_slots, producers, consumers, huge_pages=config.huge_pages)
        case SpscQueueConfig():
            from exchange.queues.spsc import SpscQueue

            return SpscQueue(config.capacity_slots, producers, consumers, huge_pages=config.huge_pages)
        case MpscQueueConfig():
            from exchange.queues.mpsc import MpscQueue

            return MpscQueue(config.capacity_slots, producers, consumers, huge_pages=config.huge_pages)
        case DisruptorQueueConfig():
            from exchange.queues.disruptor import DisruptorQueue

            return DisruptorQueue(config.capacity_slots, producers, consumers, huge_pages=config.huge_pages)
        case UserQueueConfig():
            from exchange.queues.user import load_user_queue

            return load_user_queue(config, producers, consumers)
        case _:
            assert_never(config)
