"""The AAPL hour of 2012-06-21 as LOBSTER and as ITCH: both files, both readings, against each other and LOBSTER's book.

The files are LOBSTER's public sample, the same hour encoded as ITCH 5.0, and LOBSTER's own level-1 book; the folder
that holds them is named by EXCHANGE_DATA. The book here is a dict of dicts, written for these tests alone.
"""

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.flow.level_one import compare_level_one
from exchange.flow.lobster import read_lobster
from exchange.flow.recorded import RecordKind, open_source
from exchange.messages import BUY, COMMAND_STRUCT, SELL, Command, CommandKind, TimeInForce

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data"
    ),
]

DATA = Path(os.environ.get("EXCHANGE_DATA", "."))
LOBSTER = str(DATA / "AAPL_2012-06-21_34200000_37800000_message_50.csv.gz")
ITCH = str(DATA / "AAPL_2012-06-21_0930-1030.lobster.itch50.gz")
LEVEL_ONE = str(DATA / "AAPL_2012-06-21_34200000_57600000_orderbook_1.csv.gz")
NEW, IMMEDIATE = CommandKind.NEW, TimeInForce.IMMEDIATE_OR_CANCEL
ITCH_HEAD = str(DATA / "real_nasdaq_itch50_head_4096bytes.itch")


class DictBook:
    """One symbol: for each side and price the orders, earliest first, as {id: lots}."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]] = ({}, {})
        self.place: dict[int, tuple[int, int]] = {}
        self.best: list[int | None] = [None, None]
        self.rejects = 0
        self.makers: dict[int, list[int]] = {}

    def apply(self, command: Command) -> None:
        if command.kind == CommandKind.CANCEL:
            if command.order_id in self.place:
                self.take(command.order_id, command.quantity_lots)
            else:
                self.rejects += 1
            return
        assert command.kind == CommandKind.NEW
        left = self.trade(command)
        if left and command.time_in_force == TimeInForce.DAY:
            level = self.sides[command.side].setdefault(command.price_ticks, {})
            level[command.order_id] = left
            self.place[command.order_id] = (command.side, command.price_ticks)
            self.find_best(command.side)

    def trade(self, command: Command) -> int:
        left, other = command.quantity_lots, 1 - command.side
        while left and (price := self.best[other]) is not None:
            if price > command.price_ticks if command.side == BUY else price < command.price_ticks:
                break
            maker, lots = next(iter(self.sides[other][price].items()))
            self.makers.setdefault(command.order_id, []).append(maker)
            self.take(maker, min(left, lots))
            left -= min(left, lots)
        return left

    def take(self, order_id: int, lots: int) -> None:
        side, price = self.place[order_id]
        level = self.sides[side][price]
        if 0 < lots < level[order_id]:
            level[order_id] -= lots
            return
        del level[order_id], self.place[order_id]
        if not level:
            del self.sides[side][price]
            self.find_best(side)

    def find_best(self, side: int) -> None:
        prices = self.sides[side]
        self.best[side] = (max(prices) if side == BUY else min(prices)) if prices else None

    def top(self) -> tuple[int, ...]:
        state: list[int] = []
        for side, price in enumerate(self.best):
            state += [0, 0] if price is None else [price, sum(self.sides[side][price].values())]
        return tuple(state)

    def orders(self) -> list[tuple[int, int, int, int]]:
        """Live orders in priority order."""
        return [
            (side, price, order_id, lots)
            for side, best_first in ((BUY, True), (SELL, False))
            for price, level in sorted(self.sides[side].items(), reverse=best_first)
            for order_id, lots in level.items()
        ]


def replay(flow: Flow) -> tuple[DictBook, np.ndarray]:
    """The book at the end, and its top after each command."""
    book = DictBook()
    tops = []
    for fields in COMMAND_STRUCT.iter_unpack(flow.commands.tobytes()):
        book.apply(Command(*fields))
        tops.append(book.top())
    return book, np.array(tops)


@pytest.fixture(scope="module", params=["feed", "flow"])
def both(request) -> tuple[Flow, Flow]:
    return load_flow(LOBSTER, reading=request.param), load_flow(ITCH, reading=request.param)


@pytest.fixture(scope="module")
def feed() -> tuple[Flow, DictBook, np.ndarray]:
    flow = load_flow(LOBSTER, reading="feed")
    return flow, *replay(flow)


@pytest.fixture(scope="module")
def flow() -> tuple[Flow, DictBook, np.ndarray]:
    flow = load_flow(LOBSTER, reading="flow")
    return flow, *replay(flow)


def test_both_files_give_the_same_commands_byte_for_byte(both):
    lobster, itch = both
    assert lobster.commands.tobytes() == itch.commands.tobytes()
    assert (lobster.expected_maker == itch.expected_maker).all()
    assert lobster.symbols == itch.symbols == ("AAPL",)


def test_the_counts_are_those_of_the_files(both):
    lobster, itch = both
    for one, another in ((lobster, 44_256), (itch, 44_336)):
        assert one.notes["submissions"] == another
        assert one.notes["partial_cancels"] == 469
        assert one.notes["deletions"] == 41_004
        assert one.notes["visible_executions"] == 4_067
        assert one.notes["hidden_executions_left_out"] == 2_201
        assert one.notes["records_at_odds"] == 0
    assert lobster.notes["submissions_reconstructed"] == 80
    assert lobster.notes["records"] == 91_997
    assert itch.notes["records"] == 92_085
    assert lobster.notes["hidden_lots_left_out"] == itch.notes["hidden_lots_left_out"]


def test_no_command_is_refused_in_either_reading(feed, flow):
    assert feed[1].rejects == flow[1].rejects == 0


def test_both_readings_have_the_same_book_at_every_price_in_the_end(feed, flow):
    levels = [Counter(), Counter()]
    for counter, (_, book, _) in zip(levels, (feed, flow), strict=True):
        for side, price, _, lots in book.orders():
            counter[side, price] += lots
    assert levels[0] == levels[1]
    assert len(feed[1].orders()) == 380


def test_the_best_prices_and_sizes_are_lobsters_own(feed):
    agreement = compare_level_one(feed[2], LEVEL_ONE)
    assert agreement.aligned == 23_439
    assert agreement.equal == 23_422
    assert agreement.equal_at_start == 15_999
    assert agreement.share >= 0.999
    assert agreement.share_prices >= 0.999


def test_the_matched_flow_has_lobsters_best_prices_too(flow):
    agreement = compare_level_one(flow[2], LEVEL_ONE)
    assert agreement.share_prices >= 0.99
    assert agreement.share >= 0.99


def test_the_foretold_number_of_executions_meets_another_order(flow):
    made, book, _ = flow
    expected = made.expected_maker[made.expected_maker != 0]
    assert len(expected) == 4_067
    assert len(book.makers) == 4_067  # every aggressive order trades
    others = sum(book.makers[-number] != [maker] for number, maker in enumerate(expected.tolist(), start=1))
    assert others == made.notes["executions_of_another_order"]
    assert 0 < others < 80


def test_sent_without_the_twin_more_executions_would_meet_another_order(flow):
    """Each record as one command, and nothing done where the engine and the record disagree about who traded."""
    book, executions, others = DictBook(), 0, 0
    resting: dict[int, tuple[int, int]] = {}
    for record in read_lobster(open_source(LOBSTER)).records:
        order_id, lots = int(record["order_id"]), int(record["quantity_lots"])
        if record["kind"] == RecordKind.ADD:
            resting[order_id] = side, price = int(record["side"]), int(record["price_ticks"])
            book.apply(Command(NEW, side=side, order_id=order_id, price_ticks=price, quantity_lots=lots))
        elif record["kind"] == RecordKind.EXECUTE:
            executions += 1
            side, price = resting[order_id]
            book.apply(
                Command(NEW, 1 - side, IMMEDIATE, order_id=-executions, price_ticks=price, quantity_lots=lots)
            )
            others += book.makers.get(-executions) != [order_id]
        else:
            left = 0 if record["kind"] == RecordKind.DELETE else lots
            book.apply(Command(CommandKind.CANCEL, order_id=order_id, quantity_lots=left))
    assert executions == 4_067
    assert others == 66
    assert book.rejects > 0
    assert flow[0].notes["executions_of_another_order"] == 29


def test_the_recorded_market_breaks_time_priority_now_and_then():
    """Always at the best price, but not always the order that has stood there longest."""
    book, out_of_turn = DictBook(), 0
    for record in read_lobster(open_source(LOBSTER)).records:
        order_id, lots = int(record["order_id"]), int(record["quantity_lots"])
        if record["kind"] == RecordKind.ADD:
            side, price = int(record["side"]), int(record["price_ticks"])
            book.apply(Command(NEW, side=side, order_id=order_id, price_ticks=price, quantity_lots=lots))
            continue
        side, price = book.place[order_id]
        if record["kind"] == RecordKind.EXECUTE:
            assert price == book.best[side]
            out_of_turn += next(iter(book.sides[side][price])) != order_id
        book.take(order_id, 0 if record["kind"] == RecordKind.DELETE else lots)
    assert out_of_turn == 24


def test_an_hour_is_an_hour(both):
    for one in both:
        assert one.duration_ns == pytest.approx(3_600 * 10**9, rel=1e-3)


def test_the_head_of_a_real_day_file_is_read_as_far_as_it_goes():
    with pytest.raises(UserError, match="byte 4081: the file ends within a message"):
        load_flow(ITCH_HEAD)
    head = load_flow(ITCH_HEAD, allow_truncated=True)
    assert len(head.commands) == 0
    assert {letter: head.notes[f"itch_messages_{letter}"] for letter in "SRHY"} == {
        "S": 1,
        "R": 98,
        "H": 1,
        "Y": 1,
    }


@pytest.mark.parametrize("path", [LOBSTER, ITCH], ids=["lobster", "itch"])
def test_a_real_file_cut_anywhere_is_refused_with_the_byte(path, tmp_path):
    whole = gzip.decompress(Path(path).read_bytes())
    for length in np.random.default_rng(1).integers(1, len(whole), 5):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(UserError, match="byte"):
            load_flow(str(tmp_path / "cut"))
        assert len(load_flow(str(tmp_path / "cut"), allow_truncated=True).commands) > 0
