"""Files from compiled code: what is written is there, compiled and interpreted, and an error is a number."""

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from exchange import native

COMPILED: dict[str, Any] = {
    "file_write_vectors": njit(lambda a, b, c, d: native.file_write_vectors(a, b, c, d)),
    "file_sync_data": njit(lambda a: native.file_sync_data(a)),
    "memory_sync": njit(lambda a, b: native.memory_sync(a, b)),
    "memory_advise": njit(lambda a, b, c: native.memory_advise(a, b, c)),
}

each_form = pytest.mark.parametrize("form", ["interpreted", "compiled"])


def function(form: str, name: str) -> Any:
    """A function of ``exchange.native``, or the same called from compiled code."""
    return COMPILED[name] if form == "compiled" else getattr(native, name)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """An empty file."""
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@each_form
def test_vectors_are_written_behind_each_other(form: str, descriptor: int) -> None:
    first, second = np.arange(3, dtype=np.int64), np.arange(100, 105, dtype=np.int64)
    vectors = np.zeros(4, np.int64)
    native.write_vector(vectors.ctypes.data, first.ctypes.data, first.nbytes)
    native.write_vector(vectors.ctypes.data + native.VECTOR_BYTES, second.ctypes.data, second.nbytes)
    write = function(form, "file_write_vectors")
    assert write(descriptor, vectors.ctypes.data, 2, 1000) == 64
    assert function(form, "file_sync_data")(descriptor) == 0
    assert os.pread(descriptor, 2000, 0) == bytes(1000) + first.tobytes() + second.tobytes()
    assert write(1 << 20, vectors.ctypes.data, 2, 0) == -errno.EBADF
    assert write(descriptor, 0, 2, 0) == -errno.EFAULT
    assert function(form, "file_sync_data")(1 << 20) == -errno.EBADF


@each_form
def test_mapped_memory_is_readied_and_synced(form: str, descriptor: int) -> None:
    os.posix_fallocate(descriptor, 0, 1 << 16)
    mapping = mmap.mmap(descriptor, 1 << 16)
    address = native.address_of(np.frombuffer(mapping, np.uint8))
    advise = function(form, "memory_advise")
    assert advise(address, 1 << 16, native.POPULATE_WRITE) in (0, -errno.EINVAL)
    assert advise(address + 1, 4096, native.POPULATE_WRITE) == -errno.EINVAL
    native.store_int64(address + 4096, 77)
    assert function(form, "memory_sync")(address + 4096, 8) == 0
    assert function(form, "memory_sync")(address + 1, 8) == -errno.EINVAL
    assert os.pread(descriptor, 8, 4096) == (77).to_bytes(8, "little")
