"""The statistics of a running exchange: one document that anybody may poll, ten to twenty times a second.

``GET /statistics`` of the admin interface (:mod:`exchange.admin.app`) answers with a :class:`Statistics` as JSON,
and the metrics for Prometheus are made of the same. Its numbers are words that the agents write anyway; who reads them
takes nothing from the order path but a cache line now and then.

What only grows (commands, events, requests, messages) is counted from the start of the exchange, so that any two
documents give the rates between them. What goes up and down (slots in use, orders, connected sessions) is as it was
at that moment; words of different threads are read one after the other, so they need not add up to the last unit while
orders flow. When the exchange is at rest they do.

The latency is the *exchange's own*: from the turn of the ingress that received a request's bytes until the turn of
the egress that made its events has handed its bytes to the sockets. In it are decoding, checking, both queues, the
book and encoding, and the kernel's time inside the calls that receive and send. Not in it is how long the bytes waited
in the kernel before that turn, what the kernel and the network do with them afterwards, and how long a session's
messages wait in its log because its socket is full. Each event is counted; `exchange load` measures what a client sees.
"""

from msgspec import Struct


class QueueStatistics(Struct, frozen=True):
    """A queue between two agents. ``refused``: pushes that found no room, wholly or in part; None: it does not tell."""

    used_slots: int | None
    capacity_slots: int
    refused: int


class ShardStatistics(Struct, frozen=True):
    """A shard: what it has done since the start, what rests in its books, and the queues before and behind it.

    ``commands`` is all that it has given a sequence, the gateway's own answers included.
    """

    shard: int
    commands: int
    events: int
    live_orders: int
    capacity_orders: int
    inbox: QueueStatistics
    outbox: QueueStatistics


class GatewayStatistics(Struct, frozen=True):
    """Clients' side. ``requests``: OUCH messages taken; ``answers``: sequenced messages written for clients.

    ``connections_refused`` had no chance to log on, or did not take it; ``logons_rejected`` logons were not accepted.
    """

    requests: int
    answers: int
    sessions_connected: int
    sessions_total: int
    sessions_killed: int = 0
    connections_refused: int = 0
    logons_rejected: int = 0


class LatencyStatistics(Struct, frozen=True):
    """The latency inside the exchange, of the last ``window_seconds``: one to two, or since the look before this one.

    ``count`` events were measured; the percentiles, in nanoseconds, are None if there were none.
    """

    window_seconds: float
    count: int
    p50: int | None
    p90: int | None
    p99: int | None
    p99_9: int | None
    max: int | None


class FeedStatistics(Struct, frozen=True):
    """Market data: messages of the feed, datagrams sent and refused by the kernel, re-requests that were answered."""

    messages: int
    unsent_messages: int
    datagrams: int
    refused_datagrams: int
    requests_answered: int


class SymbolStatistics(Struct, frozen=True):
    """A symbol and its trading state, as clients and the feed have been told: ``trading`` or ``halted``.

    ``reason`` is the code of the feed's trading action, such as ``T1``; empty if none was given. ``shard`` owns it.
    """

    symbol: str
    state: str
    reason: str
    shard: int


class RiskStatistics(Struct, frozen=True):
    """A session that has orders, or had some refused; ``refused`` counts them by reason, from the start."""

    user: str
    open_orders: int
    exposure: int
    refused: dict[str, int]


class Statistics(Struct, frozen=True):
    """The document. ``time_ns`` is the wall clock since 1970, ``feed`` is None if the exchange publishes none.

    ``risk`` has the sessions about which there is something to say; none if nothing is limited or counted. ``port`` is
    what a card has counted, frames and the driver's own names; empty where the kernel has the card.
    """

    time_ns: int
    uptime_seconds: float
    shards: list[ShardStatistics]
    gateway: GatewayStatistics
    latency_ns: LatencyStatistics
    feed: FeedStatistics | None
    symbols: list[SymbolStatistics]
    risk: list[RiskStatistics] = []
    port: dict[str, int] = {}
