"""Shards that are processes: seen from outside, killed, stopped, and never left behind.

That they make the same events and the same books as threads is among the profiles of ``test_exchange.py``."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exchange.agent_process import AgentProcess
from exchange.assembly import Exchange
from exchange.client import Client, Side
from exchange.errors import UserError
from exchange.forked_child import ChildDied, ForkedChild
from exchange.matching.shard import ShardStatus
from exchange.messages import COMMAND_DTYPE
from exchange.native import Arena, load_int64, shared_with_children, store_int64
from exchange.settings import load_profile
from exchange.transport.memory import MemoryTransport
from tests.system.test_serve_command import PASSWORD, served, write_cheap_user

PROCESSES = ("queue.kind=spsc", "book.kind=ladder", "shards.run_as=processes")
ENDS_SECONDS = 10.0
"""Milliseconds on a machine that has nothing else to do."""


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENDS_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


# A child.


def test_a_child_has_the_memory_that_is_shared_and_no_other() -> None:
    with shared_with_children():
        shared = Arena.private(64)
    alone = Arena.private(64)
    store_int64(shared.address, 3)

    def add() -> int:
        store_int64(shared.address, load_int64(shared.address) + 1)
        return load_int64(shared.address)

    child = ForkedChild("adds", add)
    assert child.wait(ENDS_SECONDS)
    assert child.take_result() == load_int64(shared.address) == 4
    child = ForkedChild("reads", lambda: load_int64(alone.address))
    assert child.wait(ENDS_SECONDS)
    with pytest.raises(ChildDied, match=rf"^reads: its process {child.pid} was ended by SIGSEGV$"):
        child.take_result()


def test_a_child_lets_go_of_what_is_its_parents(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        child = ForkedChild("looks around", lambda: sorted(map(int, os.listdir("/proc/self/fd"))))
        assert child.wait(ENDS_SECONDS)
        found = child.take_result()
        assert file.fileno() not in found
        assert set(found) >= {0, 1, 2}
        assert len(found) <= 5, (
            "the three of every process, the way to the parent, and the folder that is listed"
        )


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (UserError("too many"), UserError, "^fails: too many$"),
        (KeyError("k"), RuntimeError, "^fails: KeyError: 'k'$"),
    ],
)
def test_what_goes_wrong_in_a_child_is_told(error: Exception, kind: type[Exception], told: str) -> None:
    def fail() -> None:
        raise error

    child = ForkedChild("fails", fail)
    assert child.wait(ENDS_SECONDS)
    with pytest.raises(kind, match=told):
        child.take_result()


# An exchange with such shards.


def build(*overrides: str) -> Exchange:
    settings = load_profile("textbook", (*PROCESSES, *overrides))
    exchange = Exchange(settings, 2, MemoryTransport([np.zeros(0, COMMAND_DTYPE)], keep_events=8))
    exchange.compile(lambda text: None)
    return exchange


def processes_of(exchange: Exchange) -> list[AgentProcess]:
    return [one for one in exchange.threads.threads if isinstance(one, AgentProcess)]


def test_a_shard_is_a_process_of_its_own_with_its_name_and_ends_with_the_others() -> None:
    exchange = build()
    (shard,) = processes_of(exchange)
    assert shard.pid == 0
    with exchange.threads:
        eventually(lambda: name_of(shard.pid) == "shard.0")
        assert shard.pid in children_of(os.getpid())
        assert exchange.status() == [ShardStatus(0, 0, 0, 0, 0, 0, 0, 0)]
    assert not Path(f"/proc/{shard.pid}").exists()
    assert {"cpu_ns", "voluntary_switches", "not_measured"} <= set(shard.counters)


def run_until_ended(exchange: Exchange, number: signal.Signals) -> None:
    """Run the exchange, send its shard a signal, and wait until all of it has ended."""
    (shard,) = processes_of(exchange)
    with exchange.threads:
        os.kill(shard.pid, number)
        if number == signal.SIGSTOP:
            exchange.threads.request_stop()
        eventually(lambda: not any(thread.is_alive() for thread in exchange.threads.threads))


def test_a_shard_that_dies_ends_the_exchange() -> None:
    exchange = build()
    (shard,) = processes_of(exchange)
    with pytest.raises(ChildDied, match=r"^shard.0: its process [0-9]+ was ended by SIGKILL$"):
        run_until_ended(exchange, signal.SIGKILL)
    assert not is_alive(shard.pid)


def test_a_shard_that_does_not_end_is_killed() -> None:
    exchange = build()
    (shard,) = processes_of(exchange)
    with pytest.raises(RuntimeError, match=r"^shard.0: its process [0-9]+ did not end when it was asked to$"):
        run_until_ended(exchange, signal.SIGSTOP)
    assert not Path(f"/proc/{shard.pid}").exists()


def test_signals_of_the_terminal_do_not_end_a_shard() -> None:
    exchange = build()
    (shard,) = processes_of(exchange)
    with exchange.threads:
        eventually(lambda: name_of(shard.pid) == "shard.0")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(shard.pid, number)
        time.sleep(0.05)
        assert is_alive(shard.pid)


def test_a_group_that_cannot_start_leaves_no_process() -> None:
    exchange = build()
    (shard,) = processes_of(exchange)
    other = next(one for one in exchange.threads.threads if one is not shard)

    def fail() -> None:
        raise MemoryError

    other.start = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError), exchange.threads:
        pass
    assert shard.pid > 0
    eventually(lambda: not Path(f"/proc/{shard.pid}").exists())


# A served one, in another process.

SERVED = (
    *("--set", "shards.run_as=processes", "--set", "shards.count=2", "--set", "shards.threads=auto"),
    *("--set", "shards.assign={AAPL=0, MSFT=1}"),
)


def shards_of(process: "subprocess.Popen[str]") -> list[int]:
    return [pid for pid in children_of(process.pid) if name_of(pid).startswith("shard.")]


@pytest.mark.parametrize(
    ("transport", "number", "status"), [("tcp", signal.SIGINT, 130), ("udp", signal.SIGTERM, 0)]
)
def test_it_serves_clients_and_a_signal_to_all_ends_it_in_order(
    tmp_path: Path, transport: str, number: signal.Signals, status: int
) -> None:
    users = tmp_path / "users"
    write_cheap_user(users, "alice")

    async def scenario(port: int) -> None:
        client = await Client.connect("127.0.0.1", port, "alice", PASSWORD, transport=transport)  # type: ignore[arg-type]
        heard = [await client.next_answer()]
        for symbol in ("AAPL", "MSFT"):
            await client.place(symbol, Side.BUY, 100, price_ticks=100_0000)
            heard.append(await client.next_answer())
        for pid in (process.pid, *shards):
            os.kill(pid, number)
        heard += [answer async for answer in client]
        assert [type(one).__name__ for one in heard] == [
            "SystemEvent", "OrderAccepted", "OrderAccepted", "SystemEvent",
        ]  # fmt: skip
        await client.close()

    with served(users, *SERVED, "--set", f"transport.kind={transport}") as (process, port):
        shards = shards_of(process)
        asyncio.run(asyncio.wait_for(scenario(port), 20))
        _, logged = process.communicate(timeout=20)
        assert process.returncode == status
        assert "Traceback" not in logged
        assert shards
        assert all(f"pid={pid}" in logged and not is_alive(pid) for pid in shards)


def test_a_served_exchange_whose_shard_is_killed_ends_and_says_why(tmp_path: Path) -> None:
    users = tmp_path / "users"
    write_cheap_user(users, "alice")
    with served(users, *SERVED) as (process, _):
        victim, *others = shards_of(process)
        name = name_of(victim)
        os.kill(victim, signal.SIGKILL)
        _, logged = process.communicate(timeout=20)
        assert process.returncode == 2
        assert logged.splitlines()[-1] == f"exchange: {name}: its process {victim} was ended by SIGKILL"
        assert not any(is_alive(pid) for pid in others)


def test_an_exchange_that_is_killed_leaves_no_process_and_no_memory(tmp_path: Path) -> None:
    users = tmp_path / "users"
    write_cheap_user(users, "alice")
    with served(users, *SERVED) as (process, _):
        shards = shards_of(process)
        assert shards
        for pid in (process.pid, *shards):
            assert "/dev/shm/" not in Path(f"/proc/{pid}/maps").read_text(), "what has a name would be left"
        process.kill()
        process.wait(20)
        eventually(lambda: not any(is_alive(pid) for pid in shards))
