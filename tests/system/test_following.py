"""A backup's replay: frames come bit by bit, of any stream, and it comes to what a restart comes to with all of them.

The journal is that of an exchange that was traded on. Its frames are handed out again in random pieces, to an exchange
that was just built, and at a random place no more come."""

import random
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from exchange.gateway.server import Server
from exchange.journal.frames import FRAME_PLACE_DTYPE
from exchange.journal.identity import IDENTITY_NAME, read_identity
from exchange.journal.protocol import append
from exchange.journal.reading import Frame, StreamReader, records_of
from exchange.journal.streams import stream_names
from exchange.messages import COMMAND_DTYPE
from exchange.recovery.kept import SESSIONS_NAME
from exchange.recovery.replayer import Position
from exchange.recovery.twin import Twin
from exchange.settings import load_profile
from tests.gateway_driver import SETTINGS, BareClient, order, run, serving, users
from tests.system.test_recovery import NAMES, SHARDS, compile_recovery, logs_of, overrides, settled, traded

OPTIONS: Final = {shards: {"kind": "mapped", "gate": "written", "shards": shards} for shards in SHARDS}
CUTS: Final = 12


class Frames:
    """The frames of all streams of a journal, in their order."""

    def __init__(self, directory: Path) -> None:
        self.identity = read_identity(directory)
        self.names = stream_names(self.identity.outcomes.shard_count)
        self.runs: Any = None
        self._readers = [StreamReader(directory / name, self.identity.stream(name)) for name in self.names]
        self.places = [
            np.concatenate([np.zeros(0, FRAME_PLACE_DTYPE), *(one.copy() for one in reader.batches())])
            for reader in self._readers
        ]

    def ends(self, counts: list[int]) -> list[int]:
        """The last sequence of each stream if it has so many of its frames."""
        return [
            int(places[count - 1]["first_sequence"] + places[count - 1]["record_count"]) - 1 if count else 0
            for places, count in zip(self.places, counts, strict=True)
        ]


def just_built(journal: Path, fresh: Path, settings: tuple[str, ...]) -> Server:
    """An exchange of the same identity, without a record."""
    fresh.mkdir()
    for name in (IDENTITY_NAME, SESSIONS_NAME):
        shutil.copy(journal / name, fresh / name)
    profile = load_profile("serve", [*SETTINGS, *settings, f"journal.directory={fresh}"])
    return Server(profile, users(NAMES, ["carol"]))


def follow(server: Server, frames: Frames, counts: list[int], chance: random.Random) -> Any:
    """Have an exchange follow so many frames of each stream, handed out in any order."""
    assert server.journal is not None
    following = server.journal.follow(server.exchange, server.transport, server.feed)
    given = [0] * len(counts)
    while given != counts:
        stream = chance.choice([one for one in range(len(counts)) if given[one] < counts[one]])
        until = min(given[stream] + chance.choice([1, 1, 2, 5, 50]), counts[stream])
        following.push(stream, frames.places[stream][given[stream] : until])
        given[stream] = until
        if chance.random() < 0.7:
            following.follow()
    following.follow()
    return following


@pytest.mark.parametrize("shards", SHARDS)
def test_frames_that_come_bit_by_bit_lead_to_what_a_restart_comes_to(tmp_path: Path, shards: str) -> None:
    journal, chance = tmp_path / "copy", random.Random(7)
    settings = overrides(tmp_path / "compiling", **OPTIONS[shards])
    compile_recovery(settings)
    run(written(tmp_path / "journal", journal, OPTIONS[shards]), settings)
    frames = Frames(journal)
    ends = [len(places) for places in frames.places]
    for number in range(CUTS):
        counts = ends if number == 0 else [chance.randrange(end + 1) for end in ends]
        last = frames.ends(counts)
        with Twin(journal) as twin:
            shard_count = len(twin.exchange.shards)
            twin.replay(Position(tuple(last[:shard_count]), last[-1] if shard_count > 1 else 0))
            logs, digest = logs_of(twin.transport.memory), twin.exchange.digest()
        server = just_built(journal, tmp_path / f"fresh-{number}", settings)
        following = follow(server, frames, counts, chance)
        assert [following.applied_sequence(one) for one in range(shard_count)] <= last[:shard_count]
        write(server, frames, counts)
        following.finish()
        assert logs_of(server.transport.memory) == logs
        assert server.exchange.digest() == digest
        server.close()
        if number % 4 == 0:  # and what it has written is the journal of just that
            with Twin(tmp_path / f"fresh-{number}", book="naive") as twin:
                twin.replay()
                assert (logs_of(twin.transport.memory), twin.exchange.digest()) == (logs, digest)


def write(server: Server, frames: Frames, counts: list[int]) -> None:
    """Have an exchange's journal be what it was given, as a backup does."""
    journals = server.exchange.journals
    for stream, count in enumerate(counts):
        journal: Any = journals.shards[stream] if stream < len(journals.shards) else journals.merge
        for address, records, first_sequence, *_ in frames.places[stream][:count].tolist():
            while not append(journal.state, address, records, first_sequence):
                assert journal.make_ready()


async def written(path: Path, copy: Path, options: dict[str, str]) -> None:
    """Have an exchange write a journal, and copy it."""
    async with serving(*NAMES, overrides=overrides(path, **options), speak_ouch42=("carol",)) as server:
        clients = await traded(server)
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("lock"))
        for client in clients:
            await client.close()


def test_a_record_that_turns_out_to_be_void_is_passed_over(tmp_path: Path) -> None:
    """The merge stream outlives the shards', as after a power cut; whoever follows has taken what there was of it."""
    settings = overrides(tmp_path / "compiling", **OPTIONS["two"])
    compile_recovery(settings)
    journal, chance = tmp_path / "copy", random.Random(11)
    run(written(tmp_path / "journal", journal, OPTIONS["two"]), settings)
    frames, taken = Frames(journal), 0
    frames.places[2] = in_long_runs(frames)
    for number in range(6):
        cut = [chance.randrange(1, len(places)) for places in frames.places[:2]]
        counts = [*cut, len(frames.places[2])]
        torn = just_built(journal, tmp_path / f"torn-{number}", settings)
        write(torn, frames, counts)
        torn.close()
        backup = just_built(journal, tmp_path / f"backup-{number}", settings)
        following = follow(backup, frames, counts, chance)
        taken += following.replayer.position().taken > 0
        run(gone_on(tmp_path / f"torn-{number}"), settings)
        more = Frames(tmp_path / f"torn-{number}")
        for stream in (2, 0, 1):
            following.push(stream, more.places[stream][counts[stream] :])
            following.follow()
        write(backup, more, [len(places) for places in more.places])
        following.finish()
        with Twin(tmp_path / f"torn-{number}") as twin:
            twin.replay()
            assert logs_of(backup.transport.memory) == logs_of(twin.transport.memory)
            assert backup.exchange.digest() == twin.exchange.digest()
        backup.close()
    assert taken > 0, "no record was void of which something had been taken"


def in_long_runs(frames: Frames) -> Any:
    """The merge stream in as few records as will do, a frame for each, so that one names events of several frames."""
    rows = [record for place in frames.places[2] for record in records_of(Frame(*place.tolist()[:3], 0))]
    runs: list[Any] = []
    for row in rows:
        if runs and runs[-1]["symbol_id"] == row["symbol_id"]:
            runs[-1]["quantity_lots"] += row["quantity_lots"]
        else:
            runs.append(row.copy())
    frames.runs = np.array(runs, COMMAND_DTYPE)
    frames.runs["sequence"] = np.arange(1, len(runs) + 1)
    places = np.zeros(len(runs), FRAME_PLACE_DTYPE)
    places["address"] = frames.runs.ctypes.data + 64 * np.arange(len(runs))
    places["record_count"], places["first_sequence"] = 1, frames.runs["sequence"]
    return places


async def gone_on(path: Path) -> None:
    """An exchange goes on with a journal, and is traded on a little."""
    async with serving(
        *NAMES, overrides=overrides(path, **OPTIONS["two"]), speak_ouch42=("carol",)
    ) as server:
        alice = await BareClient.log_on(server, "alice", sequence=0)
        await alice.packet()
        await alice.request(*(order(200 + one, symbol="MSFT" if one % 3 else "AAPL") for one in range(9)))
        await settled(server)
        await alice.close()
