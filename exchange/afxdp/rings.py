"""Rings of which the kernel has the other end: two counters and a table, as between two of our own threads.

A ring is what :mod:`exchange.queues.spsc` is: the producer writes an entry and releases its counter, the consumer
acquires that counter and reads the entry. Here the two are our process and the kernel, which has mapped the same pages.
The counters are 32 bits wide, run on and wrap around.

=============  ==============  ======================================================================================
fill           we produce      frames that the kernel may write into
receiving      we consume      frames that it has written: where, and how long
sending        we produce      frames that it is to send: where, and how long
completion     we consume      frames that it has sent, which are ours again
=============  ==============  ======================================================================================

*Waking.* A kernel that has run out of frames, or that sends only when it is called, says so in the flags of a ring.
Then, and only then, who produces has to enter it. Between the counter that is released and the flag that is read a
processor may turn the two around, and a kernel that falls asleep just then is not woken; so whoever produces looks
again later.

Rules: one thread for each end. Addresses of frames count from the beginning of the memory of frames.
Source: "AF_XDP" in the kernel's documentation; ``linux/if_xdp.h``.
"""

from typing import Final, NamedTuple

from exchange.native import (
    inlined,
    load_acquire_uint32,
    load_int64,
    load_uint32,
    store_int64,
    store_release_uint32,
    store_uint32,
)

ADDRESS_BYTES: Final = 8
"""An entry of the fill and of the completion ring."""
DESCRIPTOR_BYTES: Final = 16
"""An entry of the other two, ``struct xdp_desc``: address, length, options."""
_LENGTH: Final = 8
_OPTIONS: Final = 12
_COUNTER: Final = 0xFFFF_FFFF
_NEEDS_WAKING: Final = 1


class KernelRing(NamedTuple):
    """Addresses of the two counters, of the table and of the flags; ``mask`` is the number of entries less one."""

    producer: int
    consumer: int
    entries: int
    mask: int
    flags: int


@inlined
def produced(ring: KernelRing) -> int:
    """How many entries wait for us, who consume."""
    return (load_acquire_uint32(ring.producer) - load_uint32(ring.consumer)) & _COUNTER


@inlined
def unconsumed(ring: KernelRing) -> int:
    """How many of our entries, who produce, the kernel has not taken yet."""
    return (load_uint32(ring.producer) - load_acquire_uint32(ring.consumer)) & _COUNTER


@inlined
def address_entry(ring: KernelRing, number: int) -> int:
    """Where an entry of the fill or the completion ring lies, by its number."""
    return ring.entries + (number & ring.mask) * ADDRESS_BYTES


@inlined
def descriptor_entry(ring: KernelRing, number: int) -> int:
    """Where an entry of the receiving or the sending ring lies, by its number."""
    return ring.entries + (number & ring.mask) * DESCRIPTOR_BYTES


@inlined
def frame_bytes_at(entry: int) -> int:
    """How long the frame of a descriptor is."""
    return load_uint32(entry + _LENGTH)


@inlined
def write_descriptor(entry: int, address: int, frame_bytes: int) -> None:
    """Describe a frame that is to be sent."""
    store_int64(entry, address)
    store_uint32(entry + _LENGTH, frame_bytes)
    store_uint32(entry + _OPTIONS, 0)


@inlined
def produce(ring: KernelRing, count: int) -> None:
    """Let the kernel have ``count`` entries that have been written behind those that it has."""
    store_release_uint32(ring.producer, load_uint32(ring.producer) + count)


@inlined
def consume(ring: KernelRing, count: int) -> None:
    """Give the kernel the place of ``count`` entries that have been read."""
    store_release_uint32(ring.consumer, load_uint32(ring.consumer) + count)


@inlined
def needs_waking(ring: KernelRing) -> bool:
    """Whether the kernel sleeps until it is called, what we have produced notwithstanding."""
    return load_acquire_uint32(ring.flags) & _NEEDS_WAKING != 0


@inlined
def move_addresses(ring: KernelRing, addresses: int, count: int) -> None:
    """Consume ``count`` entries of the completion ring, and write them one behind the other."""
    begin = load_uint32(ring.consumer)
    for index in range(count):
        store_int64(addresses + index * ADDRESS_BYTES, load_int64(address_entry(ring, begin + index)))
    consume(ring, count)
