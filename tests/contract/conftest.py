"""What several contract tests want: a book of every variant, and shared memory under a name of the test's own."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book_driver import VARIANTS, BookDriver, MakeBook


@pytest.fixture(params=VARIANTS)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """Makes books of one variant after the other."""
    return lambda **settings: BookDriver(request.param, **settings)


@pytest.fixture
def shared_name() -> Iterator[str]:
    """A name for a shared-memory object that no other test and no other run uses."""
    name = f"exchange-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield name
    Path("/dev/shm", name).unlink(missing_ok=True)
