"""Packets captured on NASDAQ's lines: every byte is explained, and what is decoded encodes to the same bytes."""

import os
from pathlib import Path

import pytest

from exchange.wire import ouch50, soupbintcp
from exchange.wire.layout import Message, MessageTable
from exchange.wire.ouch50_options import Option, OptionTag
from exchange.wire.soupbintcp import PacketSplitter, SequencedData, UnsequencedData
from tests.pcap import payloads

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data"
    ),
]

FOLDER = Path(os.environ.get("EXCHANGE_DATA", ".")) / "golden_pcaps"


def packet_of(name: str, packets: MessageTable) -> Message:
    """The only SoupBinTCP packet of a capture; it is all of the TCP payload, and comes out as it went in."""
    (payload,) = payloads(FOLDER / f"Nasdaq.Nsm.Ouch.v5.0__{name}.pcap")
    splitter = PacketSplitter(packets)
    (whole,) = splitter.feed(payload)
    assert (whole, splitter.pending_bytes, splitter.garbage) == (payload, 0, None)
    packet = packets.decode(payload)
    assert packet.encode() == payload
    return packet


def inbound(name: str) -> Message:
    packet = packet_of(name, soupbintcp.CLIENT_PACKETS)
    assert isinstance(packet, UnsequencedData)
    message = ouch50.INBOUND_MESSAGES.decode(packet.message)
    assert message.encode() == packet.message
    return message.check()


def outbound(name: str) -> Message:
    packet = packet_of(name, soupbintcp.SERVER_PACKETS)
    assert isinstance(packet, SequencedData)
    message = ouch50.OUTBOUND_MESSAGES.decode(packet.message)
    assert message.encode() == packet.message
    return message.check()


def at(hours: int, minutes: int, seconds: int, nanoseconds: int) -> int:
    return (hours * 3600 + minutes * 60 + seconds) * 1_000_000_000 + nanoseconds


def test_enter_order() -> None:
    assert inbound("EnterOrderMessage") == ouch50.EnterOrder(
        user_reference_number=113,
        side="T",
        quantity=225,
        symbol="CVLT",
        price=630_200,
        time_in_force=ouch50.TimeInForce.DAY,
        display="Y",
        capacity="A",
        intermarket_sweep_eligibility="N",
        cross_type="N",
        client_order_id="H8FUB8IV",
        options=(Option(OptionTag.FIRM, "LIME"),),
    )


def test_cancel_order() -> None:
    assert inbound("CancelOrderMessage") == ouch50.CancelOrder(user_reference_number=7_679_601, quantity=0)


def test_canceled() -> None:
    assert outbound("CanceledMessage") == ouch50.OrderCanceled(
        timestamp=at(12, 24, 7, 483_708_183), user_reference_number=7_682_701, quantity=40, reason="U"
    )


def test_order_accepted() -> None:
    assert outbound("OrderAcceptedMessage") == ouch50.OrderAccepted(
        timestamp=at(12, 24, 7, 483_486_087),
        user_reference_number=7_682_701,
        side="B",
        quantity=40,
        symbol="ADBE",
        price=4_777_800,
        time_in_force=ouch50.TimeInForce.EXTENDED_HOURS,
        display="Y",
        order_reference_number=257_340_661,
        capacity="A",
        intermarket_sweep_eligibility="N",
        cross_type="N",
        order_state=ouch50.OrderState.LIVE,
        client_order_id="7682701",
        options=(Option(OptionTag.FIRM, "MLRO"), Option(OptionTag.BBO_WEIGHT_INDICATOR, "0")),
    )


def test_heartbeats() -> None:
    client = packet_of("ClientHeartbeatPacket", soupbintcp.CLIENT_PACKETS)
    server = packet_of("ServerHeartbeatPacket", soupbintcp.SERVER_PACKETS)
    assert (client, server) == (soupbintcp.ClientHeartbeat(), soupbintcp.ServerHeartbeat())
