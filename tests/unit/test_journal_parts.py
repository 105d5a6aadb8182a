"""The parts around a journal: who holds it, what its files are called, when it is synced, and a keeper that fails."""

import ctypes
import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.agent import GroupThread, ThreadGroup, do_work
from exchange.errors import UserError
from exchange.journal.config import FileJournalConfig, JournalConfig, MappedJournalConfig, NoneJournalConfig
from exchange.journal.identity import JournalDirectory, holder_of, read_identity
from exchange.journal.judging import judge_end
from exchange.journal.layout import first_sequence_of, segment_name, stream_number
from exchange.journal.reading import StreamReader, records_of
from exchange.journal.segment import settle
from exchange.journal.streams import JournalStreams
from exchange.journal.syncing import NEXT_SYNC_NS, JournalSyncMemory
from exchange.native import load_int64, monotonic_ns, store_int64
from exchange.recovery.opening import find_ends
from tests.journal_driver import OUTCOMES, STREAM, Desk, make_records


def test_names_of_segments_and_streams() -> None:
    assert segment_name(913204) == "00000000000000913204.segment"
    assert first_sequence_of(segment_name(913204)) == 913204
    for other in (
        "913204.segment",
        "prepared.segment",
        "x" * 20 + ".segment",
        segment_name(1) + ".cut",
        "²" * 20,
    ):
        assert first_sequence_of(other) is None
    assert [stream_number(name) for name in ("shard-0", "shard-63", "merge")] == [0, 63, 0xFFFF]
    for wrong in ("shard-", "shard-01", "shard-x", "snapshots", "shard-²"):
        with pytest.raises(ValueError, match="no stream is called"):
            stream_number(wrong)


# Who holds it.


def test_one_process_at_a_time_and_the_other_is_named(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with JournalDirectory(tmp_path, OUTCOMES):
        assert holder_of(tmp_path) == f"process {os.getpid()}"
        with pytest.raises(UserError) as caught:
            JournalDirectory(tmp_path, OUTCOMES)
        assert (
            str(caught.value) == f"journal.directory = {str(tmp_path)!r}: process {os.getpid()} writes to it"
        )
    assert holder_of(tmp_path) is None
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        assert not directory.is_new


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path\n"
        "from exchange.journal.identity import JournalDirectory; from tests.journal_driver import OUTCOMES\n"
        f"directory = JournalDirectory(Path({str(tmp_path)!r}), OUTCOMES)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2])
    identity = read_identity(tmp_path)
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        assert directory.identity == identity
        assert identity.journal_id > 0


def test_a_folder_that_is_something_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(UserError, match=r"has no identity.json and is not empty \(letters\)"):
        JournalDirectory(tmp_path, OUTCOMES)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"journal.directory = .*file': "):
        JournalDirectory(tmp_path / "file", OUTCOMES)


def test_a_start_that_was_interrupted_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "identity.json.new").write_text('{"format_')
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        assert directory.is_new


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"format_version": 2}', "format version 2; this exchange reads 1"),
        ('{"format_version": 1}', "damaged: Object missing required field `journal_id`"),
        ("{", "damaged: Input data was truncated"),
        ("\0" * 40, "damaged: JSON is malformed"),
    ],
)
def test_an_identity_that_cannot_be_read(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(UserError, match=complaint):
        JournalDirectory(tmp_path, OUTCOMES)


def test_a_copy_of_a_segment_in_another_journal_is_refused(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "other"):
        with Desk("file", tmp_path / name) as desk:
            desk.append(3)
            desk.close()
            folders.append((desk.folder, desk.identity))
    (one, _), (other, identity) = folders
    (one / segment_name(1)).replace(other / segment_name(1))
    with pytest.raises(UserError, match="not one of this stream: its journal's id is"):
        StreamReader(other, identity)


# When it is synced.


@pytest.mark.parametrize(
    ("config", "sync_every_ns"),
    [
        (MappedJournalConfig(gate="synced", segment_bytes=1 << 16), 0),
        (FileJournalConfig(gate="written", segment_bytes=1 << 16, sync_every_ns=10**9), 10**9),
        (NoneJournalConfig(), 0),
    ],
)
def test_how_often_is_the_profiles_choice(tmp_path: Path, config: JournalConfig, sync_every_ns: int) -> None:
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        streams = JournalStreams(config, directory, shard_count=2)
        assert streams.agent().sync_every_ns == sync_every_ns
        streams.close()


def test_where_events_wait_a_sync_follows_every_append(tmp_path: Path) -> None:
    with Desk("mapped", tmp_path) as desk:
        memory = JournalSyncMemory((desk.journal.state,), 0)
        assert do_work(memory.agent) == 0
        for count in (1, 5):
            desk.append(count)
            assert do_work(memory.agent) == count
        assert desk.durable == 6
        desk.close()


def test_otherwise_a_sync_waits_for_its_time(tmp_path: Path) -> None:
    with Desk("file", tmp_path) as desk:
        memory = JournalSyncMemory((desk.journal.state,), 10**10)
        word = memory.agent.words + NEXT_SYNC_NS
        desk.append(1)
        assert do_work(memory.agent) == 1
        assert 0 < load_int64(word) - monotonic_ns() <= 10**10
        desk.append(2)
        assert do_work(memory.agent) == 0
        assert desk.durable == 1
        store_int64(word, monotonic_ns())
        assert do_work(memory.agent) == 2
        assert desk.journal.sync_count() == 2
        desk.close()


def test_whole_segments_are_synced_before_their_time(tmp_path: Path) -> None:
    """Else a fast writer would run out of segments and stand still until the time has come."""
    with Desk("mapped", tmp_path) as desk:
        memory = JournalSyncMemory((desk.journal.state,), 10**10)
        do_work(memory.agent)
        synced = [0]
        for _ in range(100):
            desk.append_surely(100)
            desk.journal.keep()
            synced.append(do_work(memory.agent))
        assert sum(synced) > 100 * 100 - 3 * 1000
        assert sum(1 for count in synced if count > 0) < 10
        desk.close()


def test_one_agent_syncs_several_streams(tmp_path: Path) -> None:
    with Desk("mapped", tmp_path / "a") as one, Desk("mapped", tmp_path / "b") as other:
        memory = JournalSyncMemory((one.journal.state, other.journal.state), 0)
        one.append(2)
        other.append(3)
        assert do_work(memory.agent) == 5
        other.append(1)
        assert do_work(memory.agent) == 1
        assert (one.durable, other.durable) == (2, 4)
        one.close()
        other.close()


# The keeper and its group.


class _Failing(GroupThread):
    def work(self) -> None:
        raise OSError(5, "the disk is gone")

    def request_stop(self) -> None:
        pass


class _Waiting(GroupThread):
    is_stopped = False

    def work(self) -> None:
        while not self.is_stopped:
            pass

    def request_stop(self) -> None:
        self.is_stopped = True


def test_a_member_that_fails_stops_its_group_and_the_group_tells() -> None:
    waiting = _Waiting("waiting")
    group = ThreadGroup([waiting, _Failing("failing")])
    assert group.agent_threads == ()
    with pytest.raises(OSError, match="the disk is gone"), group:
        waiting.join(30)
    assert not waiting.is_alive()


# Two lives with a torn end between them.


def test_a_torn_end_that_was_not_cut_does_not_matter_once_the_stream_goes_on(tmp_path: Path) -> None:
    with Desk("mapped", tmp_path) as desk:
        desk.append(10)
        desk.append(20)
        desk.journal.keep()
        identity = desk.identity
    path = tmp_path / STREAM / segment_name(1)
    content = bytearray(path.read_bytes())
    content[4096 + 11 * 64 + 500] ^= 1
    path.write_bytes(content)
    with Desk("mapped", tmp_path, 11) as desk:
        desk.append(4)
        desk.close()
    with StreamReader(tmp_path / STREAM, identity) as reader:
        assert [frame.first_sequence for frame in reader.frames()] == [1, 11]
        assert reader.next_sequence == 15
        assert judge_end(reader) is None


def test_a_frame_that_a_full_disk_gave_up_is_none_though_it_is_whole(tmp_path: Path) -> None:
    with Desk("file", tmp_path) as desk:
        desk.append(10)
        desk.append(3)
        desk.journal.keep()
        identity = desk.identity
    with Desk("file", tmp_path, 11) as desk:  # the append failed, and was tried again with more records
        desk.append(4)
        desk.append(1)
        desk.close()
    with StreamReader(tmp_path / STREAM, identity) as reader:
        assert [(frame.first_sequence, frame.record_count) for frame in reader.frames()] == [
            (1, 10), (11, 4), (15, 1),
        ]  # fmt: skip
        assert judge_end(reader) is None
    with StreamReader(tmp_path / STREAM, identity, 12) as reader:
        assert [frame.first_sequence for frame in reader.frames()] == [11, 15]


def test_before_the_threads_run_the_merge_stream_gets_the_room_that_it_needs(tmp_path: Path) -> None:
    config = FileJournalConfig(segment_bytes=8192)
    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        streams = JournalStreams(config, directory, 2)
        records = make_records(1, 100)
        assert streams.append_to_merge(records, 1, streams.merge.state)
        streams.close()
        with StreamReader(tmp_path / "merge", directory.identity.stream("merge")) as reader:
            assert b"".join(records_of(frame).tobytes() for frame in reader.frames()) == records.tobytes()
            assert len(reader.segments) > 1


def pages_in_memory(path: Path) -> int:
    """How many pages of a file the kernel has in its page cache; see mincore(2)."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        found = (ctypes.c_ubyte * (len(mapping) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapping)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapping)), found
        )
        del first
        assert failed == 0
        return sum(page & 1 for page in found)


def test_what_is_settled_is_read_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = os.urandom(16 * mmap.PAGESIZE)
    path.write_bytes(content)
    assert pages_in_memory(path) == 16
    settle(path)
    kept = pages_in_memory(path)
    if kept == 16:
        pytest.skip("this file system keeps its files in memory")
    assert kept == 0
    assert path.read_bytes() == content


def test_a_start_on_a_disk_that_cannot_sync_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Desk("file", tmp_path) as desk:
        desk.append_surely(3)

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with JournalDirectory(tmp_path, OUTCOMES) as directory:
        assert find_ends(directory, 1).next_sequences == [4]
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(UserError, match=r"\.segment: Input/output error"):
            find_ends(directory, 1)
