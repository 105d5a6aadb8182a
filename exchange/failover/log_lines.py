"""The log of an exchange (``--log-format json``), read line by line while it is written.

A thread reads, so that the exchange never waits for us; who wants to know something waits for it here, or is told of
each line as it comes. What is no line of the log (progress while it compiles, a mistake that ended it) is kept as it
is.

Rules: a line's time is the exchange's own, in nanoseconds since 1970; between processes of one machine it is one clock.
"""

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple


class LogLine(NamedTuple):
    """What was logged: when, what, and with which fields."""

    time_ns: int
    event: str
    fields: dict[str, Any]


def parse_line(text: str) -> LogLine | None:
    """A line of a log; None if it is none."""
    try:
        line = json.loads(text)
        return LogLine(round(float(line["time"]) * 1e6) * 1000, str(line["event"]), line)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


class NodeLog:
    """A log that is being written.

    Args:
        source: its lines; it ends when the process does.
        heard: is told each line, on the thread that reads.

    Attributes:
        lines: all lines so far.
        others: what was no line.
    """

    def __init__(self, source: Iterable[str], heard: Callable[[LogLine], None]) -> None:
        self.lines: Final[list[LogLine]] = []
        self.others: Final[list[str]] = []
        self._source: Final = source
        self._heard: Final = heard
        self._changed: Final = threading.Condition()
        self._is_over = False
        self._thread: Final = threading.Thread(target=self._read, name="log", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether everything was read that there will ever be."""
        return self._is_over

    def find(self, event: str) -> LogLine | None:
        """The newest line of an event; None if there is none yet."""
        return next((line for line in reversed(self.lines) if line.event == event), None)

    def wait(self, event: str, seconds: float) -> LogLine | None:
        """Wait for a line; None if it does not come in time, or the log ends before."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self.find(event) is not None, timeout=seconds)
            return self.find(event)

    def all(self) -> tuple[LogLine, ...]:
        """All lines so far."""
        with self._changed:
            return tuple(self.lines)

    def join(self, seconds: float) -> None:
        """Wait for the end of the log."""
        self._thread.join(seconds)

    def _read(self) -> None:
        for text in self._source:
            line = parse_line(text)
            if line is None:
                self.others.append(text.rstrip("\n"))
                continue
            self._heard(line)
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
