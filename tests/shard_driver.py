"""Drives a shard of any book from a test: commands into its inbox, turns, events out of its outbox.

The compiled shard is the one that an exchange runs. With the textbook book the same source runs interpreted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exchange.agent import do_work
from exchange.book import build_book
from exchange.book.config import BookConfig
from exchange.journal.none import NoneJournal
from exchange.matching.shard import Shard, ShardMemory
from exchange.messages import COMMAND_DTYPE, COMMAND_STRUCT, EVENT_DTYPE, EVENT_STRUCT, Command, Event
from exchange.native import address_of
from exchange.native.generic import body_for
from exchange.queues.protocol import poll_batch, try_push_batch
from exchange.queues.spsc import SpscQueue

QUEUE_SLOTS = 1024


class ShardDriver:
    """One shard between its two queues."""

    def __init__(self, book: BookConfig, symbol_count: int, batch_commands: int) -> None:
        self.book: Any = build_book(book, symbol_count)
        self._inbox, self._outbox = SpscQueue(QUEUE_SLOTS), SpscQueue(QUEUE_SLOTS)
        self.memory = ShardMemory(batch_commands, book.capacity_orders, symbol_count)
        self.shard = Shard(
            inbox=self._inbox.consumer(0),
            book=self.book.state,
            trading=self.memory.trading.state,
            outbox=self._outbox.producer(0),
            journal=NoneJournal().state,
            words=self.memory.words,
            batch=self.memory.batch,
            batch_commands=batch_commands,
            events=self.memory.events,
            status=self.memory.status.writer(),
            symbol_count=symbol_count,
        )
        self._work = body_for(do_work, self.shard)
        self._polled = np.zeros(QUEUE_SLOTS, EVENT_DTYPE)

    def play(self, commands: NDArray[Any]) -> bytes:
        """The bytes of all events of an array of ``COMMAND_DTYPE``."""
        told, pushed, idle_turns = [], 0, 0
        commands = np.ascontiguousarray(commands)
        while pushed < len(commands) or idle_turns < 2:
            first = address_of(commands) + 64 * pushed
            moved = try_push_batch(self._inbox.producer(0), first, len(commands) - pushed)
            pushed += moved
            worked = self._work(self.shard)
            taken = poll_batch(self._outbox.consumer(0), address_of(self._polled), QUEUE_SLOTS)
            told.append(self._polled[:taken].tobytes())
            idle_turns = idle_turns + 1 if moved + worked + taken == 0 else 0
        return b"".join(told)

    def apply(self, *commands: Command) -> list[Event]:
        """The events of some commands."""
        block = b"".join(COMMAND_STRUCT.pack(*command) for command in commands)
        events = self.play(np.frombuffer(block, COMMAND_DTYPE))
        return [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(events)]
