"""Where flat memory comes from: one aligned block, handed out from the front, freed as a whole.

An :class:`Arena` owns its block; everything compiled holds plain addresses into it. So the one rule is:
whoever builds a state that contains addresses keeps the arena alive for as long as the state is used.

Three sources:

* *private*: anonymous memory of this process, 2 MiB aligned; a child that is forked does not have it, unless it was
  made in a :func:`shared_with_children` block. Pages appear when they are first touched, so a
  large worst case costs address space, not memory. ``huge_pages="advise"`` asks for transparent 2 MiB pages:
  a page table entry then covers 512 times as much, and the random look-ups of an order book miss the TLB far
  less often.
* *reserved huge pages* (``huge_pages="reserved"``): from the pool that the administrator set aside.
* *shared*: a named POSIX shared-memory object (a file in /dev/shm) that other processes attach to by name.

The block is zero when it is fresh; layouts here rely on it.

Each arena has an owner: the agent that it is made for, as whoever builds the exchange has said
(:mod:`exchange.placement.memory_owners`). If a plan names NUMA nodes for the owner's memory, the block is placed there
before it is touched.
"""

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Literal, Self

from exchange.errors import UserError
from exchange.native.files import POPULATE_WRITE
from exchange.placement.memory_owners import current_nodes, settle
from exchange.placement.topology import format_cpu_list

CACHE_LINE_BYTES: Final = 64
FALSE_SHARING_BYTES: Final = 128
"""Distance between words that different threads write: two lines, because the hardware fetches lines in pairs."""

HUGE_PAGE_BYTES: Final = 2 << 20
_SHARED_FOLDER: Final = Path("/dev/shm")
_MAP_NORESERVE: Final = 0x4000
_MAP_HUGETLB: Final = 0x40000
_is_shared: Final = ContextVar("is_shared", default=False)

HugePages = Literal["never", "advise", "reserved"]


class Arena:
    """One block of memory and the address up to which it has been handed out.

    Attributes:
        address: first byte, a multiple of 2 MiB for private arenas and of a page for shared ones.
        capacity_bytes: how many bytes it has.
        name: the shared-memory name, or an empty string for a private arena.
    """

    def __init__(
        self,
        mapping: mmap.mmap,
        capacity_bytes: int,
        alignment: int,
        name: str = "",
        *,
        is_fresh: bool = True,
    ) -> None:
        self._mapping = mapping
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        self.address: Final = (start + alignment - 1) & -alignment
        self.capacity_bytes: Final = capacity_bytes
        self.name: Final = name
        self._used_bytes = 0
        settle(self, self.address, capacity_bytes, is_fresh=is_fresh)

    @classmethod
    def private(cls, capacity_bytes: int, huge_pages: HugePages = "advise") -> Self:
        """Memory of this process alone; inside :func:`shared_with_children`, of this process and its children.

        Raises:
            UserError: ``huge_pages="reserved"`` and the machine has not set enough of them aside; the kernel does not
                place memory where a plan wants it.
        """
        rounded = max(capacity_bytes + HUGE_PAGE_BYTES - 1, 1) & -HUGE_PAGE_BYTES
        sharing = mmap.MAP_SHARED if _is_shared.get() else mmap.MAP_PRIVATE
        flags = sharing | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        if huge_pages == "reserved":
            pages = rounded // HUGE_PAGE_BYTES
            try:
                mapping = mmap.mmap(-1, rounded, flags=(flags & ~_MAP_NORESERVE) | _MAP_HUGETLB)
            except OSError as error:
                raise UserError(
                    f"huge_pages = 'reserved' needs {pages} free huge pages of 2 MiB; set them aside with "
                    f"'sysctl vm.nr_hugepages={pages}' or use 'advise' ({error.strerror})"
                ) from error
            arena = cls(mapping, rounded, HUGE_PAGE_BYTES)
            _take_reserved(mapping)
            return arena
        mapping = mmap.mmap(-1, rounded + HUGE_PAGE_BYTES, flags=flags)
        if huge_pages == "advise" and hasattr(mmap, "MADV_HUGEPAGE"):
            mapping.madvise(mmap.MADV_HUGEPAGE)
        elif hasattr(mmap, "MADV_NOHUGEPAGE"):
            mapping.madvise(mmap.MADV_NOHUGEPAGE)
        if not _is_shared.get() and hasattr(mmap, "MADV_DONTFORK"):
            # A child would get copies, page by page as either side writes. It is to have this memory or none.
            mapping.madvise(mmap.MADV_DONTFORK)
        return cls(mapping, rounded, HUGE_PAGE_BYTES)

    @classmethod
    def create_shared(cls, name: str, capacity_bytes: int) -> Self:
        """A new shared-memory object that other processes can attach to.

        Raises:
            UserError: an object of that name exists already, or there is no room for it.
        """
        path = _shared_path(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise UserError(
                f"shared memory {name!r} exists already; remove {path} if no one uses it"
            ) from error
        try:
            os.ftruncate(descriptor, capacity_bytes)
            arena = cls(mmap.mmap(descriptor, capacity_bytes), capacity_bytes, mmap.PAGESIZE, name)
            os.posix_fallocate(descriptor, 0, capacity_bytes)  # its pages come now, when they have a place
        except UserError:
            path.unlink()
            raise
        except OSError as error:
            path.unlink()
            raise UserError(
                f"shared memory {name!r}: no room for {capacity_bytes} bytes in /dev/shm"
            ) from error
        finally:
            os.close(descriptor)
        return arena

    @classmethod
    def attach_shared(cls, name: str) -> Self:
        """The shared-memory object of that name, as another process made it.

        Raises:
            UserError: there is none.
        """
        try:
            descriptor = os.open(_shared_path(name), os.O_RDWR)
        except FileNotFoundError as error:
            raise UserError(
                f"shared memory {name!r} does not exist; is the process that makes it up?"
            ) from error
        try:
            capacity_bytes = os.fstat(descriptor).st_size
            mapping = mmap.mmap(descriptor, capacity_bytes)
            return cls(mapping, capacity_bytes, mmap.PAGESIZE, name, is_fresh=False)
        finally:
            os.close(descriptor)

    def unlink(self) -> None:
        """Remove the shared-memory name; processes that are attached keep the memory until they end."""
        _shared_path(self.name).unlink(missing_ok=True)

    def allocate(self, size_bytes: int, alignment: int = FALSE_SHARING_BYTES) -> int:
        """The address of the next ``size_bytes`` bytes. Two attached processes that ask alike get alike.

        Raises:
            MemoryError: the arena was built too small, which is a fault in its owner's arithmetic.
        """
        offset = (self._used_bytes + alignment - 1) & -alignment
        if offset + size_bytes > self.capacity_bytes:
            raise MemoryError(
                f"arena of {self.capacity_bytes} bytes is {offset + size_bytes} bytes too short"
            )
        self._used_bytes = offset + size_bytes
        return self.address + offset

    def touch(self, address: int, size_bytes: int) -> None:
        """Write a zero to each page of a fresh range now, so that no page fault happens later on the hot path."""
        for page in range(address, address + size_bytes, mmap.PAGESIZE):
            ctypes.c_uint8.from_address(page).value = 0


@contextmanager
def shared_with_children() -> Iterator[None]:
    """What :meth:`Arena.private` gives in this block, children that are forked later have too, at the same addresses.

    Such memory has no name: nobody else can attach to it, and it is gone when the last of these processes has ended,
    however that was. The kernel gives it huge pages only where ``shmem_enabled`` of transparent_hugepage says so.
    """
    token = _is_shared.set(True)
    try:
        yield
    finally:
        _is_shared.reset(token)


def _take_reserved(mapping: mmap.mmap) -> None:
    """Take reserved pages now where a plan has placed them: of a node that has too few, the first touch of one that is
    lacking would end the process with SIGBUS. Raises UserError."""
    nodes = current_nodes()
    if not nodes:
        return
    try:
        mapping.madvise(POPULATE_WRITE)
    except OSError as error:
        raise UserError(
            f"huge_pages = 'reserved': NUMA node {format_cpu_list(nodes)} has too few free huge pages; set them aside"
            f" in /sys/devices/system/node/node{nodes[0]}/hugepages ({error.strerror})"
        ) from error


def _shared_path(name: str) -> Path:
    if not name or "/" in name or name.startswith("."):
        raise UserError(f"shared memory name {name!r}: use letters, digits, '-' and '_', with no '/'")
    return _SHARED_FOLDER / name


def view_bytes(address: int, size_bytes: int) -> memoryview:
    """The bytes at ``address`` as a writable memoryview; the caller keeps their arena alive."""
    return memoryview((ctypes.c_char * size_bytes).from_address(address)).cast("B")
