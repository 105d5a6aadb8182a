"""The internet checksum: the complement of the one's complement sum of 16-bit words.

A sum may be taken in any order and in wider words; what overflows is added at the end. So bytes are taken four at a
time, and headers and payload may be summed one after the other, as long as each but the last has an even length.

Source: RFC 1071, sections 1 and 2.
"""

from typing import Final

from exchange.native import inlined, load_big_endian_uint16, load_big_endian_uint32, load_uint8

_WORD: Final = 0xFFFF


@inlined
def sum_of(address: int, size_bytes: int) -> int:
    """The sum of bytes that lie anywhere, not folded yet; up to 64 KiB of them fit into it many times."""
    total, end = 0, address + size_bytes
    while address + 4 <= end:
        total += load_big_endian_uint32(address)
        address += 4
    if end - address >= 2:
        total += load_big_endian_uint16(address)
        address += 2
    if address < end:
        total += load_uint8(address) << 8
    return total


@inlined
def fold(total: int) -> int:
    """A sum in 16 bits: 0xFFFF for bytes that contain their own checksum and are right."""
    total = (total & 0xFFFF_FFFF) + (total >> 32)
    total = (total & _WORD) + (total >> 16)
    total = (total & _WORD) + (total >> 16)
    return (total & _WORD) + (total >> 16)


@inlined
def checksum_of(total: int) -> int:
    """The checksum of a sum."""
    return fold(total) ^ _WORD
