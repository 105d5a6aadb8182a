"""``exchange journal``: look into what an exchange has written down, verify it, and replay it.

The commands only parse, call :mod:`exchange.journal` and :mod:`exchange.recovery` and print. They change nothing but
for ``snapshot``, and can be asked while an exchange runs. A mistake leaves as :class:`~exchange.errors.UserError`;
``verify`` exits with 1 if the journal is damaged, ``diff`` if the two differ.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.ending import end_with_parent
from exchange.errors import UserError
from exchange.logs import start_logging

if TYPE_CHECKING:
    from exchange.recovery.inspecting import JournalReport, StreamReport

_directory = click.argument(
    "directory", metavar="[DIR]", default="exchange-journal", type=click.Path(path_type=Path)
)
_json = click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")


@click.group()
def journal() -> None:
    """Look into the journal of an exchange: the folder DIR, exchange-journal if it is not said."""


@journal.command()
@_directory
@_json
def inspect(directory: Path, as_json: bool) -> None:
    """Show what a journal holds: streams, segments, sequences, kinds of records, times.

    'durable' is the highest sequence that the journal itself says is synced; what came after it may be as well.
    """
    from exchange.recovery.inspecting import survey_journal

    report = survey_journal(directory)
    if as_json:
        _print_json(report)
        return
    click.echo("\n".join(_described(report)))


@journal.command()
@_directory
@_json
def verify(directory: Path, as_json: bool) -> None:
    """Read a journal from end to end and check every frame.

    Exits with 0 if an exchange can go on with it, which is so also if its end is torn (an exchange cuts it at its
    start); with 1 if something that was synced is not there any more, naming the place. A snapshot
    that is damaged is told; an exchange does without it as long as the records are there.
    """
    from exchange.recovery.inspecting import survey_journal

    report = survey_journal(directory)
    if as_json:
        _print_json(report)
    else:
        for stream in report.streams:
            click.echo(f"{stream.name}: {_verdict(stream)}")
            if stream.detail:
                click.echo(f"  {stream.detail}")
        if not report.streams:
            click.echo("no stream has been written to")
        for line in _snapshots(report):
            click.echo(line)
    if report.is_damaged:
        sys.exit(1)


@journal.command()
@_directory
@click.option(
    "--until", type=click.IntRange(min=1), metavar="SEQ", help="Stop behind this sequence of each shard."
)
@click.option(
    "--book",
    type=click.Choice(("ladder", "naive")),
    default="ladder",
    show_default=True,
    help="The kind of book: the compiled one, or the textbook's, which must come to the same.",
)
@click.option(
    "--from-start", is_flag=True, help="Begin with the first record also where there is a snapshot."
)
def replay(directory: Path, until: int | None, book: str, from_start: bool) -> None:
    """Make books, sessions and feed of a journal again, and say what they come to.

    The digest is that of 'exchange replay': equal for equal orders in equal places, whatever books they are in. To stop
    at a sequence means beginning at the first one. Damage before that place is an error.
    """
    from exchange.journal.identity import holder_of
    from exchange.journal.protocol import ALL_DURABLE
    from exchange.recovery.replayer import END, Position
    from exchange.recovery.twin import Twin

    start_logging("text", quiet=True)  # for what is wrong with a snapshot
    with Twin(directory, book=book, from_snapshot=not from_start and until is None) as twin:
        shards = twin.identity.outcomes.shard_count
        replayer = twin.replay(END if until is None else Position((until,) * shards, ALL_DURABLE))
        if until is not None and until > max(twin.position.shards):
            ends = ", ".join(f"shard-{shard} at {end}" for shard, end in enumerate(twin.position.shards))
            raise UserError(f"--until {until}: the streams end before that, {ends}")
        if holder_of(directory) is None:
            for tear in twin.tears:
                click.echo(str(tear))
        for shard, sequence in enumerate(twin.position.shards):
            begun = twin.begin.shards[shard] if twin.begin.shards else 0
            click.echo(f"shard-{shard}: sequence {sequence}, {sequence - begun:,} records replayed")
        live = sum(twin.live_orders())
        click.echo(
            f"{replayer.events:,} events, {live:,} live orders, {twin.message_count():,} messages to clients"
        )
        click.echo(f"digest {twin.exchange.digest()}")


@journal.command()
@click.argument("first", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("second", metavar="OTHER_DIR", type=click.Path(path_type=Path))
def diff(first: Path, second: Path) -> None:
    """Compare two journals record by record; exits with 1 if they differ, and shows where they begin to.

    A journal that is alike as far as it goes and then has more records is no difference, and told.
    """
    from exchange.journal.comparing import compare_journals

    is_different = False
    for stream in compare_journals(first, second):
        if stream.sequence is None:
            more = f", then {abs(stream.longer_by):,} more in {first if stream.longer_by > 0 else second}"
            click.echo(f"{stream.name}: {stream.alike:,} records alike{more if stream.longer_by else ''}")
            continue
        is_different = True
        click.echo(
            f"{stream.name}: {stream.alike:,} records alike, different from sequence {stream.sequence} on"
        )
        click.echo(f"  {first}: {stream.first}")
        click.echo(f"  {second}: {stream.second}")
    if is_different:
        sys.exit(1)


@journal.command()
@_directory
@click.option("--gently", is_flag=True, help="Leave the machine to everybody else, at the lowest priority.")
@click.option("--with-parent", is_flag=True, hidden=True)
def snapshot(directory: Path, gently: bool, with_parent: bool) -> None:
    """Save what a journal's exchange was at its last synced record, so that a restart begins there.

    A served exchange has this done by itself (journal.snapshot_every_ns). Old snapshots, and segments that no restart
    needs any more, are deleted.
    """
    from exchange.recovery.twin import make_snapshot

    if with_parent:
        end_with_parent()
    if gently:
        os.nice(19)
    start_logging("text", quiet=True)
    path = make_snapshot(directory)
    if path is None:
        click.echo("nothing new was synced since the newest snapshot")
    else:
        click.echo(f"{path}: {path.stat().st_size:,} bytes")


def _print_json(report: "JournalReport") -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())


def _verdict(stream: "StreamReport") -> str:
    what = f"{stream.records:,} records in {stream.frames:,} frames, sequences {_range(stream)}"
    return f"{what}: {'being written to' if stream.end == 'open' else stream.end}"


def _range(stream: "StreamReport") -> str:
    return f"{stream.first_sequence} to {stream.last_sequence}" if stream.records else "none"


def _described(report: "JournalReport") -> Iterator[str]:
    outcomes = report.identity.outcomes
    yield f"journal {report.path}, id {report.identity.journal_id:016x}, format {report.identity.format_version}"
    spread = f" on {outcomes.shard_count} shards" if outcomes.shard_count > 1 else ""
    yield f"session {outcomes.session_name}, {len(outcomes.symbols)} symbols{spread}"
    if report.holder:
        yield f"being written to by {report.holder}"
    for stream in report.streams:
        yield ""
        yield f"{stream.name}: {_verdict(stream)}"
        if stream.detail:
            yield f"  {stream.detail}"
        if stream.records == 0:
            continue
        yield f"  durable: {stream.durable_sequence}"
        if stream.last_time_ns:
            yield f"  times: {_time(stream.first_time_ns)} to {_time(stream.last_time_ns)}"
        yield "  kinds: " + ", ".join(f"{kind} {count:,}" for kind, count in stream.kinds.items())
        for segment in stream.segments:
            yield (
                f"  {segment.name}: sequences {segment.first_sequence} to {segment.last_sequence},"
                f" {segment.frames:,} frames, {segment.used_bytes:,} of {segment.size_bytes:,} bytes"
            )
    if report.snapshots:
        yield ""
        yield from _snapshots(report)


def _snapshots(report: "JournalReport") -> Iterator[str]:
    for one in report.snapshots:
        yield f"snapshot {one.name}: {one.size_bytes:,} bytes{': unusable' if one.flaw else ''}"
        if one.flaw:
            yield f"  {one.flaw}"


def _time(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"
