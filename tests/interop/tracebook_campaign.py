"""Campaigns of ``tracebook-conformance`` against our books: made-up order flow, compared after every event.

Run the whole of it, both profiles with 1,000 traces of 500 events, from the root of the repository::

    python -m tests.interop.tracebook_campaign

or one part, or less of it::

    python -m tests.interop.tracebook_campaign --profile fifo-limit-v1 --book ladder --traces 20

Both books stand beside the tester's own engine at once: each event goes to both, their answers must be the same to the
last character of the state's hash, and the one answer is then compared with the tester's. A process is kept for each
book (``--keep-open``), since starting 4,000 of them would take most of the time.

Seeds and traces are those of ``tracebook-conformance campaign`` with the same profile, seed and numbers, so a
difference can be repeated with the tool itself; the profile without fill-or-kill orders, which our exchange does not
have, exists only here. A difference is reduced to a few events, written to ``--output``, and the exit status is 1.
"""

import argparse
import json
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracebook.conformance import EngineMetadata, Observation
from tracebook.conformance.campaign import (
    CampaignProfile,
    CampaignResult,
    get_campaign_profile,
    run_campaign,
)
from tracebook.conformance.model import BookState, ConformanceConfig
from tracebook.core.order import OrderType
from tracebook.events import MarketEvent

REPOSITORY = Path(__file__).parents[2]
BOOKS = ("naive", "ladder")
TRACES = 1_000
EVENTS_PER_TRACE = 500
SEED = 1337
START_SECONDS = 600.0
"""The first answer may wait for a compiler; one that never comes is a fault."""
TRACE_SECONDS = 120.0


def without_fill_or_kill() -> CampaignProfile:
    """The full profile as far as our order types go. Whatever else it generates stays."""
    full = get_campaign_profile("fifo-full-v1")
    return replace(
        full,
        name="fifo-full-v1-without-fok",
        description=full.description + " Without FOK, which the exchange does not have.",
        order_types=tuple(kind for kind in full.order_types if kind is not OrderType.FOK),
        capabilities=tuple(name for name in full.capabilities if name != "fill-or-kill"),
    )


PROFILES = {
    profile.name: profile for profile in (get_campaign_profile("fifo-limit-v1"), without_fill_or_kill())
}


class AdapterProcess:
    """One ``python -m exchange.conformance`` that is kept open; messages go in, answers come out."""

    def __init__(self, book: str) -> None:
        self.book = book
        command = [sys.executable, "-m", "exchange.conformance", "--book", book, "--keep-open"]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def send(self, message: dict[str, Any]) -> None:
        """One message, at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self, kind: str, seconds: float) -> dict[str, Any]:
        """The next answer, which must be of that type and come in time."""
        assert self._process.stdout is not None
        # An answer is one line and comes alone, so none is waiting in the buffer, where select would not see it.
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self._process.kill()
        line = self._process.stdout.readline()
        answer = json.loads(line or b"{}")
        if answer.get("type") != kind:
            raise RuntimeError(f"{self.book}: {kind} expected, got {line[:400]!r}")
        return answer

    def stop(self) -> None:
        """End the process by ending its input, and wait for it."""
        self._process.communicate()


class SideBySide:
    """What the tester calls for one trace: it drives one process for each book, and they must agree."""

    def __init__(self, processes: Sequence[AdapterProcess], config: ConformanceConfig) -> None:
        self._processes = processes
        self._last_index = 0
        hello = {"protocol": "tracebook.conformance", "protocol_version": 1, "config": config.to_dict()}
        engines = [answer["engine"] for answer in self._ask("hello", hello, "ready", START_SECONDS)]
        names = " and ".join(engine["name"] for engine in engines)
        self.metadata = EngineMetadata(names, engines[0]["version"], engines[0]["language"])

    def _ask(
        self, kind: str, fields: dict[str, Any], answer_kind: str, seconds: float = TRACE_SECONDS
    ) -> list[dict[str, Any]]:
        for process in self._processes:  # all work at the same time
            process.send({"type": kind, **fields})
        return [process.receive(answer_kind, seconds) for process in self._processes]

    def _ask_alike(self, kind: str, fields: dict[str, Any], answer_kind: str) -> dict[str, Any]:
        first, *others = self._ask(kind, fields, answer_kind)
        for process, other in zip(self._processes[1:], others, strict=True):
            if other != first:
                raise RuntimeError(
                    f"{self._processes[0].book} says {json.dumps(first)}, {process.book} says {json.dumps(other)}"
                )
        return first

    def apply(self, event: MarketEvent, index: int) -> Observation:
        """One event."""
        fields = {"index": index, "event": event.to_dict()}
        answer = self._ask_alike("event", fields, "observation")
        self._last_index = index
        return Observation.from_dict(answer)

    def snapshot(self) -> BookState:
        """All resting orders."""
        answer = self._ask_alike("snapshot", {"index": self._last_index}, "snapshot")
        return BookState.from_dict(answer["state"])

    def close(self) -> None:
        """End the trace; the processes wait for the next."""
        self._ask_alike("finish", {"event_count": self._last_index}, "complete")


class Books:
    """Makes the adapter of each trace from processes that it keeps, and counts the traces.

    This is what the tester calls a candidate factory. Whoever makes it calls ``stop`` at the end.
    """

    def __init__(self, books: Sequence[str], *, progress: bool = False) -> None:
        self._books = books
        self._processes: list[AdapterProcess] = []
        self._progress = progress
        self._traces = 0
        self._shown = time.monotonic()

    def __call__(self, config: ConformanceConfig) -> SideBySide:
        if not self._processes:
            self._processes = [AdapterProcess(book) for book in self._books]
        if self._progress and time.monotonic() - self._shown > 20:
            self._shown = time.monotonic()
            print(f"{self._traces:,} traces ...", file=sys.stderr, flush=True)
        self._traces += 1
        return SideBySide(self._processes, config)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stop()


def summary(result: CampaignResult) -> str:
    """The figures of a campaign, in a few lines."""
    coverage = result.semantic_coverage
    orders = ", ".join(f"{count:,} {kind}" for kind, count in sorted(coverage.applied_order_types.items()))
    operations = ", ".join(f"{count:,} {kind}" for kind, count in sorted(coverage.operations.items()))
    reasons = ", ".join(f"{count:,} {kind}" for kind, count in sorted(coverage.rejection_reasons.items()))
    return "\n".join(
        [
            f"{result.profile.name} against {result.candidate_engine.name}, seed {result.seed}: "
            + ("no difference" if result.conformant else "DIFFERENT"),
            f"  {len(result.traces):,} traces of {result.events_per_trace} events, {coverage.compared_events:,} events "
            f"compared, {coverage.trades:,} trades",
            f"  {operations}",
            f"  applied orders: {orders}; rejected: {reasons}",
            f"  {len(coverage.covered_capabilities)} of {len(coverage.expected_capabilities)} capabilities; "
            f"campaign {result.campaign_id[:23]}",
        ]
    )


def write_failure(result: CampaignResult, folder: Path) -> Path:
    """The reduced trace of a difference as a file that ``tracebook-conformance run`` takes."""
    assert result.failure is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.profile.name}.jsonl"
    lines = [json.dumps(event.to_dict()) + "\n" for event in result.failure.minimization.events]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def main() -> int:
    """Read the options, run, print the figures; 1 if there was a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.tracebook_campaign")
    parser.add_argument("--profile", choices=[*PROFILES], action="append", help="default: all")
    parser.add_argument("--book", choices=BOOKS, action="append", help="default: all, side by side")
    parser.add_argument("--traces", type=int, default=TRACES)
    parser.add_argument("--events", type=int, default=EVENTS_PER_TRACE)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=Path("tracebook-differences"))
    options = parser.parse_args()
    books = Books(options.book or BOOKS, progress=True)
    status = 0
    for name in options.profile or PROFILES:
        started = time.monotonic()
        result = run_campaign(
            books,
            profile=PROFILES[name],
            seed=options.seed,
            traces=options.traces,
            events_per_trace=options.events,
        )
        print(f"{summary(result)}; {time.monotonic() - started:.0f} s", flush=True)
        if result.failure is not None:
            status = 1
            divergence = result.failure.minimization.report.divergence
            print(f"  {result.failure.failure_class}: {divergence.to_dict() if divergence else ''}")
            print(f"  reduced trace: {write_failure(result, options.output)}", flush=True)
    books.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
