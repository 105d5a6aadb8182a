"""Lines of the log about what was refused, few of them however much it is.

Whoever is refused or closed gets a line with the reason. But a client that is refused a thousand times a second would
write a thousand lines, and then it is the log that it hurts. So the first of a kind is written at once, the others of
the same second are counted, and when the second is over one line says how many more there were. A *kind* is what
happened, to whom, and why. Of kinds there are at most :data:`KINDS_MAX` in a second; what comes on top of them is
counted together.

Rules: one thread. In a running event loop the counts are written by themselves; :meth:`RefusalLog.flush` writes them
now, for the end."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from exchange.logs import log_event

SECOND: Final = 1.0
KINDS_MAX: Final = 16
"""Lines of refusals in a second, and as many again for the counts."""


class RefusalLog:
    """Writes what is refused, and counts it.

    Args:
        clock: seconds that only go on.

    Attributes:
        total: how often :meth:`note` was called.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._clock: Final = clock
        self._began = clock() - SECOND
        self._more: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._others = 0
        self._flushing: asyncio.TimerHandle | None = None

    def note(
        self, event: str, peer: str, reason: str, *, level: int = logging.WARNING, **fields: object
    ) -> None:
        """Something was refused: write a line, or count it."""
        self.total += 1
        now, kind = self._clock(), (event, peer, reason)
        if now - self._began >= SECOND:
            self.flush()
            self._began = now
        if kind in self._more:
            count, _ = self._more[kind]
            self._more[kind] = count + 1, level
        elif len(self._more) < KINDS_MAX:
            self._more[kind] = 0, level
            log_event(event, level=level, peer=peer, **fields, reason=reason)
            return
        else:
            self._others += 1
        self._flush_later()

    def flush(self) -> None:
        """Write the counts of what has not been written, and begin anew."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        for (event, peer, reason), (count, level) in self._more.items():
            if count > 0:
                log_event(event, level=level, peer=peer, reason=reason, more=count)
        if self._others > 0:
            log_event(
                "refused", level=logging.WARNING, peer="others", reason="of all kinds", more=self._others
            )
        self._more.clear()
        self._others = 0

    def _flush_later(self) -> None:
        """See to it that the counts are written when the second is over."""
        if self._flushing is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # without a loop the next note does it
            return
        self._flushing = loop.call_later(max(0.0, self._began + SECOND - self._clock()), self.flush)
