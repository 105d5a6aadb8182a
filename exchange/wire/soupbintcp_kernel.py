"""Cutting a TCP stream into SoupBinTCP packets, compiled: what a gateway runs on each batch of received bytes.

The twin of :class:`~exchange.wire.soupbintcp.PacketSplitter`. It keeps nothing between calls: the caller has one
buffer for each connection, appends what it received, has the packets found where they lie, handles them there, and
moves the bytes that were not consumed to the front. So no packet is copied.

Rules: the buffer is as large as the largest packet that is expected, at least, or a packet could never become whole.
A trouble other than :attr:`Trouble.NONE` concerns the bytes at ``consumed``; the packets before them are good, as in
the plain splitter, and the connection is closed after them. (SoupBinTCP 3.00, section 1.1.)"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.native import address_of, kernel, load_big_endian_uint16, load_int64, load_uint8, store_int64
from exchange.wire.layout import LENGTH_BYTES, LENGTH_LARGEST, MessageTable
from exchange.wire.soupbintcp import HEADER_BYTES, packet_lengths


class Trouble(IntEnum):
    """What is wrong with the bytes behind the last good packet."""

    NONE = 0
    BAD_LENGTH = 1
    """No packet of this side has such a ``packet_length``."""
    UNKNOWN_TYPE = 2
    """The type is not one that this side sends."""
    LENGTH_OF_TYPE = 3
    """The length is not one that this type has."""


_NONE: Final = int(Trouble.NONE)
_BAD_LENGTH: Final = int(Trouble.BAD_LENGTH)
_UNKNOWN_TYPE: Final = int(Trouble.UNKNOWN_TYPE)
_LENGTH_OF_TYPE: Final = int(Trouble.LENGTH_OF_TYPE)

PLACE_DTYPE: Final = np.dtype([("offset", np.int64), ("length_bytes", np.int64)])
"""Where a packet lies: its first byte (of its length field) within the buffer, and its size with the length field."""

_PLACE_BYTES: Final = PLACE_DTYPE.itemsize
_LENGTH_BYTES_AT: Final = 8
_RULE_BYTES: Final = 16


class PacketRules(NamedTuple):
    """Which packets are expected, as the kernel reads it: smallest and largest length for each type byte."""

    rules: int
    length_largest: int


class PacketRuleTable:
    """Owner of the memory behind :class:`PacketRules`; keep it as long as they are used."""

    def __init__(self, packets: MessageTable, packet_length_max: int = LENGTH_LARGEST) -> None:
        lengths = packet_lengths(packets, packet_length_max)
        self._rules: NDArray[np.int64] = np.zeros((256, 2), np.int64)
        for type_byte, length_range in lengths.items():
            self._rules[type_byte] = length_range
        self.state = PacketRules(address_of(self._rules), max(largest for _, largest in lengths.values()))


@kernel
def find_packets(
    buffer: int, buffer_bytes: int, rules: PacketRules, places: int, places_max: int
) -> tuple[int, int, int]:
    """Find the whole packets at the front of a buffer.

    Args:
        buffer: address of the received bytes.
        buffer_bytes: how many there are.
        rules: which packets are expected.
        places: address of room for ``places_max`` records of :data:`PLACE_DTYPE`.
        places_max: how many packets to find at most. If so many are found there may be more: call again with what
            was not consumed.

    Returns:
        How many packets were found, how many bytes they are, and a :class:`Trouble`.
    """
    count = 0
    position = 0
    trouble = _NONE
    while count < places_max and position + LENGTH_BYTES <= buffer_bytes:
        length = load_big_endian_uint16(buffer + position)
        if length == 0 or length > rules.length_largest:
            trouble = _BAD_LENGTH
            break
        if position + HEADER_BYTES > buffer_bytes:
            break
        rule = rules.rules + _RULE_BYTES * load_uint8(buffer + position + LENGTH_BYTES)
        smallest = load_int64(rule)
        largest = load_int64(rule + 8)
        if largest == 0:
            trouble = _UNKNOWN_TYPE
            break
        if length < smallest or length > largest:
            trouble = _LENGTH_OF_TYPE
            break
        size = LENGTH_BYTES + length
        if position + size > buffer_bytes:
            break
        store_int64(places + _PLACE_BYTES * count, position)
        store_int64(places + _PLACE_BYTES * count + _LENGTH_BYTES_AT, size)
        count += 1
        position += size
    return count, position, trouble
