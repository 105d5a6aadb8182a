"""What an exchange and the servers beside it write to their logs: a line for what happens once, as text or as JSON.

A line is an *event* with fields: ``login user=alice session=0 peer=127.0.0.1 sequence=1``. As JSON it is one object
with the same names, for a collector. Lines go to standard error; who wants files and rotation has tools for both.

Rules:

* Every line about a session has ``user``, ``session`` (its number) and ``sequence``, the number of the last message
  that the session was sent.
* What a client sends is quoted, so that nobody can forge a line with a line break in a name.
* No password and no token is ever a field.
* Only what handles connections and processes logs. The agents that handle messages never do: what they have to say are
  words in memory, which others read.
* A child process logs as its parent does: it is started with :func:`format_options`.
"""

import json
import logging
from typing import Final, Literal

LogFormat = Literal["text", "json"]

LOGGER: Final = logging.getLogger("exchange")
_FIELDS: Final = "exchange_fields"


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Write a line: what happened, in a word or two, and what there is to know about it."""
    LOGGER.log(level, event, extra={_FIELDS: fields})


class TextFormatter(logging.Formatter):
    """``time LEVEL event name=value ...``; a value with anything but plain characters is a JSON string."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields = getattr(record, _FIELDS, {})
        return " ".join(
            [super().format(record), *(f"{name}={_shown(value)}" for name, value in fields.items())]
        )


class JsonFormatter(logging.Formatter):
    """An object for each line: ``time`` (seconds since 1970), ``level``, ``event``, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, object] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, _FIELDS, {}), default=str)


def start_logging(log_format: LogFormat, *, quiet: bool) -> None:
    """Write the lines to standard error from now on; ``quiet``: only those that are warnings or worse."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])


def format_options() -> tuple[str, ...]:
    """The options of a command with which a child process writes its lines as this one does."""
    is_json = any(isinstance(one.formatter, JsonFormatter) for one in logging.getLogger().handlers)
    return ("--log-format", "json") if is_json else ()


def _shown(value: object) -> str:
    text = str(value)
    is_plain = text.isascii() and text.isprintable() and text != "" and not set(text) & set(' "=\\')
    return text if is_plain else json.dumps(text)
