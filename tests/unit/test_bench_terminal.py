"""What a run prints: legible at 100 columns, plain when piped, and loud when the comparison is void."""

import io
import re

import msgspec
import pytest
from rich.console import Console

from exchange.bench.compare import compare_results
from exchange.bench.terminal import print_comparison, print_result
from tests.unit.bench_example import DIGEST, example_micro, example_result


@pytest.fixture
def result():
    return example_result()


def printed(show, *arguments, width=100):
    out = io.StringIO()
    show(*arguments, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_the_tables_fit_100_columns_and_hold_every_profile(result):
    text = printed(print_result, result)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text
    for profile in result.profiles:
        assert re.search(rf"^ *{profile.name} ", text, re.MULTILINE)
    assert f"✓ {DIGEST[:8]}" in text
    assert "240" in text
    assert "too few" in text
    assert "Warning: three threads on two cores" in text
    assert "migrations: not measured on this machine: the kernel does not tell" in text


def test_output_that_is_piped_has_no_escape_codes(result, capsys):
    print_result(result)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_void_comparison_is_said_first_and_shows_no_ratio():
    text = printed(print_result, example_result(wrong_digest_of="compiled"))
    assert "THE COMPARISON IS VOID" in text.splitlines()[0]
    assert "✗ MISMATCH" in text
    assert "80.0" not in text
    assert "240" not in text


def test_names_are_printed_as_they_are_and_never_read_as_markup():
    strange = msgspec.structs.replace(example_result().profiles[0], name="[red]x[/red]")
    text = printed(print_result, msgspec.structs.replace(example_result(), profiles=(strange,)))
    assert "[red]x[/red]" in text


def test_micro_benchmarks_print_a_table_for_each_group():
    text = printed(print_result, example_micro())
    assert "push (batch 1): higher is better" in text
    assert "round trip: lower is better" in text
    assert "not run: it lost records" in " ".join(text.split())


def test_a_comparison_of_two_runs_prints_its_findings(result):
    slower = example_result(seed=4)
    text = printed(print_comparison, compare_results(result, slower))
    assert "saturation throughput" in text
    assert "no clear change" in text
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize("change", [{"load_points": ()}, {"saturation_rounds": ()}])
def test_a_run_that_measured_only_a_part_still_prints(change):
    part = tuple(msgspec.structs.replace(one, **change) for one in example_result().profiles)
    assert "textbook" in printed(print_result, msgspec.structs.replace(example_result(), profiles=part))
