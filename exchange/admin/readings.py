"""Documents about a running exchange, made of words that its agents write anyway.

Everything here reads and changes nothing, and may be called at any time while the exchange runs. Words of different
threads are read one after the other: a document is no snapshot of one instant. What each number means is said by the
struct that holds it; the one that is polled is :class:`exchange.gateway.statistics.Statistics`.
"""

import time
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct

from exchange.gateway.admission import CONTROL_LIMITS
from exchange.gateway.credentials import OUCH42, OUCH50
from exchange.gateway.order_table import FINISHED
from exchange.gateway.session_memory import (
    INPUT,
    INPUT_BYTES,
    KILLED,
    LAST_USER_REFERENCE,
    LOG_END,
    LOG_MESSAGES,
    ORDER_BYTES,
    REQUESTS,
    WAYS,
    SessionMemory,
)
from exchange.gateway.statistics import (
    FeedStatistics,
    GatewayStatistics,
    QueueStatistics,
    RiskStatistics,
    ShardStatistics,
    Statistics,
    SymbolStatistics,
)
from exchange.matching.shard import ShardStatus
from exchange.native import view_bytes
from exchange.risk.limits import LimitsMemory
from exchange.transport.network import CHANGEABLE
from exchange.transport.udp import UdpTransport

if TYPE_CHECKING:
    from exchange.gateway.server import Server

_SPOKEN: Final = {OUCH50: "OUCH 5.0", OUCH42: "OUCH 4.2"}


class SessionDocument(Struct, frozen=True):
    """A session. ``since_ns`` (since 1970) and ``address`` are those of the connection it has, else None.

    ``requests`` counts OUCH messages taken, ``last_user_reference`` is the highest UserRefNum among them,
    ``last_sequence`` the number of the last message written for the client, ``last_close_reason`` why the connection
    before this one ended (empty: there was none), ``is_killed`` that the operator takes no orders of it.
    """

    user: str
    session: int
    is_connected: bool
    since_ns: int | None
    address: str | None
    protocol: str
    requests: int
    last_user_reference: int
    last_sequence: int
    orders_alive: int
    orders_capacity: int
    log_used_bytes: int
    log_capacity_bytes: int
    last_close_reason: str
    is_killed: bool


class LimitDocument(Struct, frozen=True):
    """Something with an end. ``used`` is None where nothing is used up; ``is_changeable``: PUT /limits takes it."""

    name: str
    used: int | None
    capacity: int
    is_changeable: bool = False


class Readings:
    """What can be read of a running exchange. All but :meth:`statistics` may be called on any thread.

    Args:
        server: the exchange with its gateway.
    """

    def __init__(self, server: "Server") -> None:
        self._server: Final = server
        shards = server.settings.shards.count
        self._statuses = [ShardStatus(*[0] * len(ShardStatus._fields))] * shards

    def sessions(self) -> list[SessionDocument]:
        """All sessions, in the order of the users' file. Takes milliseconds for hundreds of them."""
        memory, control = self._server.transport.memory, self._server.control
        config = self._server.settings.gateway
        requests, messages = memory.column(REQUESTS).tolist(), memory.column(LOG_MESSAGES).tolist()
        log_ends, references = memory.column(LOG_END).tolist(), memory.column(LAST_USER_REFERENCE).tolist()
        killed = memory.column(KILLED).tolist()
        documents = []
        for session_id, user in enumerate(control.users.users):
            connection = control.connections.get(session_id)
            documents.append(
                SessionDocument(
                    user=user.name,
                    session=session_id,
                    is_connected=connection is not None,
                    since_ns=None if connection is None else connection.since_ns,
                    address=None if connection is None else connection.peer,
                    protocol=_SPOKEN[user.protocol],
                    requests=requests[session_id],
                    last_user_reference=references[session_id],
                    last_sequence=messages[session_id],
                    orders_alive=count_alive(memory, session_id) if requests[session_id] else 0,
                    orders_capacity=config.capacity_orders,
                    log_used_bytes=log_ends[session_id],
                    log_capacity_bytes=config.log_bytes,
                    last_close_reason=control.close_reasons.get(session_id, ""),
                    is_killed=killed[session_id] != 0,
                )
            )
        return documents

    def limits(self) -> list[LimitDocument]:
        """How full everything is that can be full (of sessions the fullest), and how long anybody waits for anybody."""
        config, feed, sessions = self._server.settings.gateway, self._server.feed, self.sessions()
        orders = max((one.orders_alive for one in sessions), default=0)
        log_bytes = max((one.log_used_bytes for one in sessions), default=0)
        found = [
            LimitDocument("session.orders", orders, config.capacity_orders),
            LimitDocument("session.log_bytes", log_bytes, config.log_bytes),
        ]
        for shard in self._shards():
            name = f"shard.{shard.shard}"
            found += [
                LimitDocument(f"{name}.orders", shard.live_orders, shard.capacity_orders),
                LimitDocument(f"{name}.inbox_slots", shard.inbox.used_slots, shard.inbox.capacity_slots),
                LimitDocument(f"{name}.outbox_slots", shard.outbox.used_slots, shard.outbox.capacity_slots),
            ]
        if feed is not None:
            capacity = feed.store.state.mask + 1
            kept = min(feed.store.next_sequence - 1, capacity)
            found.append(LimitDocument("feed.store_messages", kept, capacity))
        found += [
            LimitDocument(f"gateway.{name}", None, self._server.transport.limit(name), is_changeable=True)
            for name in CHANGEABLE
        ]
        changed = self._server.control.limits
        return found + [
            LimitDocument(f"gateway.{name}", None, getattr(changed, name), is_changeable=True)
            for name in CONTROL_LIMITS
        ]

    def symbols(self) -> list[SymbolStatistics]:
        """All symbols: whether they trade, and on which shard."""
        names = self._server.settings.gateway.symbols
        states = [self._server.exchange.trading_state(symbol_id) for symbol_id in range(len(names))]
        owners = self._server.exchange.shard_of_symbol
        return [
            SymbolStatistics(name, one.state.name.lower(), one.reason, shard)
            for name, one, shard in zip(names, states, owners, strict=True)
        ]

    def statistics(self) -> Statistics:
        """The document that is polled; see :mod:`exchange.gateway.statistics`."""
        memory = self._server.transport.memory
        return Statistics(
            time_ns=time.time_ns(),
            uptime_seconds=round(time.monotonic() - self._server.built_seconds, 3),
            shards=self._shards(),
            gateway=GatewayStatistics(
                requests=int(memory.column(REQUESTS).sum()),
                answers=int(memory.column(LOG_MESSAGES).sum()),
                sessions_connected=self._server.control.connected,
                sessions_total=memory.sessions.session_count,
                sessions_killed=int((memory.column(KILLED) != 0).sum()),
                connections_refused=self._server.control.refusals.total
                - self._server.control.logons_rejected,
                logons_rejected=self._server.control.logons_rejected,
            ),
            latency_ns=self._server.transport.latency.latest(),
            feed=self._feed(),
            symbols=self.symbols(),
            risk=self._risk(),
            port=self._port(),
        )

    def _port(self) -> dict[str, int]:
        transport = self._server.transport
        return transport.port.counters() if isinstance(transport, UdpTransport) else {}

    def _shards(self) -> list[ShardStatistics]:
        levels, capacity = self._server.exchange.queue_levels(), self._server.settings.book.capacity_orders
        for number, status in enumerate(self._server.exchange.status()):
            if status is not None:  # else it was being written all the time: what it said last will do
                self._statuses[number] = status
        return [
            ShardStatistics(
                number,
                status.commands,
                status.events,
                status.live_orders,
                capacity,
                QueueStatistics(*levels[f"inbox.{number}"]),
                QueueStatistics(*levels[f"outbox.{number}"]),
            )
            for number, status in enumerate(self._statuses)
        ]

    def _risk(self) -> list[RiskStatistics]:
        memory = self._server.transport.risk
        if not isinstance(memory, LimitsMemory):
            return []
        users = self._server.control.users.users
        return [
            RiskStatistics(users[session_id].name, *memory.read_session(session_id))
            for session_id in memory.busy_sessions()
        ]

    def _feed(self) -> FeedStatistics | None:
        feed = self._server.feed
        if feed is None:
            return None
        return FeedStatistics(
            messages=feed.store.next_sequence - 1,
            unsent_messages=feed.store.unsent_messages,
            datagrams=feed.sent_datagrams,
            refused_datagrams=feed.refused_datagrams,
            requests_answered=feed.answered_requests,
        )


def count_alive(memory: SessionMemory, session_id: int) -> int:
    """How many orders of a session live: those whose number is in the table and not finished."""
    sessions = memory.sessions
    session, count = memory.address(session_id), sessions.sets * WAYS
    table = view_bytes(session + INPUT + INPUT_BYTES, 8 * count)
    numbers = np.frombuffer(table, np.int64).reshape(sessions.sets, WAYS).copy()
    orders = view_bytes(session + sessions.orders_offset, count * ORDER_BYTES)
    finished = np.ndarray((count,), np.int64, buffer=orders, offset=FINISHED, strides=(ORDER_BYTES,))
    sets, ways = numbers.nonzero()  # rows that were never used are not touched, so that they take no memory
    return int((finished[ways * sessions.sets + sets] != numbers[sets, ways]).sum())
