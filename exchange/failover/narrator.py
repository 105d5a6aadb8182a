"""What a demonstration says while it runs: what happens, and the time since the beginning or since the strike.

Rules: any thread may tell something; lines do not mix.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from exchange.failover.log_lines import LogLine
from exchange.replication.backup import LINE_ENDED, TAKING_OVER


class Narrator:
    """Tells what happens while it happens.

    Args:
        say: is given each line.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say: Final = say
        self._began: Final = time.monotonic()
        self._lock: Final = threading.Lock()

    def tell(self, text: str) -> None:
        """Tell something that happens now."""
        with self._lock:
            self._say(f"{time.monotonic() - self._began:7.1f} s  {text}")

    def tell_after(self, after_ns: int, text: str) -> None:
        """Tell something that happened so long after a strike."""
        with self._lock:
            self._say(f"{after_ns / 1e6:+19.1f} ms  {text}")


def told_of(name: str, line: LogLine) -> str | None:
    """What the new primary's log says of a failover, in words; None if it says something else."""
    fields = line.fields
    match line.event:
        case "backup" if fields.get("state") in (LINE_ENDED, TAKING_OVER):
            return f"{name}: {fields['state']}"
        case "took over":
            return f"{name} is primary, in epoch {fields.get('epoch')}"
        case "listening":
            return f"{name} listens to clients"
        case "login":
            return f"{name} lets {fields.get('user')} in, from message {fields.get('sequence')} on"
        case _:
            return None
