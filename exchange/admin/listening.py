"""The admin interface in the event loop of the exchange: from its socket to its end.

A web server (:mod:`exchange.http_serving`) serves the app as one more task of the control plane's loop. It has no say
in when the exchange ends: :meth:`AdminListener.stop` lets go of every connection at once, also of one that is being
answered.

The address is taken before the exchange starts, so that a port in use is a mistake that is told at once.
"""

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exchange.admin.access import make_token, read_token
from exchange.admin.app import build_app
from exchange.admin.config import HttpAdminConfig
from exchange.gateway.refusals import RefusalLog
from exchange.http_serving import Connections, TaskServer
from exchange.logs import log_event
from exchange.tls import server_context

if TYPE_CHECKING:
    from exchange.gateway.server import Server

STOP_SECONDS: Final = 0.3
"""How long the end waits for uvicorn, which looks every 0.1 s whether it is to stop."""

CONNECTIONS_MAX: Final = 64
CONNECTIONS_PER_ADDRESS: Final = 32
"""Connections at a time, and of one address; more are hung up on."""


class AdminListener:
    """The admin interface of one served exchange, not answering yet.

    Args:
        config: the file of the token, which is made if it is not there.
        listener: a non-blocking socket that is bound; the object closes it.

    Raises:
        UserError: the token cannot be made or read, or TLS is not to be had with the files that were named.
    """

    def __init__(self, config: HttpAdminConfig, listener: socket.socket) -> None:
        path = Path(config.token_file)
        if make_token(path):
            log_event("admin token made", file=path)
        self._token: Final = read_token(path)
        self.listener: Final = listener
        self._secured: Final = server_context(
            config.tls_certificate, config.tls_key, ("admin.tls_certificate", "admin.tls_key")
        )
        self._refusals: Final = RefusalLog()
        self._server: TaskServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: address and port."""
        address, port = self.listener.getsockname()[:2]
        return str(address), int(port)

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._secured is not None

    def start(self, server: "Server") -> None:
        """Answer from now on, in the running event loop."""
        connections = Connections(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, self._refusals, "admin")
        app = build_app(server, self._token, self._refusals)
        self._server = TaskServer(app, connections, self._secured, ws="none")
        self._task = asyncio.get_running_loop().create_task(self._server.serve([self.listener]))

    async def stop(self) -> None:
        """End every connection and stop listening, within :data:`STOP_SECONDS`."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = self._server.force_exit = True
        await asyncio.wait([self._task], timeout=STOP_SECONDS)
        self._server.abort_all()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._refusals.flush()

    def close(self) -> None:
        """Close the socket."""
        self.listener.close()
