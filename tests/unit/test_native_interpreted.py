"""Without a compiler (``NUMBA_DISABLE_JIT=1``) the same sources do the same: for a debugger, and as the kernels' twin.

The contract suites of the layers, and what the gateway and market data promise, are run a second time that way. Only
one thread at a time is promised then, for the twins of the read-modify-writes are not atomic; so the tests with several
threads are left to the compiled form.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("suite", "chosen"),
    [
        ("contract/test_queue_contract.py", "spsc or mpsc or disruptor or locked or user"),
        ("contract/test_stack_contract.py", "not owners and not processes"),
        ("contract/test_latest_value_contract.py", "not reader and not process"),
        ("contract/test_journal_contract.py", "not kill_9 and not at_once"),
        ("system/test_gateway_orders.py", "not lanes"),
        ("system/test_udp_sessions.py", "line[1] or believed or gap or garbage or twice"),
        ("unit/test_gateway_tables.py", ""),
        ("unit/test_load_loops.py", "agree and 3000"),
        ("unit/test_feed_sender.py", ""),
        ("unit/test_wire_moldudp64.py", "test"),
        ("property/test_feed_book.py", "small_day or should_not_happen or damaged"),
        ("property/test_publisher.py", "what_an_event_becomes or hidden or match_numbers"),
        ("property/test_subscriber.py", "not network"),
    ],
)
def test_a_suite_passes_interpreted(suite: str, chosen: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"tests/{suite}",
            "-k",
            chosen,
        ],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_a_kernel_is_the_plain_function_then() -> None:
    script = (
        "from exchange.native import kernel\n"
        "from exchange.queues.spsc import SpscQueue\n"
        "from exchange.queues.protocol import poll_batch, try_push_batch\n"
        "from exchange.native import Arena\n"
        "import types\n"
        "@kernel\n"
        "def carry(producer, consumer, source, out):\n"
        "    total = 0\n"
        "    for turn in range(1000):\n"
        "        try_push_batch(producer, source, 3)\n"
        "        total += poll_batch(consumer, out, 2)\n"
        "    return total\n"
        "assert isinstance(carry, types.FunctionType)\n"
        "queue = SpscQueue(4)\n"
        "arena = Arena.private(4096)\n"
        "print(carry(queue.producer(0), queue.consumer(0), arena.allocate(256), arena.allocate(256)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2000"
