"""A result file survives writing and reading; a damaged one is refused in words that name file and field."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from exchange.bench.results import (
    SCHEMA_VERSION,
    BenchResult,
    FlowDescription,
    LatencyPercentiles,
    LoadPoint,
    MicroResult,
    ProfileResult,
    SaturationRound,
    ThreadCounters,
    agreed_digest,
    find_digest_mismatch,
    from_json,
    read_result,
    to_json,
    write_result,
)
from exchange.errors import UserError

THREAD = ThreadCounters(
    name="shard.0", agents=("shard.0",), core=1, voluntary_switches=3, involuntary_switches=None, cpu_ns=12
)


def saturation_round(index=0, digest="aa"):
    return SaturationRound(
        round_index=index,
        commands=1000,
        events=1200,
        elapsed_ns=1_000_000,
        commands_per_second=1e9,
        back_pressure={"shard.0.inbox": 5},
        threads=(THREAD,),
        digest=digest,
        trades=40,
        rejects=0,
    )


def profile(name, *digests):
    rounds = tuple(saturation_round(index, digest) for index, digest in enumerate(digests))
    point = LoadPoint(
        round_index=0,
        offered_per_second=1e5,
        achieved_per_second=9.9e4,
        commands=100,
        elapsed_ns=10**6,
        sample_count=100,
        histogram=None,
        percentiles=LatencyPercentiles(1, 2, 3, 4, 5, 6),
        back_pressure={},
        threads=(),
        behind=False,
    )
    settings = {"queue": {"kind": "spsc", "capacity_slots": 4}, "shards": {"threads": [["ingress"]]}}
    return ProfileResult(name, "A description.", settings, agreed_digest(rounds), rounds, (point,))


@pytest.fixture
def result():
    return BenchResult(
        kind="profiles",
        created_utc="2025-01-02T03:04:05+00:00",
        command_line="exchange bench a b",
        host={"fingerprint": "f", "cores": 2, "governor": None},
        flow=FlowDescription("synthetic", "Invented.", 1000, 2, 7, ("a note",)),
        profiles=(profile("a", "aa", "aa"), profile("b", "aa")),
        micro=(MicroResult("push", "spsc", "ns", "lower", (1.0, 2.0), {"batch": 32, "warm": True}),),
        warnings=("two cores",),
        not_measured={"migrations": "not readable"},
    )


def test_a_result_survives_a_round_trip(result, tmp_path):
    path = tmp_path / "result.json"
    write_result(result, path)
    assert read_result(path) == result


def test_the_file_is_json_with_the_schema_version_in_it(result):
    assert json.loads(to_json(result))["schema_version"] == SCHEMA_VERSION == 1


def test_numbers_of_numpy_are_written_as_numbers(result):
    changed = msgspec.structs.replace(result, host={"cores": np.int64(2), "clock": np.float64(0.5)})
    assert from_json(to_json(changed), "x").host == {"cores": 2, "clock": 0.5}


def test_a_result_that_could_not_be_read_back_is_not_written(result):
    rounds = (msgspec.structs.replace(saturation_round(), commands_per_second=float("nan")),)
    broken = ProfileResult("a", "", {}, "aa", rounds)
    with pytest.raises(msgspec.ValidationError, match="commands_per_second"):
        to_json(msgspec.structs.replace(result, profiles=(broken,)))


def test_a_field_of_a_later_writer_is_ignored(result):
    raw = json.loads(to_json(result))
    raw["added_later"] = 1
    raw["profiles"][0]["also_later"] = {}
    assert from_json(json.dumps(raw).encode(), "x") == result


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_a_newer_schema_is_refused_even_if_all_else_is_different(version):
    with pytest.raises(UserError, match=f"^new.json: schema_version is {version}, .* upgrade to read it$"):
        from_json(json.dumps({"schema_version": version, "kind": 5}).encode(), "new.json")


def test_a_version_that_never_was_is_refused():
    with pytest.raises(UserError, match="schema_version is 0; allowed is 1 to 1"):
        from_json(b'{"schema_version": 0}', "x.json")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (
            ("profiles", 1, "saturation_rounds", 0, "digest"),
            5,
            r"profiles\[1\].saturation_rounds\[0\].digest",
        ),
        (("profiles", 0, "load_points", 0, "behind"), "no", r"profiles\[0\].load_points\[0\].behind"),
        (("micro", 0, "better"), "larger", r"micro\[0\].better"),
        (("schema_version",), "1", "schema_version"),
        (("host",), [], "at host: Expected `object`, got `array`"),
    ],
)
def test_a_wrong_value_is_refused_naming_file_and_field(result, place, value, words):
    raw = json.loads(to_json(result))
    target = raw
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with pytest.raises(UserError, match=f"^A.json: not a result file: .*{words}"):
        from_json(json.dumps(raw).encode(), "A.json")


def test_a_missing_field_is_refused_naming_it(result):
    raw = json.loads(to_json(result))
    del raw["profiles"][0]["settings"]
    with pytest.raises(UserError, match=r"A.json: .* at profiles\[0\]: .* missing required field `settings`"):
        from_json(json.dumps(raw).encode(), "A.json")


@pytest.mark.parametrize("data", [b"", b"{", b"nonsense", b'{"schema_version": 1, "kind": "\xff"}'])
def test_what_is_no_json_is_refused_on_one_line(data):
    with pytest.raises(UserError, match=r"^A.json: not JSON: [^\n]+$"):
        from_json(data, "A.json")


def test_a_file_that_is_not_there_is_refused_in_words():
    with pytest.raises(UserError, match=r"/no/such.json: cannot read the result: No such file"):
        read_result(Path("/no/such.json"))


def test_a_place_that_cannot_be_written_is_refused_in_words(result, tmp_path):
    with pytest.raises(UserError, match="cannot write the result: Is a directory"):
        write_result(result, tmp_path)


def test_rounds_that_disagree_have_no_digest():
    assert agreed_digest([]) is None
    assert agreed_digest([saturation_round(0, "aa"), saturation_round(1, "aa")]) == "aa"
    assert agreed_digest([saturation_round(0, "aa"), saturation_round(1, "bb")]) is None


def test_equal_digests_void_nothing():
    skipped = ProfileResult("c", "", {}, None, skipped="no such machine")
    assert find_digest_mismatch([profile("a", "aa", "aa"), skipped, profile("b", "aa")]) is None


def test_a_mismatch_names_profile_round_and_both_digests():
    found = find_digest_mismatch([profile("a", "aa", "aa"), profile("b", "aa", "bb")])
    assert found == "profile b, round 2, ended with digest bb, but a with aa: they did not do the same work"
