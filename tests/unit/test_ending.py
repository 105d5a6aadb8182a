"""Ctrl-C comes through: where Python would throw it away, and where it has to wait."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from exchange.ending import ctrl_c_postponed, keep_ctrl_c

ROOT = Path(__file__).resolve().parents[2]
SLEEP_SECONDS = 20

ALARMS = """
import random, signal, time
{imports}

class Alarm(BaseException):
    pass

def ring(number, frame):
    raise Alarm

{once}
signal.signal(signal.SIGINT, ring)
signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
chance, rung = random.Random(1), 0

def attempt():
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.003))
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        {once}

for _ in range(200):
    try:
        attempt()
    except Alarm:
        rung += 1
print("rung" if rung > 150 else "lost")
"""


@pytest.mark.parametrize(
    ("imports", "once"),
    [
        ("from exchange.book.ladder import Ladder", "Ladder(8, 100_000, 1, 2_000_000)"),
        ("from exchange.market_data.feed_book import FeedBook", "FeedBook()"),
        ("from exchange.placement import load_topology", "load_topology(None)"),
        ("from exchange.placement import load_topology", "load_topology('pack:2 core:2 pu:2')"),
    ],
)
def test_an_interrupt_at_any_moment_is_an_exception_and_no_crash(imports: str, once: str) -> None:
    program = ALARMS.format(imports=imports, once=once)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "rung\n"), done.stderr


class Closing:
    """Python ignores what its end raises."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_python_ignores_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    keep_ctrl_c()
    closing: Closing | None = Closing()
    assert closing is not None
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (it comes while we wait, not before)
        closing = None
        time.sleep(SLEEP_SECONDS)
    assert time.monotonic() - began < SLEEP_SECONDS, "it is to end the wait, not to come behind it"


def test_an_error_that_comes_of_a_lost_interrupt_is_not_shown() -> None:
    program = """
import ctypes, signal
from exchange import cli

@cli.cli.command()
def broken():
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()  # C cannot pass the exception on
    raise RuntimeError("the callback has not done its work")

cli.cli.get_command = lambda context, name: broken
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program, "broken"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "exchange: stopped\n")
    program = program.replace("signal.raise_signal(signal.SIGINT)", "None")
    done = subprocess.run([sys.executable, "-c", program, "broken"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "RuntimeError: the callback has not done its work" in done.stderr


def test_other_ignored_errors_are_told_as_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    keep_ctrl_c()

    class Failing:
        def __del__(self) -> None:
            raise ValueError("told")

    Failing()
    assert "ValueError: told" in capsys.readouterr().err


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), ctrl_c_postponed():  # noqa: PT012 (both lines are to run)
        signal.raise_signal(signal.SIGINT)
        steps.append("went on")
    assert steps == ["went on"]
    with ctrl_c_postponed():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_in_another_thread_nothing_is_postponed() -> None:
    handlers = []

    def run() -> None:
        with ctrl_c_postponed():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
