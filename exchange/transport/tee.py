"""Two sinks in the place of one: what an egress sends goes to both, in order.

So an exchange answers its clients and publishes its market data from the same events, in the same turn. More than
two are nested: ``Tee(a, Tee(b, c))``.

Rules: as of any sink, one egress uses it. The first sink gets everything first.
"""

from typing import Any, NamedTuple

from exchange.native import implements
from exchange.transport.protocol import flush, send


class Tee(NamedTuple):
    """Both sinks."""

    first: Any
    second: Any


@implements(send, Tee, inline=False)
def _send(tee: Tee, events_address: int, count: int) -> None:
    send(tee.first, events_address, count)
    send(tee.second, events_address, count)


@implements(flush, Tee, inline=False)
def _flush(tee: Tee) -> int:
    return flush(tee.first) + flush(tee.second)
