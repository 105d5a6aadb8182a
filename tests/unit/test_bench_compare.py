"""Two result files are compared only if that means something, and what changed is said with its interval."""

import json

import msgspec
import pytest

from exchange.bench.compare import compare_files, compare_results
from exchange.bench.results import (
    BenchResult,
    FlowDescription,
    LatencyPercentiles,
    LoadPoint,
    MicroResult,
    ProfileResult,
    SaturationRound,
    write_result,
)
from exchange.errors import UserError

MOODS = (1.0, 0.97, 1.02, 0.99, 1.01)
HOST = {"fingerprint": "one", "cpu_model": "Example 9000", "cores": 2, "load_average_1_minute": 0.1}


def profile(name="lockfree", speed=1.0, delay=1.0, loads=(1000.0, 5000.0), digest="aa", behind=()):
    rounds = tuple(
        SaturationRound(index, 100, 120, 1000, 1e6 * speed * mood, {}, (), digest, 3, 0)
        for index, mood in enumerate(MOODS)
    )
    points = tuple(
        LoadPoint(
            round_index=index,
            offered_per_second=load,
            achieved_per_second=load,
            commands=100_000,
            elapsed_ns=1000,
            sample_count=100_000,
            histogram=None,
            percentiles=LatencyPercentiles(
                *(int(one * delay * mood) for one in (1e3, 2e3, 3e3, 4e3, 5e3, 6e3))
            ),
            back_pressure={},
            threads=(),
            behind=load in behind,
        )
        for load in loads
        for index, mood in enumerate(MOODS)
    )
    return ProfileResult(name, "", {"queue": {"kind": "spsc"}}, digest, rounds, points)


def result(*profiles, **changes):
    made = BenchResult(
        kind="profiles",
        created_utc="2025-01-02T03:04:05+00:00",
        command_line="exchange bench",
        host=HOST,
        flow=FlowDescription("synthetic", "Invented.", 1000, 2, 7),
        profiles=profiles or (profile(),),
    )
    return msgspec.structs.replace(made, **changes)


def findings(comparison):
    return {(change.subject, change.metric): change.finding for change in comparison.changes}


def test_a_result_compared_with_itself_shows_no_change():
    comparison = compare_results(result(), result())
    assert set(findings(comparison).values()) == {"no clear change"}
    assert all(change.ratio.ratio == 1.0 for change in comparison.changes)
    assert comparison.void is None
    assert comparison.warnings == ()


def test_more_throughput_is_better_and_more_latency_is_worse():
    comparison = compare_results(result(profile()), result(profile(speed=2.0, delay=3.0)))
    found = findings(comparison)
    assert found["lockfree", "saturation throughput"] == "better"
    assert found["lockfree", "p99 at 5 k/s"] == "worse"
    ratios = {change.metric: change.ratio.ratio for change in comparison.changes}
    assert ratios["saturation throughput"] == pytest.approx(2.0)
    assert ratios["p50 at 1 k/s"] == pytest.approx(3.0, rel=0.01)


def test_a_slower_run_with_less_latency_is_told_the_other_way_round():
    found = findings(compare_results(result(profile()), result(profile(speed=0.5, delay=0.5))))
    assert found["lockfree", "saturation throughput"] == "worse"
    assert found["lockfree", "p50 at 1 k/s"] == "better"


def test_latencies_are_compared_at_the_lowest_and_highest_load_that_both_kept_up_with():
    before = profile(loads=(1000.0, 2000.0, 5000.0, 9000.0))
    after = profile(loads=(1000.0, 2000.0, 5000.0, 9000.0), behind=(9000.0,))
    metrics = {change.metric for change in compare_results(result(before), result(after)).changes}
    assert {metric for metric in metrics if metric.startswith("p99 ")} == {"p99 at 1 k/s", "p99 at 5 k/s"}


def test_profiles_without_a_common_load_compare_only_throughput_and_say_so():
    comparison = compare_results(result(profile(loads=(10.0,))), result(profile(loads=(11.0,))))
    assert [change.metric for change in comparison.changes] == ["saturation throughput"]
    assert any("--rate offers the same loads" in warning for warning in comparison.warnings)


def test_different_hosts_are_refused_naming_what_differs():
    other = result(host={**HOST, "fingerprint": "two", "cores": 64, "load_average_1_minute": 9.0})
    with pytest.raises(
        UserError, match=r"A.json and B.json .* different machines: cores 2 against 64. "
    ) as refused:
        compare_results(result(), other, names=("A.json", "B.json"))
    assert "load" not in str(refused.value)
    assert "--different-hosts" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_different_hosts_can_be_allowed_and_stay_a_warning():
    other = result(host={**HOST, "fingerprint": "two", "cores": 64})
    comparison = compare_results(result(), other, allow_different_hosts=True)
    assert any("different machines: cores 2 against 64" in warning for warning in comparison.warnings)


def test_a_host_without_fingerprint_is_not_taken_for_the_same():
    with pytest.raises(UserError, match=r"host.fingerprint is missing"):
        compare_results(result(host={}), result(host={}))


@pytest.mark.parametrize(
    ("field", "value"), [("name", "itch"), ("commands", 999), ("symbols", 3), ("seed", 8)]
)
def test_different_flows_are_refused_naming_the_field(field, value):
    ours = result()
    other = result(flow=msgspec.structs.replace(ours.flow, **{field: value}))
    with pytest.raises(UserError, match=rf"played different flows: flow.{field} is .* against {value}"):
        compare_results(ours, other)


def test_a_result_with_a_flow_is_not_compared_with_one_without():
    with pytest.raises(UserError, match="only one of before and after played a flow"):
        compare_results(result(), result(flow=None))


def test_different_kinds_are_refused():
    with pytest.raises(UserError, match="before is a 'profiles' result and after a 'queue' result"):
        compare_results(result(), result(kind="queue"))


def test_results_without_anything_in_common_are_refused():
    with pytest.raises(UserError, match="no measured profile or variant in common"):
        compare_results(result(profile("a")), result(profile("b")))


def test_what_only_one_side_has_is_told():
    comparison = compare_results(result(profile("a"), profile("b")), result(profile("b"), profile("c")))
    assert "only in before: a" in comparison.warnings
    assert "only in after: c" in comparison.warnings
    assert {change.subject for change in comparison.changes} == {"b"}


def test_changed_settings_are_told_and_compared():
    changed = msgspec.structs.replace(profile(), settings={"queue": {"kind": "locked"}})
    comparison = compare_results(result(), result(changed))
    assert "profile lockfree was changed: queue.kind: spsc → locked" in comparison.warnings
    assert comparison.changes


def test_a_changed_digest_voids_the_comparison():
    comparison = compare_results(result(), result(profile(digest="bb")), names=("A", "B"))
    assert comparison.void is not None
    assert "digest aa in A but bb in B" in comparison.void


def test_a_void_result_voids_the_comparison():
    comparison = compare_results(result(), result(comparison_void="they differ"))
    assert comparison.void == "after is itself void: they differ"


def test_single_rounds_are_never_called_a_change():
    one = msgspec.structs.replace(
        profile(), saturation_rounds=profile().saturation_rounds[:1], load_points=()
    )
    much_faster = profile(speed=100.0)
    comparison = compare_results(result(one), result(much_faster))
    assert findings(comparison) == {("lockfree", "saturation throughput"): "no clear change"}
    assert any("single round" in warning for warning in comparison.warnings)


def test_micro_benchmarks_are_matched_by_name_variant_and_parameters():
    def micro(factor, batch):
        values = tuple(factor * mood for mood in MOODS)
        return MicroResult("push", "spsc", "ns", "lower", values, {"batch": batch})

    before = result(kind="queue", profiles=(), flow=None, micro=(micro(100.0, 1), micro(50.0, 32)))
    after = result(
        kind="queue", profiles=(), flow=None, micro=(micro(20.0, 32), micro(100.0, 1), micro(9.0, 64))
    )
    comparison = compare_results(before, after)
    assert findings(comparison) == {
        ("spsc", "push (batch 1)"): "no clear change",
        ("spsc", "push (batch 32)"): "better",
    }
    assert "only in after: spsc, push (batch 64)" in comparison.warnings


def test_files_are_compared_under_their_names_and_the_outcome_is_plain_json(tmp_path):
    paths = tmp_path / "A.json", tmp_path / "B.json"
    for path in paths:
        write_result(result(), path)
    comparison = compare_files(*paths)
    assert (comparison.before, comparison.after) == (str(paths[0]), str(paths[1]))
    assert json.loads(msgspec.json.encode(comparison))["changes"][0]["ratio"]["ratio"] == 1.0
