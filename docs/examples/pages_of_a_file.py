"""What the kernel does with the pages of a mapped file, and why the journal treats them as it does.

``python docs/examples/pages_of_a_file.py`` lays a file out in the current folder, 64 MiB of zeros, written so many KiB
at a time, and measures for each size:

* laying out a page of 4 KiB, and making it writable ahead (``MADV_POPULATE_WRITE``);
* a sync of one small frame (832 bytes), and the first store to the next one, for which the kernel has to be asked;
* a sync of everything while another thread of the process is busy on another core, with the pages in the mapping, and
  after they were taken out (``MADV_DONTNEED``): a page in the mapping is first taken away from both cores.

The kernel keeps the pages that one write filled together, and from then on dirties, writes and protects them as one.
Printed are medians of five rounds, the sizes in turns. The file system and the disk decide the figures."""

import ctypes
import mmap
import os
import statistics
import sys
import tempfile
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exchange.native import DO_NOT_NEED, POPULATE_WRITE, memory_advise, memory_sync

ZERO_KIB = (4, 16, 64, 256, 1024)
FRAME_BYTES = 832
FRAMES = 100
SIZE_BYTES = int(os.environ.get("SIZE_MIB", "64")) << 20
ROUNDS = int(os.environ.get("ROUNDS", "5"))
PAGE = mmap.PAGESIZE
COLUMNS = ("lay out, ns/page", "make writable, ns/page", "sync of a frame, us", "store after it, ns",
           "sync all, ns/page", "taken out first, ns/page")  # fmt: skip


def spent_ns(work: Callable[[], object]) -> int:
    """How long something took."""
    began_ns = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began_ns


@contextmanager
def busy_thread() -> Iterator[None]:
    """Another thread of this process that computes all the time."""
    content, is_over = bytes(1 << 24), threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            zlib.crc32(content)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def lay_out(descriptor: int, block: bytes) -> None:
    """Reserve the room, and write zeros to all of it."""
    os.posix_fallocate(descriptor, 0, SIZE_BYTES)
    for offset in range(0, SIZE_BYTES, len(block)):
        os.pwrite(descriptor, block, offset)


def measure(path: Path, zero_kib: int) -> list[float]:
    """One round of one size: a value for each of :data:`COLUMNS`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    pages = SIZE_BYTES // PAGE
    laid_out_ns = spent_ns(lambda: lay_out(descriptor, bytes(zero_kib << 10)))
    os.fsync(descriptor)
    mapping = mmap.mmap(descriptor, SIZE_BYTES, mmap.MAP_SHARED)
    os.close(descriptor)
    held = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(held)
    writable_ns = spent_ns(lambda: memory_advise(address, SIZE_BYTES, POPULATE_WRITE))
    memory_sync(address, SIZE_BYTES)
    stores_ns, syncs_ns = [], []
    for frame in range(0, FRAMES * FRAME_BYTES, FRAME_BYTES):
        page = frame & -PAGE
        stores_ns.append(spent_ns(lambda at=frame: ctypes.memset(address + at, 1, FRAME_BYTES)))
        syncs_ns.append(
            spent_ns(lambda at=frame, page=page: memory_sync(address + page, at + FRAME_BYTES - page))
        )
    with busy_thread():
        ctypes.memset(address, 2, SIZE_BYTES)
        mapped_ns = spent_ns(lambda: memory_sync(address, SIZE_BYTES))
        ctypes.memset(address, 3, SIZE_BYTES)
        taken_out_ns = spent_ns(
            lambda: (memory_advise(address, SIZE_BYTES, DO_NOT_NEED), memory_sync(address, SIZE_BYTES))
        )
    assert mapping[:1] == mapping[-1:] == b"\x03"
    del held
    mapping.close()
    return [
        laid_out_ns / pages, writable_ns / pages, statistics.median(syncs_ns) / 1000, statistics.median(stores_ns),
        mapped_ns / pages, taken_out_ns / pages,
    ]  # fmt: skip


def main() -> None:
    """All sizes, in turns."""
    found: dict[int, list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=Path()) as folder:
        for round_index in range(ROUNDS):
            for zero_kib in ZERO_KIB[round_index % 5 :] + ZERO_KIB[: round_index % 5]:
                found[zero_kib].append(measure(Path(folder) / "file", zero_kib))
    sys.stdout.write("zeros at a time | " + " | ".join(COLUMNS) + "\n")
    for zero_kib in ZERO_KIB:
        medians = [statistics.median(values) for values in zip(*found[zero_kib], strict=True)]
        cells = " | ".join(f"{value:{len(name)}.0f}" for name, value in zip(COLUMNS, medians, strict=True))
        sys.stdout.write(f"{zero_kib:11} KiB | {cells}\n")


if __name__ == "__main__":
    main()
