"""The exchange's clock: nanoseconds since 1970, from one source for everything that carries a time.

An agent that needs the time holds a clock, whose type says where the time comes from:

* :class:`SystemClock`: the monotonic clock, plus what was missing to the time of day when the exchange started. So it
  never goes back and runs evenly, whatever is done to the machine's time meanwhile; and times mean the same before and
  after a restart.
* :class:`ManualClock`: a word in memory, which a simulation or a test moves on.

Rules: the ingress takes the time once a turn and stamps it on the commands of that turn, and no two turns of an ingress
stamp the same time, also where the clock stands still (:func:`exchange.transport.network_agents.turn_time_ns`). Nothing
behind it asks for the time of an order again: what clients and the feed are told carries the command's time, and is
thereby a function of the commands alone.
"""

import time
from typing import Any, Final, NamedTuple

from exchange.native import Arena, generic, implements, load_acquire, monotonic_ns, store_release


@generic
def now_ns(clock: Any) -> int:
    """Nanoseconds since 1970, as this clock has them."""
    raise NotImplementedError


class SystemClock(NamedTuple):
    """``offset_ns`` is what is added to the monotonic clock."""

    offset_ns: int


class ManualClock(NamedTuple):
    """The time stands at ``address``."""

    address: int


@implements(now_ns, SystemClock)
def _now_system(clock: SystemClock) -> int:
    return monotonic_ns() + clock.offset_ns


@implements(now_ns, ManualClock)
def _now_manual(clock: ManualClock) -> int:
    return load_acquire(clock.address)


Clock = SystemClock | ManualClock


def start_system_clock() -> SystemClock:
    """A clock that shows the time of day now."""
    return SystemClock(time.time_ns() - time.monotonic_ns())


class ManualTime:
    """Owner of a manual clock's word."""

    def __init__(self, start_ns: int) -> None:
        self._arena: Final = Arena.private(64, huge_pages="never")
        self.clock: Final = ManualClock(self._arena.allocate(8))
        store_release(self.clock.address, start_ns)

    def advance(self, duration_ns: int) -> None:
        """Move the time on."""
        store_release(self.clock.address, load_acquire(self.clock.address) + duration_ns)
