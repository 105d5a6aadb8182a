"""What all tests share, which is about time only: what is collected as garbage, and where compiled code is kept."""

import gc
import sys
from collections.abc import Iterator

import pytest


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what was there before the first test began.

    Ten thousand collected tests, and the modules that they import, live until the end, and nothing can change that. A
    full collection would look through all of it again and again, above all while something is compiled: a fifth of a
    second each time. What a test makes is collected as ever.
    """
    # Hypothesis looks for the owners of generators when it is imported, and would miss some that are frozen.
    if "hypothesis" in sys.modules:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _sources_of_users_are_forgotten() -> Iterator[None]:
    """Behind tests of a user's own layer, keep compiled code where it was kept before.

    Else all that this process compiles from then on would be for itself: neither the other process that runs tests nor
    an exchange that a test starts would find it, and each would compile it once more.
    """
    yield
    cache = sys.modules.get("exchange.native.cache")
    if cache is not None and cache._included:
        cache._included.clear()
        cache.move_caches()
