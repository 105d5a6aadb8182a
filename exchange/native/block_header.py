"""The first words of a structure in memory: what it is, and what it was built for.

Two processes that share an arena must mean the same thing by its bytes. So every structure that can live in
one begins with a header. Whoever finds the memory fresh (zero) writes it; everyone after compares, and is
told in words what differs.

Rule: a structure is built in one process first, and attached to by others after that; two processes that
build at the same moment are not told apart."""

from collections.abc import Mapping
from typing import Final

from exchange.errors import UserError
from exchange.native.raw_memory import load_int64, store_int64

HEADER_BYTES: Final = 128
"""Room that a structure leaves for its header."""

_MAGIC: Final = 0x45584348_424C4F43
_WORDS_MAX: Final = HEADER_BYTES // 8 - 1


def take_header(address: int, what: str, fields: Mapping[str, int | str]) -> bool:
    """Write the header into fresh memory, or compare it with the one that stands there.

    Args:
        address: of :data:`HEADER_BYTES` bytes, a multiple of 8.
        what: the kind of structure, for the message.
        fields: what the structure is built for, by name: integers, and words of which the first 7 bytes count.

    Returns:
        Whether the memory was fresh, so that the caller is the one to initialise the rest.

    Raises:
        UserError: it holds something else, or one that was built for something else.
    """
    assert len(fields) <= _WORDS_MAX
    found_magic = load_int64(address)
    if found_magic not in (0, _MAGIC):
        raise UserError(f"shared {what}: the memory holds something else (magic {found_magic:#x})")
    for index, (name, value) in enumerate(fields.items(), start=1):
        word = _to_word(value)
        if found_magic == 0:
            store_int64(address + 8 * index, word)
        elif (found := load_int64(address + 8 * index)) != word:
            shown = found if isinstance(value, int) else _to_text(found)
            raise UserError(f"shared {what}: its {name} is {shown!r}, but {value!r} was asked for")
    store_int64(address, _MAGIC)
    return found_magic == 0


def _to_word(value: int | str) -> int:
    return value if isinstance(value, int) else int.from_bytes(value.encode()[:7], "little")


def _to_text(word: int) -> str:
    return word.to_bytes(8, "little", signed=True).rstrip(b"\0").decode(errors="replace")
