"""What a benchmark leaves behind: the data model of a result file, and how it is written and read.

A result file is one JSON object, a :class:`BenchResult`. It holds what was *measured*, round by round, and
everything needed to judge it: the machine, the flow, the resolved settings of every profile, the digest of
the final books. Nothing derived is stored except percentiles (the histograms beside them say the same in
full), so that medians, intervals and verdicts can be recomputed by anyone who doubts them.

Rules for writers (the runners):

* A figure that could not be measured is ``None``, never 0, and ``BenchResult.not_measured`` says why.
* A profile that could not be run stays in the list, with ``skipped`` saying why.
* Rounds carry their index: rounds with the same index ran next to each other, and only those may be paired.
* Times are integer nanoseconds, rates are per second, the unit is the end of the name.

Rules for the format: a field may be *added* with a default without a new version; readers ignore what they do
not know. Removing a field or changing what one means makes a new ``SCHEMA_VERSION``, and a reader refuses a
newer one in words instead of guessing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from exchange.errors import UserError

SCHEMA_VERSION: Final = 1


class ThreadCounters(msgspec.Struct, frozen=True):
    """What the kernel counted for one thread during one measurement.

    ``core`` is the core the thread was bound to, ``None`` if it was free to move. A *voluntary* switch is a
    thread that gave its core up (it slept or waited for a lock); an *involuntary* one had its core taken
    away. ``migrations`` counts moves from core to core; ``cpu_ns`` is the time the thread had a core,
    ``waiting_ns`` the time it was ready to run and had none.
    """

    name: str
    agents: tuple[str, ...]
    core: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None
    migrations: int | None = None
    cpu_ns: int | None = None
    waiting_ns: int | None = None


class SaturationRound(msgspec.Struct, frozen=True):
    """One round with no pause between commands: how much the profile can do.

    A fast profile plays the flow several times in a round; ``commands``, ``events``, ``elapsed_ns`` and
    ``back_pressure`` are sums over these passes, ``threads``, ``trades`` and ``rejects`` those of the last
    pass. ``back_pressure`` counts, for each queue by name, the pushes that found it full. ``counts`` says what became
    of requests that a client sent over the network; an exchange that is measured from inside has none.
    """

    round_index: int
    commands: int
    events: int
    elapsed_ns: int
    commands_per_second: float
    back_pressure: dict[str, int]
    threads: tuple[ThreadCounters, ...]
    digest: str
    trades: int
    rejects: int
    counts: dict[str, int] = {}


class LatencyPercentiles(msgspec.Struct, frozen=True):
    """Latency that 50 %, 90 % ... of the commands of one round did not exceed, and the slowest of all."""

    p50_ns: int
    p90_ns: int
    p99_ns: int
    p99_9_ns: int
    p99_99_ns: int
    max_ns: int


class LoadPoint(msgspec.Struct, frozen=True):
    """One round at one offered load, open loop: latency counts from the *intended* send time.

    ``histogram`` is an HdrHistogram in its V2 compressed base64 form (see :mod:`exchange.bench.histogram`);
    ``sample_count`` is the sum of its counts. Both ``histogram`` and ``percentiles`` are ``None`` if nothing
    was answered. ``behind`` says that the profile could not keep up: its backlog grew, so its latency
    measures how long the run was, not how fast the profile is. ``counts`` is as in :class:`SaturationRound`.
    """

    round_index: int
    offered_per_second: float
    achieved_per_second: float
    commands: int
    elapsed_ns: int
    sample_count: int
    histogram: str | None
    percentiles: LatencyPercentiles | None
    back_pressure: dict[str, int]
    threads: tuple[ThreadCounters, ...]
    behind: bool
    counts: dict[str, int] = {}


class ProfileResult(msgspec.Struct, frozen=True):
    """All rounds of one profile. ``settings`` are the resolved ones, as nested tables.

    ``digest`` is the state digest (hex) that all rounds ended with; ``None`` if none ran, or if rounds
    disagree.
    """

    name: str
    description: str
    settings: dict[str, Any]
    digest: str | None
    saturation_rounds: tuple[SaturationRound, ...] = ()
    load_points: tuple[LoadPoint, ...] = ()
    skipped: str | None = None


class MicroResult(msgspec.Struct, frozen=True):
    """One line of a micro-benchmark: one variant, one quantity, one value for each round.

    Rows with equal ``name`` and ``parameters`` are compared with each other; the first of them is the
    baseline. ``better`` says which direction is an improvement. ``skipped`` says why there are no values.

    ``axis`` names the one of ``parameters`` (a positive number) over which rows that differ in nothing else form a
    curve; ``None``: each row stands for itself.
    """

    name: str
    variant: str
    unit: str
    better: Literal["higher", "lower"]
    values: tuple[float, ...]
    parameters: dict[str, str | int | float | bool] = {}
    skipped: str | None = None
    axis: str | None = None


class FlowDescription(msgspec.Struct, frozen=True):
    """The order flow that was played. ``notes`` are sentences for the report (sources, what was left out)."""

    name: str
    description: str
    commands: int
    symbols: int
    seed: int | None = None
    notes: tuple[str, ...] = ()


class BenchResult(msgspec.Struct, frozen=True):
    """A whole run. ``kind`` is "profiles", or the name of the micro-benchmark: "queue", "stack", "book" ...

    ``findings`` are sentences in which the runner itself says what follows from its figures, the first one first.
    ``comparison_void`` is the reason why ratios between the profiles mean nothing (their digests differ),
    else ``None``. ``not_measured`` maps the name of a field to the reason why it is ``None`` on this machine.
    """

    kind: str
    created_utc: str
    command_line: str
    host: dict[str, Any]
    flow: FlowDescription | None = None
    profiles: tuple[ProfileResult, ...] = ()
    micro: tuple[MicroResult, ...] = ()
    warnings: tuple[str, ...] = ()
    not_measured: dict[str, str] = {}
    comparison_void: str | None = None
    findings: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


class _Envelope(msgspec.Struct):
    """Only the version, read first: a newer file may differ in everything else."""

    schema_version: int


def along_axis(result: BenchResult, axis: str) -> BenchResult:
    """Return the result with every row that has the parameter ``axis`` as a point of a curve over it."""
    rows = (
        msgspec.structs.replace(row, axis=axis) if axis in row.parameters else row for row in result.micro
    )
    return msgspec.structs.replace(result, micro=tuple(rows))


def agreed_digest(rounds: Sequence[SaturationRound]) -> str | None:
    """Return the digest that all rounds ended with; ``None`` if there are none or they disagree."""
    digests = {one.digest for one in rounds}
    return digests.pop() if len(digests) == 1 else None


def find_digest_mismatch(profiles: Sequence[ProfileResult]) -> str | None:
    """Return a sentence saying whose final books differ, or ``None`` if every round of every profile agrees.

    The reference is the first round that ran. Profiles that were skipped are left out.
    """
    reference: tuple[str, str] | None = None
    for profile in profiles:
        for one in profile.saturation_rounds:
            if reference is None:
                reference = (profile.name, one.digest)
            elif one.digest != reference[1]:
                return (
                    f"profile {profile.name}, round {one.round_index + 1}, ended with digest {one.digest}, "
                    f"but {reference[0]} with {reference[1]}: they did not do the same work"
                )
    return None


def to_json(result: BenchResult) -> bytes:
    """Encode a result as JSON, indented for people and for diffs. numpy's numbers are taken as Python's.

    Raises:
        msgspec.ValidationError: the runner put something in that could not be read back (a NaN, a wrong
        type).
    """
    data = msgspec.json.format(msgspec.json.encode(result, enc_hook=_plain_number), indent=1)
    msgspec.json.decode(data, type=BenchResult)
    return data


def from_json(data: bytes, source: str) -> BenchResult:
    """Decode a result; ``source`` names it in errors.

    Raises:
        UserError: not JSON, a missing or ill-typed field (named), or a newer or unknown schema version.
    """
    version = _decode(data, _Envelope, source).schema_version
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{source}: schema_version is {version}, but this exchange reads up to {SCHEMA_VERSION}: "
            "the file was written by a newer one; upgrade to read it"
        )
    if version < 1:
        raise UserError(f"{source}: schema_version is {version}; allowed is 1 to {SCHEMA_VERSION}")
    return _decode(data, BenchResult, source)


def write_result(result: BenchResult, path: Path) -> None:
    """Write the result file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_bytes(to_json(result))
    except OSError as error:
        raise UserError(f"{path}: cannot write the result: {error.strerror}") from error


def read_result(path: Path) -> BenchResult:
    """Read a result file.

    Raises:
        UserError: as :func:`from_json`, or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the result: {error.strerror}") from error
    return from_json(data, str(path))


def _plain_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a result cannot hold a {type(value).__name__}: {value!r}")


def _decode[T](data: bytes, kind: type[T], source: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").lstrip(".") or "the top level"
        raise UserError(f"{source}: not a result file: at {field}: {problem}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not JSON: {error}") from error
