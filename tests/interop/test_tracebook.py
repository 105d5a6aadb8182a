"""Our books before ``tracebook-conformance``, a tester from outside; skipped if it is not installed."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_conformance_adapter import COMMAND, REPOSITORY, START_SECONDS, event

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tracebook") is None,
    reason="the tester is not installed: pip install tracebook-conformance",
)


@pytest.fixture(scope="module")
def books() -> Iterator[Any]:
    """Both books side by side, as the campaign drives them; their answers must be alike."""
    from tests.interop.tracebook_campaign import BOOKS, Books

    side_by_side = Books(BOOKS)
    yield side_by_side
    side_by_side.stop()


def test_short_campaigns_find_no_difference(books: Any) -> None:
    from tests.interop.tracebook_campaign import PROFILES, run_campaign, summary

    for profile in PROFILES.values():
        result = run_campaign(books, profile=profile, seed=42, traces=3, events_per_trace=200)
        assert result.conformant, result.failure
        assert result.candidate_engine.name == "hpc-exchange naive and hpc-exchange ladder"
        assert result.semantic_coverage.uncovered_capabilities == ()
        assert result.semantic_coverage.compared_events == 600
        assert result.semantic_coverage.trades > 50
        assert "no difference" in summary(result)


def test_the_fixed_suite_differs_only_where_we_lack_what_it_tests(books: Any, tmp_path: Path) -> None:
    from tracebook.conformance import copy_bundled_conformance_suite, run_conformance_suite

    suite = copy_bundled_conformance_suite(tmp_path / "suite", suite_version="v2")
    found = {
        case["name"]: (case["report"]["divergence"] or {}).get("candidate")
        for case in run_conformance_suite(suite, books)["cases"]
    }
    assert found == {
        "fifo-lifecycle": None,
        "multi-symbol": None,
        "tick-grid": None,
        "deep-cancellation": None,
        "order-instructions": "UNSUPPORTED_ORDER_TYPE",
        "stp-cancel-resting": "UNSUPPORTED_SELF_TRADE_POLICY",
        "stp-cancel-resting-deep": "UNSUPPORTED_SELF_TRADE_POLICY",
        "stp-cancel-incoming": "UNSUPPORTED_SELF_TRADE_POLICY",
        "pro-rata-allocation": "UNSUPPORTED_MATCHING_ALGORITHM",
    }


def test_a_refused_replace_moves_the_order_in_the_tester_s_engine_and_not_in_ours(books: Any) -> None:
    """The one difference that is left standing: "changes nothing" is our rule. No campaign reaches it."""
    from tracebook.conformance import run_conformance
    from tracebook.events import MarketEvent

    events = [event("new", 1), event("new", 2), event("replace", 1, price=0.001)]
    report = run_conformance([MarketEvent.from_mapping(one) for one in events], books)
    assert report.divergence
    assert report.divergence.path == "$.state.books[0].bids[0].order_id"
    assert (report.divergence.reference, report.divergence.candidate) == (2, 1)


def test_a_difference_is_reduced_and_written(books: Any, tmp_path: Path) -> None:
    from tracebook.conformance.campaign import get_campaign_profile
    from tracebook.events import load_market_events

    from tests.interop.tracebook_campaign import run_campaign, summary, write_failure

    result = run_campaign(books, profile=get_campaign_profile("fifo-full-v1"), traces=1)
    assert "DIFFERENT" in summary(result)
    (only,) = load_market_events(write_failure(result, tmp_path / "differences"))
    assert only.order_type.name == "FOK", "the one thing in this profile that we do not have"


ALWAYS_A_REPLACE = """
from exchange.conformance import translation
from exchange.conformance.__main__ import main
from exchange.messages import CommandKind

translate = translation.Translator._replace

def replace(self, event, order):
    commands = translate(self, event, order)
    if len(commands) == 1:
        return commands
    return [commands[1]._replace(kind=CommandKind.REPLACE, new_order_id=order.order_id)]

translation.Translator._replace = replace
main()
"""


def test_the_tester_s_own_process_runner_agrees_and_sees_our_other_rule_for_replaces() -> None:
    """Strictly by the protocol: a process for each run. The second says REPLACE where our book keeps the place."""
    from tracebook.conformance import ExternalProcessAdapterFactory, run_conformance
    from tracebook.conformance.campaign import generate_campaign_trace
    from tracebook.conformance.classification import classify_failure

    trace = generate_campaign_trace(
        "fifo-limit-v1", 7, 5
    )  # so short a trace is its queue-priority probe alone
    for command in (
        [*COMMAND, "naive"],
        [*COMMAND, "ladder"],
        [sys.executable, "-c", ALWAYS_A_REPLACE, "--book", "naive"],
    ):
        factory = ExternalProcessAdapterFactory(command, timeout_seconds=START_SECONDS, cwd=REPOSITORY)
        report = run_conformance(trace, factory)
        if "-c" not in command:
            assert report.conformant, report.divergence
        else:
            assert report.divergence
            assert (report.divergence.event_index, report.divergence.category) == (4, "book_state")
            assert classify_failure(trace, report) == "book-state drift"
