"""The life of an agent: compiled and interpreted loops, idle strategies, stopping, and failing together."""

import threading
import time
import weakref
from typing import Any, NamedTuple

import numba
import pytest

from exchange import agent
from exchange.agent import AgentThread, Block, BusySpin, Park, SpinThenYield, ThreadGroup, build_idle, do_work
from exchange.native import Arena, implements, load_int64, store_int64
from exchange.settings import BlockIdle, BusySpinIdle, ParkIdle, SpinThenYieldIdle

IDLES = [BusySpin(), SpinThenYield(10), Park(10, 100_000)]


class Counter(NamedTuple):
    """Works for ``limit`` turns, then is idle."""

    word: int
    limit: int


@implements(do_work, Counter)
def _count(counter: Counter) -> int:
    done = load_int64(counter.word)
    if done >= counter.limit:
        return 0
    store_int64(counter.word, done + 1)
    return 1


class PythonCounter:
    """The same, in plain Python."""

    def __init__(self, limit: int) -> None:
        self.done = 0
        self.limit = limit


@implements(do_work, PythonCounter)
def _count_in_python(counter: PythonCounter) -> int:
    counter.done += counter.done < counter.limit
    return int(counter.done < counter.limit)


class Failing:
    """Fails at once."""


@implements(do_work, Failing)
def _fail(failing: Failing) -> int:
    raise RuntimeError("this agent fails")


_run_agents = numba.njit(nogil=True, error_model="numpy")(
    getattr(agent.run_agents, "py_func", agent.run_agents)
)


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process can read a stored loop over this file's states, and none could read the others beside it."""
    monkeypatch.setattr(agent, "run_agents", _run_agents)


@pytest.fixture
def word() -> Any:
    arena = Arena.private(4096)
    yield arena.allocate(8)
    assert arena.address  # keeps the arena alive until here


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("idle", IDLES, ids=lambda idle: type(idle).__name__)
def test_compiled_agents_work_and_stop(word: int, idle: Any) -> None:
    thread = AgentThread("counting", (Counter(word, 1000),), idle, None)
    thread.compile()
    with ThreadGroup([thread]):
        wait_until(lambda: load_int64(word) == 1000)
        time.sleep(0.01)  # long enough to be idle in every way the strategy knows
    assert not thread.is_alive()
    assert load_int64(word) == 1000


@pytest.mark.parametrize("idle", IDLES, ids=lambda idle: type(idle).__name__)
def test_a_plain_python_agent_shares_a_thread_with_a_compiled_one(word: int, idle: Any) -> None:
    counter = PythonCounter(50)
    with ThreadGroup([AgentThread("mixed", (Counter(word, 1000), counter), idle, None)]):
        wait_until(lambda: load_int64(word) == 1000 and counter.done == 50)


def test_stopping_takes_less_than_a_second_and_is_told_in_counters(word: int) -> None:
    thread = AgentThread("parked", (Counter(word, 0),), Park(0, 50_000_000), None)
    thread.compile()
    group = ThreadGroup([thread])
    with group:
        time.sleep(0.05)
        group.stop()
        assert not thread.is_alive()
    assert thread.counters["voluntary_switches"] is None or thread.counters["voluntary_switches"] > 0


def test_one_failing_thread_stops_the_others_and_its_error_comes_out(word: int) -> None:
    healthy = AgentThread("healthy", (Counter(word, 10),), BusySpin(), None)
    healthy.compile()
    with (
        pytest.raises(RuntimeError, match="this agent fails"),
        ThreadGroup([healthy, AgentThread("failing", (Failing(),), BusySpin(), None)]),
    ):
        wait_until(lambda: not healthy.is_alive())


def test_an_error_in_the_block_stops_the_threads(word: int) -> None:
    thread = AgentThread("running", (Counter(word, 10),), SpinThenYield(10), None)
    thread.compile()
    with pytest.raises(KeyboardInterrupt), ThreadGroup([thread]):
        raise KeyboardInterrupt
    assert not thread.is_alive()
    assert thread not in threading.enumerate()


class Memory:
    """Stands for what owns the memory that agents use."""


def test_memory_stays_while_a_thread_may_use_it_and_goes_when_all_have_ended(word: int) -> None:
    running = AgentThread("running", (Counter(word, 10),), SpinThenYield(10), None)
    memory = Memory()
    seen = weakref.ref(memory)
    group = ThreadGroup([running], memory)
    del memory
    with group:
        pass
    del group
    assert seen() is None


def test_ctrl_c_between_two_starts_stops_the_first_and_leaves_its_memory_alone(
    word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = AgentThread("first", (Counter(word, 10),), SpinThenYield(10), None)
    second = AgentThread("second", (Counter(word, 10),), SpinThenYield(10), None)
    first.compile()

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(second, "start", interrupted)
    memory = Memory()
    seen = weakref.ref(memory)
    with pytest.raises(KeyboardInterrupt), ThreadGroup([first, second], memory):
        pytest.fail("the block was entered")
    del memory
    first.join(20)
    assert not first.is_alive()
    assert seen() is not None


def test_a_thread_that_does_not_end_keeps_its_memory_and_does_not_hide_ctrl_c(
    word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "STOP_SECONDS", 0.01)
    slow = AgentThread("slow", (Counter(word, 0),), Park(0, 300_000_000), None)
    slow.compile()
    memory = Memory()
    seen = weakref.ref(memory)
    with pytest.raises(KeyboardInterrupt), ThreadGroup([slow], memory):  # noqa: PT012 (it has to sleep by then)
        time.sleep(0.05)
        raise KeyboardInterrupt
    del memory
    assert slow.is_alive()
    assert seen() is not None
    slow.join(20)


def test_idle_settings_become_strategies() -> None:
    assert build_idle(BusySpinIdle()) == BusySpin()
    assert build_idle(SpinThenYieldIdle(spins=7)) == SpinThenYield(7)
    assert build_idle(ParkIdle(spins=3, park_ns=9000)) == Park(3, 9000)
    assert build_idle(BlockIdle(spins=3, wake_ns=2_000_000), 7, 4096) == Block(3, 7, 4096, 2)
