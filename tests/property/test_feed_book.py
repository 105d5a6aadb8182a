"""The compiled book of a feed against its plain twin, message by message; files, cuts and damage."""

import gzip
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.market_data import feed_memory
from exchange.market_data.feed_book import BadBlock, FeedBook, FeedCounts, Level
from exchange.market_data.feed_file import read_day, read_pieces
from exchange.market_data.plain_feed_book import PlainFeedBook
from exchange.market_data.top_of_book import TopOfBook
from exchange.messages import BUY, SELL
from exchange.wire.fields import WireError
from exchange.wire.itch50 import (
    AddOrder,
    OrderCancel,
    OrderDelete,
    OrderExecuted,
    OrderReplace,
    StockTradingAction,
    SystemEvent,
)
from exchange.wire.moldudp64 import encode_blocks
from tests.feed_driver import Twins, feed_messages, random_feed, seen
from tests.property.ladder_audit import audit_ladder
from tests.wire_messages import mutated

quick = settings(max_examples=150, deadline=None)
each_book = pytest.mark.parametrize("make", [FeedBook, PlainFeedBook])


@quick
@given(
    st.lists(feed_messages(), max_size=60),
    st.sampled_from([(), ("NINE",), ("ONE", "LAST")]),
    st.sampled_from([2, 1000]),
    st.sampled_from([1, 8]),
)
def test_twins_agree_after_every_message(messages, symbols, capacity_orders, capacity_symbols) -> None:
    Twins(symbols, capacity_orders, capacity_symbols).apply_all(messages)


@pytest.mark.parametrize("seed", range(8))
def test_twins_agree_on_long_feeds(seed: int) -> None:
    feed = random_feed(seed, 2000)
    twins = Twins()
    twins.apply_all(feed)
    at_once = FeedBook(capacity_orders=1000)
    assert at_once.apply_blocks(blocks := encode_blocks(one.encode() for one in feed)) == len(blocks)
    assert seen(at_once) == seen(twins.compiled)
    assert at_once.digest() == twins.plain.digest()
    assert at_once.counts().missing_references > 0


@pytest.mark.parametrize(("slots_first", "capacity_orders"), [(2, 5_000), (64, 5_000), (1 << 15, 20_000)])
def test_a_table_of_numbers_that_grows_loses_none(
    monkeypatch: pytest.MonkeyPatch, slots_first: int, capacity_orders: int
) -> None:
    monkeypatch.setattr(feed_memory, "SLOTS_FIRST", slots_first)
    chance = random.Random(slots_first)
    compiled, plain = (
        FeedBook(capacity_orders=capacity_orders),
        PlainFeedBook(capacity_orders=capacity_orders),
    )
    live: list[int] = []
    while compiled.counts().no_room < 3:
        messages = []
        for _ in range(capacity_orders // 10):
            if live and chance.random() < 0.2:
                messages.append(OrderDelete(7, 0, 5, live.pop(chance.randrange(len(live)))).encode())
            else:
                live.append(chance.getrandbits(63))
                messages.append(add(live[-1], chance.choice("BS"), 100, chance.randrange(1, 500)))
        for book in (compiled, plain):
            book.apply_blocks(encode_blocks(messages))
        audit_ladder(compiled._ladder)
        assert compiled.live_orders() == plain.live_orders()
    assert compiled.live_orders() == capacity_orders
    assert seen(compiled) == seen(plain)
    assert compiled.digest() == plain.digest()


def add(reference: int, side: str, shares: int, price: int, locate: int = 7) -> bytes:
    return AddOrder(locate, 0, 5, reference, side, shares, "ABC", price).encode()


@each_book
def test_a_small_day(make) -> None:
    book = make(capacity_orders=10)
    book.apply(SystemEvent(0, 0, 1, "O").encode())
    for message in (
        add(1, "B", 100, 1000),
        add(2, "B", 50, 1000),
        add(3, "S", 80, 1010),
        add(4, "B", 9, 990),
    ):
        book.apply(message)
    book.apply(StockTradingAction(7, 0, 5, "ABC", "T", " ", "").encode())
    assert (book.symbols, book.trading_state(0), book.system_event) == (("ABC",), "T", "O")
    assert book.top(0) == TopOfBook(1000, 150, 1010, 80)
    book.apply(OrderExecuted(7, 0, 6, 1, 30, 9).encode())
    book.apply(OrderCancel(7, 0, 7, 2, 20).encode())
    assert book.depth(0, 5) == ((Level(1000, 100, 2), Level(990, 9, 1)), (Level(1010, 80, 1),))
    book.apply(OrderReplace(7, 0, 8, 1, 11, 70, 990).encode())
    book.apply(OrderDelete(7, 0, 9, 3).encode())
    assert book.depth(0, 5) == ((Level(1000, 30, 1), Level(990, 79, 2)), ())
    assert book.depth(0, 1).bids == (Level(1000, 30, 1),)
    assert book.counts() == FeedCounts(messages=10)
    assert book.counts_by_type() == {"S": 1, "H": 1, "A": 4, "E": 1, "X": 1, "D": 1, "U": 1}
    assert (book.live_orders(), book.timestamp_ns) == (3, 9)


def test_orders_are_told_in_priority_order() -> None:
    book = FeedBook(capacity_orders=10)
    for message in (
        add(1, "B", 10, 100),
        add(2, "B", 20, 101),
        add(3, "S", 30, 105),
        add(2**64 - 1, "B", 5, 101),
    ):
        book.apply(message)
    told = book.orders(0)
    assert told["order_id"].tolist() == [2, -1, 1, 3]
    assert told["side"].tolist() == [BUY, BUY, BUY, SELL]
    assert told["quantity_lots"].tolist() == [20, 5, 10, 30]
    assert book.locates() == [7]


def replaced(reference: int, new_reference: int) -> bytes:
    return OrderReplace(7, 0, 1, reference, new_reference, 3, 4).encode()


@pytest.mark.parametrize(
    ("messages", "counted"),
    [
        ([OrderDelete(7, 0, 1, 5).encode()], {"missing_references": 1}),
        ([add(1, "B", 1, 1), OrderDelete(8, 0, 1, 1).encode()], {"missing_references": 1}),
        ([add(1, "B", 1, 1), add(1, "S", 1, 2)], {"duplicate_references": 1}),
        ([add(1, "B", 1, 1), add(2, "B", 1, 1), replaced(1, 2)], {"duplicate_references": 1}),
        ([add(1, "B", 1, 1), replaced(2, 3)], {"missing_references": 1}),
        ([add(1, "B", 1, 1), OrderExecuted(7, 0, 1, 1, 2, 9).encode()], {"overdrawn": 1}),
        ([add(1, "X", 1, 1)], {"invalid": 1}),
        ([add(1, "B", 0, 1)], {"invalid": 1}),
        ([add(1, "B", 1, 0)], {"invalid": 1}),
        ([add(1, "B", 1, 1, locate=0)], {"invalid": 1}),
        ([add(1, "B", 1, 10), add(2, "S", 1, 10)], {"crossed": 1}),
        ([add(1, "S", 1, 10), add(2, "B", 1, 11)], {"crossed": 1}),
        ([add(number, "B", 1, 1) for number in range(1, 6)], {"no_room": 2}),
        ([add(1, "B", 1, 1), AddOrder(8, 0, 1, 2, "B", 1, "XYZ", 1).encode()], {"symbols_left_out": 1}),
    ],
)  # fmt: skip
@each_book
def test_what_should_not_happen_is_counted(make, messages: list[bytes], counted: dict[str, int]) -> None:
    book = make(capacity_orders=3, capacity_symbols=1)
    for message in messages:
        book.apply(message)
    assert book.counts() == FeedCounts(messages=len(messages), **counted)
    assert book.counts().faults == sum(counted.values())


@each_book
def test_what_is_no_message_is_refused_and_changes_nothing(make) -> None:
    book = make(capacity_orders=3)
    for wrong in (b"", b"?" + bytes(20), add(1, "B", 1, 1)[:-1], add(1, "B", 1, 1) + b" "):
        with pytest.raises(WireError):
            book.apply(wrong)
    assert book.counts() == FeedCounts()


@each_book
def test_the_place_of_a_bad_block_is_told_and_what_is_in_front_of_it_applied(make) -> None:
    book = make(capacity_orders=3)
    good = encode_blocks([add(1, "B", 1, 1)])
    with pytest.raises(BadBlock) as error:
        book.apply_blocks(good + b"\0\3???" + good)
    assert error.value.offset_bytes == len(good)
    assert book.counts().messages == 1
    assert book.apply_blocks(good[:-1]) == 0
    assert book.apply_blocks(b"\0\0" + good) == 0
    assert book.apply_blocks(b"") == book.apply_blocks(b"\0") == 0


@settings(max_examples=300, deadline=None)
@given(st.randoms(), st.lists(feed_messages(), min_size=1, max_size=6))
def test_damaged_blocks_are_read_or_refused(chance, messages) -> None:
    data = mutated(chance, encode_blocks(one.encode() for one in messages))
    book = FeedBook(capacity_orders=4, capacity_symbols=2)
    try:
        stopped_at = book.apply_blocks(data)
    except BadBlock as error:
        stopped_at = error.offset_bytes
    assert 0 <= stopped_at <= len(data)
    assert book.live_orders() <= 4


@pytest.fixture
def day() -> bytes:
    return encode_blocks(one.encode() for one in random_feed(3, 500)) + b"\0\0"


@quick
@given(st.data())
def test_a_file_may_come_in_any_pieces(data: st.DataObject) -> None:
    whole = encode_blocks(one.encode() for one in random_feed(3, 40)) + data.draw(
        st.sampled_from([b"", b"\0\0"])
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    book, expected = PlainFeedBook(), PlainFeedBook()
    assert read_pieces("day", pieces, book) == len(whole)
    expected.apply_blocks(whole)
    assert seen(book) == seen(expected)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_a_day_plain_or_packed(day: bytes, tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "day.itch"
    path.write_bytes(gzip.compress(day) if packed else day)
    book, expected = FeedBook(), FeedBook()
    assert read_day(str(path), book) == len(day)
    expected.apply_blocks(day)
    assert seen(book) == seen(expected)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda day: day[:-3], "day.itch: byte {cut}: the file ends within a message"),
        (lambda day: day + b"x", "day.itch: byte {size}: 1 bytes follow the end mark"),
        (lambda day: day[:-2] + b"\0\1?", "day.itch: byte {end}: ITCH 5.0: message_type is b'.'"),
        (lambda day: day[:-2] + b"\0\4Azzz", "day.itch: byte {end}: ITCH 5.0: message b'A' of 4 bytes"),
        (lambda day: b"", "day.itch: byte 0: the file is empty"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_byte(day, tmp_path, damage, complaint: str) -> None:
    path = tmp_path / "day.itch"
    path.write_bytes(damage(day))
    last = len(day) - 2 - 2
    while struct.unpack_from(">H", day, last)[0] != len(day) - 2 - last - 2:
        last -= 1
    text = complaint.format(cut=last, size=len(day), end=len(day) - 2)
    with pytest.raises(UserError, match=text):
        read_day(str(path), FeedBook())


def test_a_cut_file_can_be_read_as_far_as_it_goes(day: bytes, tmp_path: Path) -> None:
    path = tmp_path / "day.itch"
    path.write_bytes(day[:-3])
    assert read_day(str(path), FeedBook(), allow_truncated=True) < len(day) - 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"symbols": ["TOOLONGNAME"]}, "symbol 'TOOLONGNAME': must be 1 to 8 printable ASCII characters"),
        ({"capacity_orders": 0}, "capacity_orders = 0: must be 1 to 15000000"),
        ({"capacity_symbols": 65_535}, "capacity_symbols = 65535: must be 1 to 65534"),
        ({"keep_messages": -1}, "keep_messages = -1: must be 0 to"),
    ],
)
def test_a_book_that_cannot_be_made_is_refused(arguments, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        FeedBook(**arguments)


def test_questions_about_unknown_symbols_are_refused() -> None:
    with pytest.raises(UserError, match="symbol_id = 0: the feed has named 0 symbols so far"):
        FeedBook(capacity_orders=3).top(0)
