"""The HTML report: complete, self-contained, and harmless whatever the names in it."""

import base64
import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from exchange.bench.markup import prose
from exchange.bench.plots import percentile_curve
from exchange.bench.report import render_report, write_report
from exchange.bench.results import from_json
from exchange.bench.statistics import spread
from exchange.errors import UserError
from tests.unit.bench_example import SAMPLES, UNKIND_NAME, example_micro, example_result


class Page(HTMLParser):
    """Collects what a browser would see: tags, attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.ids = [], [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def result():
    return example_result()


@pytest.fixture(scope="module")
def text():
    return render_report(example_result())


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_asks_nobody_for_anything(page):
    assert {"script", "link", "img", "iframe", "object"} & set(page.tags) <= {"link"}
    targets = [value for name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)


def test_styles_and_drawings_refer_to_nothing_outside(text):
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_every_id_of_the_page_is_unique_and_every_local_reference_leads_somewhere(page):
    assert len(page.ids) == len(set(page.ids))
    local = {value[1:] for name, value in page.attributes if name.endswith("href") and value.startswith("#")}
    assert local <= set(page.ids)


def test_the_page_has_all_its_parts(page):
    for words in (
        "lockfree is the fastest",
        "How latency grows with load",
        "Back-pressure",
        "Context switches",
        "not measured on this machine: the hypervisor hides it",
        "moved to another core: not measured on this machine: the kernel does not tell",
        "not run: this machine has one node",
        "exchange bench textbook compiled lockfree",
        "Invented <orders>.",
        "Coordinated omission",
        "16 GiB",
    ):
        assert words in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert page.tags.count("svg") == 6


def test_what_came_from_outside_is_shown_and_never_run():
    unkind = tuple(
        msgspec.structs.replace(one, name=one.name + UNKIND_NAME, description=UNKIND_NAME)
        for one in example_result().profiles
    )
    page = Page(
        render_report(msgspec.structs.replace(example_result(), profiles=unkind, warnings=(UNKIND_NAME,)))
    )
    assert "script" not in page.tags
    assert page.text.count(UNKIND_NAME) > 10


def test_colours_follow_the_theme_of_the_reader(text):
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--series-2)" in drawings
    assert not re.search(r"(fill|stroke): #", drawings)
    assert "prefers-color-scheme: dark" in text
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= set(re.findall(r"(--[\w-]+):", text))


def test_the_raw_result_can_be_taken_from_the_page(result, page):
    href = next(value for name, value in page.attributes if name == "href" and value.startswith("data:app"))
    assert from_json(base64.b64decode(href.partition(",")[2]), "page") == result


def test_a_void_comparison_is_loud_and_shows_no_ratio():
    page = Page(render_report(example_result(wrong_digest_of="compiled")))
    assert ("class", "void") in page.attributes
    assert "The comparison is void" in page.text
    assert "MISMATCH" in page.text
    assert "× 80.0" not in page.text
    assert ("class", "cards") not in page.attributes


def test_micro_benchmarks_have_a_page_too():
    page = Page(render_report(example_micro()))
    assert "Queue benchmark" in page.text
    assert page.tags.count("svg") == 4
    assert "not run: it lost records" in page.text


@pytest.mark.parametrize("change", [{"load_points": ()}, {"saturation_rounds": ()}])
def test_a_run_that_measured_only_a_part_still_has_a_page(change):
    part = tuple(msgspec.structs.replace(one, **change) for one in example_result().profiles)
    result = msgspec.structs.replace(example_result(), profiles=part)
    assert "Machine and run" in render_report(result)


def test_one_round_is_reported_without_an_interval():
    page = Page(render_report(example_result(rounds=1)))
    assert "One round: there is no interval" in page.text


def test_a_corrupt_histogram_is_refused_in_words():
    first, *others = example_result().profiles
    points = tuple(msgspec.structs.replace(point, histogram="AAAA") for point in first.load_points)
    broken = (msgspec.structs.replace(first, load_points=points), *others)
    with pytest.raises(UserError, match="not an encoded HdrHistogram"):
        render_report(msgspec.structs.replace(example_result(), profiles=broken))


def test_the_page_is_written_and_a_bad_place_refused(tmp_path):
    write_report(example_micro(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(UserError, match="cannot write the report: Is a directory"):
        write_report(example_micro(), tmp_path)


def test_a_percentile_curve_rises_and_ends_where_samples_run_out(result):
    points = [point for point in result.profiles[2].load_points if point.offered_per_second == 1e6]
    odds, median, low, high = percentile_curve(points)
    assert odds[-1] == pytest.approx(SAMPLES / 10)
    assert (np.diff(median) >= 0).all()
    assert (low <= median).all()
    assert (median <= high).all()
    half = spread([point.percentiles.p50_ns for point in points]).median
    assert np.interp(2.0, odds, median) == pytest.approx(half, rel=0.02)


def test_figures_do_not_part_from_their_units_at_a_line_end():
    assert prose("12.3 µs & 5 %") == "12.3\N{NO-BREAK SPACE}µs &amp; 5\N{NO-BREAK SPACE}%"
    assert prose("<1.5 – 2.5>") == '&lt;<span class="whole">1.5 – 2.5</span>&gt;'
