"""A real hour through the whole exchange: AAPL, 21 June 2012, 09:30 to 10:30, as LOBSTER and as ITCH 5.0.

The figures are those of the files themselves and of LOBSTER's own record of the best prices (see "LOBSTER", Humboldt
University of Berlin, https://lobsterdata.com, free sample). Not every best price can agree: orders that were entered
further away from the touch than the 50 levels of the file, and came to the touch later, never appear in it.
"""

import os
from functools import cache
from pathlib import Path

import pytest

from exchange.flow import Flow, load_flow
from exchange.flow.config import Reading
from exchange.replay import ReplayReport, play, run_replay
from exchange.settings import load_profile

FOLDER = os.environ.get("EXCHANGE_DATA")
LOBSTER = "AAPL_2012-06-21_34200000_37800000_message_50.csv.gz"
ITCH = "AAPL_2012-06-21_0930-1030.lobster.itch50.gz"
LEVEL_ONE = "AAPL_2012-06-21_34200000_57600000_orderbook_1.csv.gz"
ITCH_HEAD = "real_nasdaq_itch50_head_4096bytes.itch"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        FOLDER is None, reason="EXCHANGE_DATA does not name the folder of the recorded market data"
    ),
]


def path_of(name: str) -> str:
    return str(Path(FOLDER or "") / name)


@cache
def flow_of(name: str, reading: Reading) -> Flow:
    return load_flow(path_of(name), reading=reading)


@cache
def report_of(name: str, reading: Reading) -> ReplayReport:
    """The replay on the compiled profile, with its best prices held against LOBSTER's."""
    flow = flow_of(name, reading)
    return run_replay(flow, load_profile("compiled"), reading=reading, level_one=path_of(LEVEL_ONE))


@pytest.mark.parametrize("reading", ["feed", "flow"])
def test_naive_and_ladder_give_byte_identical_events(reading: Reading):
    flow = flow_of(LOBSTER, reading)
    naive = play(flow, load_profile("textbook"))
    ladder = play(flow, load_profile("textbook", ["book.kind=ladder"]))
    assert len(naive.events) >= len(flow.commands)
    assert naive.events.tobytes() == ladder.events.tobytes()
    assert naive.exchange.digest() == ladder.exchange.digest()


@pytest.mark.parametrize("reading", ["feed", "flow"])
def test_both_formats_have_the_same_digests(reading: Reading):
    one, other = report_of(LOBSTER, reading), report_of(ITCH, reading)
    assert one.state_digest == other.state_digest
    assert one.event_digest == other.event_digest


@pytest.mark.parametrize("name", [LOBSTER, ITCH])
@pytest.mark.parametrize("reading", ["feed", "flow"])
def test_everything_in_the_recording_is_accounted_for(name: str, reading: Reading):
    report = report_of(name, reading)
    assert report.executions.recorded == 4_067
    assert report.executions.hidden_left_out == 2_201
    assert report.recording["partial_cancels"] == 469
    assert report.recording["deletions"] == 41_004
    assert report.recording["submissions"] + report.recording.get("submissions_reconstructed", 0) == 44_336
    assert report.recording["records_at_odds"] == 0
    assert report.rejects_by_reason == {}
    assert report.warnings == ()


@pytest.mark.parametrize("name", [LOBSTER, ITCH])
def test_as_a_feed_the_best_prices_and_sizes_are_lobsters(name: str):
    found = report_of(name, "feed").level_one
    assert found is not None
    assert found.aligned > 23_000
    assert found.equal_at_start > 15_000
    assert found.share >= 0.999


@pytest.mark.parametrize("name", [LOBSTER, ITCH])
def test_as_a_flow_the_best_prices_are_lobsters(name: str):
    found = report_of(name, "flow").level_one
    assert found is not None
    assert found.aligned_prices > 16_000
    assert found.share_prices >= 0.99


def test_as_a_flow_few_executions_meet_another_order_than_the_record_names():
    executions = report_of(LOBSTER, "flow").executions
    foreseen = flow_of(LOBSTER, "flow").notes["executions_of_another_order"]
    assert executions.sent == 4_067
    assert executions.not_filled == 0
    assert 0 < executions.met_another_order == foreseen < 100


def test_as_a_feed_nothing_trades_and_as_a_flow_all_recorded_lots_do():
    feed, flow = report_of(LOBSTER, "feed"), report_of(LOBSTER, "flow")
    assert feed.trades == 0
    sent = flow_of(LOBSTER, "flow")
    assert flow.volume_lots == int(sent.commands["quantity_lots"][sent.expected_maker != 0].sum())
    assert feed.symbols[0].bids == flow.symbols[0].bids
    assert feed.symbols[0].asks == flow.symbols[0].asks


def test_the_head_of_a_day_file_has_many_symbols_and_no_order_yet():
    flow = load_flow(path_of(ITCH_HEAD), allow_truncated=True)
    report = run_replay(flow, load_profile("compiled"), reading="flow")
    assert report.recording["itch_messages_R"] == 98
    assert (report.commands, report.events, report.live_orders) == (0, 0, 0)
