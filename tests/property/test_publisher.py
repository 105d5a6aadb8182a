"""The feed that our exchange publishes: compiled against plain; what a subscriber builds from it against the engine."""

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import load_flow
from exchange.flow.config import ScenarioConfig, SyntheticConfig
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.publisher import Publisher
from exchange.messages import (
    BUY,
    EVENT_STRUCT,
    SELL,
    Command,
    CommandKind,
    Event,
    EventKind,
    OrderType,
    SymbolState,
    TimeInForce,
    reason_word,
)
from exchange.native import address_of
from exchange.transport.memory import MemoryTransport
from exchange.transport.protocol import flush, send
from exchange.transport.tee import Tee
from exchange.wire.itch50 import MESSAGES, ItchMessage, decode
from exchange.wire.moldudp64 import decode_packet
from tests.book_driver import BookDriver, cancel, mass_cancel, new, replace, stamped
from tests.feed_driver import PublishedMarket, commands_of
from tests.property.book_flows import aim_at_live_orders, random_flow

each_engine = pytest.mark.parametrize("kind", ["naive", "ladder"])


def told(market: PublishedMarket) -> list[ItchMessage]:
    """The messages behind the directory, without their times."""
    messages = [decode(one) for one in market.messages()]
    return [one for one in messages if one.layout.message_type not in "SRH"]


def short(message: ItchMessage) -> tuple[object, ...]:
    """Type and what is particular about a message."""
    names = [field.name for field in message.layout.fields[4:] if field.name != "stock"]
    return (message.layout.message_type, *(getattr(message, name) for name in names))


def published(*commands: Command, kind: str = "ladder") -> list[tuple[object, ...]]:
    market = PublishedMarket(kind, ["ABC"])
    for one in commands:
        market.play(stamped([one]))
        market.assert_same_tops()
    market.assert_same_books()
    return [short(message) for message in told(market)]


IOC = {"time_in_force": TimeInForce.IMMEDIATE_OR_CANCEL}


@each_engine
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([new(1, BUY, 500, 10)], [("A", 1, "B", 10, 500)]),
        ([new(1, BUY, 500, 10), cancel(1, 4)], [("A", 1, "B", 10, 500), ("X", 1, 4)]),
        ([new(1, BUY, 500, 10), cancel(1)], [("A", 1, "B", 10, 500), ("D", 1)]),
        ([new(1, BUY, 500, 10), mass_cancel()], [("A", 1, "B", 10, 500), ("D", 1)]),
        ([new(1, BUY, 500, 10), new(2, SELL, 500, 4)], [("A", 1, "B", 10, 500), ("E", 1, 4, 1)]),
        (
            [new(1, BUY, 500, 10), new(2, SELL, 499, 25)],
            [("A", 1, "B", 10, 500), ("E", 1, 10, 1), ("A", 2, "S", 15, 499)],
        ),
        (
            [new(1, BUY, 500, 10), new(2, BUY, 499, 5), new(3, SELL, 499, 20)],
            [
                ("A", 1, "B", 10, 500), ("A", 2, "B", 5, 499), ("E", 1, 10, 1), ("E", 2, 5, 2), ("A", 3, "S", 5, 499),
            ],
        ),
        ([new(1, BUY, 500, 10), new(2, SELL, 500, 25, **IOC)], [("A", 1, "B", 10, 500), ("E", 1, 10, 1)]),
        ([new(1, BUY, 500, 10), new(2, SELL, 501, 25, **IOC)], [("A", 1, "B", 10, 500)]),
        (
            [new(1, BUY, 500, 10), new(2, SELL, 0, 25, order_type=OrderType.MARKET)],
            [("A", 1, "B", 10, 500), ("E", 1, 10, 1)],
        ),
        ([new(1, BUY, 500, 10), replace(1, 2, 501, 10)], [("A", 1, "B", 10, 500), ("U", 1, 2, 10, 501)]),
        ([new(1, BUY, 500, 10), replace(1, 2, 500, 11)], [("A", 1, "B", 10, 500), ("U", 1, 2, 11, 500)]),
        (
            [new(1, BUY, 500, 10), replace(1, 2, 500, 6), cancel(2)],
            [("A", 1, "B", 10, 500), ("X", 1, 4), ("D", 1)],
        ),
        ([new(1, BUY, 500, 10), replace(1, 2, 500, 10), cancel(2, 1)], [("A", 1, "B", 10, 500), ("X", 1, 1)]),
        (
            [new(1, BUY, 500, 10), replace(1, 1, 501, 10)],
            [("A", 1, "B", 10, 500), ("D", 1), ("A", 1, "B", 10, 501)],
        ),
        (
            [new(1, BUY, 500, 10), new(2, SELL, 505, 3), replace(1, 3, 505, 10)],
            [("A", 1, "B", 10, 500), ("A", 2, "S", 3, 505), ("D", 1), ("E", 2, 3, 1), ("A", 3, "B", 7, 505)],
        ),
        ([cancel(7), replace(7, 8, 1, 1)], []),
    ],
)  # fmt: skip
def test_what_an_event_becomes(
    kind: str, commands: list[Command], expected: list[tuple[object, ...]]
) -> None:
    assert published(*commands, kind=kind) == expected


def test_what_no_message_can_hold_is_not_displayed() -> None:
    market = PublishedMarket("ladder", ["ABC"], price_min_ticks=-10, price_max_ticks=1 << 36)
    high = 1 << 33
    market.play(stamped([new(1, BUY, high, 10), new(2, SELL, high + 1, 20)]))
    assert (told(market), market.publisher.not_displayed) == ([], 2)
    market.play(stamped([new(3, SELL, 50, 10, **IOC), cancel(2)]))  # trades at a price beyond the field
    assert told(market) == []
    market.play(stamped([new(4, SELL, 50, 1), replace(4, 5, high, 1)]))
    assert [short(message) for message in told(market)] == [("A", 4, "S", 1, 50), ("D", 4)]
    assert market.publisher.not_displayed == 3


def test_a_trade_with_a_hidden_order_is_told_without_it() -> None:
    """A full publisher cannot display an order that the engine has room for."""
    market = PublishedMarket("ladder", ["ABC"], capacity_orders=1, plain=False)
    market.engine = BookDriver("ladder", price_max_ticks=1000)
    market.play(stamped([new(1, SELL, 500, 1), new(2, SELL, 500, 1), new(3, SELL, 500, 7)]))
    market.play(stamped([new(4, BUY, 500, 5, **IOC)]))
    assert [short(message) for message in told(market)[2:]] == [
        ("E", 1, 1, 1),
        ("E", 2, 1, 2),
        ("P", 0, "B", 3, 500, 3),
    ]


def test_an_order_that_met_a_hidden_one_is_corrected() -> None:
    """The publisher sees no reason why an order should trade, displays it, and takes back what traded after all."""
    market = PublishedMarket("ladder", ["ABC"], price_min_ticks=-10, price_max_ticks=1 << 36)
    for one in (new(1, SELL, -5, 4), new(2, BUY, 30, 10), cancel(2)):
        market.play(stamped([one]))
    messages = [short(message) for message in told(market)]
    assert messages == [("A", 2, "B", 10, 30), ("X", 2, 4), ("D", 2)]
    assert market.book.counts().faults == 0


@each_engine
def test_twins_and_engine_agree_on_a_busy_market(kind: str) -> None:
    commands = commands_of(
        load_flow("synthetic", synthetic=SyntheticConfig(commands=4000, symbols=5, seed=11))
    )
    market = PublishedMarket(kind, [f"S{number}" for number in range(5)])
    for begin in range(0, len(commands), 10):
        market.play(commands[begin : begin + 10])
        market.assert_same_tops()
    market.assert_same_books()
    types = market.book.counts_by_type()
    assert all(types.get(letter, 0) > 10 for letter in "AEXDU"), types


@pytest.mark.parametrize("scenario", ["static", "normal", "swing-25", "swing-40", "flash-crash"])
def test_the_feed_of_every_scenario_is_the_engines_book(scenario) -> None:
    flow = load_flow("synthetic", scenario=ScenarioConfig(scenario=scenario, orders=20_000))
    commands = commands_of(flow)
    market = PublishedMarket("ladder", ["ABC"], capacity_orders=60_000, plain=False)
    for begin in range(0, len(commands), 500):
        market.play(commands[begin : begin + 500])
        market.assert_same_tops()
    market.assert_same_books()


def live_orders(market: PublishedMarket, symbol_count: int) -> np.ndarray:
    rows = [
        (number, order.session_id, order.order_id, order.price_ticks)
        for number in range(symbol_count)
        for order in market.engine.orders(number)
    ]
    return np.array(rows, np.int64).reshape(-1, 4)


@pytest.mark.parametrize("seed", range(30))
def test_twins_agree_on_absurd_markets(seed: int) -> None:
    """Few ids and prices, far apart or equal, nonsense: what can be displayed is displayed alike by both."""
    regime, commands = random_flow(seed, 1500)
    names = [f"S{number}" for number in range(regime.symbol_count)]
    shards = [number % 2 for number in range(regime.symbol_count)]
    market = PublishedMarket(
        "ladder",
        names,
        capacity_orders=regime.capacity_orders,
        price_min_ticks=regime.price_min_ticks,
        price_max_ticks=regime.price_max_ticks,
        shard_of_symbol=shards if max(shards) else (),
    )
    random = np.random.default_rng([seed, 1])
    for begin in range(0, len(commands), 32):
        part = commands[begin : begin + 32]
        aim_at_live_orders(random, part, live_orders(market, regime.symbol_count))
        market.play(part)
        if market.publisher.not_displayed == 0:
            market.assert_publisher_has_engines_book()


def test_match_numbers_of_all_shards_differ() -> None:
    market = PublishedMarket("ladder", ["A", "B", "C"], shard_of_symbol=[0, 1, 1], plain=True)
    numbers = [
        new(10 * symbol + side, side, 100, 1, symbol_id=symbol) for symbol in range(3) for side in (BUY, SELL)
    ]
    market.play(stamped(numbers))
    executed = [message for message in told(market) if isinstance(message, MESSAGES["E"])]
    assert [message.match_number for message in executed] == [
        1,
        4,
        6,
    ]  # the engine's 1, 2, 3 in shards 0, 1, 1


def test_a_day_begins_and_ends_as_nasdaqs_do() -> None:
    store = DatagramStore("DAY", 64)
    publisher = Publisher(["ABC", "XYZ"], store, capacity_orders=4)
    publisher.open_day(timestamp_ns=5)
    publisher.close_day()
    (packet,) = [decode_packet(datagram) for datagram in store.take_datagrams()]
    messages = [decode(data).check() for data in packet.messages]
    assert "".join(message.layout.message_type for message in messages) == "SRRHHSSSSS"
    codes = [message.event_code for message in messages if isinstance(message, MESSAGES["S"])]
    assert codes == ["O", "S", "Q", "M", "E", "C"]
    assert {message.timestamp for message in messages} == {5}
    assert [message.stock_locate for message in messages] == [0, 1, 2, 1, 2, 0, 0, 0, 0, 0]


def test_a_halt_is_told_where_it_stands_among_the_orders() -> None:
    market = PublishedMarket("naive", ["ABC", "XYZ"])
    market.play(stamped([new(1, BUY, 500, 10, symbol_id=1)]))
    for state, reason in ((SymbolState.HALTED, "T12"), (SymbolState.TRADING, "")):
        event = Event(
            EventKind.TRADING_STATE,
            symbol_id=1,
            order_id=reason_word(reason),
            quantity_lots=state,
            command_kind=CommandKind.TRADING_STATE,
            timestamp_ns=90,
        )
        market.publish(EVENT_STRUCT.pack(*event))
        assert market.book.trading_state(1) == ("H" if state == SymbolState.HALTED else "T")
        assert market.book.trading_state(0) == "T"
    messages = [decode(one) for one in market.messages()][-2:]
    assert [
        (one.stock_locate, one.stock, one.trading_state, one.reason, one.timestamp) for one in messages
    ] == [
        (2, "XYZ", "H", "T12", 90),
        (2, "XYZ", "T", "", 90),
    ]


def test_a_tee_gives_the_same_events_to_both_sinks() -> None:
    """An exchange keeps its events and publishes them; the feed is that of the kept events."""
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=500, symbols=2))
    market = PublishedMarket("ladder", flow.symbols)
    events = market.engine.apply_bytes(commands_of(flow).tobytes())
    records = np.frombuffer(events, np.uint8)
    transport = MemoryTransport([], keep_events=len(events) // 64)
    tee = Tee(transport.sink(), market.publisher.state)
    send(tee, address_of(records), len(events) // 64)
    assert flush(tee) == 0
    assert transport.events().tobytes() == events
    assert market.publisher.public_digest() == market.assert_publisher_has_engines_book()


def test_times_count_from_midnight_and_never_go_back() -> None:
    market = PublishedMarket("naive", ["A", "B"])
    for time_ns in (50, 90, 70):
        market.play(_at(time_ns))
    assert [message.timestamp for message in told(market)] == [50, 90, 90]


def _at(time_ns: int) -> np.ndarray:
    commands = stamped([new(time_ns, BUY, 100, 1)])
    commands["timestamp_ns"] = time_ns
    return commands


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"symbols": []}, "number of symbols = 0: must be 1 to 65535"),
        ({"symbols": ["NAMETOOLONG"]}, "symbol 'NAMETOOLONG': must be 1 to 8 printable ASCII characters"),
        ({"capacity_orders": 0}, "capacity_orders = 0: must be 1 to 15000000"),
        ({"shard_of_symbol": [0, 1]}, "shard_of_symbol: 2 entries for 1 symbols"),
    ],
)
def test_a_publisher_that_cannot_be_made_is_refused(arguments, complaint: str) -> None:
    good = {"symbols": ["ABC"], "capacity_orders": 4}
    with pytest.raises(UserError, match=complaint):
        Publisher(store=DatagramStore("DAY", 64), **(good | arguments))
