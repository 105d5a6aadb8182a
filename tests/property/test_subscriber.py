"""A subscriber on a bad network: whatever is lost, doubled or late, it ends with the book of one who lost nothing."""

import heapq
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.missing import Patience
from exchange.market_data.plain_feed_book import PlainFeedBook
from exchange.market_data.snapshot import take_snapshot
from exchange.market_data.subscriber import Subscriber
from exchange.wire.fields import WireError
from exchange.wire.glimpse import Snapshot, decode_snapshot, encode_snapshot
from exchange.wire.itch50 import AddOrder, OrderDelete, SystemEvent
from exchange.wire.moldudp64 import Packet, Request, decode_packet, encode_packet
from tests.feed_driver import random_feed, seen

MESSAGES = [SystemEvent(0, 0, 0, "O").encode(), *(one.encode() for one in random_feed(5, 400))]
STEP_NS = 100_000
quick = settings(max_examples=60, deadline=None)


def small_book() -> FeedBook:
    return FeedBook(capacity_orders=500, capacity_symbols=8, keep_messages=64)


def expected_book() -> PlainFeedBook:
    book = PlainFeedBook()
    for one in MESSAGES:
        book.apply(one)
    return book


EXPECTED = expected_book()


@dataclass
class Network:
    """Datagrams on their way, each with the time at which it arrives."""

    chance: random.Random
    loss: float
    doubling: float
    delay_steps: int
    on_their_way: list[tuple[int, int, bytes]] = field(default_factory=list)
    sent: int = 0

    def send(self, datagram: bytes, now_ns: int) -> None:
        """Lose it, or deliver it once or twice, each copy after a while of its own."""
        copies = 0 if self.chance.random() < self.loss else 1 + (self.chance.random() < self.doubling)
        for _ in range(copies):
            self.sent += 1
            arrival_ns = now_ns + STEP_NS * self.chance.randrange(1, self.delay_steps + 2)
            heapq.heappush(self.on_their_way, (arrival_ns, self.sent, datagram))

    def arrived(self, now_ns: int) -> list[bytes]:
        """What has arrived by now."""
        out = []
        while self.on_their_way and self.on_their_way[0][0] <= now_ns:
            out.append(heapq.heappop(self.on_their_way)[2])
        return out


@dataclass
class Exchange:
    """The sending side: a store that fills step by step, its re-request server, and a server of snapshots."""

    store: DatagramStore
    follower: Subscriber
    told: int = 0

    def step(self, count: int) -> list[bytes]:
        """Append the next messages; the live datagrams that follow, or a heartbeat."""
        for one in MESSAGES[self.told : self.told + count]:
            self.store.append(one)
        self.told = min(self.told + count, len(MESSAGES))
        datagrams = list(self.store.take_datagrams()) or [self.store.heartbeat()]
        for one in datagrams:
            self.follower.receive(one, 0)
        return datagrams

    def snapshot(self) -> Snapshot:
        """A spin, over the wire and back."""
        return decode_snapshot(
            encode_snapshot(take_snapshot(self.follower.book, self.follower.next_sequence))
        )


@quick
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.1, 0.4, 0.8]),
    doubling=st.sampled_from([0.0, 0.3]),
    delay_steps=st.sampled_from([0, 3, 30]),
    joins_at=st.integers(0, 450),
    join_late=st.booleans(),
    feeds=st.sampled_from([1, 2]),
    burst=st.sampled_from([1, 7, 60]),
)
def test_whatever_the_network_does_the_book_is_right_in_the_end(
    seed, loss, doubling, delay_steps, joins_at, join_late, feeds, burst
) -> None:
    chance = random.Random(seed)
    exchange = Exchange(DatagramStore("BAD", 1024), Subscriber(small_book, "BAD"))
    subscriber = Subscriber(small_book, join_late=join_late)
    lines = [Network(chance, loss, doubling, delay_steps) for _ in range(feeds)]
    there, back = Network(chance, loss, doubling, delay_steps), Network(chance, loss, doubling, delay_steps)
    now_ns, idle_steps = 0, 0
    while subscriber.next_sequence <= len(MESSAGES) or subscriber.wants_snapshot:
        now_ns += STEP_NS if exchange.told < len(MESSAGES) else 20 * STEP_NS
        listens = exchange.told >= min(joins_at, len(MESSAGES))
        for datagram in exchange.step(burst):
            for line in lines if listens else ():
                line.send(datagram, now_ns)
        for line in (*lines, back):
            for datagram in line.arrived(now_ns):
                subscriber.receive(datagram, now_ns)
        for request in subscriber.poll(now_ns):
            there.send(request, now_ns)
        for request in there.arrived(now_ns):
            answer = exchange.store.answer(request)
            if answer is not None:
                back.send(answer, now_ns)
        if subscriber.wants_snapshot and listens and chance.random() < 0.3:
            subscriber.load_snapshot(exchange.snapshot(), now_ns)
        idle_steps += 1
        assert idle_steps < 20_000, subscriber.counts()
    assert seen(subscriber.book)[0] == seen(EXPECTED)[0]
    assert subscriber.book.digest() == EXPECTED.digest()
    for number in range(len(EXPECTED.symbols)):
        assert subscriber.book.depth(number, 100) == EXPECTED.depth(number, 100)
    assert subscriber.counts().bad_datagrams == subscriber.counts().bad_messages == 0


def datagram(first: int, count: int) -> bytes:
    return encode_packet(Packet("S", first, tuple(MESSAGES[first - 1 : first - 1 + count])))


def test_in_order_each_message_is_applied_once() -> None:
    tapped: list[tuple[int, int]] = []
    subscriber = Subscriber(small_book, tap=lambda first, blocks: tapped.append((first, len(blocks))))
    for first in (1, 4, 4, 1, 7):
        subscriber.receive(datagram(first, 3), 0)
    assert subscriber.next_sequence == 10
    assert subscriber.book.counts().messages == 9
    assert subscriber.counts()._asdict() == dict.fromkeys(subscriber.counts()._fields, 0) | {
        "datagrams": 5,
        "duplicates": 6,
    }
    assert [first for first, _ in tapped] == [1, 4, 7]
    subscriber.receive(datagram(8, 4), 0)  # two of them are new
    assert (subscriber.next_sequence, subscriber.counts().duplicates) == (12, 8)


def test_a_gap_is_given_a_moment_then_asked_for_with_growing_pauses_then_given_up() -> None:
    patience = Patience(gap_ns=10, retry_ns=100, retry_ns_max=250, requests_max=4)
    subscriber = Subscriber(small_book, patience=patience)
    subscriber.receive(datagram(1, 2), 0)
    subscriber.receive(datagram(6, 2), 1000)
    asked = [time_ns for time_ns in range(1000, 3000) if subscriber.poll(time_ns)]
    assert asked == [1010, 1110, 1310, 1560]
    assert subscriber.wants_snapshot
    assert subscriber.counts().requests == 4
    assert subscriber.counts().gaps == 1


def test_what_is_asked_for_is_the_gap_and_the_answer_closes_it() -> None:
    subscriber = Subscriber(small_book, patience=Patience(gap_ns=0))
    subscriber.receive(datagram(1, 2), 0)
    subscriber.receive(datagram(6, 2), 0)
    (request,) = subscriber.poll(0)
    assert Request.decode(request) == Request("S", 3, 3)
    subscriber.receive(datagram(3, 3), 1)
    assert (subscriber.next_sequence, subscriber.poll(10**9)) == (8, [])
    assert subscriber.counts().early == 2


def test_a_heartbeat_tells_of_what_was_lost_at_the_end_and_the_end_is_noticed() -> None:
    subscriber = Subscriber(small_book, patience=Patience(gap_ns=0))
    subscriber.receive(datagram(1, 2), 0)
    subscriber.receive(encode_packet(Packet("S", 5)), 0)
    (request,) = subscriber.poll(0)
    assert Request.decode(request) == Request("S", 3, 2)
    subscriber.receive(encode_packet(Packet("S", 5, is_end_of_session=True)), 0)
    assert not subscriber.has_ended
    subscriber.receive(datagram(3, 2), 0)
    subscriber.receive(encode_packet(Packet("S", 5, is_end_of_session=True)), 0)
    assert subscriber.has_ended


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"noise",
        encode_packet(Packet("S", 0)),
        encode_packet(Packet("OTHER", 3)),
        datagram(3, 1)[:-1],
        b"\xff" * 20,
    ],
)
def test_what_is_no_datagram_of_the_session_is_counted_and_changes_nothing(data: bytes) -> None:
    subscriber = Subscriber(small_book)
    subscriber.receive(datagram(1, 2), 0)
    subscriber.receive(data, 0)
    assert (subscriber.counts().bad_datagrams, subscriber.next_sequence) == (1, 3)


@pytest.mark.parametrize("bad", [b"", b"?", b"A", MESSAGES[3] + b"x"])
def test_a_message_that_is_none_is_passed_over(bad: bytes) -> None:
    subscriber = Subscriber(small_book)
    subscriber.receive(encode_packet(Packet("S", 1, (*MESSAGES[:2], bad, MESSAGES[2]))), 0)
    assert subscriber.next_sequence == 5
    assert subscriber.counts().bad_messages == 1
    assert subscriber.book.counts().messages == 3


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.limits.FEED_WAITING_MESSAGES_MAX", 5)
    subscriber = Subscriber(small_book, patience=Patience(gap_ns=0))
    subscriber.receive(datagram(2, 8), 0)
    assert (subscriber.counts().early, subscriber.counts().dropped) == (5, 3)
    subscriber.receive(datagram(1, 1), 0)
    assert subscriber.next_sequence == 7
    (request,) = subscriber.poll(0)
    assert Request.decode(request) == Request("S", 7, 3)


def test_a_snapshot_that_is_none_changes_nothing() -> None:
    subscriber = Subscriber(small_book, join_late=True)
    subscriber.receive(datagram(3, 2), 0)
    book = subscriber.book
    with pytest.raises(WireError):
        subscriber.load_snapshot(Snapshot((b"junk",), 9), 0)
    assert (subscriber.book, subscriber.wants_snapshot, subscriber.next_sequence) == (book, True, 1)


def test_a_snapshot_has_the_day_the_stocks_and_every_order_in_its_place() -> None:
    book = small_book()
    for message in (
        SystemEvent(0, 0, 1, "O").encode(),
        AddOrder(9, 0, 2, 1, "B", 10, "NINE", 100).encode(),
        AddOrder(9, 0, 3, 2, "B", 20, "NINE", 100).encode(),
        AddOrder(9, 0, 4, 2**64 - 1, "S", 30, "NINE", 101).encode(),
        OrderDelete(9, 0, 5, 2).encode(),
    ):
        book.apply(message)
    snapshot = take_snapshot(book, 6)
    assert snapshot.sequence_number == 6
    assert [data[:1] for data in snapshot.messages] == [b"S", b"A", b"A"]
    again = small_book()
    for one in snapshot.messages:
        again.apply(one)
    assert again.digest() == book.digest()
    assert take_snapshot(again, 6) == snapshot


def test_a_book_that_has_not_kept_everything_gives_no_snapshot() -> None:
    book = FeedBook(capacity_orders=5, keep_messages=1)
    for _ in range(2):
        book.apply(SystemEvent(0, 0, 1, "O").encode())
    with pytest.raises(UserError, match="keep_messages = 1: 1 more messages should have been kept"):
        take_snapshot(book, 3)


def test_the_store_sends_live_and_again_and_knows_what_is_gone() -> None:
    store = DatagramStore("STORE", 8)
    assert list(store.take_datagrams()) == []
    assert decode_packet(store.heartbeat()) == Packet("STORE", 1)
    for one in MESSAGES[:5]:
        store.append(one)
    (live,) = store.take_datagrams()
    assert decode_packet(live) == Packet("STORE", 1, tuple(MESSAGES[:5]))
    assert store.answer(Request("STORE", 2, 2).encode()) == encode_packet(
        Packet("STORE", 2, tuple(MESSAGES[1:3]))
    )
    assert decode_packet(store.answer(Request("STORE", 4, 100).encode())).messages == tuple(MESSAGES[3:5])
    for wrong in (
        Request("OTHER", 2, 2),
        Request("STORE", 6, 1),
        Request("STORE", 0, 1),
        Request("STORE", 2, 0),
    ):
        assert store.answer(wrong.encode()) is None
    assert store.answer(b"junk") is None
    for one in MESSAGES[5:20]:
        store.append(one)
    (late,) = store.take_datagrams()
    assert decode_packet(late) == Packet("STORE", 14, tuple(MESSAGES[13:20]))
    assert store.overrun_messages == 8
    assert store.answer(Request("STORE", 13, 1).encode()) is None
    assert decode_packet(store.answer(Request("STORE", 14, 1).encode())).messages == (MESSAGES[13],)
    assert decode_packet(store.end_of_session()) == Packet("STORE", 21, (), True)


def test_no_datagram_is_larger_than_a_frame() -> None:
    store = DatagramStore("STORE", 1024)
    for one in MESSAGES:
        store.append(one)
    datagrams = list(store.take_datagrams())
    assert len(datagrams) > 5
    assert max(map(len, datagrams)) <= 1472
    assert [one for packet in map(decode_packet, datagrams) for one in packet.messages] == MESSAGES


@pytest.mark.parametrize(
    ("session", "capacity", "complaint"),
    [
        ("ELEVENCHARS", 8, "session = 'ELEVENCHARS': Downstream packet header: session is 'ELEVENCHARS'"),
        ("S", 7, "capacity_messages = 7: must be a power of two from 2 to"),
        ("S", 1, "capacity_messages = 1: must be a power of two from 2 to"),
    ],
)
def test_a_store_that_cannot_be_made_is_refused(session: str, capacity: int, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        DatagramStore(session, capacity)
    with pytest.raises(WireError, match="message of 51 bytes, allowed are 50"):
        DatagramStore("S", 2).append(bytes(51))
