"""What several tests here share and is made once: the book as a C library, and a process that starts exchanges."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exchange.export import ExportedLibrary, export_library
from exchange.flow import SyntheticConfig, load_flow
from exchange.messages import CommandKind
from tests.book_driver import BookDriver
from tests.exported_book import CAPACITY_ORDERS, PRICE_MAX, Library, build
from tests.system.kill_processes import Starter, starting


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedLibrary:
    return export_library(tmp_path_factory.mktemp("export") / "made" / "on the way")


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """What starts exchanges that will be killed: it has read its modules, and what they take is compiled once."""
    with starting(tmp_path_factory.mktemp("started")) as one:
        yield one


@pytest.fixture(scope="session")
def example(exported: ExportedLibrary) -> Path:
    return build(exported.example, exported)


@pytest.fixture(scope="session")
def library(exported: ExportedLibrary) -> Library:
    return Library(exported.library)


@pytest.fixture
def book(library: Library) -> Iterator[int]:
    handle = library.create()
    assert handle is not None
    yield handle
    library.book_destroy(handle)


@pytest.fixture(scope="session")
def busy_market() -> tuple[NDArray[Any], bytes]:
    """Commands of eight symbols, some of them wrong and some for all symbols, and what the Python side answers."""
    commands = load_flow(
        "synthetic", synthetic=SyntheticConfig(commands=30_000, symbols=8, seed=5)
    ).commands.copy()
    commands["sequence"] = np.arange(1, len(commands) + 1)
    commands["kind"][1000::1000] = CommandKind.MASS_CANCEL
    commands["symbol_id"][4000::4000] = 0xFFFF
    commands["symbol_id"][500::777] = 8
    commands["quantity_lots"][333::555] = 0
    commands["session_id"][90::500] = 999
    driver = BookDriver("ladder", symbol_count=8, capacity_orders=CAPACITY_ORDERS, price_max_ticks=PRICE_MAX)
    return commands, driver.play(commands)
