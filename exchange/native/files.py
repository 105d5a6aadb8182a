"""Files from compiled code: write at an offset, make it durable, and advise the kernel about mapped memory.

Opening, creating and renaming happen once for a file and are Python's business; here is what happens once for a
batch. As in :mod:`exchange.native.sockets`, a result of 0 or more is what C says, a negative one is ``-errno``. The
system calls of this module may wait for a disk: :func:`file_sync_data` and :func:`memory_sync` always, the others if
the kernel is short of memory.

Sources: pwrite(2), writev(2), fdatasync(2), msync(2), madvise(2)."""

import ctypes
from typing import Any, Final

from numba import types

from exchange.native.cache import inlined
from exchange.native.lowering import INT32, INT64, lowers_to
from exchange.native.raw_memory import store_int64
from exchange.native.system_calls import emit_call_with_errno, with_errno

VECTOR_BYTES: Final = 16
"""``struct iovec``: an address and a length."""

DO_NOT_NEED: Final = 4
"""MADV_DONTNEED: take pages out of this mapping. What was written to a shared one is in the file and stays there."""
POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE: make the pages present and writable now. Linux has it since 5.14; older ones say EINVAL."""

_SYNC: Final = 4  # MS_SYNC

_libc: Final = ctypes.CDLL(None, use_errno=True)


@lowers_to(
    types.int64(types.int64, types.int64, types.int64, types.int64),
    emit_call_with_errno("pwritev", INT64, (INT32, INT64, INT32, INT64)),
)
def file_write_vectors(descriptor: int, vectors_address: int, count: int, offset: int) -> int:
    """Write what ``count`` vectors name, one behind the other, at ``offset``: how many bytes were taken, or -errno."""
    _libc.pwritev.restype = ctypes.c_long
    place = ctypes.c_void_p(vectors_address)
    return with_errno(int(_libc.pwritev(descriptor, place, count, ctypes.c_long(offset))))


@lowers_to(types.int64(types.int64), emit_call_with_errno("fdatasync", INT32, (INT32,)))
def file_sync_data(descriptor: int) -> int:
    """Wait until all that was written to the file, and its length, are on the disk; 0 or -errno.

    After a failure nobody knows which pages are on the disk, and asking again does not tell.
    """
    return with_errno(int(_libc.fdatasync(descriptor)))


_emit_msync: Final = emit_call_with_errno("msync", INT32, (INT64, INT64, INT32))


def _emit_memory_sync(builder: Any, address: Any, size_bytes: Any) -> Any:
    return _emit_msync(builder, address, size_bytes, INT64(_SYNC))


@lowers_to(types.int64(types.int64, types.int64), _emit_memory_sync)
def memory_sync(address: int, size_bytes: int) -> int:
    """Wait until a range of mapped memory is on the disk; 0 or -errno. The address is that of a page."""
    return with_errno(int(_libc.msync(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), _SYNC)))


@lowers_to(
    types.int64(types.int64, types.int64, types.int64),
    emit_call_with_errno("madvise", INT32, (INT64, INT64, INT32)),
)
def memory_advise(address: int, size_bytes: int, advice: int) -> int:
    """Tell the kernel what will be done with a range of mapped memory; 0 or -errno. The address is that of a page."""
    return with_errno(int(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), advice)))


@inlined
def write_vector(address: int, start: int, size_bytes: int) -> None:
    """Make the :data:`VECTOR_BYTES` at ``address`` a vector that names ``size_bytes`` bytes from ``start``."""
    store_int64(address, start)
    store_int64(address + 8, size_bytes)
