"""Is the queue right? Run it after every edit: ``python check.py`` or ``python check.py
solution/my_queue.py``.

Four looks, the quick ones first; the first that finds something ends the check with exit status 1:

1. *contract*: one thread, a ring of four slots: full is refused, order is kept, slots are used again.
2. *memory orders*: the machine code must publish with a release and look with an acquire (or hold a mutex). An x86
   processor keeps stores in order by itself and would hide a missing one; ARM and the next compiler would not. So
   this is looked up in the compiler's output and not left to luck.
3. *torture*: two threads, millions of records through rings of 2, 4, 64 and 4096 slots. Each record carries its number
   in all eight words: a loss, a duplicate, a wrong order or a torn record shows at once.
4. *digest*: a whole exchange with this queue must end with the same orders in its books as the baseline profile.
"""

import argparse
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit

from exchange.bench.player import play
from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.flow.config import SyntheticConfig
from exchange.messages import RECORD_BYTES
from exchange.native import Arena, kernel, load_acquire, load_int64, store_int64, store_release, yield_core
from exchange.queues import build_queue
from exchange.queues.config import UserQueueConfig
from exchange.queues.protocol import Queue, poll_batch, try_push, try_push_batch
from exchange.settings import load_profile

HERE: Final = Path(__file__).resolve().parent
BATCH: Final = 32
STUCK_SECONDS: Final = 5.0
CAPACITIES: Final = (2, 4, 64, 4096)

# the words that the torture's threads share
STOP, PUSHED, POLLED, FAULT, FOUND = (128 * index for index in range(5))
FAULTS: Final = {
    0: f"nothing moved for {STUCK_SECONDS:.0f} s; {{polled}} records had come out",
    1: "record {polled} was lost: number {found} came in its place",
    2: "record {found} came a second time, where {polled} was due",
    3: "record {polled} is torn: its words come from different records, or were read before they were written",
    4: "try_push_batch returned {found}, which is not between 0 and the number of records offered",
    5: "poll_batch returned {found}, which is not between 0 and the limit",
}


class CheckFailed(Exception):
    """The queue breaks its promise; the text says how."""


def check(condition: bool, complaint: str) -> None:
    """Raise ``complaint`` unless ``condition`` holds."""
    if not condition:
        raise CheckFailed(complaint)


def build(queue_file: Path, capacity_slots: int) -> Queue:
    """The queue of the file, built as the exchange builds it."""
    return build_queue(UserQueueConfig(str(queue_file), "MyQueue", capacity_slots))


def check_contract(queue_file: Path) -> None:
    """One thread, four slots, three times round the ring."""
    queue = build(queue_file, 4)
    producer, consumer = queue.producer(0), queue.consumer(0)
    arena = Arena.private(16 * RECORD_BYTES)
    records, out = arena.allocate(8 * RECORD_BYTES), arena.allocate(8 * RECORD_BYTES)
    check(poll_batch(consumer, out, 8) == 0, "an empty queue yielded a record")
    for turn in range(3):
        for index in range(8):
            store_int64(records + index * RECORD_BYTES, 100 * turn + index)
        check(bool(try_push(producer, records)), "a queue with room refused a record")
        pushed = try_push_batch(producer, records + RECORD_BYTES, 7)
        check(pushed == 3, f"of 7 records, 3 have room in a ring of 4 that holds 1; it took {pushed}")
        check(not try_push(producer, records), "a full ring of 4 slots took a fifth record")
        check(poll_batch(consumer, out, 1) == 1, "with limit 1 a queue of 4 records must yield 1")
        polled = 1 + poll_batch(consumer, out + RECORD_BYTES, 7)
        check(polled == 4, f"4 records went in, {polled} came out")
        numbers = [load_int64(out + index * RECORD_BYTES) - 100 * turn for index in range(4)]
        check(numbers == [0, 1, 2, 3], f"records 0, 1, 2, 3 came out as {numbers}")
    refused = queue.back_pressure_count()
    check(refused == 6, f"6 pushes were refused, wholly or in part; back_pressure_count() says {refused}")


def check_memory_orders(queue_file: Path) -> None:
    """What the compiler made of each operation, searched for the two memory orders."""
    queue = build(queue_file, 4)
    arena = Arena.private(RECORD_BYTES)
    record = arena.allocate(RECORD_BYTES)
    for operation, handle, arguments in (
        (try_push, queue.producer(0), "record"),
        (try_push_batch, queue.producer(0), "record, 1"),
        (poll_batch, queue.consumer(0), "record, 1"),
    ):
        probe: Any = njit(nogil=True)(_probe(operation, arguments))
        probe(handle, record)
        (code,) = probe.inspect_llvm().values()
        for order, stands_for, pattern in (
            (
                "acquire",
                "sees what the other thread published",
                r"\b(acquire|acq_rel|seq_cst)\b|@pthread_mutex_lock\b",
            ),
            (
                "release",
                "publishes what this thread wrote",
                r"\b(release|acq_rel|seq_cst)\b|@pthread_mutex_unlock\b",
            ),
        ):
            check(
                re.search(pattern, code) is not None,
                f"{operation.__name__} has no {order} ({stands_for}) and no mutex: x86 may forgive it, ARM will not",
            )


def _probe(operation: Any, arguments: str) -> Any:
    """A function that does nothing but one call of ``operation``."""
    if arguments == "record":
        return lambda handle, record: operation(handle, record)
    return lambda handle, record: operation(handle, record, 1)


@kernel
def produce(producer: Any, scratch: int, total: int, words: int) -> None:
    """Push records 0 to ``total`` - 1, one at a time and in batches of changing size."""
    pushed = 0
    while pushed < total and load_acquire(words + STOP) == 0:
        count = min(1 + (pushed * 7919 >> 3) % BATCH, total - pushed)
        for index in range(count):
            for word in range(8):
                store_int64(scratch + index * 64 + 8 * word, (pushed + index) * 8 + word)
        if count == 1:
            taken = 1 if try_push(producer, scratch) else 0
        else:
            taken = try_push_batch(producer, scratch, count)
        if taken < 0 or taken > count:
            store_int64(words + FOUND, taken)
            store_release(words + FAULT, 4)
            return
        if taken == 0:
            yield_core()
        pushed += taken
        store_release(words + PUSHED, pushed)


@kernel
def consume(consumer: Any, out: int, total: int, words: int) -> None:
    """Poll until record ``total`` - 1 has come; note the first fault and end."""
    polled = 0
    while polled < total and load_acquire(words + STOP) == 0:
        limit = 1 + (polled * 104729 >> 3) % BATCH
        count = poll_batch(consumer, out, limit)
        if count < 0 or count > limit:
            store_int64(words + FOUND, count)
            store_release(words + FAULT, 5)
            return
        if count == 0:
            yield_core()
        for index in range(count):
            first_word = load_int64(out + index * 64)
            for word in range(1, 8):
                if load_int64(out + index * 64 + 8 * word) != first_word + word:
                    store_release(words + FAULT, 3)
                    return
            if first_word != polled * 8:
                store_int64(words + FOUND, first_word // 8)
                store_release(words + FAULT, 1 if first_word > polled * 8 else 2)
                return
            polled += 1
            store_release(words + POLLED, polled)


def torture(queue_file: Path, capacity_slots: int, records: int) -> None:
    """``records`` records between two threads through a ring of ``capacity_slots``."""
    queue = build(queue_file, capacity_slots)
    producer, consumer = queue.producer(0), queue.consumer(0)
    arena = Arena.private(2 * BATCH * RECORD_BYTES + 4096)
    words = arena.allocate(1024)
    scratch, out = arena.allocate(BATCH * RECORD_BYTES), arena.allocate(BATCH * RECORD_BYTES)
    produce(producer, scratch, 0, words)  # compiles, and does nothing
    consume(consumer, out, 0, words)
    threads = [
        threading.Thread(target=produce, args=(producer, scratch, records, words), daemon=True),
        threading.Thread(target=consume, args=(consumer, out, records, words), daemon=True),
    ]
    for thread in threads:
        thread.start()
    progress, seen_at = -1, time.monotonic()
    while any(thread.is_alive() for thread in threads):
        pushed, polled = load_acquire(words + PUSHED), load_acquire(words + POLLED)
        if pushed + polled != progress:
            progress, seen_at = pushed + polled, time.monotonic()
        stuck = time.monotonic() - seen_at > STUCK_SECONDS
        if stuck or load_acquire(words + FAULT):
            store_release(words + STOP, 1)
            for thread in threads:
                thread.join(1.0)
            fault = load_int64(words + FAULT)
            numbers = {"polled": load_int64(words + POLLED), "found": load_int64(words + FOUND)}
            where = f"ring of {capacity_slots} slots, {pushed} records pushed: "
            raise CheckFailed(where + FAULTS[fault].format(**numbers))
        time.sleep(0.002)


def digest_of(profile: str | Path, flow: Flow, *overrides: str) -> str:
    """Run the flow through an exchange as fast as it takes it; the digest of its books at the end.

    The rings are small, so that they are often full.
    """
    settings = load_profile(profile, [*overrides, "queue.capacity_slots=512"])
    at_once = np.zeros(len(flow.commands), np.int64)
    try:
        return play(settings, flow.commands, at_once, len(flow.symbols), 0, lambda step: None).digest
    except RuntimeError as failure:  # the exchange stands still
        raise CheckFailed(str(failure)) from failure


def main() -> int:
    """All looks in order; 0 if the queue is right, 1 if not."""
    parser = argparse.ArgumentParser(description="Is the queue right?")
    parser.add_argument(
        "queue_file", nargs="?", type=Path, default=HERE / "my_queue.py", help="default: my_queue.py"
    )
    parser.add_argument(
        "--records", type=int, default=2_000_000, help="records through each ring of the torture"
    )
    parser.add_argument(
        "--commands",
        type=int,
        default=300_000,
        help="commands through each exchange; 0 leaves the digest out",
    )
    options = parser.parse_args()
    queue_file = options.queue_file.resolve()
    if options.commands:
        # First the baseline: what it has compiled before need not be compiled again for each version of the queue.
        flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=options.commands, symbols=4))
        expected = digest_of("compiled", flow)
    try:
        print("1. contract", flush=True)
        check_contract(queue_file)
        print("2. memory orders", flush=True)
        check_memory_orders(queue_file)
        print("3. torture", flush=True)
        for capacity_slots in CAPACITIES:
            torture(queue_file, capacity_slots, options.records)
            print(f"   {options.records} records through {capacity_slots} slots", flush=True)
        if options.commands:
            print("4. digest", flush=True)
            digest = digest_of(HERE / "my-queue.toml", flow, f"queue.kind=file:{queue_file}:MyQueue")
            check(
                digest == expected,
                f"after {options.commands} commands the books differ: {digest}, not {expected}",
            )
            print(f"   {digest}, as with the profile compiled")
    except (CheckFailed, UserError) as failure:
        print(f"WRONG: {failure}")
        return 1
    print("right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
