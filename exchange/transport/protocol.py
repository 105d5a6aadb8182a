"""What a transport promises, once, for every variant.

A transport is where commands come from and where events go. Inside the exchange both are 64-byte records; how
they get across a wire is the transport's business. It never waits: no command yet is 0, no room is fewer than
asked.

* A *source* belongs to one ingress agent. :func:`receive` shows the next commands where they lie (no copy);
  :func:`consume` says how many of them were taken. What was shown and not consumed is shown again.
* A *sink* belongs to one egress agent. :func:`send` takes events from the shards; those of one shard come in
  order. :func:`flush` follows at the end of each turn, with or without events, so that a sink can send once for
  all that the turn brought."""

from typing import Any

from exchange.native import generic


@generic
def receive(source: Any, limit: int) -> tuple[int, int]:
    """The address of the next commands and how many are there now (0 to ``limit``)."""
    raise NotImplementedError


@generic
def consume(source: Any, count: int) -> None:
    """Take the first ``count`` of the commands that :func:`receive` showed last."""
    raise NotImplementedError


@generic
def send(sink: Any, events_address: int, count: int) -> None:
    """Take ``count`` consecutive events of one shard."""
    raise NotImplementedError


@generic
def flush(sink: Any) -> int:
    """Do what is due without events: send what waits, keep connections alive. Called at every turn of the egress.

    Returns how much was done, 0 if there was nothing to do.
    """
    raise NotImplementedError


OPERATIONS = (receive, consume, send, flush)
