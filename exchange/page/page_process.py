"""The page beside an exchange: ``exchange page`` as a process of its own, which lives as long as we do.

Another process and never the exchange's interpreter: what browsers want takes Python's time, and here that belongs to
log ons and re-requests. The child ends when we ask it to, and when we are gone, because its standard input closes then;
if it fails, another one takes its place. To watch it takes a thread that sleeps in the kernel.
"""

import logging
import subprocess
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

from exchange.admin.config import HttpAdminConfig
from exchange.child_command import child_command, child_environment
from exchange.errors import UserError
from exchange.logs import format_options, log_event
from exchange.market_data.config import MoldUdp64MarketDataConfig
from exchange.market_data.feed_server import is_multicast
from exchange.tls import server_context
from exchange.transport.config import TcpTransportConfig

if TYPE_CHECKING:
    from exchange.gateway.server import Server

END_SECONDS: Final = 0.8
RESTART_SECONDS: Final = 1.0
MISTAKE_STATUS: Final = 2
"""The command line's status for a mistake of the user's: it would be the same the next time."""


class PageProcess:
    """A child that runs the page, for the time of a ``with`` block.

    Args:
        arguments: of ``exchange page``.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments: Final = tuple(arguments)
        self._ending: Final = threading.Event()
        self._lock: Final = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._watcher: Final = threading.Thread(target=self._watch, name="page", daemon=True)

    @property
    def process_id(self) -> int | None:
        """Of the child that there is now."""
        return self._child.pid if self._child is not None else None

    def __enter__(self) -> Self:
        self._child = self._start()
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._ending.set()
            child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
        self._watcher.join(END_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            child_command("page", *self._arguments, *format_options(), "--with-parent"),
            env=child_environment(),
            stdin=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for us
        )

    def _watch(self) -> None:
        """Put another child in the place of one that has failed."""
        while True:
            child = self._child
            assert child is not None
            status = child.wait()
            if self._ending.wait(RESTART_SECONDS) or status == MISTAKE_STATUS:
                return
            log_event("page process ended", level=logging.WARNING, status=status)
            with self._lock:
                if self._ending.is_set():
                    return
                self._child = self._start()


def page_arguments(server: "Server", listen: str, certificate: str = "", key: str = "") -> list[str]:
    """The arguments of ``exchange page`` for a served exchange.

    Args:
        server: the exchange.
        listen: where browsers come.
        certificate: of the page, for https; empty: plain HTTP.
        key: the certificate's.

    Raises:
        UserError: it publishes no feed, or the two files are not right.
    """
    server_context(certificate, key, ("--page-certificate", "--page-key"))  # told here and not by the child
    config = server.settings.market_data
    if not isinstance(config, MoldUdp64MarketDataConfig) or server.feed is None:
        raise UserError(
            "--page: the page shows the feed, and market_data.kind is 'none'; moldudp64 is a feed"
        )
    requests = "{}:{}".format(*server.feed.source)
    host, port = server.address
    is_tcp = isinstance(server.settings.transport, TcpTransportConfig)  # people are logged on over TCP
    return [
        f"{config.address}:{config.port}",
        *(("--interface", config.source_address) if is_multicast(config.address) else ()),
        *("--requests", requests),
        *_glimpse_arguments(config),
        *(("--exchange", f"{_reachable(host)}:{port}") if is_tcp else ()),
        *_admin_arguments(server),
        *("--listen", listen),
        *(("--tls-certificate", certificate, "--tls-key", key) if certificate else ()),
    ]


def _admin_arguments(server: "Server") -> tuple[str, ...]:
    """Where the page gets statistics; it reads the token where the exchange does."""
    if server.admin is None or not isinstance(server.settings.admin, HttpAdminConfig):
        return ()
    host, port = server.admin.address
    config = server.settings.admin
    if not server.admin.is_encrypted:
        return ("--admin", f"http://{_reachable(host)}:{port}", "--admin-token-file", config.token_file)
    url = f"https://{_reachable(host)}:{port}"
    return ("--admin", url, "--admin-token-file", config.token_file, "--admin-pin", config.tls_certificate)


def _glimpse_arguments(config: MoldUdp64MarketDataConfig) -> tuple[str, ...]:
    """Where a page that joins late gets a snapshot, if that is for anybody; a page is no user."""
    is_for_all = config.glimpse == "process" and config.glimpse_logon == "anybody" and config.glimpse_port
    return ("--glimpse", f"{_reachable(config.glimpse_address)}:{config.glimpse_port}") if is_for_all else ()


def _reachable(host: str) -> str:
    """An address at which a server is reached that listens on ``host``: for all of the machine's, its own."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{reachable}]" if ":" in reachable else reachable
