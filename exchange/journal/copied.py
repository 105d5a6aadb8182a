"""Streams that a folder has only from some record on, because the rest came as a snapshot.

A backup that begins with a copy of a primary's snapshot has none of the records in it. So a stream without a single
segment is no damage there, as it would be anywhere else: ``copied.json`` says up to which sequence each stream was
never in this folder."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from exchange.errors import UserError
from exchange.journal.segment import write_document

COPIED_NAME: Final = "copied.json"


class Copied(Struct, frozen=True, forbid_unknown_fields=True):
    """What ``copied.json`` holds: for each stream by its name the last record that was never in the folder."""

    sequences: dict[str, int]


def write_copied(directory: Path, sequences: dict[str, int]) -> None:
    """Note that a journal's streams begin behind these sequences. Raises OSError if that cannot be written."""
    write_document(directory / COPIED_NAME, Copied(sequences))


def copied_sequence(folder: Path) -> int:
    """The last record of a stream that was never in its folder; 0 if all were.

    Raises:
        UserError: what is noted cannot be read.
    """
    path = folder.parent / COPIED_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Copied).sequences.get(folder.name, 0)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise UserError(f"journal {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"journal {path}: damaged: {error}") from error
