"""The memory that a pass of a benchmark will write to, made present before its clock runs.

A book reserves room for all that it may ever hold, and the kernel finds a page for it when it is written to first. An
exchange that has run for a while has its pages. One that was built for a pass of some tenths of a second gets them
while the clock runs, two MiB at a time. That takes long enough to show, and very long where the machine is a virtual
one and its host has to find memory as well. What a pass costs is then chance, and two variants differ by who was given
fresh memory.

Passes of a benchmark do the same work in memory of the same shape. So one that has ended tells which pages the next one
will want. The first of a process finds nothing noted, and belongs to the warm-up.

Rules: pages come from where the calling thread runs, unless a plan places them, so call
:meth:`TouchedMemory.make_ready` on the core whose thread will use them. Only memory of an
:class:`~exchange.native.Arena` counts.
Source: mincore(2), madvise(2)."""

import ctypes
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.native import POPULATE_WRITE, memory_advise
from exchange.placement.memory_nodes import PAGE_BYTES
from exchange.placement.memory_owners import Region, regions

BLOCK_BYTES: Final = 1 << 21
"""A huge page: what was touched is noted by these."""
_BLOCK_PAGES: Final = BLOCK_BYTES // PAGE_BYTES

_libc: Final = ctypes.CDLL(None, use_errno=True)


class TouchedMemory:
    """What passes have touched, by what the memory was for."""

    def __init__(self) -> None:
        self._touched: Final[dict[tuple[str, str, int], NDArray[np.bool_]]] = {}

    def note(self) -> None:
        """Note which blocks of the memory that there is now are present; at the end of a pass."""
        for region in regions():
            present = present_blocks(region)
            known = self._touched.setdefault(_name(region), present)
            known |= present

    def make_ready(self) -> int:
        """Make present what passes before have touched of the same memory; how many blocks that are.

        Kernels before 5.14 do not know how; then the pass finds its pages itself.
        """
        blocks = 0
        for region in regions():
            for block in np.flatnonzero(self._touched.get(_name(region), False)).tolist():
                begin = block * BLOCK_BYTES
                size_bytes = min(BLOCK_BYTES, region.size_bytes - begin)
                blocks += memory_advise(region.address + begin, size_bytes, POPULATE_WRITE) == 0
        return blocks


def _name(region: Region) -> tuple[str, str, int]:
    return region.owner, region.part, region.size_bytes


def present_blocks(region: Region) -> NDArray[np.bool_]:
    """Shape (blocks,): which blocks of a region have a page in memory; none, if the kernel does not say."""
    pages = -(-region.size_bytes // PAGE_BYTES)
    present = np.zeros(-(-pages // _BLOCK_PAGES) * _BLOCK_PAGES, np.uint8)
    where, size = ctypes.c_void_p(region.address), ctypes.c_size_t(region.size_bytes)
    if _libc.mincore(where, size, ctypes.c_void_p(present.ctypes.data)) != 0:
        present[:] = 0
    touched: NDArray[np.bool_] = (present & 1).reshape(-1, _BLOCK_PAGES).any(axis=1)
    return touched
