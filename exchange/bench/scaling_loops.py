"""The loops that ``exchange bench scaling`` times: agents in a loop that knows how long each turn took, and arithmetic.

:func:`run_measured` is the loop of a thread (:func:`exchange.agent.run_agents`) with a look at the clock in each turn:
the time of turns that found something to do is *busy*, that of the others, waiting included, is *idle*. At saturation a
turn handles hundreds of commands, so that the look costs next to nothing. All loops of a measurement begin together,
when a word says so, and one that sees answers ends when it has seen all of them.

:func:`spin_arithmetic` touches no memory: what becomes slower of it when several cores run it at once is the cores'
own doing, their clock, their execution units, or a hypervisor's idea of a core."""

from typing import Any, Final

from exchange.agent import do_all_work, wait
from exchange.book.protocol import apply_commands, live_order_count
from exchange.messages import RECORD_BYTES
from exchange.native import (
    FALSE_SHARING_BYTES,
    fetch_add,
    kernel,
    load_acquire,
    monotonic_ns,
    multiply_wrapping,
    pause,
    shift_right_logical,
    store_int64,
    store_release,
    thread_cpu_ns,
    yield_core,
)

# the words that all loops of a measurement share
READY: Final = 0
"""How many loops wait for the start."""
START: Final = FALSE_SHARING_BYTES
STOP: Final = 2 * FALSE_SHARING_BYTES
CONTROL_BYTES: Final = 3 * FALSE_SHARING_BYTES

# the words of one loop
BEGAN_NS: Final = 0
ENDED_NS: Final = 8
BUSY_NS: Final = 16
IDLE_NS: Final = 24
CPU_NS: Final = 32
"""How long its thread had a core."""
LEFT_ORDERS: Final = 40
"""Orders that were still in a book after all sessions were cancelled."""
LOOP_BYTES: Final = FALSE_SHARING_BYTES

START_SPINS: Final = 2_000
"""Looks for the start before a loop lets others have the core between looks."""

_MULTIPLIER: Final = 0x5851F42D4C957F2D


@kernel
def run_measured(
    agents: tuple[Any, ...], idle: Any, own: int, control: int, answers: int, wanted: int, ends_all: bool
) -> None:
    """Run agents from the common start on.

    Args:
        agents: what a thread's turn does.
        idle: the idle strategy.
        own: the loop's own words.
        control: the words that all loops share.
        answers: the address of a count of answers, 0 if this loop sees none; then it ends when it is stopped.
        wanted: the count at which it ends.
        ends_all: whether the others are to be stopped then.
    """
    fetch_add(control + READY, 1)
    looks = 0
    while load_acquire(control + START) == 0 and load_acquire(control + STOP) == 0:
        looks += 1
        if looks < START_SPINS:
            pause()
        else:
            yield_core()
    began_cpu_ns = thread_cpu_ns()
    began = last = monotonic_ns()
    busy_ns = idle_ns = idle_turns = 0
    while load_acquire(control + STOP) == 0:
        moved = do_all_work(agents)
        if moved == 0:
            wait(idle, idle_turns)
        now = monotonic_ns()
        if moved > 0:
            busy_ns += now - last
            idle_turns = 0
        else:
            idle_ns += now - last
            idle_turns += 1
        last = now
        if answers != 0 and load_acquire(answers) >= wanted:
            if ends_all:
                store_release(control + STOP, 1)
            break
    store_int64(own + BEGAN_NS, began)
    store_int64(own + ENDED_NS, last)
    store_int64(own + BUSY_NS, busy_ns)
    store_int64(own + IDLE_NS, idle_ns)
    store_int64(own + CPU_NS, thread_cpu_ns() - began_cpu_ns)


@kernel
def empty_book(book: Any, mass_cancels: int, count: int, batch: int, events: int) -> int:
    """Cancel the orders of all sessions, in batches whose events have room; how many orders are left."""
    applied = 0
    while applied < count:
        in_batch = min(batch, count - applied)
        apply_commands(book, mass_cancels + applied * RECORD_BYTES, in_batch, events)
        applied += in_batch
    return live_order_count(book)


@kernel
def spin_arithmetic(steps: int, out: int) -> int:
    """``steps`` steps of a mixing function, each waiting for the one before; returns nanoseconds.

    What they come to is stored at ``out``: somebody might want it, so the compiler cannot leave them out.
    """
    started_ns = monotonic_ns()
    state = started_ns
    for _ in range(steps):
        state = multiply_wrapping(state ^ shift_right_logical(state, 31), _MULTIPLIER)
    store_int64(out, state)
    return monotonic_ns() - started_ns
