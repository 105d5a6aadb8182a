"""The ring of the exported book, what is refused, and what is left behind: a C program's view of its limits."""

import ctypes
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exchange.book.ladder import Ladder
from exchange.errors import UserError
from exchange.export import ExportedLibrary
from exchange.messages import EVENT_DTYPE, RECORD_BYTES
from exchange.native import Arena, address_of, load_int64, view_bytes
from exchange.queues.protocol import poll_batch
from exchange.queues.ring_memory import HEAD, REFUSED, TAIL
from exchange.queues.spsc import SpscConsumer, SpscQueue
from tests.book_driver import BookDriver, cancel, mass_cancel, new, stamped
from tests.exported_book import CAPACITY_ORDERS, NEEDS, PRICE_MAX, Library

pytestmark = NEEDS


class Ring:
    """A ring that the library made, and the queue layer as its consumer."""

    def __init__(self, library: Library, slots: int) -> None:
        self.arena = Arena.private(library.ring_size_bytes(slots) + 65 * RECORD_BYTES)
        self.address = library.ring_init(self.arena.allocate(library.ring_size_bytes(slots)), slots)
        self.consumer = SpscConsumer(self.address, 0, 1, slots)
        self._out = self.arena.allocate(64 * RECORD_BYTES)

    def drain(self) -> bytes:
        blocks = []
        while count := poll_batch(self.consumer, self._out, 64):
            blocks.append(bytes(view_bytes(self._out, count * RECORD_BYTES)))
        return b"".join(blocks)


@pytest.mark.parametrize("slots", [2, 8, 128, 4096])
@pytest.mark.parametrize("batch", [1, 40, 1000])
def test_one_thread_can_apply_and_drain_without_loss(
    library: Library, busy_market: tuple[NDArray[Any], bytes], slots: int, batch: int
) -> None:
    commands, expected = busy_market[0][:4001], busy_market[1]
    ring = Ring(library, slots)
    handle = library.create(
        symbol_count=8, capacity_orders=CAPACITY_ORDERS, price_max_ticks=PRICE_MAX, publish_every=5
    )
    assert library.book_attach_ring(handle, ring.address) == 0
    received, done, refused = b"", 0, 0
    while done < len(commands):
        count = min(batch, len(commands) - done)
        applied = library.book_try_apply(handle, address_of(commands) + done * RECORD_BYTES, count)
        assert 0 <= applied <= count
        refused += applied < count
        done += applied
        received += ring.drain()
    while library.book_flush(handle):
        received += ring.drain()
    received += ring.drain()
    assert received == expected[: len(received)]
    assert np.frombuffer(expected[len(received) :], EVENT_DTYPE)["command_sequence"].min() > len(commands)
    assert refused > 0 if slots < batch else slots > 100 or load_int64(ring.address + REFUSED) > 0
    library.book_destroy(handle)


def test_events_are_published_when_the_caller_says(library: Library) -> None:
    ring = Ring(library, 64)
    handle = library.create(publish_every=10)
    library.book_attach_ring(handle, ring.address)
    commands = stamped([new(index, 0, 10, 5) for index in range(1, 26)])
    for done, published in enumerate([0] * 9 + [10] * 10 + [20] * 6, start=1):
        assert library.book_apply(handle, address_of(commands) + (done - 1) * RECORD_BYTES, 1) == 1
        assert load_int64(ring.address + TAIL) == published
    assert library.book_flush(handle) == 0
    assert load_int64(ring.address + TAIL) == 25
    assert len(ring.drain()) == 25 * RECORD_BYTES
    assert load_int64(ring.address + HEAD) == 25
    library.book_destroy(handle)


def test_a_ring_that_is_too_small_for_one_command_still_gets_all_its_events(library: Library) -> None:
    ring = Ring(library, 4)
    handle = library.create()
    library.book_attach_ring(handle, ring.address)
    orders = stamped([new(index, 0, 10, 5) for index in range(1, 21)])
    assert len(library.apply_to_buffer(handle, orders)) == 20 * RECORD_BYTES
    last = stamped([mass_cancel(), cancel(1)])
    assert library.book_try_apply(handle, address_of(last), 1) == 1
    assert library.book_attach_ring(handle, None) == -1, "events are still waiting"
    assert ctypes.get_errno() == errno.EBUSY
    assert library.book_try_apply(handle, address_of(last) + RECORD_BYTES, 1) == 0
    received = []
    while (waiting := library.book_flush(handle)) or load_int64(ring.address + TAIL) < 21:
        received.append(ring.drain())
        assert len(received[-1]) == 4 * RECORD_BYTES
        assert waiting + 4 * len(received) == 21
    received.append(ring.drain())
    events = np.frombuffer(b"".join(received), EVENT_DTYPE)
    assert events["order_id"].tolist() == [*range(1, 21), 0]
    assert library.book_attach_ring(handle, None) == 0
    library.book_destroy(handle)


def test_without_a_ring_nothing_is_applied(library: Library, book: int) -> None:
    commands = stamped([new(1, 0, 10, 5)])
    assert library.book_apply(book, address_of(commands), 1) == 0
    assert library.book_try_apply(book, address_of(commands), 1) == 0
    assert library.book_flush(book) == 0
    assert library.book_live_order_count(book) == 0


def test_python_consumes_over_shared_memory_what_c_produces(library: Library, book: int) -> None:
    name = f"exchange-test-export-{os.getpid()}"
    slots = 64
    producer_side = Arena.create_shared(name, SpscQueue.size_bytes(slots, 1, 1))
    try:
        assert library.ring_size_bytes(slots) == SpscQueue.size_bytes(slots, 1, 1)
        ring = library.ring_init(producer_side.allocate(library.ring_size_bytes(slots)), slots)
        queue = SpscQueue(slots, arena=Arena.attach_shared(name))
        assert not queue.is_new
        assert queue.base != ring
        assert library.book_attach_ring(book, ring) == 0
        commands = stamped([new(index, index % 2, 10, 5) for index in range(1, 41)])
        assert library.book_apply(book, address_of(commands), 40) == 40
        out = Arena.private(slots * RECORD_BYTES)
        count = poll_batch(queue.consumer(0), out.address, slots)
        driver = BookDriver("ladder")
        assert bytes(view_bytes(out.address, count * RECORD_BYTES)) == driver.play(commands)
    finally:
        producer_side.unlink()


def test_a_ring_that_python_made_serves_as_well(library: Library, book: int) -> None:
    queue = SpscQueue(16)
    assert library.book_attach_ring(book, queue.base) == 0
    commands = stamped([new(1, 0, 10, 5), cancel(1)])
    assert library.book_apply(book, address_of(commands), 2) == 2
    assert load_int64(queue.base + TAIL) == 2


def test_what_is_no_ring_is_refused(library: Library, book: int) -> None:
    memory = Arena.private(1 << 16)
    assert library.book_attach_ring(book, memory.address) == -1
    assert ctypes.get_errno() == errno.EINVAL
    lanes = SpscQueue(16, producers=2)
    assert library.book_attach_ring(book, lanes.base) == -1, "a queue of several lanes is not one ring"
    for slots in (0, 1, 3, 48, 2**24 + 1, 2**25, 2**63):
        assert library.ring_size_bytes(slots) == 0
        ctypes.set_errno(0)
        assert library.ring_init(memory.address, slots) is None
        assert ctypes.get_errno() == errno.EINVAL
    for address in (None, memory.address + 8, memory.address + 64):
        ctypes.set_errno(0)
        assert library.ring_init(address, 16) is None
        assert ctypes.get_errno() == errno.EINVAL
    assert library.ring_init(memory.address + 128, 16) == memory.address + 128


@pytest.mark.parametrize(
    "fields",
    [
        {"symbol_count": 0},
        {"symbol_count": 65_536},
        {"capacity_orders": 0},
        {"capacity_orders": 2**25 + 1},
        {"price_min_ticks": 1001},
        {"price_min_ticks": -(2**60) - 1},
        {"price_max_ticks": 2**60 + 1},
        {"price_min_ticks": -(2**63), "price_max_ticks": 2**63 - 1},
        {"flags": 2},
        {"flags": 2**31},
    ],
)
def test_a_book_that_cannot_be_is_refused(library: Library, fields: dict[str, int]) -> None:
    assert library.create(**fields) is None
    assert ctypes.get_errno() == errno.EINVAL


def test_so_many_orders_that_links_do_not_reach_are_refused_by_both(library: Library) -> None:
    fields = {"symbol_count": 65_535, "capacity_orders": 2**25, "price_max_ticks": 2**60}
    try:
        Ladder(65_535, 2**25, 1, 2**60)
    except UserError:
        assert library.create(**fields) is None
        assert ctypes.get_errno() in (errno.EINVAL, errno.ENOMEM)
    else:
        library.book_destroy(library.create(**fields))


def test_memory_that_there_is_not_is_refused(exported: ExportedLibrary) -> None:
    script = f"""
import ctypes, resource, struct
library = ctypes.CDLL({str(exported.library)!r}, use_errno=True)
library.exchange_book_create.restype = ctypes.c_void_p
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
config = ctypes.create_string_buffer(struct.pack("<IIqqII", 1, 1 << 23, 1, 1 << 36, 0, 0))
print(library.exchange_book_create(config), ctypes.get_errno())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", str(errno.ENOMEM)]


@pytest.mark.parametrize("flags", [0, 1])
def test_books_that_come_and_go_leave_nothing_behind(library: Library, flags: int) -> None:
    commands = stamped([new(index, 0, index, 5) for index in range(1, 60)])

    def once() -> None:
        handle = library.create(capacity_orders=50_000, flags=flags)
        library.apply_to_buffer(handle, commands)
        library.book_destroy(handle)

    def address_space_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    once()
    before = address_space_pages()
    for _ in range(200):
        once()
    grown = (address_space_pages() - before) * resource.getpagesize()
    assert grown < 50 * (1 << 20), "each book takes over a hundred MiB of address space"
    library.book_destroy(None)
