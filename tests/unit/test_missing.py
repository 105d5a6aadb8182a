"""Asking for what is missing: many requests on their way at a time, fewer where too many get lost, and an end to it."""

import pytest

from exchange.market_data.datagram_store import DatagramStore
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.missing import PIECE_MESSAGES, WINDOW_FIRST, MissingMessages, Patience
from exchange.market_data.subscriber import Subscriber
from exchange.wire.itch50 import SystemEvent
from exchange.wire.moldudp64 import Request
from tests.feed_driver import random_feed

MESSAGES = [SystemEvent(0, 0, 0, "O").encode(), *(one.encode() for one in random_feed(7, 3_000))]
ROUND_TRIP_NS = 1_000_000


@pytest.fixture(scope="module")
def store() -> DatagramStore:
    """A day that somebody who comes now has missed."""
    store = DatagramStore("DAY", 1 << 12)
    for one in MESSAGES:
        store.append(one)
    assert list(store.take_datagrams())
    return store


def round_trips(store: DatagramStore, patience: Patience, answers_per_round: int) -> tuple[int, Subscriber]:
    """How many round trips it takes to have the whole day, if so many requests are answered in each."""
    subscriber = Subscriber(lambda: FeedBook(capacity_orders=5_000, capacity_symbols=8), patience=patience)
    subscriber.receive(store.heartbeat(), 0)
    trips = 0
    while not subscriber.is_whole:
        trips += 1
        now_ns = trips * ROUND_TRIP_NS
        assert trips < 10_000, subscriber.counts()
        assert not subscriber.wants_snapshot
        for request in subscriber.poll(now_ns)[:answers_per_round]:
            answer = store.answer(request)
            assert answer is not None
            subscriber.receive(answer, now_ns)
    return trips, subscriber


def test_requests_on_their_way_together_save_round_trips(store: DatagramStore) -> None:
    patience = Patience(gap_ns=0)
    one_at_a_time, slow = round_trips(store, patience._replace(window_max=1), 100)
    together, quick = round_trips(store, patience, 100)
    pieces = -(-len(MESSAGES) // PIECE_MESSAGES)
    assert one_at_a_time == pieces
    assert together < one_at_a_time / 10
    assert quick.counts().requests == slow.counts().requests == pieces
    assert quick.book.digest() == slow.book.digest()
    assert quick.counts().gaps == 1


@pytest.mark.parametrize("answers_per_round", [1, 3, 10])
def test_a_server_that_answers_less_is_asked_for_less(store: DatagramStore, answers_per_round: int) -> None:
    """What gets no answer is asked for again, and in the end little is asked for in vain."""
    trips, subscriber = round_trips(store, Patience(gap_ns=0), answers_per_round)
    pieces = -(-len(MESSAGES) // PIECE_MESSAGES)
    assert subscriber.book.counts().messages == len(MESSAGES)
    assert subscriber.counts().requests < 2 * pieces
    assert trips >= pieces / answers_per_round


def test_the_window_grows_with_answers_and_halves_without(store: DatagramStore) -> None:
    missing = MissingMessages(Patience(gap_ns=0, retry_ns=10, retry_ns_max=10))
    missing.open(1, 0)
    asked = missing.requests("S", 1, 10_000, {}, 0)
    assert len(asked) == WINDOW_FIRST
    assert [Request.decode(one).sequence_number for one in asked] == [
        1 + PIECE_MESSAGES * number for number in range(WINDOW_FIRST)
    ]
    arrived = 1 + WINDOW_FIRST * PIECE_MESSAGES
    missing.progressed(arrived - 1, 10_000, 1)  # all but the last message
    asked = missing.requests("S", arrived - 1, 10_000, {}, 1)
    assert len(asked) == 2 * (WINDOW_FIRST - 1)  # one piece is not whole, so three answers were counted
    again = missing.requests("S", arrived - 1, 10_000, {}, 11)
    assert len(again) == 2 * WINDOW_FIRST - 1  # nothing came: all of it again, and nothing new
    assert Request.decode(again[0]) == Request("S", arrived - 1, 1)


def test_what_is_there_already_is_not_asked_for() -> None:
    missing = MissingMessages(Patience(gap_ns=0, window_max=2))
    missing.open(5, 0)
    asked = [Request.decode(one) for one in missing.requests("S", 5, 12, {6: b"", 7: b"", 9: b""}, 0)]
    assert [(one.sequence_number, one.requested_message_count) for one in asked] == [(5, 1), (8, 1)]
    missing.arrived(1)
    asked = [Request.decode(one) for one in missing.requests("S", 5, 12, {6: b"", 7: b"", 8: b"", 9: b""}, 1)]
    assert [(one.sequence_number, one.requested_message_count) for one in asked] == [(10, 2)]


def test_a_gap_that_is_too_large_is_not_asked_for(store: DatagramStore) -> None:
    patience = Patience(gap_ns=0, gap_messages_max=len(MESSAGES) - 1)
    subscriber = Subscriber(lambda: FeedBook(capacity_orders=10, capacity_symbols=2), patience=patience)
    subscriber.receive(store.heartbeat(), 0)
    assert (subscriber.wants_snapshot, subscriber.is_whole, subscriber.poll(10**12)) == (True, False, [])
    patient = patience._replace(gap_messages_max=len(MESSAGES))
    subscriber = Subscriber(lambda: FeedBook(capacity_orders=10, capacity_symbols=2), patience=patient)
    subscriber.receive(store.heartbeat(), 0)
    assert (subscriber.wants_snapshot, subscriber.is_whole) == (False, False)
    assert len(subscriber.poll(0)) == WINDOW_FIRST
