"""A queue from a user's own file: what is wrong with it is said in one line, and an edit is never missed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import UserError
from exchange.native import Arena, cache, kernel
from exchange.queues import build_queue, spsc
from exchange.queues.config import SpscQueueConfig, UserQueueConfig
from exchange.queues.protocol import poll_batch, try_push, try_push_batch
from tests.queue_drivers import EXAMPLE_QUEUE

Write = Callable[[str], UserQueueConfig]

GOOD = EXAMPLE_QUEUE.read_text()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the text of a queue file; the settings that choose it."""

    def to_file(text: str) -> UserQueueConfig:
        path = tmp_path / "my_queue.py"
        path.write_text(text)
        return UserQueueConfig(path=str(path), name="MyQueue", capacity_slots=4)

    return to_file


@kernel
def push_and_poll(producer: Any, consumer: Any, records: int) -> tuple[int, int]:
    """Push a batch of ten and poll as many; how many went in and came out."""
    return try_push_batch(producer, records, 10), poll_batch(consumer, records, 10)


def drive(queue: Any) -> tuple[int, int]:
    """Push and poll through a compiled kernel."""
    arena = Arena.private(4096, huge_pages="never")
    pushed, polled = push_and_poll(queue.producer(0), queue.consumer(0), arena.allocate(640))
    return int(pushed), int(polled)


def without(operation: str) -> str:
    """The good file without the function that implements ``operation``."""
    start = GOOD.index(f"@implements({operation}, ")
    rest = GOOD.find("@implements(", start + 1)
    return GOOD[:start] + (GOOD[rest:] if rest > 0 else "")


def test_a_good_queue_works_in_compiled_code(write: Write) -> None:
    assert drive(build_queue(write(GOOD))) == (4, 4)


def test_the_same_file_is_imported_once(write: Write) -> None:
    first, second = build_queue(write(GOOD)), build_queue(write(GOOD))
    assert type(first) is type(second)


def test_a_file_that_is_used_again_takes_part_in_the_digest_again(write: Write) -> None:
    digests = []
    for _ in range(2):
        cache._included.clear()
        digests.append(cache.source_digest())
        build_queue(write(GOOD))
        digests.append(cache.source_digest())
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


def test_an_edited_file_is_picked_up_in_the_same_process_and_by_compiled_callers(write: Write) -> None:
    assert drive(build_queue(write(GOOD))) == (4, 4)
    edited = GOOD.replace("== queue.capacity:", "== queue.capacity - 1:")
    assert edited != GOOD
    assert drive(build_queue(write(edited))) == (3, 3)
    assert drive(build_queue(write(GOOD))) == (4, 4)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("class MyQueue(:\n", "SyntaxError: "),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("class YourQueue:\n    pass\n", "it has no class 'MyQueue'; kind is 'file:PATH:CLASS'"),
        ("MyQueue = 7\n", "it has no class 'MyQueue'"),
        (
            "class MyQueue:\n    pass\n",
            "class MyQueue lacks the method(s) producer, consumer, back_pressure_count",
        ),
        (
            "class MyQueue:\n    def producer(self, index): ...\n    def consumer(self, index): ...\n",
            "class MyQueue lacks the method(s) back_pressure_count",
        ),
        (
            GOOD.replace("MyRing(self.base, self.capacity)", "1 / 0", 1),
            "building MyQueue failed: ZeroDivisionError: division by zero",
        ),
        (
            "class MyQueue:\n    def __init__(self): ...\n"
            "    def producer(self, index): ...\n    def consumer(self, index): ...\n"
            "    def back_pressure_count(self): ...\n",
            "building MyQueue failed: TypeError: ",
        ),
        (
            without("try_push"),
            "try_push is missing; write it with @implements(try_push, MyRing) for the producer handle",
        ),
        (
            without("try_push_batch"),
            "try_push_batch is missing; write it with @implements(try_push_batch, MyRing) for the producer handle",
        ),
        (
            without("poll_batch"),
            "poll_batch is missing; write it with @implements(poll_batch, MyRing) for the consumer handle",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(write: Write, text: str, complaint: str) -> None:
    config = write(text)
    with pytest.raises(UserError) as raised:
        build_queue(config)
    message = str(raised.value)
    assert message.startswith(f"queue file {config.path}: ")
    assert complaint in message
    assert "\n" not in message


def test_a_missing_file_a_folder_and_a_file_that_is_no_python_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"my_queue.py: No such file or directory"):
        build_queue(UserQueueConfig(path=str(tmp_path / "my_queue.py"), name="MyQueue"))
    with pytest.raises(UserError, match="Is a directory"):
        build_queue(UserQueueConfig(path=str(tmp_path), name="MyQueue"))
    (tmp_path / "queue.txt").write_text(GOOD)
    with pytest.raises(UserError, match=r"must be a Python file ending in .py"):
        build_queue(UserQueueConfig(path=str(tmp_path / "queue.txt"), name="MyQueue"))


def test_a_complaint_of_the_users_own_is_passed_on_as_it_is(write: Write) -> None:
    config = write(GOOD)
    with pytest.raises(UserError, match="queue 'mine': producers = 2: must be 1"):
        build_queue(config, producers=2)


def test_a_copy_of_a_built_in_queue_runs_its_own_code_although_its_states_have_the_same_names(
    write: Write,
) -> None:
    source = Path(spsc.__file__).read_text().replace("SpscQueue", "MyQueue")
    copied = source.replace("room < count", "room < count + 1").replace(
        "min(room, count)", "min(room - 1, count)"
    )
    assert copied != source
    built_in = build_queue(SpscQueueConfig(capacity_slots=4, huge_pages="never"))
    assert drive(built_in) == (4, 4)
    assert drive(build_queue(write(copied))) == (3, 3)
    assert drive(built_in) == (4, 4)


def test_a_file_that_was_mended_after_an_error_is_read_again(write: Write) -> None:
    config = write("import no_such_module\n")
    for _ in range(2):
        with pytest.raises(UserError, match="no_such_module"):
            build_queue(config)
    assert drive(build_queue(write(GOOD))) == (4, 4)


def test_a_queue_may_be_plain_python(write: Write) -> None:
    text = """
from collections import deque
from ctypes import memmove, string_at
from exchange.native import implements
from exchange.queues.protocol import poll_batch, try_push, try_push_batch

class MyQueue:
    def __init__(self, capacity_slots, producers, consumers):
        self.capacity, self.records, self.refused = capacity_slots, deque(), 0
    def producer(self, index):
        return self
    def consumer(self, index):
        return self
    def back_pressure_count(self):
        return self.refused

@implements(try_push, MyQueue)
def push(queue, address):
    if len(queue.records) == queue.capacity:
        queue.refused += 1
        return False
    queue.records.append(string_at(address, 64))
    return True

@implements(try_push_batch, MyQueue)
def push_batch(queue, address, count):
    for index in range(count):
        if not try_push(queue, address + 64 * index):
            return index
    return count

@implements(poll_batch, MyQueue)
def poll(queue, address, limit):
    polled = min(limit, len(queue.records))
    for index in range(polled):
        memmove(address + 64 * index, queue.records.popleft(), 64)
    return polled
"""
    queue = build_queue(write(text))
    arena = Arena.private(4096, huge_pages="never")
    records = arena.allocate(640)
    producer, consumer = queue.producer(0), queue.consumer(0)
    assert try_push(producer, records) is True
    assert try_push_batch(producer, records, 9) == 3
    assert poll_batch(consumer, records, 9) == 4
    assert queue.back_pressure_count() == 1
