"""The feed as captured on NASDAQ's lines: every byte is explained, and what is decoded encodes to the same bytes."""

import os
from collections import Counter
from pathlib import Path

import pytest

from exchange.market_data.feed_book import FeedBook
from exchange.market_data.subscriber import Subscriber
from exchange.wire import itch50
from exchange.wire.itch50 import ItchMessage, decode
from exchange.wire.moldudp64 import Packet, decode_packet, encode_packet
from tests.pcap import payloads

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data"
    ),
]

FOLDER = Path(os.environ.get("EXCHANGE_DATA", ".")) / "golden_pcaps"


def packets_of(name: str) -> list[Packet]:
    """The datagrams of a capture; each comes out as it went in, and so does every message."""
    packets = []
    for payload in payloads(FOLDER / f"Nasdaq.Equities.TotalView.Itch.v5.0__{name}.pcap"):
        packet = decode_packet(payload)
        assert encode_packet(packet) == payload
        for one in packet.messages:
            assert decode(one).check().encode() == one
        packets.append(packet)
    return packets


def at(hours: int, minutes: int, seconds: int, nanoseconds: int) -> int:
    return (hours * 3600 + minutes * 60 + seconds) * 1_000_000_000 + nanoseconds


@pytest.mark.parametrize(
    ("name", "sequence", "cls", "fields"),
    [
        (
            "AddOrderNoMpidAttributionMessage",
            14_757_721,
            itch50.AddOrder,
            {
                "stock_locate": 5528,
                "timestamp": at(9, 29, 59, 999_894_278),
                "order_reference_number": 23_508_286,
                "buy_sell_indicator": "B",
                "shares": 1600,
                "stock": "IVOO",
                "price": 873_900,
            },
        ),
        (
            "OrderDeleteMessage",
            14_757_722,
            itch50.OrderDelete,
            {"stock_locate": 3517, "order_reference_number": 23_497_686},
        ),
        (
            "OrderExecutedMessage",
            14_757_745,
            itch50.OrderExecuted,
            {
                "stock_locate": 2345,
                "tracking_number": 2,
                "order_reference_number": 23_499_418,
                "executed_shares": 25,
                "match_number": 255_547,
            },
        ),
        (
            "OrderReplaceMessage",
            14_757_701,
            itch50.OrderReplace,
            {
                "original_order_reference_number": 15_108_479,
                "new_order_reference_number": 21_361_351,
                "shares": 100,
                "price": 1_062_600,
            },
        ),
        (
            "NetOrderImbalanceIndicatorMessage",
            14_757_919,
            itch50.NetOrderImbalance,
            {
                "paired_shares": 1,
                "imbalance_shares": 0,
                "imbalance_direction": "N",
                "stock": "MDC",
                "far_price": 464_400,
                "near_price": 464_400,
                "current_reference_price": 464_400,
                "cross_type": "O",
                "price_variation_indicator": "L",
            },
        ),
        (
            "MarketParticipantPositionMessage",
            17_861_990,
            itch50.MarketParticipantPosition,
            {
                "market_participant_id": "MAXM",
                "stock": "FGMC",
                "primary_market_maker": "Y",
                "market_maker_mode": "N",
                "market_participant_state": "A",
            },
        ),
        (
            "StockTradingActionMessage",
            34_147_961,
            itch50.StockTradingAction,
            {"stock": "AMC", "trading_state": "T", "reason": ""},
        ),
    ],
)
def test_a_message_says_what_was_captured(
    name: str, sequence: int, cls: type[ItchMessage], fields: dict[str, object]
) -> None:
    (packet,) = packets_of(name)
    assert (packet.session, packet.sequence_number) == ("000010059B", sequence)
    (data,) = packet.messages
    message = decode(data)
    assert type(message) is cls
    assert {field: getattr(message, field) for field in fields} == fields


def test_full_datagrams() -> None:
    first, second = packets_of("Multiple.Packets")
    assert (first.sequence_number, [data[:1] for data in first.messages]) == (14_764_496, [b"D"])
    assert (second.sequence_number, len(second.messages)) == (19_009_117, 38)
    assert set(Counter(data[:1] for data in second.messages)) == {b"A", b"F"}
    assert len(encode_packet(second)) == 1472


def test_a_subscriber_takes_the_captured_datagrams() -> None:
    _, second = packets_of("Multiple.Packets")
    subscriber = Subscriber(lambda: FeedBook(capacity_orders=100))
    subscriber.next_sequence = second.sequence_number
    subscriber.receive(encode_packet(second), 0)
    assert subscriber.book.symbols == ("META",)
    assert subscriber.book.live_orders() == 38
    assert subscriber.book.counts().faults == 0
