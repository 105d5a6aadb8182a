"""The admin interface in the event loop of the exchange: from its socket to its end.

uvicorn serves the app as one more task of the control plane's loop. It handles no signals (the exchange does), writes
no log of its own (requests that matter are logged as events), and has no say in when the exchange ends: :meth:`stop`
lets go of every connection at once, also of one that is being answered.

The address is taken before the exchange starts, so that a port in use is a mistake that is told at once.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from exchange.admin.access import make_token, read_token
from exchange.admin.app import build_app
from exchange.admin.config import HttpAdminConfig
from exchange.logs import log_event

if TYPE_CHECKING:
    from exchange.gateway.server import Server

STOP_SECONDS: Final = 0.3
"""How long the end waits for uvicorn, which looks every 0.1 s whether it is to stop."""

CONNECTIONS_MAX: Final = 64
"""Requests at a time; more are told to come back."""


class _TaskServer(uvicorn.Server):
    """A uvicorn that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class AdminListener:
    """The admin interface of one served exchange, not answering yet.

    Args:
        config: the file of the token, which is made if it is not there.
        listener: a non-blocking socket that is bound; the object closes it.

    Raises:
        UserError: the token cannot be made or read.
    """

    def __init__(self, config: HttpAdminConfig, listener: socket.socket) -> None:
        path = Path(config.token_file)
        if make_token(path):
            log_event("admin token made", file=path)
        self._token: Final = read_token(path)
        self.listener: Final = listener
        self._server: _TaskServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: address and port."""
        address, port = self.listener.getsockname()[:2]
        return str(address), int(port)

    def start(self, server: "Server") -> None:
        """Answer from now on, in the running event loop."""
        config = uvicorn.Config(
            build_app(server, self._token),
            loop="none",
            lifespan="off",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=0,
        )
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._server = _TaskServer(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([self.listener]))

    async def stop(self) -> None:
        """End every connection and stop listening, within :data:`STOP_SECONDS`."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = self._server.force_exit = True
        await asyncio.wait([self._task], timeout=STOP_SECONDS)
        for connection in tuple(self._server.server_state.connections):
            connection.transport.abort()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def close(self) -> None:
        """Close the socket."""
        self.listener.close()
