"""What compiled loops call in DPDK: bursts of frames in and out, and the packet buffers that they lie in.

A *packet buffer* (DPDK's mbuf) is a structure with a frame somewhere behind it; loops know it by its address. A *burst*
is an array of such addresses, eight bytes each. Who receives a burst owns its buffers and frees them; who sends one
owns them until the port has taken them.

Rules: the shim is loaded (:func:`exchange.dpdk.building.load_shim`) and EAL is up. Nothing here waits, and nothing is
checked. One thread receives from a queue, and one sends to it; the first call in a thread registers it with DPDK.

Sources: ``exchange/dpdk/shim.c``; rte_ethdev.h and rte_mbuf.h of DPDK.
"""

from numba import types

from exchange.dpdk.building import SHIM
from exchange.native.lowering import lowers_to

_TWO = types.int64(types.int64, types.int64)
_THREE = types.int64(types.int64, types.int64, types.int64)
_FOUR = types.int64(types.int64, types.int64, types.int64, types.int64)


def call_shim(name: str, *arguments: int) -> int:
    """Call a function of the shim from Python; a result below 0 is -errno."""
    return SHIM.call(name, *arguments)


@lowers_to(_FOUR, SHIM.emit("receive"))
def receive_burst(device: int, queue: int, burst: int, room: int) -> int:
    """Up to ``room`` frames that have arrived, as addresses of packet buffers to ``burst``; how many."""
    return call_shim("receive", device, queue, burst, room)


@lowers_to(_FOUR, SHIM.emit("send"))
def send_burst(device: int, queue: int, burst: int, count: int) -> int:
    """Hand over the first of ``count`` packet buffers: how many; the others are still the caller's."""
    return call_shim("send", device, queue, burst, count)


@lowers_to(_THREE, SHIM.emit("allocate"))
def allocate_buffers(pool: int, burst: int, count: int) -> int:
    """Take ``count`` empty packet buffers from a pool: 0, or -errno if there are not as many, and none is taken."""
    return call_shim("allocate", pool, burst, count)


@lowers_to(_TWO, SHIM.emit("free"))
def free_buffers(burst: int, count: int) -> int:
    """Give ``count`` packet buffers back to where they are from."""
    return call_shim("free", burst, count)
