"""An invented result, for the tests of what is shown to people. No figure here was measured."""

from functools import cache

import numpy as np

from exchange.bench.histogram import bucket_index, empty_counts, encode, latency_percentiles
from exchange.bench.results import (
    BenchResult,
    FlowDescription,
    LoadPoint,
    MicroResult,
    ProfileResult,
    SaturationRound,
    ThreadCounters,
    agreed_digest,
    find_digest_mismatch,
)

DIGEST = "9f3c41d27be80a55"
SAMPLES = 1500
LOADS = (1e3, 2e4, 1e6, 8e6)
# name, description, settings that differ, commands per second at saturation, latency without load in ns
PROFILES = (
    ("textbook", "Plain Python, with a lock. The baseline.", {}, 5e4, 40_000.0),
    ("compiled", "The book is compiled. Expect much.", {"book": {"kind": "ladder"}}, 4e6, 2500.0),
    ("lockfree", "", {"book": {"kind": "ladder"}, "queue": {"kind": "spsc"}}, 1.2e7, 900.0),
)
UNKIND_NAME = '<script>alert("x")</script>&[red]$a$'


def threads(name, index):
    return (
        ThreadCounters(
            "ingress", ("ingress",), 0 if name == "lockfree" else None, 10 + index, 3, None, 5, 1000
        ),
        ThreadCounters("engine", ("shard.0", "egress"), None, 20 + index, 4, None, 5, 2000),
    )


def saturation_round(name, rate, index, digest):
    full = {"shard.0.inbox": 900 + index, "egress.inbox": 0}
    return SaturationRound(
        index, 10**6, 12 * 10**5, int(1e15 / rate), rate, full, threads(name, index), digest, 9, 1
    )


def load_point(capacity, base_ns, load, index, generator):
    behind = load > capacity
    busy = min(load / capacity, 0.95)
    values = base_ns * (0.8 + generator.exponential(0.4 / (1 - busy), SAMPLES)) + (5e7 if behind else 0)
    counts = empty_counts()
    np.add.at(counts, [bucket_index(int(value)) for value in values], 1)
    return LoadPoint(
        round_index=index,
        offered_per_second=load,
        achieved_per_second=min(load, capacity),
        commands=SAMPLES,
        elapsed_ns=int(SAMPLES / load * 1e9),
        sample_count=SAMPLES,
        histogram=encode(counts),
        percentiles=latency_percentiles(counts),
        back_pressure={"shard.0.inbox": 70 if behind else 0},
        threads=(),
        behind=behind,
    )


@cache
def example_result(*, rounds=5, wrong_digest_of="", seed=3):
    """Return an invented run of three profiles and a skipped one; textbook was offered what it can do."""
    generator = np.random.default_rng(seed)
    mood = np.exp(generator.normal(0, 0.1, rounds))
    profiles = []
    for name, description, changes, capacity, base_ns in PROFILES:
        digest = "0" * 16 if name == wrong_digest_of else DIGEST
        saturation = tuple(
            saturation_round(name, float(capacity * mood[index]), index, digest) for index in range(rounds)
        )
        points = tuple(
            load_point(capacity, base_ns, load, index, generator)
            for load in LOADS
            if name != "textbook" or load < capacity
            for index in range(rounds)
        )
        settings = {"queue": {"kind": "locked"}, "book": {"kind": "naive"}, **changes}
        profiles.append(
            ProfileResult(name, description, settings, agreed_digest(saturation), saturation, points)
        )
    profiles.append(ProfileResult("numa", "Nodes.", {}, None, skipped="this machine has one node"))
    return BenchResult(
        kind="profiles",
        created_utc="2025-03-04T10:11:12+00:00",
        command_line="exchange bench textbook compiled lockfree",
        host={
            "cpu_model": UNKIND_NAME,
            "governor": None,
            "memory_bytes": 2**34,
            "versions": {"python": "3.13"},
            "fingerprint": "f",
            "not_measured": {"governor": "the hypervisor hides it"},
        },
        flow=FlowDescription("synthetic", "Invented <orders>.", 10**6, 8, 7, ("hidden executions: 3",)),
        profiles=tuple(profiles),
        warnings=("three threads on two cores",),
        not_measured={"migrations": "the kernel does not tell"},
        comparison_void=find_digest_mismatch(profiles),
    )


def example_micro(*, void=None):
    """Return an invented queue benchmark of two groups, one row of which did not run."""

    def row(variant, median, batch):
        values = tuple(median * factor for factor in (0.9, 1.0, 1.1))
        return MicroResult("push", variant, "records/s", "higher", values, {"batch": batch})

    return BenchResult(
        kind="queue",
        created_utc="2025-03-04T10:11:12+00:00",
        command_line="exchange bench queue",
        host={"fingerprint": "f"},
        micro=(
            *(
                row(variant, median, 1)
                for variant, median in (("python", 5e5), ("locked", 8e6), ("spsc", 8e7))
            ),
            MicroResult(
                "push", "file:./mine.py:Mine", "records/s", "higher", (), {"batch": 1}, "it lost records"
            ),
            MicroResult("round trip", "locked", "ns", "lower", (900.0, 1000.0, 1100.0)),
            MicroResult("round trip", "spsc", "ns", "lower", (180.0, 200.0, 220.0)),
        ),
        comparison_void=void,
    )
