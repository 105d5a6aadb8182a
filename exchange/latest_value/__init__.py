"""The latest-value layer: what one thread knows, readable by all, always consistent, never waited for.

======== ================================ ==================================================================
variant  what it is                       what it trades
======== ================================ ==================================================================
seqlock  a sequence number around it      the writer never waits; a reader that was disturbed reads again
locked   the same under a pthread mutex   every read succeeds at once; readers hold up the writer
======== ================================ ==================================================================

A shard publishes its top of book and its statistics this way. What both promise stands in
:mod:`exchange.latest_value.protocol`.
"""

from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

if TYPE_CHECKING:
    from exchange.latest_value.protocol import LatestValue
    from exchange.native import Arena


class SeqlockValueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="seqlock"):
    """A sequence number around the record."""


class LockedValueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="locked"):
    """Under a pthread mutex."""


LatestValueConfig = SeqlockValueConfig | LockedValueConfig


def build_latest_value(
    config: LatestValueConfig, word_count: int, arena: "Arena | None" = None
) -> "LatestValue":
    """A latest value of the chosen variant, a record of ``word_count`` 64-bit words, all zero at first.

    Args:
        config: the variant.
        word_count: how many words the record has.
        arena: where to make it, or to find one that another process has made; ``None`` means private memory of
            its own.

    Raises:
        UserError: the word count is out of range, or the arena holds a record that was built for something else.
    """
    match config:
        case SeqlockValueConfig():
            from exchange.latest_value.seqlock import SeqlockValue

            return SeqlockValue(word_count, arena)
        case LockedValueConfig():
            from exchange.latest_value.locked import LockedValue

            return LockedValue(word_count, arena)
        case _:
            assert_never(config)
