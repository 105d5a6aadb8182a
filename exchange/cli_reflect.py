"""``exchange reflect``: the other end of a measurement of a transport by itself. It sends every datagram back.

The command only parses, opens the port (:mod:`exchange.datagrams.opening`) and lets the compiled loop of
:mod:`exchange.datagrams.reflector` run on a thread of its own, until Ctrl-C or SIGTERM.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from exchange import limits
from exchange.ending import end_with_parent, ended_by_sigterm
from exchange.errors import UserError
from exchange.logs import start_logging

if TYPE_CHECKING:
    from exchange.datagrams.port import Port

_LOOK_SECONDS: Final = 0.5
"""Ctrl-C ends the wait at once; so much later if it comes in the very moment in which the wait begins."""


@click.command()
@click.option(
    "--transport",
    default="udp",
    show_default=True,
    metavar="NAME",
    help="udp: a socket that is looked at all the time; udp-blocking: one that is waited for; afxdp: an interface; "
    "dpdk: a card.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    default="net_memif0,role=server,socket=exchange",
    show_default=True,
    help="Of a card: as DPDK writes it; or the interface.",
)
@click.option(
    "--address",
    metavar="IPV4",
    default="127.0.0.1",
    show_default=True,
    help="Our address; of a card, one on its wire that the kernel does not know.",
)
@click.option(
    "--port",
    type=click.IntRange(0, limits.PORT_MAX),
    default=9005,
    show_default=True,
    help="Our UDP port; 0 takes one that is free, but not on a card.",
)
@click.option("--core", type=int, metavar="N", help="The processing unit of the thread that polls.")
@click.option("--with-parent", is_flag=True, help="End when the standard input does, which a parent holds.")
def reflect(
    transport: str, device: str, address: str, port: int, core: int | None, with_parent: bool
) -> None:
    """Send every datagram back to where it came from, until Ctrl-C.

    No exchange is in between: what is measured against it is the transport alone. 'exchange bench transport' starts one
    by itself for each transport that it measures.
    """
    from exchange.datagrams.opening import choose, open_port

    if with_parent:
        end_with_parent()
    start_logging("text", quiet=True)  # for what a card warns of
    usable = os.sched_getaffinity(0)
    if core is not None and core not in usable:
        raise UserError(f"--core {core}: allowed are {', '.join(map(str, sorted(usable)))}")
    with ended_by_sigterm():
        opened = open_port(choose(transport, address, port, device, core=core))
        try:
            _reflect(opened, core)
        finally:
            opened.close()


def _reflect(opened: "Port", core: int | None) -> None:
    with _reflecting(opened, core) as thread:
        click.echo("reflecting at {} port {}".format(*opened.address))
        while thread.is_alive():
            time.sleep(_LOOK_SECONDS)


@contextmanager
def _reflecting(opened: "Port", core: int | None) -> Iterator[threading.Thread]:
    """The thread that does it, until the block ends; then how much it did is said."""
    import numpy as np

    from exchange.datagrams.batch import BatchMemory
    from exchange.datagrams.port import DATAGRAM_BYTES_MAX
    from exchange.datagrams.reflector import BURST_DATAGRAMS, reflect
    from exchange.native import address_of, store_release

    stop, memory = np.ones(1, np.int64), BatchMemory(BURST_DATAGRAMS, DATAGRAM_BYTES_MAX)
    # Compiled before anybody is told that we are ready; the word says that there is nothing to do.
    reflect(opened.state, memory.batch, address_of(stop))
    stop[0] = 0
    done: list[int] = []

    def run() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        done.append(reflect(opened.state, memory.batch, address_of(stop)))

    thread = threading.Thread(target=run, name="reflector")
    thread.start()
    try:
        yield thread
    finally:
        store_release(address_of(stop), 1)
        thread.join()
        click.echo(f"reflected {done[0] if done else 0:,} datagrams")
