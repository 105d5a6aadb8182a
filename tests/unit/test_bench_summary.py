"""The derived figures of a run, and the words they are put into."""

import msgspec
import pytest

from exchange.bench.statistics import RatioInterval
from exchange.bench.summary import (
    common_load,
    digest_states,
    latency_at,
    median_back_pressure,
    micro_groups,
    settings_changes,
    summarize_profiles,
    summarize_threads,
    total_switches,
)
from exchange.bench.wording import (
    binary_size,
    duration,
    interval,
    interval_note,
    quantity,
    round_duration,
    setting,
    technique,
    three_digits,
    verdict,
)
from tests.unit.bench_example import example_micro, example_result


@pytest.fixture
def result():
    return example_result()


def test_ratios_are_to_the_first_profile_and_to_the_one_before(result):
    first, second, third, skipped = summarize_profiles(result)
    assert first.to_first is None
    assert second.to_first.ratio == pytest.approx(80)
    assert third.to_first.ratio == pytest.approx(240)
    assert (third.previous, third.to_previous.ratio) == ("compiled", pytest.approx(3))
    assert skipped.throughput is None
    assert skipped.to_first is None


def test_rounds_that_share_a_mood_give_a_narrow_interval(result):
    ratio = summarize_profiles(result)[2].to_previous
    assert ratio.high - ratio.low < 1e-6


def test_a_void_comparison_has_no_ratios_at_all():
    void = example_result(wrong_digest_of="compiled")
    assert all(one.to_first is None and one.to_previous is None for one in summarize_profiles(void))
    groups = micro_groups(example_micro(void="books differ"))
    assert all(row.to_first is None for group in groups for row in group.rows)


def test_digest_states_tell_equal_from_different_from_not_run():
    states = digest_states(example_result(wrong_digest_of="compiled"))
    assert states == {"textbook": "equal", "compiled": "different", "lockfree": "equal", "numa": "none"}


def test_the_common_load_is_the_highest_that_all_share_and_keep_up_with(result):
    load = common_load(result)
    assert (load.offered_per_second, load.behind) == (2e4, ())
    assert load.measured == ("textbook", "compiled", "lockfree")


def test_without_latencies_there_is_no_common_load():
    assert common_load(example_micro()) is None


def test_a_percentile_with_too_few_samples_beyond_it_is_not_given(result):
    summary = latency_at(result.profiles[0], 2e4)
    assert summary.percentiles_ns["p99"] is not None
    assert summary.percentiles_ns["p99.9"] is None
    assert summary.percentiles_ns["max"] is not None


def test_falling_behind_is_counted_in_rounds(result):
    assert latency_at(result.profiles[1], 8e6).rounds_behind == 5
    assert latency_at(result.profiles[2], 8e6).rounds_behind == 0
    assert latency_at(result.profiles[0], 8e6) is None


def test_back_pressure_is_counted_by_commands(result):
    rounds = result.profiles[0].saturation_rounds
    assert median_back_pressure(rounds) == {"shard.0.inbox": pytest.approx(0.902), "egress.inbox": 0.0}


def test_settings_that_differ_are_listed_by_dotted_key():
    before = {"name": "one", "a": {"x": 1, "y": 2}, "b": 3}
    after = {"name": "two", "a": {"x": 1, "y": 5}, "c": [1]}
    assert [tuple(change) for change in settings_changes(before, after)] == [
        ("a.y", 2, 5),
        ("b", 3, None),
        ("c", None, [1]),
    ]


def test_counters_of_threads_are_medians_and_unknown_ones_stay_unknown(result):
    ingress, engine = summarize_threads(result.profiles[0].saturation_rounds)
    assert (ingress.voluntary_switches, engine.voluntary_switches) == (12, 22)
    assert ingress.migrations is None
    assert total_switches([ingress, engine]) == (34, 7)
    assert total_switches([ingress, engine._replace(voluntary_switches=None)]) == (None, 7)


def test_micro_rows_are_grouped_by_name_and_parameters_and_speed_ups_point_upwards():
    push, round_trip = micro_groups(example_micro())
    assert [row.result.variant for row in push.rows] == ["python", "locked", "spsc", "file:./mine.py:Mine"]
    assert push.rows[2].to_first.ratio == pytest.approx(160)
    assert push.rows[2].to_previous.ratio == pytest.approx(10)
    assert push.rows[3].values is None
    assert round_trip.rows[1].to_first.ratio == pytest.approx(5)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (0.01234, "0.0123"), (1.005, "1.00"), (9.999, "10.0"), (99.96, "100"), (12345, "12,300")],
)
def test_figures_keep_three_digits(value, words):
    assert three_digits(value) == words


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (999.9, "1.00 µs"),
        (12_340, "12.3 µs"),
        (5e6, "5.00 ms"),
        (2e9, "2.00 s"),
    ],
)
def test_durations_take_the_unit_that_suits_them(nanoseconds, words):
    assert duration(nanoseconds) == words


def test_other_quantities_take_a_prefix():
    assert [quantity(one) for one in (7, 850, 5e4, 12_345_678)] == ["7", "850", "50 k", "12.3 M"]
    assert round_duration(1e4) == "10 µs"
    assert [binary_size(one) for one in (12, 32768, 2**34)] == ["12 bytes", "32 KiB", "16 GiB"]
    assert [setting(one) for one in (None, True, 3, ["a", ["b"]])] == ["(none)", "true", "3", '["a", ["b"]]']


def test_a_technique_is_the_first_sentence_else_the_changed_settings(result):
    summaries = summarize_profiles(result)
    assert technique(summaries[0]) == "Plain Python, with a lock"
    assert technique(summaries[2]) == "queue.kind: locked → spsc"


def test_the_verdict_names_winner_step_and_latency(result):
    text = " ".join(verdict(result))
    assert text.startswith("lockfree is the fastest: ")
    assert "240 times textbook" in text
    assert "largest single step is textbook → compiled: × 80.0" in text
    assert "At 20 k commands/s offered, lockfree answers half of the commands within" in text
    assert "numa was not run: this machine has one node." in text


def test_the_verdict_calls_noise_noise(result):
    slow, fast, _, _ = result.profiles
    noisy = tuple(
        msgspec.structs.replace(one, commands_per_second=one.commands_per_second * factor)
        for one, factor in zip(slow.saturation_rounds, (0.9, 1.1, 1.0, 0.95, 1.05), strict=True)
    )
    pair = (slow, msgspec.structs.replace(fast, saturation_rounds=noisy))
    text = " ".join(verdict(msgspec.structs.replace(result, profiles=pair)))
    assert "No difference that these rounds can show: textbook → compiled" in text


def test_the_verdict_does_not_prefer_one_of_two_that_are_level(result):
    first, second, third, _ = result.profiles
    level = tuple(
        msgspec.structs.replace(one, commands_per_second=one.commands_per_second * 3 * factor)
        for one, factor in zip(second.saturation_rounds, (0.9, 1.1, 1.02, 0.95, 1.05), strict=True)
    )
    profiles = (first, msgspec.structs.replace(second, saturation_rounds=level), third)
    winner = verdict(msgspec.structs.replace(result, profiles=profiles))[0]
    assert "these rounds cannot tell it from" in winner
    assert "textbook" not in winner.partition("cannot tell")[2]
    assert "cannot tell" not in verdict(result)[0]


def test_the_verdict_of_a_void_comparison_claims_nothing():
    sentences = verdict(example_result(wrong_digest_of="compiled"))
    assert sentences[0].startswith(
        "The comparison is void: profile compiled, round 1, ended with digest 0000"
    )
    assert "fastest" not in " ".join(sentences)


def test_the_verdict_of_a_micro_benchmark_is_about_each_group():
    assert verdict(example_micro()) == [
        "push (batch 1): spsc reaches 80 M records/s, a speed-up of 160 over python (160 – 160).",
        "round trip: spsc reaches 200 ns, a speed-up of 5.00 over locked (5.00 – 5.00).",
    ]


def test_intervals_say_how_sure_they_are():
    assert interval(RatioInterval(2.0, None, None, 0.0, 1)) == "one round: no interval"
    assert "94 % (5 interleaved rounds)" in interval_note([RatioInterval(2.0, 1.9, 2.1, 0.9375, 5), None])
    assert "may be chance" in interval_note([RatioInterval(2.0, None, None, 0.0, 1)])
    assert interval_note([None]) == ""
