"""On which NUMA node memory lies: telling the kernel, and asking it.

A page of memory gets its place when it is first written to. Left alone, Linux takes one on the node of the thread that
writes; a *policy* on a range of addresses says otherwise, whoever writes. There are two here, both told by the nodes:
one node means that all pages are taken there and nowhere else (``MPOL_BIND``), several that they are taken from each
in turn (``MPOL_INTERLEAVE``). No node at all leaves the range to the kernel.

Rules: a policy is for pages to come, so it is set before anything is written. Pages that are there stay where they are.
A node that is bound to and full ends the process (out of memory), which is why a plan names nodes and nobody guesses.

The calls are made by number, as libnuma does: they take plain integers, and neither libnuma nor hwloc has to be
loaded to make them. What they answer is the kernel's word and can be held against ``/proc/PID/numa_maps``, which is
made by another part of it (:mod:`exchange.placement.running`).

Sources: mbind(2), set_mempolicy(2), get_mempolicy(2), move_pages(2), numa(7); the numbers are those of
linux/mempolicy.h and of each processor's table of system calls."""

import ctypes
import errno
import mmap
import os
import platform
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from exchange.placement.topology import NODES_MAX

PAGE_BYTES: Final = mmap.PAGESIZE

_DEFAULT: Final = 0
_BIND: Final = 2
_INTERLEAVE: Final = 3
_OF_NODE: Final = 1  # MPOL_F_NODE
_AT_ADDRESS: Final = 2  # MPOL_F_ADDR

_PAGES_AT_ONCE: Final = 1 << 14
_WORD_BITS: Final = 64


class _Calls(NamedTuple):
    """Numbers of system calls."""

    mbind: int
    set_mempolicy: int
    get_mempolicy: int
    move_pages: int


_CALLS: Final = {"x86_64": _Calls(237, 238, 239, 279), "aarch64": _Calls(235, 237, 236, 239)}
_NodeMask = ctypes.c_uint64 * (NODES_MAX // _WORD_BITS)
_MASK_BITS: Final = NODES_MAX + 1
"""The kernel uses one bit less than it is told."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(name: str, *arguments: int | None) -> int:
    """Enter the kernel. Raises OSError."""
    calls = _CALLS.get(platform.machine())
    if calls is None:
        raise OSError(errno.ENOSYS, f"no number of {name} is known for {platform.machine()}")
    words = [ctypes.c_void_p(word) for word in arguments]
    result = int(_libc.syscall(ctypes.c_long(getattr(calls, name)), *words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _mask_of(nodes: Sequence[int]) -> "ctypes.Array[ctypes.c_uint64]":
    mask = _NodeMask()
    for node in nodes:
        if not 0 <= node < NODES_MAX:
            raise OSError(errno.EINVAL, f"no NUMA node can have the number {node}")
        mask[node // _WORD_BITS] |= 1 << (node % _WORD_BITS)
    return mask


def _mode_of(nodes: Sequence[int]) -> int:
    return _DEFAULT if not nodes else _BIND if len(nodes) == 1 else _INTERLEAVE


def place_memory(address: int, size_bytes: int, nodes: Sequence[int]) -> None:
    """Say where the pages of a range are to come from: one node, or several in turn; none takes back what was said.

    Args:
        address: of a page.
        size_bytes: up to the end of the last page.
        nodes: OS indexes.

    Raises:
        OSError: EINVAL, there is no such node or this process may not use it; EPERM, a container's list of system calls
            forbids it; ENOSYS, the kernel knows no NUMA.
    """
    mask = _mask_of(nodes)
    place = ctypes.addressof(mask) if nodes else None
    _call("mbind", address, size_bytes, _mode_of(nodes), place, _MASK_BITS if nodes else 0, 0)


@contextmanager
def new_pages_on(nodes: Sequence[int]) -> Iterator[None]:
    """Within the block, pages that this thread is the first to write come from these nodes, files' pages among them.

    No node leaves everything as it is. Ranges that have a policy of their own keep it.

    Raises:
        OSError: as of :func:`place_memory`.
    """
    if not nodes:
        yield
        return
    mode, before, mask = ctypes.c_int(), _NodeMask(), _mask_of(nodes)
    _call("get_mempolicy", ctypes.addressof(mode), ctypes.addressof(before), _MASK_BITS, None, 0)
    _call("set_mempolicy", _mode_of(nodes), ctypes.addressof(mask), _MASK_BITS)
    try:
        yield
    finally:
        _call("set_mempolicy", mode.value, ctypes.addressof(before), _MASK_BITS)


def node_of_page(address: int) -> int:
    """The node of the page at an address of this process; the page is taken now if it was not. Raises OSError."""
    node = ctypes.c_int(-1)
    _call("get_mempolicy", ctypes.addressof(node), None, 0, address, _OF_NODE | _AT_ADDRESS)
    return node.value


def count_pages(address: int, size_bytes: int, process_ids: Sequence[int] = (0,)) -> Counter[int]:
    """How many pages of a range lie on each node, asked page by page; pages that are not there do not count.

    A process is told of the pages that it has touched itself. Of memory that several share, all of them are asked, and
    a page counts once.

    Args:
        address: of a page.
        size_bytes: up to the end of the last page.
        process_ids: whose memory; 0 is this process's.

    Returns:
        By node the number of pages of :data:`PAGE_BYTES` each, also where the kernel keeps many in one huge page.

    Raises:
        OSError: EPERM, the process is another user's; ESRCH, it has ended; otherwise as of :func:`place_memory`.
    """
    found: Counter[int] = Counter()
    end = address + size_bytes
    states = (ctypes.c_int * _PAGES_AT_ONCE)()
    for begin in range(address, end, _PAGES_AT_ONCE * PAGE_BYTES):
        pages = array("Q", range(begin, min(begin + _PAGES_AT_ONCE * PAGE_BYTES, end), PAGE_BYTES))
        place, count = pages.buffer_info()
        told: list[list[int]] = []
        for process_id in process_ids:
            _call("move_pages", process_id, count, place, None, ctypes.addressof(states), 0)
            told.append(states[:count])
        found.update(told[0] if len(told) == 1 else map(max, *told))
    # A page that is not there has an error in place of a node, and errors are negative.
    return Counter({node: count for node, count in found.items() if node >= 0})
