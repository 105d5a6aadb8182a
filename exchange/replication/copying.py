"""What a journal is begun with, sent to a backup that has none, or one that is of no use: identity, sessions, snapshot.

The primary sends ``identity.json``, ``sessions.json`` and its newest snapshot. Of a journal without a snapshot all
segments are there, so the records come as frames from the first one on. The backup writes all of it into a folder
beside its own, and only when it is whole and on the disk does that take the place of its own, which is renamed and
never deleted: ``DIR.aside-1``, ``DIR.aside-2`` ...

Rules: what the other side says is believed as far as its form goes, and not what it names: a file has one of the names
that a journal has, whatever it is called on the wire."""

import os
import shutil
from pathlib import Path
from typing import Final

from exchange.errors import UserError
from exchange.journal.copied import write_copied
from exchange.journal.identity import IDENTITY_NAME, SNAPSHOTS_NAME, holder_of, read_identity
from exchange.journal.segment import sync_folder
from exchange.journal.streams import stream_names
from exchange.logs import log_event
from exchange.native import crc32c_of
from exchange.recovery.kept import SESSIONS_NAME
from exchange.recovery.opening import first_sequences
from exchange.recovery.snapshots import SUFFIX, open_newest, position_of, snapshot_paths
from exchange.replication.control_line import ControlLine, Denied, LineTrouble
from exchange.replication.control_wire import (
    FILES_MAX,
    PIECE_BYTES,
    Chunk,
    CopyChecksum,
    CopyEnd,
    CopyFile,
    Refused,
    WantCopy,
    chunk_header,
    encode_message,
)

COPYING_SUFFIX: Final = ".copying"
ASIDE_SUFFIX: Final = ".aside-"
SILENCE_SECONDS: Final = 10.0
"""So long the other side may say nothing while it sends a file."""


def send_copy(line: ControlLine, directory: Path) -> None:
    """Send what a journal is begun with.

    Raises:
        LineTrouble: the other side is gone.
        UserError: a file cannot be read.
    """
    try:
        for path in (directory / IDENTITY_NAME, directory / SESSIONS_NAME):
            _send_file(line, path, path.name)
        for path in snapshot_paths(directory):
            try:
                _send_file(line, path, f"{SNAPSHOTS_NAME}/{path.name}")
            except FileNotFoundError:  # it has just become too old
                continue
            break
    except OSError as error:
        raise UserError(f"journal {error.filename or directory}: {error.strerror}") from error
    line.send(CopyEnd())


def _send_file(line: ControlLine, path: Path, name: str) -> None:
    checksum = 0
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        line.send(CopyFile(name, left))
        while left > 0:
            content = file.read(min(left, PIECE_BYTES))
            if not content:
                raise LineTrouble(f"{path} has become shorter")
            line.send_bytes((chunk_header(len(content)), content))
            checksum = crc32c_of(content, checksum)
            left -= len(content)
    line.send_bytes((encode_message(CopyChecksum(checksum)),))


def receive_copy(line: ControlLine, directory: Path) -> Path | None:
    """Have the primary's beginnings take the place of a journal's folder; where the old one is now, if there was one.

    Raises:
        LineTrouble: the primary is gone, or sends what it cannot send.
        UserError: the folder cannot be written, or an exchange runs with it.
    """
    fresh = directory.with_name(directory.name + COPYING_SUFFIX)
    try:
        if fresh.exists():
            shutil.rmtree(fresh)
        (fresh / SNAPSHOTS_NAME).mkdir(parents=True, mode=0o700)
        line.send(WantCopy())
        _receive_files(line, fresh)
        _note_begin(fresh)
        for folder in (fresh / SNAPSHOTS_NAME, fresh):
            sync_folder(folder)
        aside = _set_aside(directory)
        fresh.rename(directory)
        sync_folder(directory.parent)
    except OSError as error:
        raise UserError(f"journal.directory = {str(directory)!r}: {error.strerror or error}") from error
    return aside


def _receive_files(line: ControlLine, fresh: Path) -> None:
    names: set[str] = set()
    for _ in range(FILES_MAX):
        said = line.receive(SILENCE_SECONDS)
        if isinstance(said, CopyEnd):
            if not {IDENTITY_NAME, SESSIONS_NAME} <= names:
                raise LineTrouble(f"the copy has only {sorted(names)}")
            return
        if isinstance(said, Refused):
            raise Denied(said)
        if not isinstance(said, CopyFile) or not _is_expected(said.path):
            raise LineTrouble("no file of a journal's beginning")
        _receive_file(line, fresh / said.path, said.size_bytes)
        names.add(said.path)
    raise LineTrouble(f"more than {FILES_MAX} files")


def _note_begin(fresh: Path) -> None:
    """Note that what is in the snapshot was never in the streams. Raises LineTrouble if it is no snapshot of this."""
    if not snapshot_paths(fresh):
        return
    identity = read_identity(fresh)
    snapshot = open_newest(fresh, identity)
    if snapshot is None:
        raise LineTrouble("the snapshot that has come is none of this journal")
    shards = identity.outcomes.shard_count
    with snapshot:
        firsts = first_sequences(shards, position_of(snapshot, shards))
    last = [first - 1 for first in firsts]
    write_copied(fresh, dict(zip(stream_names(shards), last, strict=True)))


def _is_expected(name: str) -> bool:
    folder, _, rest = name.rpartition("/")
    if folder == SNAPSHOTS_NAME:
        return rest.endswith(SUFFIX) and rest.removesuffix(SUFFIX).isdigit()
    return name in (IDENTITY_NAME, SESSIONS_NAME)


def _receive_file(line: ControlLine, path: Path, size_bytes: int) -> None:
    checksum, left = 0, size_bytes
    with open(path, "wb", opener=_private) as file:
        while left > 0:
            said = line.receive(SILENCE_SECONDS)
            if not isinstance(said, Chunk) or not 0 < len(said.content) <= left:
                raise LineTrouble(f"{path.name} breaks off {left} bytes before its end")
            file.write(said.content)
            checksum = crc32c_of(said.content, checksum)
            left -= len(said.content)
        file.flush()
        os.fsync(file.fileno())
    if line.expect(CopyChecksum, SILENCE_SECONDS).checksum != checksum:
        raise LineTrouble(f"{path.name} has come with another checksum")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _set_aside(directory: Path) -> Path | None:
    """Rename a journal's folder, if there is one; the new name. UserError if an exchange runs with it."""
    if not directory.exists():
        return None
    holder = holder_of(directory)
    if holder is not None:
        raise UserError(f"journal.directory = {str(directory)!r}: {holder} writes to it")
    number = 1
    while (aside := directory.with_name(f"{directory.name}{ASIDE_SUFFIX}{number}")).exists():
        number += 1
    directory.rename(aside)
    log_event("journal set aside", folder=str(directory), renamed=str(aside))
    return aside
