"""Wireshark's dissectors look at a session of OUCH 4.2 as it was served: nothing is malformed, all is as in our log."""

from pathlib import Path

import pytest

from exchange.gateway.session_memory import LOG_END
from exchange.native import load_int64, view_bytes
from exchange.wire import ouch42, soupbintcp
from exchange.wire.ouch42 import CancelOrder, ModifyOrder
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import BareClient, Server, order42, replacement42, run, serving
from tests.pcap import write_conversation
from tests.tshark import TSHARK, dissect, our_fields

pytestmark = pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt install tshark")

PRICE = 100_0000


class RecordedClient(BareClient):
    """A client that remembers what went over its connection, in its order: whether it sent it, and the bytes."""

    def record(self) -> list[tuple[bool, bytes]]:
        """Begin to remember; the list grows."""
        recorded: list[tuple[bool, bytes]] = []
        read, write = self.reader.read, self.writer.write

        async def read_and_remember(size: int) -> bytes:
            data = await read(size)
            recorded.extend([(False, data)] if data else [])
            return data

        def write_and_remember(data: bytes) -> None:
            recorded.append((True, data))
            write(data)

        self.reader.read = read_and_remember  # type: ignore[method-assign]
        self.writer.write = write_and_remember  # type: ignore[method-assign, assignment]
        return recorded


def log_of(server: Server, session_id: int) -> list[bytes]:
    """Every packet in a session's log."""
    memory = server.transport.memory
    session = memory.address(session_id)
    log = bytes(view_bytes(session + memory.sessions.log_offset, load_int64(session + LOG_END)))
    packets = soupbintcp.PacketSplitter(soupbintcp.SERVER_PACKETS).feed(log)
    assert b"".join(packets) == log
    return packets


async def a_day(client: BareClient) -> None:
    """A session that hears everything that this exchange says in OUCH 4.2."""
    await client.request(
        order42("sale", Side.SELL, 300, firm="LIME"),
        ModifyOrder("sale", Side.SELL_SHORT, 250),
        order42("purchase", Side.BUY, 100, PRICE + 1, time_in_force=0),
        replacement42("sale", "dearer", 200, PRICE + 500, time_in_force=99_999),
        CancelOrder("dearer", 150),
        CancelOrder("dearer", 0),
        order42("wrong", stock="NOPE"),
        ouch42.TradeNow("gone"),
    )
    await client.answers(9)


def test_a_served_session_is_dissected_without_a_malformed_frame(tmp_path: Path) -> None:
    captured: list[tuple[bool, bytes]] = []
    logged: list[bytes] = []

    async def scenario() -> None:
        async with serving("carol", speak_ouch42=("carol",)) as server:
            client = await RecordedClient.dial(server)
            client.outbound = ouch42.OUTBOUND_MESSAGES
            recorded = client.record()
            await client.send(soupbintcp.LoginRequest("carol", "secret", "", 1).encode())
            await client.packet()
            await a_day(client)
            await client.send(soupbintcp.LogoutRequest().encode())
            assert await client.is_closed()
            await client.close()
            logged.extend(log_of(server, 0))
            captured.extend(recorded)

    run(scenario())
    path = tmp_path / "served.pcap"
    write_conversation(path, captured)
    seen = [one.message for one in dissect(path) if one.message]
    asked = [one.message for one in packets_of(captured, by_client=True)]
    answered = [one.message for one in packets_of(captured, by_client=False)]
    assert [soupbintcp.SequencedData(message).encode() for message in answered] == logged
    told = {message[:1] for message in answered}
    assert told == {b"S", b"A", b"E", b"U", b"M", b"C", b"J"}
    fields = [our_fields(ouch42.INBOUND_MESSAGES.decode(message)) for message in asked if message[:1] != b"N"]
    fields += [our_fields(ouch42.OUTBOUND_MESSAGES.decode(message)) for message in answered]
    assert sorted(one for one in seen if one[0] != b"N") == sorted(fields)


def packets_of(
    captured: list[tuple[bool, bytes]], *, by_client: bool
) -> list[soupbintcp.UnsequencedData | soupbintcp.SequencedData]:
    """The packets of one side that carry OUCH."""
    table = soupbintcp.CLIENT_PACKETS if by_client else soupbintcp.SERVER_PACKETS
    data = b"".join(data for sent_by_client, data in captured if sent_by_client == by_client)
    packets = map(table.decode, soupbintcp.PacketSplitter(table).feed(data))
    return [one for one in packets if isinstance(one, soupbintcp.UnsequencedData | soupbintcp.SequencedData)]
