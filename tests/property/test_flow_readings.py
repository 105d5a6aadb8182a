"""Both readings of a recording build the same book: at every price as many lots, after every record.

The records are random, but such as a market could have produced: bids below asks, executions at the best price only.
Which of the orders there an execution names is left to chance, so that time priority is broken all the time; the
engine (here the oracle book) does not break it.
"""

from collections import Counter, defaultdict

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.book.naive import NaiveBook
from exchange.flow.recorded import RECORD_DTYPE, RecordKind
from exchange.flow.translation import translate
from exchange.messages import BUY, COMMAND_STRUCT, SELL, Command, Event, EventKind

ADD, CANCEL, DELETE, EXECUTE, REPLACE = RecordKind
MIDDLE = 100
thorough = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Recorder:
    """A market that trades whom it likes at the best price, and writes down what happened."""

    def __init__(self) -> None:
        self.orders: dict[int, list[int]] = {}  # id: symbol, side, price, lots
        self.records: list[tuple[int, ...]] = []
        self.ids = 0

    def write(
        self,
        kind: int,
        order_id: int,
        *,
        new_order_id: int = 0,
        price: int = 0,
        lots: int = 0,
        side: int = 0,
        symbol: int = 0,
    ) -> None:
        time_ns = len(self.records)
        self.records.append((time_ns, order_id, new_order_id, price, lots, symbol, kind, side))

    def add(self, symbol: int, side: int, depth: int, lots: int) -> None:
        self.ids += 1
        price = MIDDLE - 1 - depth if side == BUY else MIDDLE + depth
        self.orders[self.ids] = [symbol, side, price, lots]
        self.write(ADD, self.ids, price=price, lots=lots, side=side, symbol=symbol)

    def act(self, kind: int, choice: int, depth: int, lots: int) -> None:
        """Something happens to the ``choice``-th order."""
        order_id = list(self.orders)[choice % len(self.orders)]
        symbol, side, price, held = self.orders[order_id]
        if kind == EXECUTE:
            rivals = [order for order in self.orders.values() if order[:2] == [symbol, side]]
            best = (max if side == BUY else min)(order[2] for order in rivals)
            at_best = [key for key, order in self.orders.items() if order[:3] == [symbol, side, best]]
            order_id = at_best[choice % len(at_best)]
            held = self.orders[order_id][3]
        lots = held if kind == DELETE else min(lots, held)
        if kind == REPLACE:
            del self.orders[order_id]
            self.ids += 1
            price = MIDDLE - 1 - depth if side == BUY else MIDDLE + depth
            self.orders[self.ids] = [symbol, side, price, lots]
            self.write(REPLACE, order_id, new_order_id=self.ids, price=price, lots=lots)
            return
        self.write(kind, order_id, lots=lots)
        self.orders[order_id][3] -= lots
        if self.orders[order_id][3] == 0:
            del self.orders[order_id]


steps = st.lists(
    st.tuples(
        st.sampled_from([ADD, ADD, CANCEL, DELETE, EXECUTE, EXECUTE, REPLACE]),
        st.integers(0, 30),
        st.integers(0, 2),
        st.integers(1, 9),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


def record_market(plan: list[tuple[int, int, int, int, bool]]) -> np.ndarray:
    recorder = Recorder()
    for kind, choice, depth, lots, flag in plan:
        if kind == ADD or not recorder.orders:
            recorder.add(choice % 2, SELL if flag else BUY, depth, lots)
        else:
            recorder.act(kind, choice, depth, lots)
    return np.array(recorder.records, RECORD_DTYPE)


def levels_after_each_record(
    records: np.ndarray, reading: str
) -> tuple[list[Counter], list[Event], np.ndarray, dict[str, int]]:
    """Lots by (symbol, side, price) after each record (each has a time of its own), and all events."""
    commands, expected_maker, counts = translate(records, reading)
    book = NaiveBook(2, 10_000, 1, 2**36 - 1)
    levels: list[Counter] = [Counter() for _ in records]
    events: list[Event] = []
    for fields in COMMAND_STRUCT.iter_unpack(commands.tobytes()):
        command = Command(*fields)
        events += book.apply(command)
        now: Counter = Counter()
        for order in book.orders.values():
            now[order.symbol_id, order.side, order.price_ticks] += order.quantity_lots
        levels[command.timestamp_ns] = now
    return levels, events, expected_maker, counts


@thorough
@given(steps)
def test_both_readings_have_the_same_lots_at_every_price_after_every_record(plan):
    records = record_market(plan)
    flow, flow_events, _, counts = levels_after_each_record(records, "flow")
    feed, feed_events, _, _ = levels_after_each_record(records, "feed")
    assert flow == feed
    assert counts["records_at_odds"] == 0
    for event in flow_events + feed_events:
        assert event.kind != EventKind.REJECTED
    assert all(event.kind != EventKind.EXECUTED for event in feed_events)


@thorough
@given(steps)
def test_the_foretold_number_of_executions_meets_another_order(plan):
    records = record_market(plan)
    _, events, expected_maker, counts = levels_after_each_record(records, "flow")
    makers = defaultdict(set)
    traded: Counter = Counter()
    for event in events:
        if event.kind == EventKind.EXECUTED:
            makers[event.order_id].add(event.other_order_id)
            traded[event.order_id] += event.quantity_lots
    expected = [int(maker) for maker in expected_maker if maker]
    assert [traded[-number] for number in range(1, len(expected) + 1)] == records["quantity_lots"][
        records["kind"] == EXECUTE
    ].tolist()
    others = sum(makers[-number] != {maker} for number, maker in enumerate(expected, start=1))
    assert others == counts["executions_of_another_order"]
