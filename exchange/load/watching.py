"""Which lines of a load are silent: looked at from beside the loop, which has no time for that.

Rules: the words are only read, and the loop may be writing them: what is seen may be a moment old.
"""

import time
from collections.abc import Sequence
from typing import Final

from exchange.liveness import Liveness
from exchange.load.words import AWAY, HEARD_NS, NEXT, SETTLED
from exchange.native import load_acquire, load_int64


class LineWatch:
    """The lines of a run.

    Args:
        addresses: of the sessions' words.
        limits: how many seconds a line may be silent, and how many while a request is unanswered.
    """

    def __init__(self, addresses: Sequence[int], limits: tuple[float, float]) -> None:
        self._addresses: Final = addresses
        self._lives: Final = [Liveness(*limits, 0.0) for _ in addresses]

    def silent(self, start_ns: int) -> list[int]:
        """The indexes of the sessions whose lines are to be given up now; each is then given as much time again."""
        found, now = [], (time.monotonic_ns() - start_ns) / 1e9
        for index, (life, address) in enumerate(zip(self._lives, self._addresses, strict=True)):
            if load_acquire(address + AWAY) != 0:
                continue
            life.heard(load_int64(address + HEARD_NS) / 1e9)
            is_waiting = load_int64(address + NEXT) > load_int64(address + SETTLED)
            if is_waiting:
                life.asked(now)
            if now >= life.gives_up_at(is_waiting):
                life.heard(now)
                found.append(index)
        return found
