"""Rows of a micro-benchmark that are points of a curve: how they are grouped, judged, printed and drawn."""

import io
import json
import re

import msgspec
import pytest
from rich.console import Console

from exchange.bench.plots import family_curves
from exchange.bench.report import render_report
from exchange.bench.results import BenchResult, MicroResult, along_axis, from_json, to_json
from exchange.bench.summary import micro_families, micro_groups
from exchange.bench.terminal import print_result
from exchange.bench.wording import family_title, trend, verdict

ROUNDS = (0.9, 1.0, 1.1)


def row(variant, orders, median, *, name="sweep", unit="ns", better="lower", **parameters):
    values = tuple(median * factor for factor in ROUNDS)
    return MicroResult(name, variant, unit, better, values, {"orders": orders, **parameters}, axis="orders")


def result_of(*rows):
    """Return an invented result."""
    return BenchResult("worst-cases", "2025-03-04T10:11:12+00:00", "exchange bench", {}, micro=rows)


@pytest.fixture
def result():
    """Two cases; naive was measured at fewer sizes, and the rows are not in the order of their sizes."""
    return result_of(
        row("naive", 1_000, 2_000.0, cores="1 only"),
        row("ladder", 100_000, 18.0, cores="1 only"),
        row("ladder", 1_000, 10.0, cores="1 only"),
        row("ladder", 10_000, 12.0, cores="1 only"),
        row("naive", 10_000, 20_000.0, cores="1 only"),
        row("ladder", 1_000, 4e7, name="rate", unit="commands/s", better="higher"),
        row("ladder", 8_000, 2e7, name="rate", unit="commands/s", better="higher"),
    )


def printed(result):
    out = io.StringIO()
    print_result(result, Console(file=out, width=100, highlight=False, no_color=True))
    return out.getvalue()


def test_rows_that_differ_only_along_the_axis_are_one_curve(result):
    sweep, rate = micro_families(result)
    assert (sweep.name, sweep.axis, sweep.unit, sweep.better) == ("sweep", "orders", "ns", "lower")
    assert sweep.parameters == {"cores": "1 only"}
    assert family_title(sweep) == "sweep (cores 1 only)"
    assert sweep.positions == (1_000, 10_000, 100_000)
    naive, ladder = sweep.curves
    assert [(point.position, point.values.median) for point in ladder.points] == [
        (1_000, 10.0),
        (10_000, 12.0),
        (100_000, 18.0),
    ]
    assert [point.position for point in naive.points] == [1_000, 10_000]
    assert ladder.change.ratio == pytest.approx(1.8)
    assert ladder.change.rounds == 3
    assert rate.curves[0].change.ratio == pytest.approx(0.5)
    assert micro_groups(result) == []


def test_rows_with_other_parameters_are_another_family():
    result = result_of(row("ladder", 1_000, 1.0, batch=1), row("ladder", 1_000, 1.0, batch=16))
    assert [family.parameters for family in micro_families(result)] == [{"batch": 1}, {"batch": 16}]
    assert all(family.curves[0].change is None for family in micro_families(result))


@pytest.mark.parametrize("position", [True, 0, -1, "many"])
def test_a_position_that_cannot_be_drawn_leaves_the_row_for_itself(position):
    result = result_of(row("ladder", position, 1.0))
    assert micro_families(result) == []
    assert len(micro_groups(result)) == 1


def test_a_row_without_values_is_no_point_and_its_reason_is_told():
    skipped = MicroResult("sweep", "tree", "ns", "lower", (), {"orders": 1_000}, "it lost orders", "orders")
    result = result_of(row("ladder", 1_000, 1.0), row("ladder", 2_000, 1.0), skipped)
    assert [curve.variant for curve in micro_families(result)[0].curves] == ["ladder"]
    assert "not run: it lost orders" in printed(result)
    assert "not run: it lost orders" in render_report(result)


def test_a_file_from_before_there_was_an_axis_can_be_read(result):
    raw = json.loads(to_json(result))
    for one in raw["micro"]:
        del one["axis"]
    old = from_json(json.dumps(raw).encode(), "old.json")
    assert micro_families(old) == []
    assert sum(len(group.rows) for group in micro_groups(old)) == len(result.micro)
    assert along_axis(old, "orders") == result
    assert from_json(to_json(result), "new.json") == result


def test_only_rows_that_have_the_parameter_get_the_axis():
    plain = MicroResult("push", "spsc", "ns", "lower", (1.0,), {"batch": 1})
    changed = along_axis(
        result_of(plain, msgspec.structs.replace(row("ladder", 5, 1.0), axis=None)), "orders"
    )
    assert [one.axis for one in changed.micro] == [None, "orders"]


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [
        (10.0, 10.0, "is flat"),
        (10.0, 19.0, "is flat"),
        (10.0, 21.0, "rises"),
        (10.0, 990.0, "rises"),
        (10.0, 1010.0, "grows"),
        (10.0, 1e5, "grows"),
        (10.0, 5.1, "is flat"),
        (10.0, 4.9, "falls"),
    ],
)
def test_the_word_for_a_curve_compares_its_factor_with_that_of_the_axis(first, last, word):
    family = micro_families(result_of(row("ladder", 100, first), row("ladder", 1_000_000, last)))[0]
    assert trend(family.curves[0]) == word


def test_over_a_short_axis_less_than_twofold_can_be_growth():
    family = micro_families(result_of(row("ladder", 100, 1.0), row("ladder", 200, 1.5)))[0]
    assert trend(family.curves[0]) == "grows"


def test_the_verdict_tells_costs_with_their_factor_and_leaves_rates_to_the_table(result):
    assert verdict(result) == [
        "sweep (cores 1 only): naive grows, × 10.0 from 1 k to 10 k orders; "
        "ladder is flat, × 1.80 from 1 k to 100 k orders."
    ]
    assert verdict(result_of(row("ladder", 1, 1.0))) == [
        "Nothing to compare: no group has two variants that ran."
    ]


def test_the_terminal_shows_a_line_for_each_size_and_what_it_does(result):
    text = printed(result)
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert ["orders", "naive", "ladder"] in lines
    assert ["1 k", "2 µs", "10 ns"] in [
        [cell.replace(".00", "").replace(".0", "") for cell in line] for line in lines
    ]
    assert ["last / first", "10.0", "1.80"] in lines
    assert ["100 k", "–", "18.0 ns"] in lines


def test_the_report_draws_each_family_in_both_shapes(result):
    page = render_report(result)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 4
    assert 'href="#family-1"' in page
    assert "would change by × 100 over the whole axis; if it is the cost of one event" in page
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.search(r"(fill|stroke): #", drawings)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_plot_names_the_measured_sizes_and_its_variants(result, narrow):
    drawing = family_curves(micro_families(result)[0], "curves-0", narrow=narrow)
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", drawing)
    assert {"1 k", "10 k", "100 k", "naive", "ladder", "orders (log scale)"} <= set(texts)
    assert {"1 ns", "100 µs"} <= set(texts)
    assert "var(--series-0)" in drawing
    assert "var(--series-1)" in drawing


def test_a_line_that_hardly_rises_does_not_look_steep():
    family = micro_families(result_of(row("ladder", 1, 20.0), row("ladder", 8_000, 22.0)))[0]
    texts = set(re.findall(r"<text[^>]*>([^<]+)</text>", family_curves(family, "one", narrow=False)))
    assert {"10 ns", "20 ns", "50 ns", "100 ns"} <= texts


def test_names_from_outside_are_shown_and_never_run():
    unkind = "<script>$a$"
    result = result_of(row(unkind, 10, 1.0, name=unkind), row(unkind, 20, 1.0, name=unkind))
    page = render_report(result)
    assert "<script" not in page
    assert page.count("&lt;script&gt;$a$") > 3
