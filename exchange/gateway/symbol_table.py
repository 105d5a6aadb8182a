"""From the symbol that a message names to the number that the exchange knows it by.

A hash table with open addressing, built once and only read afterwards: two words for each slot, the eight bytes of the
symbol as one big-endian integer (so that no byte is looked at alone) and its number. It is at most half full, so that
a search ends after a slot or two, and always at an empty slot. All spaces or all zeros is no symbol.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from exchange.errors import UserError
from exchange.native import (
    Arena,
    inlined,
    load_int64,
    multiply_wrapping,
    shift_right_logical,
    store_int64,
)

SYMBOL_CHARACTERS: Final = 8
UNKNOWN: Final = -1
_SLOT_BYTES: Final = 16
_GOLDEN: Final = -0x61C8864680B583EB
"""2**64 divided by the golden ratio, odd: spreads neighbouring keys over the high bits (Knuth, volume 3, 6.4)."""


class Symbols(NamedTuple):
    """The table: ``1 << (64 - shift)`` slots from ``slots`` on."""

    slots: int
    shift: int


class SymbolTable:
    """Owner of the table.

    Args:
        names: the symbols; the number of each is its place.

    Raises:
        UserError: a name that no message could carry, or one twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        bits = max(1, (2 * len(names) - 1).bit_length())
        self._arena: Final = Arena.private(_SLOT_BYTES << bits)
        self.names: Final = tuple(names)
        self.symbols: Final = Symbols(self._arena.allocate(_SLOT_BYTES << bits), 64 - bits)
        for symbol_id, name in enumerate(names):
            self._insert(name, symbol_id)

    def _insert(self, name: str, symbol_id: int) -> None:
        if (
            not 1 <= len(name) <= SYMBOL_CHARACTERS
            or not name.isascii()
            or not name.isprintable()
            or " " in name
        ):
            raise UserError(
                f"gateway.symbols: {name!r} is no symbol: 1 to {SYMBOL_CHARACTERS} printable ASCII characters"
            )
        key = symbol_word(name)
        if find_symbol(self.symbols, key) != UNKNOWN:
            raise UserError(f"gateway.symbols: {name!r} is there twice")
        slot = _first_slot(self.symbols, key)
        while load_int64(self.symbols.slots + slot * _SLOT_BYTES) != 0:
            slot = _next_slot(self.symbols, slot)
        store_int64(self.symbols.slots + slot * _SLOT_BYTES, key)
        store_int64(self.symbols.slots + slot * _SLOT_BYTES + 8, symbol_id)


def symbol_word(name: str) -> int:
    """The eight bytes of a symbol in a message, as the signed word that compiled code loads."""
    return int.from_bytes(name.encode("ascii").ljust(SYMBOL_CHARACTERS), "big", signed=True)


@inlined
def _first_slot(symbols: Symbols, key: int) -> int:
    return shift_right_logical(multiply_wrapping(key, _GOLDEN), symbols.shift)


@inlined
def _next_slot(symbols: Symbols, slot: int) -> int:
    return (slot + 1) & ((1 << (64 - symbols.shift)) - 1)


@inlined
def find_symbol(symbols: Symbols, key: int) -> int:
    """The number of the symbol whose eight bytes are ``key``, or :data:`UNKNOWN`."""
    slot = _first_slot(symbols, key)
    while True:
        found = load_int64(symbols.slots + slot * _SLOT_BYTES)
        if found == key and found != 0:
            return load_int64(symbols.slots + slot * _SLOT_BYTES + 8)
        if found == 0:
            return UNKNOWN
        slot = _next_slot(symbols, slot)
