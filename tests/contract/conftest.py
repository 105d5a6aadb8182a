"""Shared memory for the contract tests: a name of its own for each test, gone afterwards."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def shared_name() -> Iterator[str]:
    """A name for a shared-memory object that no other test and no other run uses."""
    name = f"exchange-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield name
    Path("/dev/shm", name).unlink(missing_ok=True)
