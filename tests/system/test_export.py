"""The book as a C library: what a C program gets, a Python process at the end of its ring, and a careless caller."""

import ctypes
import errno
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from exchange.book.ladder import Ladder
from exchange.cli_export import export
from exchange.errors import UserError
from exchange.export import ExportedLibrary, export_library
from exchange.export.book_calls import LEVEL_DTYPE
from exchange.export.book_handle import CONFIG_DTYPE
from exchange.export.c_api import FUNCTIONS, CFunction
from exchange.export.linking import COMPILERS, INSTALL_COMPILER, link_library
from exchange.flow import SyntheticConfig, load_flow
from exchange.messages import COMMAND_DTYPE, EVENT_DTYPE, RECORD_BYTES, CommandKind, EventKind
from exchange.native import Arena, address_of, kernel, load_int64, view_bytes
from exchange.queues.protocol import poll_batch
from exchange.queues.ring_memory import HEAD, REFUSED, TAIL
from exchange.queues.spsc import SpscConsumer, SpscQueue
from tests.book_driver import BookDriver, cancel, first_difference, mass_cancel, new, stamped
from tests.property.book_flows import random_flow

COMPILER: Final = next(filter(None, map(shutil.which, COMPILERS)), None)
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason=f"no C compiler: {INSTALL_COMPILER}"),
    pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled"),
]

WARNINGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror")
REPOSITORY: Final = Path(__file__).parents[2]
ADAPTER: Final = REPOSITORY / "tests" / "examples" / "harness_adapter.c"
ONE_THREAD: Final = REPOSITORY / "tests" / "examples" / "one_thread.c"
PRICE_MAX: Final = 2**36 - 1
CAPACITY_ORDERS: Final = 20_000

C_TYPES: Final[dict[str, Any]] = {
    "void": None,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "size_t": ctypes.c_size_t,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedLibrary:
    return export_library(tmp_path_factory.mktemp("export") / "made" / "on the way")


@pytest.fixture(scope="module")
def example(exported: ExportedLibrary) -> Path:
    return build(exported.example, exported)


def build(source: Path, exported: ExportedLibrary) -> Path:
    """Compile a C program against the library, as its documentation says, with every warning an error."""
    assert COMPILER is not None
    folder = exported.library.parent
    program = folder / source.stem
    command = [COMPILER, *WARNINGS, source, f"-I{folder}", f"-L{folder}", "-lexchange_book", "-pthread"]
    done = subprocess.run(
        [*command, "-Wl,-rpath,$ORIGIN", "-o", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path, *arguments: object) -> dict[str, str]:
    """Run a program in an empty environment; what it printed, by the words before the last one of a line."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.rpartition(" ")[::2] for line in done.stdout.splitlines())


class Library:
    """The library as ctypes sees it, with the types that the table of functions states."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path), use_errno=True)
        self.exchange_abi = library.exchange_abi
        self.exchange_abi.restype = ctypes.c_uint32
        for function in FUNCTIONS:
            found = getattr(library, function.name)
            found.restype = self._type(function.result)
            found.argtypes = [self._type(kind) for kind, _ in function.parameters]
            self.__dict__[function.name.removeprefix("exchange_")] = found

    @staticmethod
    def _type(kind: str) -> Any:
        return ctypes.c_void_p if kind.endswith("*") else C_TYPES[kind]

    def create(self, **fields: int) -> int | None:
        """A book, or None; ``fields`` differ from those of a small market."""
        values = {
            "symbol_count": 1, "capacity_orders": 64, "price_min_ticks": 1, "price_max_ticks": 1000,
            "publish_every": 0, "flags": 0,
        } | fields  # fmt: skip
        config = np.zeros(1, CONFIG_DTYPE)
        for name, value in values.items():
            config[name] = value
        ctypes.set_errno(0)
        return self.book_create(address_of(config))  # type: ignore[no-any-return]

    def apply_to_buffer(self, book: int, commands: NDArray[Any], batch: int = 256) -> bytes:
        """Apply an array, batch by batch; the bytes of all events."""
        blocks = []
        for start in range(0, len(commands), batch):
            part = commands[start : start + batch].copy()
            events = np.zeros(self.book_events_bound(book, len(part)), EVENT_DTYPE)
            count = self.book_apply_to_buffer(book, address_of(part), len(part), address_of(events))
            blocks.append(events[:count].tobytes())
        return b"".join(blocks)


@pytest.fixture(scope="module")
def library(exported: ExportedLibrary) -> Library:
    return Library(exported.library)


@pytest.fixture
def book(library: Library) -> Iterator[int]:
    handle = library.create()
    assert handle is not None
    yield handle
    library.book_destroy(handle)


@pytest.fixture(scope="module")
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


def fnv1a(block: bytes) -> int:
    digest = 0xCBF29CE484222325
    for byte in block:
        digest = ((digest ^ byte) * 0x100000001B3) & (2**64 - 1)
    return digest


def test_the_market_of_these_tests_has_everything_in_it(busy_market: tuple[NDArray[Any], bytes]) -> None:
    kinds = np.frombuffer(busy_market[1], EVENT_DTYPE)["kind"]
    assert set(kinds.tolist()) == {int(kind) for kind in EventKind}
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


class Ring:
    """A ring that the library made, and the queue layer as its consumer."""

    def __init__(self, library: Library, slots: int) -> None:
        self.arena = Arena.private(library.ring_size_bytes(slots) + 65 * RECORD_BYTES)
        self.address = library.ring_init(self.arena.allocate(library.ring_size_bytes(slots)), slots)
        self.consumer = SpscConsumer(self.address, 0, 1, slots)
        self._out = self.arena.allocate(64 * RECORD_BYTES)

    def drain(self) -> bytes:
        blocks = []
        while count := poll_batch(self.consumer, self._out, 64):
            blocks.append(bytes(view_bytes(self._out, count * RECORD_BYTES)))
        return b"".join(blocks)


@pytest.mark.parametrize("slots", [2, 8, 128, 4096])
@pytest.mark.parametrize("batch", [1, 40, 1000])
def test_one_thread_can_apply_and_drain_without_loss(
    library: Library, busy_market: tuple[NDArray[Any], bytes], slots: int, batch: int
) -> None:
    commands, expected = busy_market[0][:4001], busy_market[1]
    ring = Ring(library, slots)
    handle = library.create(
        symbol_count=8, capacity_orders=CAPACITY_ORDERS, price_max_ticks=PRICE_MAX, publish_every=5
    )
    assert library.book_attach_ring(handle, ring.address) == 0
    received, done, refused = b"", 0, 0
    while done < len(commands):
        count = min(batch, len(commands) - done)
        applied = library.book_try_apply(handle, address_of(commands) + done * RECORD_BYTES, count)
        assert 0 <= applied <= count
        refused += applied < count
        done += applied
        received += ring.drain()
    while library.book_flush(handle):
        received += ring.drain()
    received += ring.drain()
    assert received == expected[: len(received)]
    assert np.frombuffer(expected[len(received) :], EVENT_DTYPE)["command_sequence"].min() > len(commands)
    assert refused > 0 if slots < batch else slots > 100 or load_int64(ring.address + REFUSED) > 0
    library.book_destroy(handle)


def test_events_are_published_when_the_caller_says(library: Library) -> None:
    ring = Ring(library, 64)
    handle = library.create(publish_every=10)
    library.book_attach_ring(handle, ring.address)
    commands = stamped([new(index, 0, 10, 5) for index in range(1, 26)])
    for done, published in enumerate([0] * 9 + [10] * 10 + [20] * 6, start=1):
        assert library.book_apply(handle, address_of(commands) + (done - 1) * RECORD_BYTES, 1) == 1
        assert load_int64(ring.address + TAIL) == published
    assert library.book_flush(handle) == 0
    assert load_int64(ring.address + TAIL) == 25
    assert len(ring.drain()) == 25 * RECORD_BYTES
    assert load_int64(ring.address + HEAD) == 25
    library.book_destroy(handle)


def test_a_ring_that_is_too_small_for_one_command_still_gets_all_its_events(library: Library) -> None:
    ring = Ring(library, 4)
    handle = library.create()
    library.book_attach_ring(handle, ring.address)
    orders = stamped([new(index, 0, 10, 5) for index in range(1, 21)])
    assert len(library.apply_to_buffer(handle, orders)) == 20 * RECORD_BYTES
    last = stamped([mass_cancel(), cancel(1)])
    assert library.book_try_apply(handle, address_of(last), 1) == 1
    assert library.book_attach_ring(handle, None) == -1, "events are still waiting"
    assert ctypes.get_errno() == errno.EBUSY
    assert library.book_try_apply(handle, address_of(last) + RECORD_BYTES, 1) == 0
    received = []
    while (waiting := library.book_flush(handle)) or load_int64(ring.address + TAIL) < 21:
        received.append(ring.drain())
        assert len(received[-1]) == 4 * RECORD_BYTES
        assert waiting + 4 * len(received) == 21
    received.append(ring.drain())
    events = np.frombuffer(b"".join(received), EVENT_DTYPE)
    assert events["order_id"].tolist() == [*range(1, 21), 0]
    assert library.book_attach_ring(handle, None) == 0
    library.book_destroy(handle)


def test_without_a_ring_nothing_is_applied(library: Library, book: int) -> None:
    commands = stamped([new(1, 0, 10, 5)])
    assert library.book_apply(book, address_of(commands), 1) == 0
    assert library.book_try_apply(book, address_of(commands), 1) == 0
    assert library.book_flush(book) == 0
    assert library.book_live_order_count(book) == 0


def test_python_consumes_over_shared_memory_what_c_produces(library: Library, book: int) -> None:
    name = f"exchange-test-export-{os.getpid()}"
    slots = 64
    producer_side = Arena.create_shared(name, SpscQueue.size_bytes(slots, 1, 1))
    try:
        assert library.ring_size_bytes(slots) == SpscQueue.size_bytes(slots, 1, 1)
        ring = library.ring_init(producer_side.allocate(library.ring_size_bytes(slots)), slots)
        queue = SpscQueue(slots, arena=Arena.attach_shared(name))
        assert not queue.is_new
        assert queue.base != ring
        assert library.book_attach_ring(book, ring) == 0
        commands = stamped([new(index, index % 2, 10, 5) for index in range(1, 41)])
        assert library.book_apply(book, address_of(commands), 40) == 40
        out = Arena.private(slots * RECORD_BYTES)
        count = poll_batch(queue.consumer(0), out.address, slots)
        driver = BookDriver("ladder")
        assert bytes(view_bytes(out.address, count * RECORD_BYTES)) == driver.play(commands)
    finally:
        producer_side.unlink()


def test_a_ring_that_python_made_serves_as_well(library: Library, book: int) -> None:
    queue = SpscQueue(16)
    assert library.book_attach_ring(book, queue.base) == 0
    commands = stamped([new(1, 0, 10, 5), cancel(1)])
    assert library.book_apply(book, address_of(commands), 2) == 2
    assert load_int64(queue.base + TAIL) == 2


def test_what_is_no_ring_is_refused(library: Library, book: int) -> None:
    memory = Arena.private(1 << 16)
    assert library.book_attach_ring(book, memory.address) == -1
    assert ctypes.get_errno() == errno.EINVAL
    lanes = SpscQueue(16, producers=2)
    assert library.book_attach_ring(book, lanes.base) == -1, "a queue of several lanes is not one ring"
    for slots in (0, 1, 3, 48, 2**24 + 1, 2**25, 2**63):
        assert library.ring_size_bytes(slots) == 0
        ctypes.set_errno(0)
        assert library.ring_init(memory.address, slots) is None
        assert ctypes.get_errno() == errno.EINVAL
    for address in (None, memory.address + 8, memory.address + 64):
        ctypes.set_errno(0)
        assert library.ring_init(address, 16) is None
        assert ctypes.get_errno() == errno.EINVAL
    assert library.ring_init(memory.address + 128, 16) == memory.address + 128


@pytest.mark.parametrize(
    "fields",
    [
        {"symbol_count": 0},
        {"symbol_count": 65_536},
        {"capacity_orders": 0},
        {"capacity_orders": 2**25 + 1},
        {"price_min_ticks": 1001},
        {"price_min_ticks": -(2**60) - 1},
        {"price_max_ticks": 2**60 + 1},
        {"price_min_ticks": -(2**63), "price_max_ticks": 2**63 - 1},
        {"flags": 2},
        {"flags": 2**31},
    ],
)
def test_a_book_that_cannot_be_is_refused(library: Library, fields: dict[str, int]) -> None:
    assert library.create(**fields) is None
    assert ctypes.get_errno() == errno.EINVAL


def test_so_many_orders_that_links_do_not_reach_are_refused_by_both(library: Library) -> None:
    fields = {"symbol_count": 65_535, "capacity_orders": 2**25, "price_max_ticks": 2**60}
    try:
        Ladder(65_535, 2**25, 1, 2**60)
    except UserError:
        assert library.create(**fields) is None
        assert ctypes.get_errno() in (errno.EINVAL, errno.ENOMEM)
    else:
        library.book_destroy(library.create(**fields))


def test_memory_that_there_is_not_is_refused(exported: ExportedLibrary) -> None:
    script = f"""
import ctypes, resource, struct
library = ctypes.CDLL({str(exported.library)!r}, use_errno=True)
library.exchange_book_create.restype = ctypes.c_void_p
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
config = ctypes.create_string_buffer(struct.pack("<IIqqII", 1, 1 << 24, 1, 1 << 36, 0, 0))
print(library.exchange_book_create(config), ctypes.get_errno())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", str(errno.ENOMEM)]


@pytest.mark.parametrize("flags", [0, 1])
def test_books_that_come_and_go_leave_nothing_behind(library: Library, flags: int) -> None:
    commands = stamped([new(index, 0, index, 5) for index in range(1, 60)])

    def once() -> None:
        handle = library.create(capacity_orders=50_000, flags=flags)
        library.apply_to_buffer(handle, commands)
        library.book_destroy(handle)

    def address_space_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    once()
    before = address_space_pages()
    for _ in range(200):
        once()
    grown = (address_space_pages() - before) * resource.getpagesize()
    assert grown < 50 * (1 << 20), "each book takes over a hundred MiB of address space"
    library.book_destroy(None)


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
