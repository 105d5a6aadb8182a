"""What the two web servers of the exchange have in common: the admin interface and the page.

uvicorn does the work as a task of somebody else's event loop; it handles no signals and writes no log. What is added is
for clients that mean no good:

* **Slowness.** A client has :data:`HEAD_SECONDS` for each request's head, from the moment at which it connects or has
  been answered, and :data:`ANSWER_SECONDS` to send the rest and to take the answer. uvicorn by itself lets a client
  that says half a request keep its connection for ever.
* **Places.** There are as many connections as the server says, and of one address a share of them. Who is beyond it is
  hung up on before anything is read.
* **Size.** A head has :data:`HEAD_BYTES_MAX` at most. What a body may have is for the app to say.
* **TLS.** A handshake has :data:`HANDSHAKE_SECONDS`.

Rules: one event loop. A WebSocket leaves the count when it has been opened; how many of those there may be is for the
app to say."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from exchange.gateway.admission import network_of
from exchange.gateway.refusals import RefusalLog

HEAD_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 20.0
HEAD_BYTES_MAX: Final = 1 << 14
HANDSHAKE_SECONDS: Final = 5.0


class Connections:
    """Who is connected to a server over HTTP.

    Args:
        most: how many connections there may be.
        most_of_one: how many of them may be of one address.
        refusals: where it is told what was refused.
        name: of the server, for that.
    """

    def __init__(self, most: int, most_of_one: int, refusals: RefusalLog, name: str) -> None:
        self.most: Final = most
        self.most_of_one: Final = most_of_one
        self._refusals: Final = refusals
        self._name: Final = name
        self._counts: Final[Counter[str]] = Counter()

    def enter(self, peer: str) -> bool:
        """Whether one more connection of an address may stay; it is counted if so."""
        network = network_of(peer)
        if self._counts[network] >= self.most_of_one or self._counts.total() >= self.most:
            self.refuse(peer, "too many connections")
            return False
        self._counts[network] += 1
        return True

    def leave(self, peer: str) -> None:
        """A connection that had entered has ended, or is no matter of ours any more."""
        network = network_of(peer)
        self._counts[network] -= 1
        if self._counts[network] <= 0:
            del self._counts[network]

    def refuse(self, peer: str, reason: str) -> None:
        """Say that a connection was hung up on."""
        self._refusals.note(f"{self._name} closed", peer, reason)


class _Protocol(H11Protocol):
    """A connection whose client has to come to the point."""

    served: Connections
    _peer: str | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = str(transport.get_extra_info("peername", ("",))[0])
        if self.served.enter(peer):
            self._peer = peer
            self._expect("a request", HEAD_SECONDS)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def data_received(self, data: bytes) -> None:
        if self._peer is None:  # it has been hung up on
            return
        before = self.scope
        super().data_received(data)
        if self.scope is not before and self._peer is not None:
            self._expect("the end of a request", ANSWER_SECONDS)

    def on_response_complete(self) -> None:
        before = self.scope
        super().on_response_complete()
        if self._peer is not None:
            is_next = self.scope is not before
            self._expect("the end of a request" if is_next else "a request", HEAD_SECONDS)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._forget()
        super().handle_websocket_upgrade(event)

    def _forget(self) -> None:
        self._stop_timer()
        if self._peer is not None:
            self.served.leave(self._peer)
            self._peer = None

    def _expect(self, what: str, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._hang_up, what)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self, missing: str) -> None:
        if self._peer is not None:
            self.served.refuse(self._peer, f"waited too long for {missing}")
        self.transport.abort()


class TaskServer(uvicorn.Server):
    """A web server that is a task of a loop that others end.

    Args:
        app: what it serves.
        connections: who may be connected.
        secured: certificate and key; None: plain HTTP.
        options: more of uvicorn's.
    """

    def __init__(
        self, app: Any, connections: Connections, secured: ssl.SSLContext | None = None, **options: Any
    ) -> None:
        # that clients are cut off at the end is our intention, and requests that matter are logged as events
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                lifespan="off",
                http=type("_ServedProtocol", (_Protocol,), {"served": connections}),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=0,
                timeout_keep_alive=int(HEAD_SECONDS),
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
                **options,
            )
        )
        self._secured: Final = secured

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: signals are for others."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        await self.lifespan.startup()
        loop, config = asyncio.get_running_loop(), self.config

        def make_protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        self.servers = [
            await loop.create_server(
                make_protocol,
                sock=one,
                ssl=self._secured,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._secured is not None else None,
            )
            for one in sockets or ()
        ]
        self.started = True

    def abort_all(self) -> None:
        """Cut every connection off."""
        for connection in tuple(self.server_state.connections):
            transport = connection.transport
            if transport is not None:
                transport.abort()
