"""The exchange's statistics, asked of its admin interface over HTTP, and the points that charts are made of.

:class:`StatisticsReader` fetches ``GET /statistics`` with the token. It needs of the document what is declared here and
passes over the rest. When there is no answer it says why in words, and tries again at the next call; the page goes on
with the feed alone.

:class:`Sampler` makes a :class:`~exchange.page.documents.Point` of the feed's count of messages and the last two
documents: what only grows becomes a rate.

Rules: the token is sent to the address that was named and to no other, through no proxy and after no redirect.
"""

import asyncio
import os
import time
import urllib.error
import urllib.request
from collections import deque
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from exchange.page.documents import Point, QueueUse

TOKEN_VARIABLE: Final = "EXCHANGE_ADMIN_TOKEN"
TIMEOUT_SECONDS: Final = 2.0
ANSWER_BYTES_MAX: Final = 1 << 22
POINTS_KEPT: Final = 240
"""Two minutes of half seconds: what a browser that comes has to begin with."""


class Queue(Struct, frozen=True):
    """A queue between two agents."""

    used_slots: int | None
    capacity_slots: int


class Shard(Struct, frozen=True):
    """A shard, its queues and its book."""

    shard: int
    live_orders: int
    capacity_orders: int
    inbox: Queue
    outbox: Queue


class Gateway(Struct, frozen=True):
    """Clients' side: requests taken since the start."""

    requests: int
    sessions_connected: int


class Latency(Struct, frozen=True):
    """Inside the exchange, in nanoseconds; None if nothing was measured."""

    p50: int | None
    p99: int | None


class Statistics(Struct, frozen=True):
    """What the page needs of the document."""

    time_ns: int
    shards: list[Shard]
    gateway: Gateway
    latency_ns: Latency


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class StatisticsReader:
    """Asks the admin interface.

    Args:
        url: such as ``http://127.0.0.1:9010``; empty: there is none, and the page says so.
        token_file: holds the token, unless the environment variable ``EXCHANGE_ADMIN_TOKEN`` does.
    """

    def __init__(self, url: str, token_file: str) -> None:
        self._url: Final = url.rstrip("/")
        self._token_file: Final = token_file
        self._opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    async def read(self) -> Statistics | str:
        """The statistics, or why there are none. Waits in a thread of its own, for two seconds at most."""
        if not self._url:
            return "this page was started without the address of an admin interface (--admin)"
        return await asyncio.to_thread(self._read)

    def _read(self) -> Statistics | str:
        try:
            token = os.environ.get(TOKEN_VARIABLE) or Path(self._token_file).read_text("ascii").strip()
        except (OSError, UnicodeError):
            return f"the token file {self._token_file} cannot be read"
        try:
            request = urllib.request.Request(f"{self._url}/statistics")
            request.add_header("Authorization", f"Bearer {token}")
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return msgspec.json.decode(response.read(ANSWER_BYTES_MAX), type=Statistics)
        except urllib.error.HTTPError as error:
            error.close()
            return f"the admin interface at {self._url} answered {error.code}"
        except (OSError, HTTPException, ValueError):  # a document of another shape is a ValueError too
            return f"the admin interface at {self._url} does not answer"


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


def _queue_use(shard: Shard) -> QueueUse:
    return QueueUse(
        shard.shard,
        shard.inbox.used_slots,
        shard.inbox.capacity_slots,
        shard.outbox.used_slots,
        shard.outbox.capacity_slots,
        shard.live_orders,
        shard.capacity_orders,
    )
