"""From an order token (OUCH 4.2) to the number that the gateway knows the order by, and whether a token is new.

In OUCH 4.2 a client names its orders with tokens of fourteen characters, each of which it may use once a day. The
gateway gives each token the next number, 1, 2, 3 ..., and is then where it is with OUCH 5.0, whose clients number their
orders themselves: the order table, the engine and the answers know numbers.

This is the only thing that has to remember the dead as well: a token that was used before is a repetition, whatever
became of its order. So it is a hash table that only grows, up to a bound: an open-addressing table of slots with two
words of the token and the number, searched for :data:`PROBES_MAX` slots at most, so that no choice of tokens can make
the search long. It has two slots for each Accepted message that fits into the session's log: the log is full first.
A token that finds no room is not taken, which is a reason to reject.

Rules: the inbound agent of the session alone reads and writes it. The first word is the key that spreads the slots."""

from typing import Final

from exchange.native import (
    Arena,
    inlined,
    load_big_endian_int64,
    load_big_endian_uint48,
    load_int64,
    multiply_wrapping,
    shift_right_logical,
    store_int64,
)

TOKEN_CHARACTERS: Final = 14
PROBES_MAX: Final = 256
SLOT_BYTES: Final = 24
HEADER_BYTES: Final = 64
SHIFT: Final = 0
"""The header: how far a hash is shifted to be a slot's number."""
NO_SLOT: Final = 0

_NUMBER: Final = 16
_LOG_BYTES_PER_SLOT: Final = 32
_GOLDEN: Final = -0x61C8864680B583EB
_MIX: Final = -0x4B47D0C5A1A7B8D3
"""Two odd numbers that spread the bits of the token's words over the hash (the first: Knuth, volume 3, 6.4)."""


class TokenIndex:
    """Owner of the tokens of one session.

    Args:
        log_bytes: the size of the session's log, which bounds how many orders it can have in a day.
    """

    def __init__(self, log_bytes: int) -> None:
        bits = max((log_bytes // _LOG_BYTES_PER_SLOT).bit_length() - 1, 8)
        size_bytes = HEADER_BYTES + (SLOT_BYTES << bits)
        # Most tokens of most days are never used: no huge pages.
        self._arena: Final = Arena.private(size_bytes + 4096, huge_pages="never")
        self.address: Final = self._arena.allocate(size_bytes)
        store_int64(self.address + SHIFT, 64 - bits)


@inlined
def find_token(tokens: int, token: int) -> tuple[int, int]:
    """Number and slot of the token at the address ``token``: see :func:`find_token_words`."""
    return find_token_words(tokens, load_big_endian_int64(token), load_big_endian_uint48(token + 8))


@inlined
def find_token_words(tokens: int, first: int, second: int) -> tuple[int, int]:
    """Number and slot of a token, given as a word of eight characters and one of six.

    Returns:
        The number, 0 if the token is new; and its slot, which is free if it is new, or :data:`NO_SLOT` if there is no
        room for it.
    """
    shift = load_int64(tokens + SHIFT)
    mask = (1 << (64 - shift)) - 1
    hashed = multiply_wrapping(multiply_wrapping(second, _MIX) ^ first, _GOLDEN)
    place = shift_right_logical(hashed, shift)
    for _probe in range(PROBES_MAX):
        slot = tokens + HEADER_BYTES + place * SLOT_BYTES
        number = load_int64(slot + _NUMBER)
        if number == 0:
            return 0, slot
        if load_int64(slot) == first and load_int64(slot + 8) == second:
            return number, slot
        place = (place + 1) & mask
    return 0, NO_SLOT


@inlined
def keep_token(slot: int, token: int, number: int) -> None:
    """Remember that the token at the address ``token`` has that number; ``slot`` is what :func:`find_token` found."""
    keep_token_words(slot, load_big_endian_int64(token), load_big_endian_uint48(token + 8), number)


@inlined
def keep_token_words(slot: int, first: int, second: int, number: int) -> None:
    """The same for a token of two words."""
    store_int64(slot, first)
    store_int64(slot + 8, second)
    store_int64(slot + _NUMBER, number)
