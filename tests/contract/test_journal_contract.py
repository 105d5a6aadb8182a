"""What a journal promises (``exchange/journal/protocol.py``), for every variant."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange.agent import AgentThread, Park, ThreadGroup
from exchange.errors import UserError
from exchange.journal import build_journal, segmented
from exchange.journal.identity import JournalDirectory
from exchange.journal.judging import judge_end
from exchange.journal.keeper import DiskFailure, JournalKeeper
from exchange.journal.layout import PREPARED_NAME, segment_name
from exchange.journal.protocol import ALL_DURABLE, append_and_copy
from exchange.journal.reading import StreamReader
from exchange.journal.syncing import JournalSyncMemory
from exchange.journal.words import SLOT, SLOT_PLACE
from exchange.native import Arena, load_int64, store_int64, store_release, view_bytes
from tests.journal_driver import (
    CONFIGS,
    IN_FILES,
    OUTCOMES,
    SEGMENT_BYTES,
    STREAM,
    Desk,
    append_numbered,
    batch_sizes,
    frame_counts,
    make_records,
    read_all,
    watch_durable,
)
from tests.journal_oracle import frame_at

each_variant = pytest.mark.parametrize("variant", list(CONFIGS))
each_in_files = pytest.mark.parametrize("variant", IN_FILES)


@each_variant
def test_appends_succeed_and_become_durable_by_a_sync(variant: str, tmp_path: Path) -> None:
    with Desk(variant, tmp_path) as desk:
        assert desk.sync() == 0
        before = desk.durable
        assert desk.append(1)
        assert desk.append(5)
        if variant == "none":
            assert before == desk.durable == ALL_DURABLE
            assert desk.sync() == 0
        else:
            assert before == desk.durable == 0
            assert desk.sync() == 6
            assert desk.durable == 6
            assert desk.sync() == 0
            assert desk.append(2)
            assert desk.durable == 6
            assert desk.journal.appended_sequence() == 8
        desk.close()


@each_in_files
def test_what_was_appended_is_read_again_frame_by_frame(variant: str, tmp_path: Path) -> None:
    with Desk(variant, tmp_path) as desk:
        for size in batch_sizes(5000):
            desk.append_surely(size)
        desk.close()
        assert np.array_equal(read_all(desk.folder, desk.identity), make_records(1, 5000))
        assert frame_counts(desk.folder, desk.identity) == desk.counts
        names = sorted(path.name for path in desk.folder.iterdir())
    assert len(names) >= 5
    assert names[0] == segment_name(1)
    assert PREPARED_NAME not in names


@each_in_files
def test_without_a_segment_an_append_is_refused_and_changes_nothing(variant: str, tmp_path: Path) -> None:
    with Desk(variant, tmp_path) as desk:
        while desk.append(100):
            pass
        written = desk.next_sequence - 1
        assert desk.journal.refused_count() == 1
        assert not desk.append(100)
        assert desk.journal.refused_count() == 2
        assert desk.append(1), "there is room for a small one"
        assert desk.journal.appended_sequence() == written + 1
        assert desk.sync() == written + 1
        desk.journal.keep()
        assert desk.append(100)
        desk.close()
        assert np.array_equal(read_all(desk.folder, desk.identity), make_records(1, written + 101))


@each_in_files
def test_frames_say_of_which_epoch_they_are(variant: str, tmp_path: Path) -> None:
    with Desk(variant, tmp_path) as desk:
        assert desk.append(2)
        for epoch in (1, 7):
            desk.journal.set_epoch(epoch)
            assert desk.append(3)
        desk.close()
        with StreamReader(desk.folder, desk.identity) as reader:
            assert [frame.epoch for frame in reader.frames()] == [0, 1, 7], "0: nobody has set one"


@each_in_files
def test_a_frame_is_copied_elsewhere_as_it_is_and_not_at_all_if_it_is_refused(
    variant: str, tmp_path: Path
) -> None:
    arena = Arena.private(1 << 17)
    address, copies, refusals = arena.allocate(1 << 16), [], 0
    room, untouched = view_bytes(address, 1 << 16), b"\xa5" * (1 << 16)
    with Desk(variant, tmp_path) as desk:
        desk.journal.set_epoch(5)
        for count in (1, 40, 300, 700) * 5:
            first, records = desk.next_sequence, make_records(desk.next_sequence, count)
            room[:] = untouched
            while not append_and_copy(desk.journal.state, records.ctypes.data, count, first, address):
                assert bytes(room) == untouched
                refusals += 1
                desk.sync()
                desk.journal.keep()
            desk.next_sequence += count
            copies.append(bytes(room[: 64 + 64 * count]))
            assert bytes(room[64 + 64 * count :]) == untouched[64 + 64 * count :]
            found = frame_at(copies[-1], 0, desk.identity)
            assert found is not None
            assert (found.first_sequence, found.count, found.epoch) == (first, count, 5)
            assert copies[-1][64:] == records.tobytes()
        desk.close()
        written = b"".join(path.read_bytes() for path in desk.folder.iterdir())
        assert refusals > 0
        assert all(copy in written for copy in copies)


@each_in_files
def test_a_frame_may_fill_a_segment_to_its_last_byte(variant: str, tmp_path: Path) -> None:
    whole = (SEGMENT_BYTES - 4096) // 64 - 1
    with Desk(variant, tmp_path) as desk:
        for _ in range(3):
            desk.append_surely(whole)
            desk.sync()
            desk.journal.keep()
        assert desk.durable == 3 * whole
        desk.close()
        assert frame_counts(desk.folder, desk.identity) == [whole] * 3


@each_in_files
def test_an_exchange_that_was_killed_goes_on_in_a_new_segment(variant: str, tmp_path: Path) -> None:
    """Three lives, each ended without any notice: nothing synced, the last segment not even named."""
    last = 0
    for life in range(3):
        with Desk(variant, tmp_path, last + 1) as desk:
            for size in batch_sizes(1500 + life):
                desk.append_surely(size)
            last = desk.next_sequence - 1
            desk.abandon()
            assert (desk.folder / PREPARED_NAME).exists()
    with Desk(variant, tmp_path, last + 1) as desk:
        assert desk.durable == last
        assert np.array_equal(read_all(desk.folder, desk.identity), make_records(1, last))


@each_in_files
def test_a_start_without_a_word_written_leaves_nothing_behind(variant: str, tmp_path: Path) -> None:
    for is_orderly in (True, False, True):
        with Desk(variant, tmp_path) as desk:
            assert [path.name for path in desk.folder.iterdir()] == [PREPARED_NAME]
            if is_orderly:
                desk.close()
                assert list(desk.folder.iterdir()) == []


@each_in_files
def test_a_journal_does_not_begin_in_the_middle_of_what_is_there(variant: str, tmp_path: Path) -> None:
    with Desk(variant, tmp_path) as desk:
        for _ in range(30):
            desk.append_surely(100)
            desk.journal.keep()
        desk.close()
        firsts = sorted(int(path.stem) for path in desk.folder.iterdir())
    for next_sequence in (1, firsts[1], firsts[1] - 1):
        with pytest.raises(UserError, match=f"its stream goes on with sequence {next_sequence}; cut it"):
            Desk(variant, tmp_path, next_sequence)


@each_in_files
def test_every_frame_says_what_was_synced_when_it_was_written(variant: str, tmp_path: Path) -> None:
    expected = []
    with Desk(variant, tmp_path) as desk:
        for size in (3, 1, 4, 1, 5):
            expected.append(desk.durable)
            desk.append(size)
            if size != 4:
                desk.sync()
        desk.close()
        with StreamReader(desk.folder, desk.identity) as reader:
            found = [row for places in reader.batches() for row in places["durable_sequence"].tolist()]
            assert judge_end(reader) is None
    assert found == expected == [0, 3, 4, 4, 9]


@each_in_files
def test_both_variants_write_the_same_bytes(variant: str, tmp_path: Path) -> None:
    """So a journal that one wrote can be gone on with by the other."""
    with Desk("file" if variant == "mapped" else "mapped", tmp_path) as desk:
        desk.append(7)
        desk.close()
    with Desk(variant, tmp_path, 8) as desk:
        desk.next_sequence = 8
        desk.append(9)
        desk.close()
        assert np.array_equal(read_all(desk.folder, desk.identity), make_records(1, 16))


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="threads of their own are for compiled loops")
@each_in_files
@pytest.mark.parametrize("batch", [1, 100])
def test_writer_syncer_and_keeper_at_once(variant: str, batch: int, tmp_path: Path) -> None:
    count = 40_000 if batch == 1 else 100_000
    with Desk(variant, tmp_path) as desk:
        state = desk.journal.state
        arena = Arena.private(1 << 16, huge_pages="never")
        records, stop = arena.allocate(batch * 64), arena.allocate(8)
        syncing = JournalSyncMemory((state,), sync_every_ns=0)
        thread = AgentThread("journal", (syncing.agent,), Park(16, 50_000), None)
        thread.compile()
        results: dict[str, Any] = {}
        watcher = threading.Thread(target=lambda: results.update(watched=watch_durable(state, count, stop)))
        writer = threading.Thread(
            target=lambda: results.update(last=append_numbered(state, records, count, batch, stop))
        )
        with ThreadGroup([thread, JournalKeeper([desk.journal])]):
            watcher.start()
            writer.start()
            for one in (writer, watcher):
                one.join(60)
            store_release(stop, 1)
        assert results == {"last": count, "watched": True}
        assert desk.durable == count
        desk.close()
        rows = read_all(desk.folder, desk.identity)
    assert np.array_equal(rows[:, 1], np.arange(1, count + 1))
    assert np.array_equal(rows[:, 2], 2 * np.arange(1, count + 1))


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="the loop of the child is compiled")
@each_in_files
def test_kill_9_loses_nothing_that_was_appended(variant: str, tmp_path: Path) -> None:
    """The child appends, says how far it is, and goes on until it is killed; nothing is ever synced."""
    script = (
        "import sys; from pathlib import Path; from tests.journal_driver import Desk\n"
        f"desk = Desk({variant!r}, Path({str(tmp_path)!r}))\n"
        "while True:\n"
        "    desk.append_surely(10)\n"
        "    print(desk.next_sequence - 1, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    told = 0
    while told < 3000:
        told = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    told = max([told, *(int(line) for line in child.stdout.read().split())])
    child.wait()
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        identity = directory.identity.stream(STREAM)
        with StreamReader(tmp_path / STREAM, identity) as reader:
            count = sum(frame.record_count for frame in reader.frames())
            tear = judge_end(reader)
        assert count >= told
        assert tear is None or tear.torn_records == 0


# A full disk.


class _Full:
    """Stands for ``os.posix_fallocate`` on a disk that is full."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *_: int) -> None:
        self.asked += 1
        raise OSError(errno.ENOSPC, "No space left on device")


@each_in_files
def test_a_full_disk_is_told_once_and_holds_up_appends_until_there_is_room(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(segmented, "RETRY_NS", 0)
    full = _Full()
    with Desk(variant, tmp_path) as desk:
        with monkeypatch.context() as context:
            context.setattr(os, "posix_fallocate", full)
            while desk.append(64):
                desk.journal.keep()
            written = desk.next_sequence - 1
            assert written >= (SEGMENT_BYTES - 4096) // (65 * 64) * 64
            for _ in range(5):
                desk.journal.keep()
                assert not desk.append(64)
            assert full.asked >= 5
        assert [record.getMessage() for record in caplog.records] == ["journal-full"]
        desk.journal.keep()
        assert desk.append(64)
        assert [record.getMessage() for record in caplog.records] == ["journal-full", "journal-has-room"]
        desk.close()
        assert len(read_all(desk.folder, desk.identity)) == written + 64


@each_in_files
def test_a_disk_that_is_full_at_the_start_is_an_error_that_names_the_key(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _Full())
    with pytest.raises(UserError, match=r"No space left.*65536 bytes \(journal\.segment_bytes\)"):
        Desk(variant, tmp_path)
    assert list((tmp_path / STREAM).iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system with room for a few segments."""
    path = tmp_path / "disk"
    path.mkdir()
    options = f"size={5 * SEGMENT_BYTES}"
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounting.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=False)


@each_in_files
def test_a_disk_that_is_really_full(
    variant: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(segmented, "RETRY_NS", 0)
    with Desk(variant, small_disk) as desk:
        while desk.append(64):
            desk.sync()
            desk.journal.keep()
        assert "journal-full" in caplog.text
        first = min(desk.folder.iterdir())
        moved = first.read_bytes()
        first.unlink()
        desk.journal.keep()
        assert "journal-has-room" in caplog.text
        assert desk.append(64)
        written = desk.next_sequence - 1
        desk.journal.close()
        elsewhere = small_disk.parent / "copy"
        shutil.copytree(desk.folder, elsewhere)
        (elsewhere / first.name).write_bytes(moved)
        assert len(read_all(elsewhere, desk.identity)) == written


# A disk that fails.


@each_in_files
def test_a_sync_that_fails_is_the_end(variant: str, tmp_path: Path) -> None:
    with Desk(variant, tmp_path) as desk:
        desk.append(3)
        desk.sync()
        desk.append(4)
        place = desk.journal.words + SLOT + SLOT_PLACE
        right = load_int64(place)
        store_int64(place, 1 << 46 if variant == "mapped" else 1 << 20)
        assert desk.sync() == 0
        store_int64(place, right)
        assert desk.sync() == 0, "nobody knows what a second attempt would mean"
        assert desk.durable == 3
        with pytest.raises(OSError, match="cannot be synced"):
            desk.journal.keep()


def test_a_write_that_fails_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Desk("file", tmp_path) as desk:
        desk.append(10)
        desk.journal.keep()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + 11 * 64 + 100, before[1]))
            assert not desk.append(10)
            assert desk.journal.appended_sequence() == 10
            desk.journal.keep()  # a part was written: perhaps the disk is full
            assert "journal-full" in caplog.text
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert desk.append(20)
        desk.journal.keep()
        assert "journal-has-room" in caplog.text
        desk.close()
        assert np.array_equal(read_all(desk.folder, desk.identity), make_records(1, 30))


def test_a_descriptor_that_is_gone_ends_the_keeper_and_its_group(tmp_path: Path) -> None:
    with Desk("file", tmp_path) as desk:
        desk.append(1)
        place = desk.journal.words + SLOT + SLOT_PLACE
        store_int64(place, 1 << 20)
        desk.sync()
        keeper = JournalKeeper([desk.journal])
        group = ThreadGroup([keeper])
        with pytest.raises(DiskFailure, match=r"^journal .*cannot be synced: Bad file descriptor$"), group:
            keeper.join(30)


def test_a_journal_that_is_not_there_keeps_and_closes() -> None:
    journal = build_journal(CONFIGS["none"], None, "merge")
    journal.keep()
    journal.close()
