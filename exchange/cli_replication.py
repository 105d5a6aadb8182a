"""``exchange lease-store``: the store that says who of several exchanges is primary.

The command only parses, calls :mod:`exchange.replication` and prints; everything is imported when it runs.
"""

import os
import time
from pathlib import Path

import click

from exchange import limits
from exchange.cli_serve import log_format_option
from exchange.ending import ended_by_sigterm
from exchange.logs import LogFormat, start_logging

_LOOK_SECONDS = 0.05


@click.command("lease-store")
@click.option(
    "--address", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where it listens."
)
@click.option(
    "--port",
    type=click.IntRange(0, limits.PORT_MAX),
    default=4222,
    show_default=True,
    help="Its TCP port; 0 takes one that is free.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("exchange-leases"),
    show_default=True,
    help="Where the leases are kept.",
)
@log_format_option
@click.option("--while-used", is_flag=True, hidden=True)
def lease_store(address: str, port: int, directory: Path, log_format: LogFormat, while_used: bool) -> None:
    """Run the store of the lease by which one of several exchanges is primary, until Ctrl-C.

    It is a nats-server that syncs each write, and is started again if it dies. replication.lease_store =
    "nats://ADDRESS:PORT" names it in the profiles of the exchanges. It should run on a machine of its own: one that is
    lost together with the primary cannot say who is the next. If the environment variable EXCHANGE_LEASE_TOKEN is
    set, here and for the exchanges, only who knows its value can connect.
    """
    from exchange.replication.embedded_store import make_embedded, serve_embedded
    from exchange.replication.lease_store import TOKEN_VARIABLE
    from exchange.replication.store_process import StoreProcess

    start_logging(log_format, quiet=False)
    with ended_by_sigterm():
        if while_used:
            store = make_embedded(directory)
            click.echo(f"lease store on {store.address} port {store.port}")
            serve_embedded(store)
            return
        token = os.environ.get(TOKEN_VARIABLE, "")
        store = StoreProcess(directory, address, port, token)
        try:
            store.start()
            if not token and address not in ("127.0.0.1", "::1", "localhost"):
                click.echo(
                    f"warning: anybody who reaches {address} can change leases; set {TOKEN_VARIABLE}",
                    err=True,
                )
            click.echo(f"lease store on {store.address} port {store.port}")
            while True:
                store.look()
                time.sleep(_LOOK_SECONDS)
        finally:
            store.close()
