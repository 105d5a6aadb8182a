"""An exchange that blocks sleeps while nobody speaks, and wakes for whoever does."""

import asyncio
import time

import pytest

from exchange.gateway.server import Server
from exchange.wire.ouch50 import OrderAccepted
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import compile_once, connect, run, serving
from tests.udp_driver import UDP, connect_udp

IDLE_SECONDS = 0.4
BLOCK = ("idle.kind=block", "idle.spins=10", "idle.wake_ns=50ms")


async def cpu_fraction(server: Server) -> float:
    """Which part of a while this process spends computing; the test itself only sleeps in it."""
    assert len(server.exchange.threads.threads) == 1
    began, used = time.monotonic(), time.process_time()
    await asyncio.sleep(IDLE_SECONDS)
    return (time.process_time() - used) / (time.monotonic() - began)


@pytest.mark.parametrize("overrides", [BLOCK, (*UDP, *BLOCK)], ids=["tcp", "udp"])
def test_an_idle_exchange_sleeps_and_a_client_wakes_it(overrides: tuple[str, ...]) -> None:
    compile_once(overrides)

    async def scenario() -> None:
        async with serving("alice", overrides=overrides) as server:
            client = await (connect_udp if UDP[0] in overrides else connect)(server, "alice")
            await asyncio.sleep(0.05)
            assert await cpu_fraction(server) < 0.5
            for _ in range(20):
                await client.place("AAPL", Side.BUY, 10, price_ticks=100_0000)
                while not isinstance(await client.next_answer(), OrderAccepted):
                    pass
            await client.close()

    run(scenario())
