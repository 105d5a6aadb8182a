"""No replication: nobody is waited for, and no lease is asked for.

The gate is made of constants, so an egress that asks it costs what one costs that does not."""

from typing import Any, NamedTuple

from exchange.native import implements
from exchange.replication.protocol import ALL_REPLICATED, may_release, replicated_sequence


class NoGate(NamedTuple):
    """Nothing; compiled code wants one field."""

    replicated: int = ALL_REPLICATED


class NoReplica:
    """The owner of nothing."""

    is_kept = False

    def writers(self, journals: tuple[Any, ...]) -> tuple[Any, ...]:
        """The journals as they are."""
        return journals

    def gate_state(self) -> NoGate:
        """A gate that is open."""
        return NoGate()

    def close(self) -> None:
        """Nothing to close."""


@implements(replicated_sequence, NoGate)
def _replicated_sequence(gate: NoGate, stream: int) -> int:
    return ALL_REPLICATED


@implements(may_release, NoGate)
def _may_release(gate: NoGate) -> bool:
    return True
