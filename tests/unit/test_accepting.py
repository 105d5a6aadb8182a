"""Accepting connections: an end that comes together with a client."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from exchange.gateway.admission import AdmissionLimits, Doorkeeper, Places
from exchange.gateway.config import GatewayConfig
from exchange.gateway.logon import accept_clients, bind_listener
from exchange.gateway.refusals import RefusalLog


def test_a_client_that_comes_in_the_turn_of_the_end_is_not_accepted_and_nothing_fails() -> None:
    failures: list[Any] = []
    welcomed: list[str] = []

    async def welcome(connection: socket.socket, peer: str) -> None:
        connection.close()
        welcomed.append(peer)

    async def scenario(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, told: failures.append(told))
        accepting = asyncio.create_task(
            accept_clients(
                listener, Places(4), Doorkeeper(AdmissionLimits.of(GatewayConfig())), RefusalLog(), welcome
            )
        )
        for _ in range(3):  # until it waits
            await asyncio.sleep(0)
        with socket.create_connection(listener.getsockname()):
            loop.call_soon(accepting.cancel)  # runs before what the next look at the sockets finds
            with suppress(asyncio.CancelledError):
                await accepting
            connection, _address = listener.accept()  # still in the kernel's queue
            connection.close()

    with bind_listener("127.0.0.1", 0) as listener:
        listener.listen()
        asyncio.run(scenario(listener))
    assert failures == []
    assert welcomed == []
