"""Which shard owns a symbol: rendezvous hashing of its name, and what the profile says otherwise.

Every pair of a symbol and a shard has a weight, a digest of both, and the symbol belongs to the shard with the highest
(*highest random weight*). Nobody keeps a table, and whoever knows the name and how many shards there are comes to the
same owner, in any process and on any machine. With one shard more a symbol either stays where it is or goes to the new
one, for the weights of the old ones are what they were: of ``n`` symbols some ``n / (shards + 1)`` move. Dealing them
out by number, ``symbol_id % shards``, would move nearly all of them, and another number for a symbol would move it too.

**How even it is.** As even as dice. Of ``n`` symbols on ``s`` shards each shard gets ``n / s`` on average and
``sqrt(n / s)`` more or less, so the fullest of few shards has a few per cent too many of a thousand symbols, and
perhaps all but one of eight. Symbols are not alike either: the busiest may want a shard to itself. So a profile can
name owners, ``[shards] assign = { AAPL = 0 }``, which hold whatever the weights say. Bounding the number of symbols of
a shard instead (Mirrokni, Thorup and Zadimoghaddam 2018, "Consistent hashing with bounded loads") would move symbols
between old shards when one is added, and would count names where load is meant.

**Symbols without names.** A transport in memory has numbers only, and nothing of such an exchange outlives its run, so
that nobody cares what moves. There symbols are dealt out in turn, and the profile's ``assign`` is not read.

Rules: the digest of a pair never changes, or journals would find their symbols on other shards (which
:mod:`exchange.journal.identity` refuses).

Source: Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates"."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from exchange.transport.config import MemoryTransportConfig

if TYPE_CHECKING:
    from exchange.settings import Settings


def weight_of(symbol: str, shard: int) -> int:
    """The weight that a shard has for a symbol: 64 bits, the same everywhere and for ever."""
    return int.from_bytes(blake2b(f"{shard}:{symbol}".encode(), digest_size=8).digest(), "big")


def owner_by_name(symbol: str, shard_count: int) -> int:
    """The shard with the highest weight for a symbol; of equal weights, which one never sees, the first."""
    return max(range(shard_count), key=lambda shard: weight_of(symbol, shard))


def owners_by_name(
    symbols: Sequence[str], shard_count: int, assigned: Mapping[str, int] | None = None
) -> list[int]:
    """For each symbol the shard that owns it.

    Args:
        symbols: their names.
        shard_count: how many shards there are.
        assigned: owners that hold whatever the weights say, by name; each less than ``shard_count``.
    """
    named = assigned or {}
    return [named[symbol] if symbol in named else owner_by_name(symbol, shard_count) for symbol in symbols]


def owners_by_number(symbol_count: int, shard_count: int) -> list[int]:
    """For each of some symbols without names the shard that owns it: dealt out in turn."""
    return [symbol_id % shard_count for symbol_id in range(symbol_count)]


def spread_symbols(settings: "Settings", symbol_count: int) -> list[int]:
    """For each symbol of an exchange with these settings the shard that owns it.

    Args:
        settings: where there are sessions, ``gateway.symbols`` has the names.
        symbol_count: how many symbols there are, which is all that is known of them on a transport in memory.
    """
    shards = settings.shards
    if isinstance(settings.transport, MemoryTransportConfig):
        return owners_by_number(symbol_count, shards.count)
    symbols = settings.gateway.symbols
    assert len(symbols) == symbol_count, "an exchange with sessions has the symbols of its gateway"
    return owners_by_name(symbols, shards.count, shards.assign)


def symbols_by_shard(symbols: Sequence[str], owners: Sequence[int], shard_count: int) -> list[list[str]]:
    """For each shard the names of its symbols, in the symbols' order."""
    found: list[list[str]] = [[] for _ in range(shard_count)]
    for symbol, owner in zip(symbols, owners, strict=True):
        found[owner].append(symbol)
    return found
