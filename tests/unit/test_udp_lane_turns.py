"""Two ingress lanes over datagrams, turn by turn: what belongs to which, and when a session goes from one to the other.

The halves are run by hand from the same source that is compiled, so that what lies between two turns can be looked at.
"""

from collections.abc import Iterator

import pytest

from exchange.book.config import LadderBookConfig
from exchange.gateway.config import GatewayConfig
from exchange.gateway.session_memory import (
    CONNECTION,
    IN_ADOPTED,
    IN_NEXT,
    IN_RELEASED,
    LAST_USER_REFERENCE,
    OUT_RELEASED,
)
from exchange.messages import ALL_SYMBOLS, Command, CommandKind
from exchange.native import body_for, load_int64, load_uint8, store_int64
from exchange.native.datagram_headers import socket_address
from exchange.risk.limits import LimitsMemory
from exchange.transport.network import NetworkOptions
from exchange.transport.network_agents import CONSUMED
from exchange.transport.protocol import consume, receive
from exchange.transport.udp import UdpTransport
from exchange.transport.udp_receiving import STRANGE
from exchange.wire.layout import Message
from exchange.wire.soupbintcp import UnsequencedData
from exchange.wire.soupbinudp import LogoutRequest, SequencedData
from tests.gateway_driver import order
from tests.udp_driver import QueuedSockets, udp_socket

TOKEN = 0x1234_5678_9ABC_DEF0
ALICE, BOB = 0, 1
BATCH_COMMANDS = 8


class Lanes:
    """A transport with two lanes, whose sending half is said to have let everything go."""

    def __init__(self) -> None:
        self.port = QueuedSockets(2)
        self.client = udp_socket()
        config = GatewayConfig(capacity_orders=1 << 10, log_bytes=1 << 16, time_zone="UTC")
        owners = [0] * len(config.symbols)
        # A served exchange's risk, which limits nobody here: so its loops are compiled once for all tests.
        options = NetworkOptions(risk=LimitsMemory(2, len(config.symbols)))
        self.transport = UdpTransport(
            config, LadderBookConfig(), 2, owners, 1, BATCH_COMMANDS, self.port, options
        )
        self.sources = [self.transport.source(lane) for lane in range(2)]
        self._receive = body_for(receive, self.sources[0])
        self._consume = body_for(consume, self.sources[0])

    def word(self, session_id: int, offset: int) -> int:
        return load_int64(self.transport.memory.address(session_id) + offset)

    def log_on(self, session_id: int, lane: int) -> None:
        """A connection through a lane's queue; both lanes have a turn, the other one first."""
        session = self.transport.memory.address(session_id)
        store_int64(session + OUT_RELEASED, load_int64(session + CONNECTION))
        peer = socket_address(*self.client.getsockname())
        self.transport.connect_peer(session_id, peer, TOKEN + session_id, 0, 1, lane)
        assert [self.turn(1 - lane), self.turn(lane)] == [0, 0]
        assert self.word(session_id, IN_ADOPTED) == self.word(session_id, CONNECTION)

    def say(self, lane: int, data: bytes) -> None:
        self.client.sendto(data, self.port.address_of(lane))

    def requests(self, session_id: int, first: int, *messages: Message) -> bytes:
        packets = b"".join(UnsequencedData(one.encode()).encode() for one in messages)
        return SequencedData(session_id, TOKEN + session_id, first, 1, len(messages), packets).encode()

    def logout(self, session_id: int) -> bytes:
        return LogoutRequest(session_id, TOKEN + session_id, 1, 1, 0).encode()

    def show(self, lane: int) -> tuple[int, int]:
        """What a lane has decoded: where its commands lie, and how many."""
        address, count = self._receive(self.sources[lane], BATCH_COMMANDS)
        return int(address), int(count)

    def take(self, lane: int, count: int) -> None:
        """The ingress has put so many of them into the inboxes."""
        self._consume(self.sources[lane], count)

    def turn(self, lane: int) -> int:
        """A turn of an ingress that has room for everything: how many commands it took."""
        _, count = self.show(lane)
        self.take(lane, count)
        return count

    def is_released(self, session_id: int) -> bool:
        return self.word(session_id, IN_RELEASED) == self.word(session_id, CONNECTION)

    def strange(self, lane: int) -> int:
        return load_int64(self.sources[lane].words + STRANGE)

    def close(self) -> None:
        self.transport.close()
        self.client.close()


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes()
    yield made
    made.close()


def test_each_lane_takes_what_is_its_own_and_is_deaf_to_all_else(lanes: Lanes) -> None:
    lanes.log_on(ALICE, 0)
    lanes.log_on(BOB, 1)
    for lane in range(2):
        for session_id in (ALICE, BOB):
            lanes.say(lane, lanes.requests(session_id, 1, order(1), order(2)))
            lanes.say(lane, lanes.requests(session_id, 3, order(3)))
    assert [lanes.turn(0), lanes.turn(1)] == [3, 3]
    assert [lanes.strange(0), lanes.strange(1)] == [2, 2]
    assert [lanes.word(one, IN_NEXT) for one in (ALICE, BOB)] == [4, 4]
    lanes.say(1, lanes.logout(ALICE))
    lanes.turn(1)
    assert not lanes.is_released(ALICE), "nobody ends a session through another lane"


def test_what_control_wants_is_done_by_the_lane_that_has_the_session(lanes: Lanes) -> None:
    lanes.log_on(ALICE, 1)
    assert [lanes.transport.lane_of(one) for one in (ALICE, BOB)] == [1, 0]
    command = Command(CommandKind.MASS_CANCEL, session_id=ALICE, symbol_id=ALL_SYMBOLS)
    assert lanes.transport.command(command)
    assert [lanes.turn(0), lanes.turn(1)] == [0, 1]
    lanes.transport.disconnect(ALICE)
    lanes.turn(0)
    assert not lanes.is_released(ALICE)
    lanes.turn(1)
    assert lanes.is_released(ALICE)


def test_a_session_goes_on_in_another_lane_behind_all_that_it_asked_for_before(lanes: Lanes) -> None:
    lanes.log_on(ALICE, 0)
    lanes.say(0, lanes.requests(ALICE, 1, order(1), order(2), order(3)))
    assert lanes.show(0)[1] == 3
    lanes.transport.disconnect(ALICE)
    for left in (3, 2, 1):
        assert lanes.show(0)[1] == left
        assert not lanes.is_released(ALICE), "commands are still on their way into an inbox"
        lanes.take(0, 1)
    assert lanes.turn(0) == 0
    assert lanes.is_released(ALICE)
    lanes.log_on(ALICE, 1)
    lanes.say(0, lanes.requests(ALICE, 1, order(9)))
    lanes.say(1, lanes.requests(ALICE, 1, order(3), order(4)))
    assert [lanes.turn(0), lanes.turn(1)] == [0, 1]
    assert lanes.strange(0) == 1
    assert lanes.word(ALICE, LAST_USER_REFERENCE) == 4
    assert [load_int64(one.words + CONSUMED) for one in lanes.sources] == [3, 1]


def test_orders_that_a_lost_connection_leaves_are_cancelled_before_the_session_moves(lanes: Lanes) -> None:
    lanes.transport.cancel_on_disconnect(ALICE)
    for lane, number in ((0, 1), (1, 2), (0, 3)):
        lanes.log_on(ALICE, lane)
        lanes.say(lane, lanes.requests(ALICE, 1, order(number)))
        assert lanes.turn(lane) == 1
        lanes.say(lane, lanes.logout(ALICE))
        assert lanes.turn(lane) == 0
        assert not lanes.is_released(ALICE), "a cancel is due"
        address, count = lanes.show(lane)
        assert (count, load_uint8(address)) == (1, CommandKind.MASS_CANCEL)
        assert not lanes.is_released(ALICE), "the cancel is not in the inboxes yet"
        lanes.take(lane, 1)
        assert lanes.turn(lane) == 0
        assert lanes.is_released(ALICE)


def test_after_a_restart_the_first_lane_cancels_and_then_the_session_may_be_another_lanes(
    lanes: Lanes,
) -> None:
    lanes.transport.cancel_on_disconnect(BOB)
    lanes.transport.go_on(17, 40)
    assert lanes.transport.released(ALICE)
    assert not lanes.transport.released(BOB)
    assert lanes.turn(1) == 0
    assert lanes.turn(0) == 1
    assert not lanes.transport.released(BOB)
    assert lanes.turn(0) == 0
    assert lanes.transport.released(BOB)
    lanes.log_on(BOB, 1)
    lanes.say(1, lanes.requests(BOB, 1, order(1)))
    assert lanes.turn(1) == 1


def test_a_batch_that_waits_for_room_does_not_touch_a_session_that_has_moved(lanes: Lanes) -> None:
    """The rest of a full batch is about a session that has been let go meanwhile: it is dropped."""
    lanes.log_on(ALICE, 0)
    lanes.say(0, lanes.requests(ALICE, 1, *map(order, range(1, 13))))
    assert lanes.turn(0) == BATCH_COMMANDS
    lanes.transport.disconnect(ALICE)
    assert lanes.turn(0) == 0
    assert lanes.is_released(ALICE)
    lanes.log_on(ALICE, 1)
    lanes.say(1, lanes.requests(ALICE, 1, *map(order, range(9, 13))))
    assert [lanes.turn(0), lanes.turn(1)] == [0, 4]
    assert lanes.word(ALICE, LAST_USER_REFERENCE) == 12
