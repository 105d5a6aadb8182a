"""The events of a batch of commands are copied into the ring together and published by one store. That store takes the
line of the ring's tail away from the core that reads it, and each time it does, one of the two waits for the line.

Without the idea each event is pushed, and so published, as soon as it can be. The reader has it earlier, and the line
of the tail travels for every event.
"""

from typing import Any, Final

from exchange.bench.ablations import Idea
from exchange.book.protocol import apply_commands
from exchange.messages import RECORD_BYTES
from exchange.native import kernel, load_relaxed, monotonic_ns, pause, store_release
from exchange.queues.protocol import try_push

IDEA: Final = Idea(
    title="Batches over the ring",
    variant="without batches over the ring",
    replaces={"core_loops": ("hand_over",)},
    shown=("exchange/bench/core_loops.py:hand_over", "exchange/queues/spsc.py:_try_push_batch"),
    measured=("hand-off",),
)


@kernel
def hand_over(
    book: Any,
    producer: Any,
    commands_address: int,
    count: int,
    batch: int,
    buffer_address: int,
    done_address: int,
    stop_address: int,
) -> int:
    """Apply ``count`` commands in batches and push their events one by one; returns the time of the first command."""
    started_ns = monotonic_ns()
    applied = events = 0
    while applied < count:
        in_batch = min(batch, count - applied)
        made = apply_commands(book, commands_address + applied * RECORD_BYTES, in_batch, buffer_address)
        for index in range(made):
            while not try_push(producer, buffer_address + index * RECORD_BYTES):
                if load_relaxed(stop_address) != 0:
                    return started_ns
                pause()
        applied += in_batch
        events += made
    store_release(done_address, events)
    return started_ns
