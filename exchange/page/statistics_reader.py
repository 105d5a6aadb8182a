"""The exchange's statistics, asked of its admin interface, and the points that charts are made of.

:class:`StatisticsReader` fetches :class:`exchange.gateway.statistics.Statistics`. When there is no answer it says why
in words, and tries again at the next call; the page goes on with the feed alone.

:class:`Sampler` makes a :class:`~exchange.page.documents.Point` of the feed's count of messages and the last two
documents: what only grows becomes a rate.
"""

import asyncio
import ssl
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from exchange.admin.access import read_token
from exchange.admin.client import AdminClient
from exchange.errors import UserError
from exchange.gateway.statistics import ShardStatistics, Statistics
from exchange.page.documents import Point, QueueUse

TIMEOUT_SECONDS: Final = 2.0
POINTS_KEPT: Final = 240
"""Two minutes of half seconds: what a browser that comes has to begin with."""


class StatisticsReader:
    """Asks the admin interface.

    Args:
        url: such as ``http://127.0.0.1:9010``; empty: there is none, and the page says so.
        token_file: holds the token, unless the environment variable ``EXCHANGE_ADMIN_TOKEN`` does.
        trusted: who vouches for it over https; None: whom the machine trusts.
    """

    def __init__(self, url: str, token_file: str, trusted: ssl.SSLContext | None = None) -> None:
        self._url: Final = url
        self._trusted: Final = trusted
        self._token_file: Final = Path(token_file)

    async def read(self) -> Statistics | str:
        """The statistics, or why there are none. Waits in a thread of its own, for two seconds at most."""
        if not self._url:
            return "this page was started without the address of an admin interface (--admin)"
        return await asyncio.to_thread(self._read)

    def _read(self) -> Statistics | str:
        try:
            client = AdminClient(self._url, read_token(self._token_file), TIMEOUT_SECONDS, self._trusted)
            return msgspec.convert(client.get("statistics"), Statistics)
        except UserError as error:
            return str(error)
        except msgspec.ValidationError as error:
            return f"{self._url} answered with other statistics than this page knows: {error}"


class Sampler:
    """Makes points out of what is known at a time, and keeps the last of them."""

    def __init__(self) -> None:
        self.points: Final[deque[Point]] = deque(maxlen=POINTS_KEPT)
        self._number = 0
        self._feed_messages: int | None = None
        self._sampled_seconds = 0.0
        self._before: Statistics | None = None

    def sample(self, feed_messages: int, statistics: Statistics | None, now_seconds: float) -> None:
        """Add a point. ``now_seconds`` is on a clock that only goes on."""
        passed = now_seconds - self._sampled_seconds
        known = self._feed_messages is not None and passed > 0
        came = feed_messages - self._feed_messages if known and self._feed_messages is not None else 0
        self._number += 1
        self.points.append(
            Point(
                self._number,
                time.time_ns() // 1_000_000,
                max(0.0, round(came / passed, 1)) if known else 0.0,
                self._request_rate(statistics),
                statistics.latency_ns.p50 if statistics is not None else None,
                statistics.latency_ns.p99 if statistics is not None else None,
                [_queue_use(shard) for shard in statistics.shards] if statistics is not None else [],
            )
        )
        self._feed_messages, self._sampled_seconds, self._before = feed_messages, now_seconds, statistics

    def since(self, number: int) -> list[Point]:
        """The points behind the one with this number."""
        return [point for point in self.points if point.number > number]

    def _request_rate(self, now: Statistics | None) -> float | None:
        before = self._before
        if now is None or before is None or now.time_ns <= before.time_ns:
            return None
        requests = now.gateway.requests - before.gateway.requests
        return max(0.0, round(requests * 1e9 / (now.time_ns - before.time_ns), 1))


def _queue_use(shard: ShardStatistics) -> QueueUse:
    return QueueUse(
        shard.shard,
        shard.inbox.used_slots,
        shard.inbox.capacity_slots,
        shard.outbox.used_slots,
        shard.outbox.capacity_slots,
        shard.live_orders,
        shard.capacity_orders,
    )
