"""The memory of a running exchange as another process sees it, and what stands in the way of looking."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.cli_machine import topology
from exchange.errors import UserError
from exchange.placement import running
from exchange.placement.protocol import Assignment
from exchange.placement.running import (
    DOCUMENT_BYTES_MAX,
    MappedPolicies,
    MemoryRow,
    PublishedRegion,
    RunningMemory,
    choose_running,
    decode_running,
    find_running,
    look_at,
    read_running,
    running_record,
    running_report,
)

PROGRAM = """
import sys
from exchange.agent import AgentThread, Park, ThreadGroup
from exchange.native import Arena, store_int64
from exchange.placement.memory_owners import made_for, memory_of
from exchange.placement.protocol import Assignment
with memory_of("shard.0", "book"):
    book = Arena.private(1, huge_pages="never")
for page in range(3):
    store_int64(book.address + page * 4096, 1)
assignment = Assignment("shard.0", None, None, None, "a test", True, ("shard.0",))
with ThreadGroup([AgentThread("shard.0", (), Park(0, 1_000_000), assignment)]):
    print("running", flush=True)
    sys.stdin.read()
"""
ASSIGNMENT = Assignment("shard.0", 3, 1, 1, "a test", True, ("shard.0",), (1,))


@pytest.fixture(scope="module")
def process_id() -> Iterator[int]:
    """A process with something like an exchange in it."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process.pid
        process.communicate("")


def test_a_running_exchange_is_found_and_its_pages_are_counted(process_id: int) -> None:
    assert process_id in find_running()
    found = read_running(process_id)
    assert [one.thread for one in found.assignments] == ["shard.0"]
    (book,) = [row for row in look_at(process_id, found) if row.part == "book"]
    assert (book.owner, book.pages.total(), book.strays) == ("shard.0", 3, 0)
    assert book.policies == ("default",)


def test_the_command_shows_it_and_writes_it_down(process_id: int, tmp_path: Path) -> None:
    path = tmp_path / "running.json"
    shown = CliRunner().invoke(topology, ["--running", str(process_id), "--json", str(path)])
    assert shown.exit_code == 0, shown.output
    (line,) = [line for line in shown.output.splitlines() if " book " in line]
    assert line.split()[:5] == ["shard.0", "book", "2", "MB", "-"]
    assert f"process {process_id}: {sys.executable} -c" in shown.output
    assert "thread shard.0: left to the OS" in shown.output
    record = json.loads(path.read_text())
    assert record["process_id"] == process_id
    (book,) = [one for one in record["memory"] if one["part"] == "book"]
    assert sum(book["pages_by_node"].values()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "--running abc: allowed is the number of a process, or nothing"),
        ("0x5", "--running 0x5: allowed is the number"),
        ("999999999", "process 999999999: there is no such process"),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_one_line(text: str, message: str) -> None:
    failure = CliRunner().invoke(topology, [f"--running={text}"]).exception
    assert isinstance(failure, UserError)
    assert message in str(failure)
    assert "\n" not in str(failure)


def test_a_process_without_an_exchange_is_told_of() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        with pytest.raises(UserError, match=f"process {process.pid}: no exchange runs in it"):
            read_running(process.pid)
        process.kill()


def test_one_of_several_has_to_be_named(monkeypatch: pytest.MonkeyPatch, process_id: int) -> None:
    monkeypatch.setattr(running, "find_running", list)
    with pytest.raises(UserError, match="no exchange runs here that this user may look into"):
        choose_running("")
    monkeypatch.setattr(running, "find_running", lambda: [process_id])
    assert choose_running("") == process_id
    monkeypatch.setattr(running, "find_running", lambda: [process_id, 999_999_999])
    with pytest.raises(UserError, match=rf"name one: {process_id} \(.*\), 999999999 \(\)"):
        choose_running("")


def test_a_process_of_another_user_is_not_looked_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "7/fd").mkdir(parents=True)
    monkeypatch.setattr(running, "_PROCESSES", tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"process 7: this user may not look into it; .* root \(sudo\)"):
        read_running(7)


@pytest.mark.parametrize(
    ("number", "message"),
    [(1, "SYS_NICE"), (3, "it has ended"), (38, "does not know on which NUMA node"), (12, "does not say")],
)
def test_a_kernel_that_does_not_answer_is_told_of(
    monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(*_: int) -> Counter[int]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(running, "count_pages", fail)
    region = PublishedRegion("shard.0", "book", 4096, 4096, ())
    with pytest.raises(UserError, match=message):
        look_at(os.getpid(), RunningMemory((), (region,)))


ROWS = [
    MemoryRow("shard.0", "book", 1 << 20, (1,), Counter({1: 200}), ("bind:1",)),
    MemoryRow("shard.1", "book", 1 << 20, (0,), Counter({0: 200, 1: 56}), ("bind:0",)),
    MemoryRow("", "elsewhere", 4096, (), Counter({0: 1}), ("default",)),
]


def test_pages_that_went_elsewhere_are_named() -> None:
    memory = RunningMemory((ASSIGNMENT,), ())
    text = running_report(os.getpid(), memory, ROWS)
    assert "thread shard.0: processing unit 3, node 1" in text
    assert "not where they were placed: 56 of shard.1's book" in text
    assert "all memory that was placed is where it was placed" in running_report(
        1, memory, [ROWS[0], ROWS[2]]
    )
    assert "each page is on the node of the thread that wrote to it first" in running_report(
        1, memory, [MemoryRow("", "x", 8192, (), Counter({0: 1, 1: 1}), ("default",))]
    )
    assert [one["stray_pages"] for one in running_record(1, memory, ROWS)["memory"]] == [0, 56, 0]


def test_policies_are_read_off_numa_maps() -> None:
    policies = MappedPolicies(
        "7f0000002000 interleave:0-1 anon=1 N0=1\n7f0000000000 bind:1 anon=2 N1=2\nnonsense\n\n7f0000009000 default\n"
    )
    assert policies.at(0x7F0000000000) == policies.at(0x7F0000001FFF) == "bind:1"
    assert policies.at(0x7F0000002000) == "interleave:0-1"
    assert policies.at(0x1000) == "unknown"


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("0 \n1")
def test_any_text_of_numa_maps_is_read(text: str) -> None:
    MappedPolicies(text).at(1 << 40)


GOOD = RunningMemory((ASSIGNMENT,), (PublishedRegion("shard.0", "book", 1 << 30, 4096, (0, 1)),))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 30))
@example(b"", 0, 0)
@example(b"[" * 60, 0, 400)
def test_anything_that_is_written_down_is_understood_or_refused(junk: bytes, place: int, cut: int) -> None:
    content = msgspec.json.encode(GOOD)
    mixed = content[:place] + junk + content[place + cut :]
    try:
        found = decode_running(mixed, "process 7")
    except UserError:
        return
    for region in found.regions:
        assert 0 <= region.address < 1 << 47
        assert all(0 <= node < 1024 for node in region.nodes)


def test_what_is_out_of_bounds_is_refused() -> None:
    assert decode_running(msgspec.json.encode(GOOD), "x") == GOOD
    for change in (
        {"address": -1},
        {"size_bytes": 1 << 47},
        {"nodes": [1024]},
        {"nodes": [-1]},
        {"owner": 5},
    ):
        document = msgspec.to_builtins(GOOD)
        document["regions"][0].update(change)
        with pytest.raises(UserError, match="not understood"):
            decode_running(msgspec.json.encode(document), "x")
    with pytest.raises(UserError, match="more than 16,777,216 bytes"):
        decode_running(b" " * (DOCUMENT_BYTES_MAX + 1), "x")
