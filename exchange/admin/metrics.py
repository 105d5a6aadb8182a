"""The statistics in Prometheus' text format, made of one :class:`~exchange.gateway.statistics.Statistics`.

Every number is a counter (``_total``), which only grows, or a gauge, in base units: seconds, slots, orders. A scrape
reads what a page reads; there is no second count of anything. The latency of a window is given as quantiles.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exchange.gateway.statistics import Statistics

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_QUANTILES: Final = {"0.5": "p50", "0.9": "p90", "0.99": "p99", "0.999": "p99_9", "1": "max"}


def render_metrics(statistics: Statistics) -> bytes:
    """The text of a scrape."""
    registry = CollectorRegistry()
    registry.register(_StatisticsCollector(statistics))
    return generate_latest(registry)


class _StatisticsCollector(Collector):
    """One document as metrics."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics: Final = statistics

    def collect(self) -> Iterator[Metric]:
        """All metrics of the document."""
        yield _gauge("uptime_seconds", "Time since the exchange was built.", self._statistics.uptime_seconds)
        yield from self._shards()
        yield from self._gateway()
        yield from self._feed()
        yield from self._port()
        yield from self._risk()
        halted = GaugeMetricFamily("exchange_symbol_halted", "1 while a symbol is halted.", labels=["symbol"])
        for symbol in self._statistics.symbols:
            halted.add_metric([symbol.symbol], float(symbol.state == "halted"))
        yield halted

    def _shards(self) -> Iterator[Metric]:
        shards = self._statistics.shards
        commands = CounterMetricFamily("exchange_commands", "Commands sequenced.", labels=["shard"])
        events = CounterMetricFamily("exchange_events", "Events made.", labels=["shard"])
        orders = GaugeMetricFamily("exchange_live_orders", "Orders in the books.", labels=["shard"])
        labels = ["shard", "queue"]
        used = GaugeMetricFamily("exchange_queue_used_slots", "Records waiting in a queue.", labels=labels)
        slots = GaugeMetricFamily("exchange_queue_capacity_slots", "Room of a queue.", labels=labels)
        refused = CounterMetricFamily(
            "exchange_queue_refused", "Pushes that found no room: back-pressure.", labels=labels
        )
        for shard in shards:
            number = str(shard.shard)
            commands.add_metric([number], shard.commands)
            events.add_metric([number], shard.events)
            orders.add_metric([number], shard.live_orders)
            for name, queue in (("inbox", shard.inbox), ("outbox", shard.outbox)):
                if queue.used_slots is not None:
                    used.add_metric([number, name], queue.used_slots)
                slots.add_metric([number, name], queue.capacity_slots)
                refused.add_metric([number, name], queue.refused)
        yield from (commands, events, orders, used, slots, refused)

    def _gateway(self) -> Iterator[Metric]:
        gateway, latency = self._statistics.gateway, self._statistics.latency_ns
        yield _counter("requests", "OUCH messages taken from clients.", gateway.requests)
        yield _counter("answers", "Sequenced messages written for clients.", gateway.answers)
        yield _gauge("sessions_connected", "Sessions with a connection.", gateway.sessions_connected)
        yield _gauge("sessions_total", "Sessions, that is users.", gateway.sessions_total)
        yield _gauge("sessions_killed", "Sessions of which nothing is taken.", gateway.sessions_killed)
        yield _counter(
            "connections_refused", "Connections that ended before a logon.", gateway.connections_refused
        )
        yield _counter("logons_rejected", "Logons that were rejected.", gateway.logons_rejected)
        quantiles = GaugeMetricFamily(
            "exchange_latency_seconds",
            "From a request's bytes received to its events' bytes handed to the socket, in the last window.",
            labels=["quantile"],
        )
        for quantile, name in _QUANTILES.items():
            value_ns = getattr(latency, name)
            if value_ns is not None:
                quantiles.add_metric([quantile], value_ns / 1e9)
        yield quantiles

    def _feed(self) -> Iterator[Metric]:
        feed = self._statistics.feed
        if feed is None:
            return
        yield _counter("feed_messages", "Messages of the feed.", feed.messages)
        yield _gauge("feed_unsent_messages", "Messages that wait to be sent.", feed.unsent_messages)
        yield _counter("feed_datagrams", "Datagrams that the kernel took.", feed.datagrams)
        yield _counter("feed_refused_datagrams", "Datagrams that the kernel refused.", feed.refused_datagrams)
        yield _counter("feed_requests_answered", "Re-requests answered.", feed.requests_answered)

    def _port(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "exchange_port",
            "What the card has counted: our frames, and the driver's names.",
            labels=["counter"],
        )
        for name, count in self._statistics.port.items():
            counts.add_metric([name], count)
        yield counts

    def _risk(self) -> Iterator[Metric]:
        labels = ["user"]
        orders = GaugeMetricFamily(
            "exchange_session_open_orders", "Orders alive or on their way.", labels=labels
        )
        exposure = GaugeMetricFamily(
            "exchange_session_exposure", "Open lots times price in ticks.", labels=labels
        )
        refused = CounterMetricFamily(
            "exchange_risk_refused", "Orders that broke a limit.", labels=["user", "reason"]
        )
        for one in self._statistics.risk:
            orders.add_metric([one.user], one.open_orders)
            exposure.add_metric([one.user], one.exposure)
            for reason, count in one.refused.items():
                refused.add_metric([one.user, reason], count)
        yield from (orders, exposure, refused)


def _counter(name: str, told: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"exchange_{name}", told, value=value)


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"exchange_{name}", told, value=value)
