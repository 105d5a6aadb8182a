"""An exchange as a process, a good client, and everybody who means no good: behaviour, and no times.

What is asserted is what the page *Hostile clients* promises: the good orders are all answered, everybody else is let go
with a reason in the log, the log stays short, memory stays bounded, and Ctrl-C ends it in the middle of it."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from exchange.bench.hostile_processes import (
    BAD,
    GOOD,
    HostileProcess,
    ServedExchange,
    end,
    hostile_process,
    served_exchange,
    until,
)
from exchange.client import Client, Side
from exchange.load.hostile import ORDERS, HostilePlan
from exchange.wire.ouch50 import OrderAccepted
from tests.gateway_driver import SETTINGS, compile_once

SECONDS = 6.0
"""How long they rage."""
ORDERS_OF_THE_GOOD = 200
CONNECTIONS_MISSED_MAX = 20
"""Those that were refused while their connect was called back are not known to who opened them."""
MEMORY_BYTES_MAX = 400 << 20
"""What the logs of all sessions may grow by, and the rest not at all: three of 64 MiB, with their indexes."""
END_SECONDS_MAX = 10.0
"""It is well below one second on a machine that has nothing else to do, which a machine that runs tests may not be."""
OVERRIDES = (
    *SETTINGS,
    "admin.kind=http",
    "admin.port=0",
    "gateway.log_bytes=64MiB",
    "gateway.slow_reader_ns=500ms",
    "gateway.logon_timeout_ns=4s",
    "gateway.client_timeout_ns=4s",
    "risk.kind=limits",
    "risk.orders_per_second=500",
    "risk.orders_burst=500",
)
EXPECTED = {
    ("refused", "too many connections in a second"),
    ("closed", "no login in time"),
    ("closed", "no login"),
    ("login rejected", "not authorized"),
    ("login rejected", "failed too often"),
}
SESSIONS_END = {
    "slow reader",
    "log full",
    "end of stream",
    "socket error",
    "silent",
    "logout",
}


def hostile_plan(exchange: ServedExchange) -> HostilePlan:
    return HostilePlan(
        *exchange.endpoint,
        victim=GOOD,
        users=BAD,
        password=exchange.password,
        connects_per_second=500,
        orders_per_second=5000,
    )


async def trade(exchange: ServedExchange, seconds: float = SECONDS) -> None:
    """Log on, and place orders until the time is over and there were enough; each is answered."""
    client = await Client.connect(*exchange.endpoint, GOOD, exchange.password)
    began, sent = time.monotonic(), 0
    while sent < ORDERS_OF_THE_GOOD or time.monotonic() - began < seconds:
        number = await client.place("AAPL", Side.BUY, 100, price_ticks=100_0000)
        sent += 1
        while True:
            answer = await client.next_answer()
            if isinstance(answer, OrderAccepted) and answer.user_reference_number == number:
                break
        await client.cancel(number)
        await asyncio.sleep(0.01)
    await client.close()


def rage(exchange: ServedExchange, hostile: HostileProcess) -> dict[str, int]:
    """Let them loose while the good client trades; what they have opened."""
    hostile.go()
    asyncio.run(asyncio.wait_for(trade(exchange), 120))
    return hostile.stop()


def test_the_worst_clients_hurt_only_themselves() -> None:
    compile_once()
    with served_exchange(OVERRIDES) as exchange, hostile_process(hostile_plan(exchange)) as hostile:
        rage(exchange, hostile)
        before = exchange.resident_bytes()
        opened = rage(exchange, hostile)
        log = exchange.log
        connections = sum(count for kind, count in opened.items() if kind != ORDERS)
        until(lambda: log.accounted() - log.logins[GOOD] >= connections, 20)
        assert opened[ORDERS] > 1000
        assert all(opened[kind] > 0 for kind in ("connects", "guesses", "half frames", "random bytes"))
        unknown = log.accounted() - log.logins[GOOD] - connections
        assert abs(unknown) <= CONNECTIONS_MISSED_MAX, (opened, log.ends)
        assert set(log.ends) >= EXPECTED, log.ends
        reasons = {reason for user, reason in log.session_ends if user in BAD}
        assert "slow reader" in reasons, log.session_ends
        assert reasons <= SESSIONS_END, log.session_ends
        ends = {reason for user, reason in log.session_ends if user == GOOD}
        assert ends <= {"logout", "end of stream"}, "it was never let go"
        assert log.logins[GOOD] == sum(n for (user, _), n in log.session_ends.items() if user == GOOD)
        assert set(log.logins) == {GOOD, *BAD}
        assert log.lines < connections / 2, "a flood does not flood the log"
        assert "Traceback" not in "".join(log.others)
        assert exchange.resident_bytes() - before < MEMORY_BYTES_MAX
        statistics = exchange.statistics()["gateway"]
        assert statistics["connections_refused"] > 0
        assert statistics["logons_rejected"] > 0


def cores_of(status: Path) -> frozenset[int]:
    """Where a thread may run, by proc(5)."""
    (line,) = (one for one in status.read_text().splitlines() if one.startswith("Cpus_allowed_list:"))
    parts = [part.split("-") for part in line.split()[1].split(",")]
    return frozenset(core for part in parts for core in range(int(part[0]), int(part[-1]) + 1))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is for everybody")
def test_nothing_but_an_agent_runs_on_the_core_of_an_agent() -> None:
    compile_once()
    with served_exchange((*OVERRIDES, "placement.kind=pinned")) as exchange:
        asyncio.run(asyncio.wait_for(trade(exchange, seconds=0.0), 60))  # a password has been checked
        process = Path(f"/proc/{exchange.process.pid}")
        allowed = {one.name: cores_of(one / "status") for one in (process / "task").iterdir()}
        everybody = allowed.pop(str(exchange.process.pid))
        agents = [cores for cores in allowed.values() if not cores & everybody]
        assert [len(cores) for cores in agents] == [1]
        assert [cores for cores in allowed.values() if cores & agents[0]] == agents


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_a_flood(number: signal.Signals) -> None:
    compile_once()
    with served_exchange(OVERRIDES) as exchange, hostile_process(hostile_plan(exchange)) as hostile:
        hostile.go()
        assert until(lambda: exchange.log.ends.total() > 100, 60)
        assert end(exchange.process, number) < END_SECONDS_MAX
        assert exchange.process.returncode == (130 if number == signal.SIGINT else 0)
        exchange.log.join()
        assert "Traceback" not in "".join(exchange.log.others)
        hostile.stop()
