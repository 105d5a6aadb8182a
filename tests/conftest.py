"""What all tests share: the garbage collector leaves alone what was there before the first of them began."""

import gc
import sys


def pytest_collection_finish() -> None:
    """Ten thousand collected tests, and the modules that they import, live until the end, and nothing can change that.

    A full collection would look through all of it again and again, above all while something is compiled: a fifth of a
    second each time. What a test makes is collected as ever.
    """
    if (
        "hypothesis" in sys.modules
    ):  # which looks for the owners of generators when it is imported, and would miss some
        gc.collect()
        gc.freeze()
