"""After its start the compiled core allocates nothing: neither memory from the system nor objects of the runtime.

Each check is a process of its own (``allocation_program.py``) that looks at numba's allocation counters and at its
resident memory around a long run. That no part of the book *can* allocate is shown elsewhere as well: the C library of
``exchange export`` is linked without numba's runtime.
"""

import subprocess
import sys
from os import environ
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

RESIDENT_GROWTH_MAX_BYTES = 1 << 20
"""What the interpreter around the run may take; eight bytes for each command would be ten times as much."""


def growth(part: str) -> tuple[list[int], int]:
    """How much numba's counters and the resident memory grew while a part of the core ran."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.allocation_program", part],
        env=environ | {"NUMBA_NRT_STATS": "1", "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *counters, resident_bytes = map(int, done.stdout.split())
    return counters, resident_bytes


@pytest.mark.parametrize("part", ["book", "full-book", "shard", "publisher", "feed"])
def test_nothing_is_allocated_after_the_start(part: str) -> None:
    counters, resident_bytes = growth(part)
    assert counters == [0, 0, 0, 0]
    assert resident_bytes < RESIDENT_GROWTH_MAX_BYTES


def test_the_counters_would_notice() -> None:
    counters, _ = growth("wasteful")
    assert counters[0] == 100
