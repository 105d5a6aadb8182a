"""The store of leases: a key-value bucket of NATS JetStream, asked over one connection.

Two questions are all: what is the record of a group (:meth:`LeaseStore.read`), and would you put this one in the place
of that revision (:meth:`LeaseStore.write`). The second is the only decision that anybody takes about who is primary.
The store gives each write a number of its own, a *revision*, and refuses one that expects another than the last.

A question has so long to be answered. If it is not, or if the connection ends, then the connection is thrown away with
all that may be under way in it, and the next question makes another one, to the next server if there are several. The
client library would reconnect by itself; but it keeps what was sent meanwhile and sends it later, and waits between
tries for longer than a lease lasts.

Rules: one event loop, one question at a time. An URL may contain a password or a token: it is never shown, only the
host and the port (:func:`without_secrets`). The environment variable ``EXCHANGE_LEASE_TOKEN`` is the token of a
server whose URL has none.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from exchange.errors import UserError
from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import Found

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.client import JetStreamContext
    from nats.js.kv import KeyValue

BUCKET: Final = "exchange-leases"
TOKEN_VARIABLE: Final = "EXCHANGE_LEASE_TOKEN"
CLUSTER_REPLICAS: Final = 3
"""Copies of the bucket in a cluster: one server may be lost."""

CONNECT_SECONDS_MIN: Final = 0.25
CLOSE_SECONDS: Final = 0.5

_SCHEMES: Final = ("nats", "tls")


class StoreTrouble(Exception):
    """The store has not answered, or neither with yes nor with no. What was asked may have been done."""


class WrongRevision(Exception):
    """The store has another revision than a write expects: the write was not applied."""


class _Line(NamedTuple):
    """A connection, its bucket, and what is done when it ends."""

    client: "Client"
    bucket: "KeyValue"
    ended: "asyncio.Future[None]"


class LeaseStore:
    """The record of one group in a store.

    Args:
        find_urls: says where the servers are, whenever a connection is to be made; it may block.
        group: whose record it is.
        timeout_s: how long a question may take.
    """

    def __init__(self, find_urls: Callable[[], tuple[str, ...]], group: str, timeout_s: float) -> None:
        self.timeout_s: Final = timeout_s
        self._find_urls: Final = find_urls
        self._group: Final = group
        self._line: _Line | None = None
        self._turn = 0
        self._closing: Final[set[asyncio.Task[None]]] = set()

    async def read(self) -> Found:
        """The record as it is.

        Raises:
            StoreTrouble: the store does not say.
            UserError: what it has is no lease.
        """
        from nats.js.errors import KeyNotFoundError

        try:
            entry = await self._ask(lambda bucket: bucket.get(self._group))
        except KeyNotFoundError as error:
            return Found(getattr(error.entry, "revision", None) or 0, None)
        try:
            return Found(entry.revision or 0, LeaseRecord.decode(entry.value or b""))
        except ValueError as error:
            raise UserError(f"lease store: bucket {BUCKET!r}, key {self._group!r}: {error}") from error

    async def write(self, record: LeaseRecord, expected: int) -> int:
        """Put a record in the place of a revision (0: of nothing); the new revision.

        Raises:
            WrongRevision: it is not the last one.
            StoreTrouble: the store does not say whether it has done so.
            ValueError: the record is none that :meth:`read` would take.
        """
        from nats.js.errors import KeyWrongLastSequenceError

        content = record.encode()
        try:
            if expected == 0:
                return await self._ask(lambda bucket: bucket.create(self._group, content))
            return await self._ask(lambda bucket: bucket.update(self._group, content, last=expected))
        except KeyWrongLastSequenceError as error:
            raise WrongRevision from error

    async def close(self) -> None:
        """End the connection."""
        self._throw_away()
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    async def _ask[T](self, question: Callable[["KeyValue"], Coroutine[Any, Any, T]]) -> T:
        """What the store answers. Raises its refusals as they are, a mistake of the user's as UserError, and anything
        else as StoreTrouble."""
        from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

        try:
            line = self._line if self._line is not None else await self._connect()
            return await _unless_ended(question(line.bucket), line.ended, self.timeout_s)
        except (KeyNotFoundError, KeyWrongLastSequenceError, UserError):
            raise
        except Exception as error:  # whatever the client makes of a line that breaks
            self._throw_away()
            if "authorization" in str(error).lower():  # the client says it in words only
                raise UserError(f"lease store: {error}; {TOKEN_VARIABLE} holds the token") from error
            raise StoreTrouble(str(error) or type(error).__name__) from error

    async def _connect(self) -> _Line:
        """Connect to the next server."""
        from nats.aio.client import Client

        urls = await asyncio.to_thread(self._find_urls)
        url = urls[self._turn % len(urls)]
        self._turn += 1
        ended = asyncio.get_running_loop().create_future()

        async def note_end() -> None:
            if not ended.done():
                ended.set_result(None)

        async def ignore(_error: Exception) -> None:
            """What it means is told by what the question raises."""

        client = Client()
        seconds = max(CONNECT_SECONDS_MIN, 2 * self.timeout_s)
        try:
            async with asyncio.timeout(seconds):
                await client.connect(
                    [url],
                    token=None if urlsplit(url).username else os.environ.get(TOKEN_VARIABLE),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=seconds,  # type: ignore[arg-type]  # it takes fractions
                    closed_cb=note_end,
                    error_cb=ignore,
                )
                bucket = await open_bucket(client.jetstream(timeout=seconds), is_cluster=_is_cluster(client))
        except BaseException:
            self._end(client)
            raise
        self._line = _Line(client, bucket, ended)
        return self._line

    def _throw_away(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._end(line.client)

    def _end(self, client: "Client") -> None:
        """Close a connection, without waiting for it."""

        async def close() -> None:
            with suppress(Exception):  # it is of no use any more, whatever it has to say
                await asyncio.wait_for(client.close(), CLOSE_SECONDS)

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def open_bucket(context: "JetStreamContext", *, is_cluster: bool) -> "KeyValue":
    """The bucket of leases; it is made where there is none, in a cluster only if it can have its copies.

    Raises:
        UserError: it lets records expire, or keeps them in memory only: it could forget who is primary.
    """
    from nats.js.api import StorageType
    from nats.js.errors import BucketNotFoundError

    try:
        bucket = await context.key_value(BUCKET)
    except BucketNotFoundError:
        replicas = CLUSTER_REPLICAS if is_cluster else 1
        bucket = await context.create_key_value(bucket=BUCKET, replicas=replicas)
    config = (await bucket.status()).stream_info.config
    if config.max_age:
        raise UserError(f"lease store: bucket {BUCKET!r} lets records expire; make it without a TTL")
    if config.storage != StorageType.FILE and not is_cluster:
        raise UserError(f"lease store: bucket {BUCKET!r} is in memory; make it with storage file")
    return bucket


def parse_urls(text: str) -> tuple[str, ...]:
    """The servers of ``replication.lease_store``, one or more URLs with commas between them.

    Raises:
        UserError: one is not ``nats://HOST:PORT``.
    """
    urls = tuple(one.strip() for one in text.split(","))
    for url in urls:
        try:
            parts = urlsplit(url)
            is_right = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.path in ("", "/")
            is_right = is_right and not parts.query and (parts.port is None or parts.port > 0)
        except ValueError:  # a port that is no number, brackets that do not match
            is_right = False
        if not is_right:
            raise UserError(
                f"replication.lease_store = {without_secrets(url)!r}: must be embedded, or nats://HOST:PORT,"
                " several with commas between them"
            )
    return urls


def without_secrets(url: str) -> str:
    """An URL without whatever stands before its host."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def check_installed() -> None:
    """Raises UserError if the client of the store is not installed."""
    try:
        import nats  # noqa: F401
    except ImportError as error:
        raise UserError(
            "replication: nats-py is not installed; 'python -m pip install nats-py' does it"
        ) from error


def _is_cluster(client: "Client") -> bool:
    return bool(client._server_info.get("cluster"))  # there is no other way to ask


async def _unless_ended[T](
    work: Coroutine[Any, Any, T], ended: "asyncio.Future[None]", timeout_s: float
) -> T:
    """What some work comes to. Raises TimeoutError when it takes too long, ConnectionError when the line has ended."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ConnectionError("the connection has ended") if ended.done() else TimeoutError("no answer")
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
