"""The book as a C library: what a C program gets, and who may build and link it."""

import ctypes
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from exchange.cli_export import export
from exchange.errors import UserError
from exchange.export import ExportedLibrary, export_library
from exchange.export.book_calls import LEVEL_DTYPE
from exchange.export.c_api import FUNCTIONS, CFunction
from exchange.export.linking import link_library
from exchange.flow import SyntheticConfig, load_flow
from exchange.messages import COMMAND_DTYPE, EVENT_DTYPE, RECORD_BYTES, CommandKind, EventKind
from exchange.native import address_of, kernel
from tests.book_driver import BOOK_EVENTS, BookDriver, first_difference, new, stamped
from tests.exported_book import (
    ADAPTER,
    CAPACITY_ORDERS,
    COMPILER,
    NEEDS,
    ONE_THREAD,
    PRICE_MAX,
    REPOSITORY,
    WARNINGS,
    Library,
    build,
    fnv1a,
    run,
)
from tests.property.book_flows import random_flow

pytestmark = NEEDS


def test_the_market_of_these_tests_has_everything_in_it(busy_market: tuple[NDArray[Any], bytes]) -> None:
    kinds = np.frombuffer(busy_market[1], EVENT_DTYPE)["kind"]
    assert set(kinds.tolist()) == {int(kind) for kind in BOOK_EVENTS}
    assert np.count_nonzero(kinds == EventKind.EXECUTED) > 500
    assert np.count_nonzero(kinds == EventKind.REJECTED) > 100


@pytest.mark.parametrize(
    ("slots", "batch"), [(2, 1), (64, 7), (64, 1000), (4096, 1), (16384, 300), (65536, 50)]
)
def test_a_c_program_gets_the_events_that_python_gets(
    example: Path, busy_market: tuple[NDArray[Any], bytes], slots: int, batch: int, tmp_path: Path
) -> None:
    commands, expected = busy_market
    commands.tofile(tmp_path / "commands")
    printed = run(example, tmp_path / "commands", tmp_path / "events", 8, CAPACITY_ORDERS, slots, batch)
    events = (tmp_path / "events").read_bytes()
    assert events == expected, first_difference(commands, events, expected)
    assert printed["commands"] == str(len(commands))
    assert printed["events"] == str(len(expected) // RECORD_BYTES)
    assert printed["digest"] == f"{fnv1a(expected):016x}"
    if slots <= 64:
        assert int(re.findall(r"\d+", next(key for key in printed if key.startswith("waited")))[0]) > 10


@pytest.mark.parametrize("slots", [2, 1024])
def test_a_single_threaded_c_program_gets_them_too(
    exported: ExportedLibrary, busy_market: tuple[NDArray[Any], bytes], slots: int, tmp_path: Path
) -> None:
    commands, expected = busy_market
    commands.tofile(tmp_path / "commands")
    run(build(ONE_THREAD, exported), tmp_path / "commands", tmp_path / "events", slots)
    assert (tmp_path / "events").read_bytes() == expected


def test_an_adapter_for_a_foreign_harness_gets_them_too(exported: ExportedLibrary, tmp_path: Path) -> None:
    settings = SyntheticConfig(
        commands=20_000, symbols=1, sessions=1, replace_share=0.5, partial_cancel_share=0.0
    )
    flow = load_flow("synthetic", synthetic=settings).commands
    messages = np.zeros(len(flow), COMMAND_DTYPE)
    messages["sequence"] = np.arange(1, len(flow) + 1)
    for name in ("kind", "order_id"):
        messages[name] = flow[name]
    is_new, is_replace = (messages["kind"] == kind for kind in (CommandKind.NEW, CommandKind.REPLACE))
    messages["side"][is_new] = flow["side"][is_new]
    for name in ("price_ticks", "quantity_lots"):
        messages[name][is_new | is_replace] = flow[name][is_new | is_replace]
    messages["new_order_id"][is_replace] = messages["order_id"][is_replace]
    messages.tofile(tmp_path / "messages")
    run(build(ADAPTER, exported), tmp_path / "messages", tmp_path / "reports", 256)

    reports = np.fromfile(tmp_path / "reports", EVENT_DTYPE)
    driver = BookDriver("ladder", capacity_orders=262_144, price_max_ticks=1_000_000)
    expected = np.frombuffer(driver.play(messages), EVENT_DTYPE)
    np.testing.assert_array_equal(reports["kind"], expected["kind"])
    # A reject repeats the fields of its command, and those that a message does not use are left over from the last one.
    applied = reports["kind"] != EventKind.REJECTED
    np.testing.assert_array_equal(reports[applied], expected[applied])
    for name in ("command_sequence", "order_id", "reason", "command_kind"):
        np.testing.assert_array_equal(reports[name], expected[name])
    assert np.count_nonzero(reports["kind"] == EventKind.REPLACED) > 1000
    assert np.count_nonzero(reports["kind"] == EventKind.EXECUTED) > 100


def test_the_library_needs_the_c_library_and_nothing_else(exported: ExportedLibrary, example: Path) -> None:
    libc = ctypes.CDLL(None)
    symbols = nm(exported.library)
    assert {name for kind, name in symbols if kind == "T"} == {"exchange_abi", *(f.name for f in FUNCTIONS)}
    undefined = {name.partition("@")[0] for kind, name in symbols if kind not in "TRDB"}
    assert undefined
    assert [name for name in undefined if not hasattr(libc, name)] == []
    assert [name for name in undefined if name.startswith(("Py", "_Py", "NRT", "numba"))] == []
    for file in (exported.library, example):
        needed = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
        names = {Path(line.split()[0]).name for line in needed.splitlines()}
        assert {
            name for name in names if not re.match(r"linux-vdso|ld-linux|libc\.|libexchange_book\.so", name)
        } == set()


def nm(library: Path) -> list[tuple[str, str]]:
    """Kind and name of each dynamic symbol."""
    if shutil.which("nm") is None:
        pytest.skip("no nm: sudo apt-get install binutils")
    listed = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
    return [(line.split()[-2], line.split()[-1]) for line in listed.splitlines()]


@pytest.mark.parametrize(
    ("language", "standard"), [("c", "c11"), ("c", "gnu17"), ("c++", "c++11"), ("c++", "c++20")]
)
def test_the_header_is_c_and_c_plus_plus(exported: ExportedLibrary, language: str, standard: str) -> None:
    assert COMPILER is not None
    compiler = (
        COMPILER
        if language == "c"
        else next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    )
    if compiler is None:
        pytest.skip("no C++ compiler: sudo apt-get install g++")
    command = [
        compiler,
        "-x",
        language,
        f"-std={standard}",
        *WARNINGS,
        "-pedantic",
        "-fsyntax-only",
        exported.header,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_header_and_library_know_each_other(exported: ExportedLibrary, library: Library) -> None:
    stated = re.search(r"#define EXCHANGE_ABI UINT32_C\((0x[0-9a-f]+)\)", exported.header.read_text())
    assert stated
    assert int(stated[1], 16) == library.exchange_abi()
    assert "@" not in exported.header.read_text()


def test_the_documentation_names_every_function() -> None:
    page = (REPOSITORY / "docs" / "c-library.md").read_text()
    assert [function.name for function in FUNCTIONS if f"`{function.name}`" not in page] == []


@pytest.mark.parametrize("seed", range(8))
def test_any_market_is_the_same_from_c(library: Library, seed: int) -> None:
    regime, commands = random_flow(seed, 3000)
    shape = {
        name: getattr(regime, name)
        for name in ("symbol_count", "capacity_orders", "price_min_ticks", "price_max_ticks")
    }
    driver = BookDriver("ladder", **shape)
    handle = library.create(**shape)
    assert handle is not None
    expected, events = driver.play(commands), library.apply_to_buffer(handle, commands, regime.batch_commands)
    assert events == expected, first_difference(commands, events, expected)
    assert library.book_live_order_count(handle) == driver.live_order_count()
    for symbol_id in range(regime.symbol_count):
        compare_views(library, handle, driver, symbol_id)
    library.book_destroy(handle)


def compare_views(library: Library, handle: int, driver: BookDriver, symbol_id: int) -> None:
    """Best prices, depth and orders, against the orders that the Python side exports."""
    orders = driver.orders(symbol_id)
    out = np.zeros(driver.live_order_count() + 1, COMMAND_DTYPE)
    assert library.book_export_orders(handle, symbol_id, address_of(out)) == len(orders)
    assert [tuple(order) for order in out[: len(orders)].tolist()] == [tuple(order) for order in orders]
    for side, best in enumerate((library.book_best_bid, library.book_best_ask)):
        prices: dict[int, int] = {}
        for order in orders:
            if order.side == side:
                prices[order.price_ticks] = prices.get(order.price_ticks, 0) + order.quantity_lots
        found = np.full(2, -7, np.int64)
        assert best(handle, symbol_id, address_of(found), address_of(found) + 8) == bool(prices)
        assert tuple(found) == next(iter(prices.items()), (-7, -7))
        for levels in (0, 1, 3, len(prices), len(prices) + 5):
            depth = np.zeros(levels + 1, LEVEL_DTYPE)
            count = library.book_depth(handle, symbol_id, side, levels, address_of(depth))
            assert depth[:count].tolist() == list(prices.items())[:levels]
            assert not depth[levels]["quantity_lots"], "written beyond the room that was given"


def test_what_does_not_exist_has_no_price(library: Library, book: int) -> None:
    commands = stamped([new(1, 0, 10, 5), new(2, 1, 20, 5)])
    library.apply_to_buffer(book, commands)
    out = np.zeros(4, LEVEL_DTYPE)
    for symbol_id in (1, 2, 0xFFFF, 2**32 - 1):
        assert library.book_best_bid(book, symbol_id, address_of(out), address_of(out) + 8) == 0
        assert library.book_depth(book, symbol_id, 0, 4, address_of(out)) == 0
        assert library.book_export_orders(book, symbol_id, address_of(out)) == 0
    assert library.book_depth(book, 0, 2, 4, address_of(out)) == 0
    assert not out.view(np.int64).any()


def test_another_processor_can_be_named(tmp_path: Path, busy_market: tuple[NDArray[Any], bytes]) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the names are those of x86-64")
    exported = export_library(tmp_path, "x86-64-v2")
    library = Library(exported.library)
    handle = library.create(symbol_count=8, capacity_orders=CAPACITY_ORDERS, price_max_ticks=PRICE_MAX)
    assert library.apply_to_buffer(handle, busy_market[0]) == busy_market[1]
    library.book_destroy(handle)
    if shutil.which("objdump"):
        listed = subprocess.run(
            ["objdump", "-d", exported.library], capture_output=True, text=True, check=True
        )
        assert "ret" in listed.stdout
        assert not re.search(r"%[yz]mm", listed.stdout), "x86-64-v2 has no AVX"


@pytest.mark.parametrize("cpu", ["x86-64-v9", "no-such-processor", "help", ""])
def test_an_unknown_processor_is_named_in_one_line(cpu: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a processor of") as raised:
        export_library(tmp_path, cpu)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_compiler_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UserError, match=r"CC = no-such-compiler.*sudo apt-get install gcc"):
        export_library(tmp_path)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"cc, gcc, clang.*sudo apt-get install gcc"):
        export_library(tmp_path)


def test_the_folder_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        export_library(tmp_path / "file")


@kernel
def _allocate(count: int) -> int:
    return int(np.arange(count)[::3].copy().sum())


def test_what_needs_python_cannot_be_linked(tmp_path: Path) -> None:
    """The linker is the judge: a function that is nowhere in the C library is an error, not a surprise at run time."""
    assert COMPILER is not None
    function = CFunction("allocate", "size_t", (("size_t", "count"),), _allocate, "Needs numba's runtime.")
    with pytest.raises(RuntimeError, match="NRT_"):
        link_library([function], {}, "native", tmp_path / "library.so", [COMPILER])


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    done = CliRunner().invoke(export, ["--out", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0
    names = {"libexchange_book.so", "exchange_book.h", "example.c"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert all(name in done.output for name in names)
