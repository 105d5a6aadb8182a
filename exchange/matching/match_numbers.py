"""The number of a trade as the world knows it: one over all shards.

Each shard counts its own trades from 1, because nothing that shards do is shared. Whoever tells of a trade outside (the
feed to everybody, the gateway to the two sides) gives it the number that no trade of another shard has, and both give
it the same."""

from exchange.native import inlined


@inlined
def public_match_number(match_number: int, shard: int, shard_count: int) -> int:
    """The number of a shard's trade that no trade of another shard has; with one shard it is the shard's own."""
    return (match_number - 1) * shard_count + shard + 1
