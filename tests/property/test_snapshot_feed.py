"""A feed that was saved in the middle of a day and put back tells what the one tells that was not, byte for byte.

The events of random flows are published up to a point, wherever that lies, also between two events of one command; then
both publishers get the same events. A subscriber that begins with a spin of the one that was put back ends with the
same book as one that has heard everything.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.flow import load_flow
from exchange.flow.config import SyntheticConfig
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.displayed import export_displayed
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.first_spin import encode_first_spin, load_first_spin
from exchange.market_data.publisher import Publisher
from exchange.market_data.subscriber import Subscriber
from exchange.messages import (
    BUY,
    COMMAND_DTYPE,
    EVENT_DTYPE,
    EVENT_STRUCT,
    SELL,
    Event,
    EventKind,
    SymbolState,
    reason_word,
)
from exchange.native import address_of
from exchange.snapshot.feed import STATE_DTYPE, restore_feed, save_feed
from exchange.snapshot.sections import BadSnapshot, SectionFile
from exchange.transport.protocol import send
from exchange.wire.itch50 import decode
from exchange.wire.moldudp64 import Request, decode_packet
from tests.book_driver import BookDriver, new, replace, stamped
from tests.feed_driver import PublishedMarket, commands_of, split_blocks
from tests.property.book_flows import aim_at_live_orders, random_flow
from tests.snapshot_driver import written

SYMBOLS = [f"S{number}" for number in range(4)]
STORE = 1 << 12


def publisher(store_messages: int = STORE, session: str = "TEST", capacity_orders: int = 3000) -> Publisher:
    return Publisher(SYMBOLS, DatagramStore(session, store_messages), capacity_orders=capacity_orders)


def publish(to: Publisher, events: bytes) -> None:
    records = np.frombuffer(events, np.uint8)
    send(to.state, address_of(records), len(events) // 64)


def events_of(seed: int, count: int = 3000) -> bytes:
    """What an engine makes of a random flow, with halts in between."""
    regime, commands = random_flow(seed, count)
    market = PublishedMarket(
        "ladder",
        SYMBOLS,
        capacity_orders=regime.capacity_orders,
        price_min_ticks=regime.price_min_ticks,
        price_max_ticks=regime.price_max_ticks,
    )
    random, events = np.random.default_rng([seed, 3]), []
    for begin in range(0, count, 50):
        live = [
            (symbol_id, order.session_id, order.order_id, order.price_ticks)
            for symbol_id in range(regime.symbol_count)
            for order in market.engine.orders(symbol_id)
        ]
        aim_at_live_orders(random, commands[begin : begin + 50], np.array(live, np.int64).reshape(-1, 4))
        events.append(market.engine.apply_bytes(commands[begin : begin + 50].tobytes()))
        if random.random() < 0.3:
            state, symbol_id = int(random.integers(1, 3)), int(random.integers(0, 4))
            events.append(halt(symbol_id, state, begin * 1000))
    return b"".join(events)


def cut_of(seed: int, events: bytes) -> int:
    """Where a flow is saved: every second one in front of a trade."""
    chance, records = np.random.default_rng([seed, 4]), np.frombuffer(events, EVENT_DTYPE)
    trades = np.flatnonzero(records["kind"] == EventKind.EXECUTED)
    if seed % 2 and len(trades):
        return 64 * int(chance.choice(trades))
    return 64 * int(chance.integers(0, len(records)))


def halt(symbol_id: int, state: int, time_ns: int) -> bytes:
    return EVENT_STRUCT.pack(
        *Event(
            EventKind.TRADING_STATE,
            symbol_id=symbol_id,
            order_id=reason_word("T1"),
            quantity_lots=state,
            timestamp_ns=time_ns,
        )
    )


def saved(path: Path, one: Publisher) -> SectionFile:
    return written(path, lambda writer: save_feed(writer, one))


def answers(one: Publisher, numbers: range) -> list[tuple[bytes, ...] | None]:
    """What a requester is told who asks for each message by itself."""
    datagrams = [one.store.answer(Request(one.store.session, number, 1).encode()) for number in numbers]
    return [None if data is None else decode_packet(data).messages for data in datagrams]


@pytest.mark.parametrize("seed", range(16))
def test_what_follows_is_the_same(tmp_path: Path, seed: int) -> None:
    events, original = events_of(seed), publisher()
    cut = cut_of(seed, events)
    original.open_day(5)
    publish(original, events[:cut])
    copy = publisher()
    with saved(tmp_path / "snapshot", original) as file:
        restore_feed(file, copy)
    behind = original.store.next_sequence
    assert copy.store.unsent_messages == 0
    assert (copy.timestamp_ns, copy.not_displayed) == (original.timestamp_ns, original.not_displayed)
    assert copy.public_digest() == original.public_digest()
    assert copy.live_orders() == original.live_orders()
    everything = range(max(1, behind - 2 * STORE), behind + 1)
    assert answers(copy, everything) == answers(original, everything)
    list(original.store.take_datagrams())
    for begin in range(cut, len(events), 64 * 100):
        publish(original, events[begin : begin + 64 * 100])
        publish(copy, events[begin : begin + 64 * 100])
        assert list(copy.store.take_datagrams()) == list(original.store.take_datagrams())
    original.close_day()
    copy.close_day()
    everything = range(max(1, original.store.next_sequence - 2 * STORE), original.store.next_sequence + 1)
    assert answers(copy, everything) == answers(original, everything)
    assert copy.public_digest() == original.public_digest()
    saved(tmp_path / "one", original).close()
    saved(tmp_path / "two", copy).close()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_points_lie_in_the_middle_of_a_command_too() -> None:
    """An order that has come in and still trades is there at some of them, and an id that is not the feed's."""
    in_the_middle = renamed = 0
    for seed in range(16):
        events, one = events_of(seed), publisher()
        cut = cut_of(seed, events)
        publish(one, events[:cut])
        after = np.frombuffer(events[cut : cut + 64], EVENT_DTYPE)[0]
        in_the_middle += int(after["kind"] == EventKind.EXECUTED)
        out = np.zeros(one.live_orders() + 1, COMMAND_DTYPE)
        for symbol_id in range(len(SYMBOLS)):
            told = out[: export_displayed(one.state, symbol_id, address_of(out))]
            renamed += int((told["tag"] != told["order_id"]).sum())
    assert in_the_middle > 5
    assert renamed > 10


def test_a_number_of_the_feed_stays_an_orders(tmp_path: Path) -> None:
    market = PublishedMarket("ladder", SYMBOLS)
    market.play(stamped([new(1, BUY, 500, 10), replace(1, 2, 500, 8), new(3, SELL, 600, 4)]))
    copy = publisher()
    with saved(tmp_path / "snapshot", market.publisher) as file:
        restore_feed(file, copy)
    before = copy.store.next_sequence
    market.engine.sequence = 3
    publish(copy, market.engine.apply_bytes(stamped([new(4, SELL, 500, 3)]).tobytes()))
    (told,) = [decode(one) for one in copy_messages(copy, before)]
    assert (told.layout.message_type, told.order_reference_number) == ("E", 1)  # type: ignore[attr-defined]


def copy_messages(one: Publisher, first: int) -> list[bytes]:
    told = answers(one, range(first, one.store.next_sequence))
    return [message for packet in told if packet is not None for message in packet]


@pytest.mark.parametrize(
    ("slots", "oldest"), [(1024, 9000 - 1023), (STORE, 9000 - STORE + 1), (1 << 14, 9000 - STORE + 1)]
)
def test_a_store_of_another_size_keeps_what_it_can(tmp_path: Path, slots: int, oldest: int) -> None:
    original = publisher()
    for number in range(1, 9000):
        original.store.append(f"message {number}".encode())
    copy = publisher(slots)
    with saved(tmp_path / "snapshot", original) as file:
        restore_feed(file, copy)
    for one in (original, copy):
        one.store.append(b"message 9000")
    kept = range(max(oldest + 1, 9001 - slots + 1), 9001)
    assert answers(copy, kept) == [(f"message {number}".encode(),) for number in kept]
    assert answers(copy, range(1, oldest)) == [None] * (oldest - 1)
    assert [decode_packet(data).messages for data in copy.store.take_datagrams()] == [(b"message 9000",)]
    assert copy.store.overrun_messages == 0


@pytest.mark.parametrize("seed", range(4))
def test_who_begins_with_a_spin_ends_with_the_same_book(tmp_path: Path, seed: int) -> None:
    commands = commands_of(
        load_flow("synthetic", synthetic=SyntheticConfig(commands=4000, symbols=4, seed=seed))
    )
    events = BookDriver("ladder", symbol_count=4, capacity_orders=3000, price_max_ticks=1 << 32).play(
        commands
    )
    original, cut = publisher(1 << 15), 64 * (len(events) // 128)
    original.open_day(5)
    publish(original, halt(2, SymbolState.HALTED, 0) + events[:cut])
    copy = publisher(1 << 15)
    with saved(tmp_path / "snapshot", original) as file:
        restore_feed(file, copy)
    spin, whole = book(), book()
    pieces = list(encode_first_spin(copy))
    assert pieces == list(encode_first_spin(original))
    subscriber = Subscriber(lambda: spin, "TEST")
    load_first_spin(subscriber, b"".join(pieces), 0)
    assert subscriber.is_whole
    assert subscriber.next_sequence == original.store.next_sequence
    listener = Subscriber(lambda: whole, "TEST")
    for first in range(1, original.store.next_sequence, 20):
        data = original.store.answer(Request("TEST", first, 20).encode())
        assert data is not None
        listener.receive(data, 0)
    assert seen(spin) == seen(whole)
    list(original.store.take_datagrams())
    publish(original, events[cut:])
    for data in original.store.take_datagrams():
        subscriber.receive(data, 0)
        listener.receive(data, 0)
    assert subscriber.is_whole
    assert seen(spin) == seen(whole)
    assert spin.counts().faults == whole.counts().faults == 0
    assert spin.live_orders() > 50
    assert spin.trading_state(2) == "H"


def book() -> FeedBook:
    return FeedBook(capacity_orders=4000, capacity_symbols=8, keep_messages=64)


def seen(one: FeedBook) -> object:
    numbers = range(len(one.symbols))
    return one.symbols, one.digest(), one.system_event, [one.trading_state(number) for number in numbers]


def test_a_spin_that_is_cut_is_refused() -> None:
    one = publisher()
    one.open_day()
    spin = b"".join(encode_first_spin(one))
    assert [data[:1] for data in split_blocks(spin)] == [b"S", *[b"R"] * 4, *[b"H"] * 4, b"S", b"S", b"G"]
    for data in (b"", spin[:-1], spin[:40], b"x" * 100):
        subscriber = Subscriber(book, "TEST")
        with pytest.raises(UserError, match=r"^the snapshot to begin with: "):
            load_first_spin(subscriber, data, 0)


def test_what_cannot_go_on_is_refused(tmp_path: Path) -> None:
    market = PublishedMarket("ladder", SYMBOLS)
    market.play(stamped([new(number, BUY, 500, 10, symbol_id=number % 4) for number in range(30)]))
    with saved(tmp_path / "snapshot", market.publisher) as file:
        few = Publisher(SYMBOLS[:2], DatagramStore("TEST", STORE), capacity_orders=3000)
        refusals: list[tuple[Publisher, str]] = [
            (publisher(session="OTHER"), "is of the session TEST, and the feed's is OTHER"),
            (few, "is of 4 symbols, and the settings have 2"),
            (
                publisher(capacity_orders=20),
                "the feed has no room for 30 orders; book.capacity_orders must be",
            ),
        ]
        for one, told in refusals:
            with pytest.raises(UserError, match=told):
                restore_feed(file, one)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.__setitem__("orders", 7), "'feed/orders' has 30 orders"),
        (lambda state: state.__setitem__("messages", 7), "'feed/messages' has"),
        (lambda state: state.__setitem__("oldest_message", 0), "'feed/messages' has"),
    ],
)
def test_sections_that_contradict_each_other_are_refused(
    tmp_path: Path, change: Callable[[object], None], told: str
) -> None:
    market = PublishedMarket("ladder", SYMBOLS)
    market.play(stamped([new(number, BUY, 500, 10, symbol_id=number % 4) for number in range(30)]))
    with saved(tmp_path / "good", market.publisher) as good:
        state = good.records("feed/state", STATE_DTYPE)
        change(state)
        file = written(tmp_path / "forged", lambda writer: [
            writer.write(name, state if name == "feed/state" else good.records(name, np.uint8))
            for name in good.sections
        ])  # fmt: skip
    one = publisher()
    with file, pytest.raises(BadSnapshot, match=told):
        restore_feed(file, one)
