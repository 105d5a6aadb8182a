"""A load's line over UDP against scripted peers: what is lost is sent again, what is forged dropped, an end told."""

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from exchange.bench.results import LoadPoint
from exchange.errors import UserError
from exchange.load import generator, sessions, udp_line
from exchange.load.generator import _Run, compile_loop
from exchange.load.logins import Endpoint, Login
from exchange.load.measured import load_point
from exchange.load.plan import LoadPlan
from exchange.load.sessions import log_out
from exchange.load.udp_session import UdpSession
from exchange.native import store_int64
from exchange.wire import soupbintcp
from exchange.wire.ouch50 import (
    INBOUND_MESSAGES,
    AccountQuery,
    AccountQueryResponse,
    Rejected,
    SystemEvent,
)
from exchange.wire.soupbintcp import CLIENT_PACKETS
from exchange.wire.soupbinudp import (
    CLIENT_DATAGRAMS,
    HEADER_BYTES,
    PACKETS_BYTES_MAX,
    WINDOW_BYTES,
    ConnectionClosed,
    EndOfSession,
    LoginAccepted,
    LoginRequest,
    LogoutRequest,
    RetransmissionRequest,
    SequencedData,
    packets_of,
)
from exchange.wire.soupbinudp_connection import DatagramConnection
from tests.moody_exchange import FIRST_NUMBER, Moody
from tests.udp_driver import LOOPBACK

SESSION_NUMBER = 3
TURN_SECONDS = 0.001
BOUND_SECONDS = 30.0
"""Instead of the load's own limits, which a test on a busy machine need not keep."""


class Peer(Moody):
    """An exchange behind a bad line: it loses, doubles and delays datagrams, and forges some.

    ``heard_trouble`` is the chance of each on the way to it, ``said_trouble`` that on the way from it.
    """

    heard_trouble = said_trouble = 0.0
    forges = False

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 0))
        self.socket.settimeout(TURN_SECONDS)
        self.endpoint = Endpoint(*self.socket.getsockname())
        self.token = secrets.randbits(64) | 1 << 63  # a signed word is negative then
        self.connection = DatagramConnection(SESSION_NUMBER, self.token, 1, 0.0)
        self.client: Any = None
        self.now = 0.0
        self.late: list[Callable[[], None]] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.socket.close()

    def serve(self) -> None:
        while not self.stopped.is_set():
            self.now += TURN_SECONDS  # a clock of its own, which stands still while nothing runs
            with suppress(TimeoutError):
                data, self.client = self.socket.recvfrom(2048)
                self.hear(data)
            for datagram in self.connection.due(self.now) if self.client else []:
                self.say(datagram)
            late, self.late = self.late, []
            for deliver in late:
                deliver()

    def hear(self, data: bytes) -> None:
        datagram = CLIENT_DATAGRAMS.decode(data)
        match datagram:
            case LoginRequest():
                accepted = LoginAccepted(datagram.login_number, "", 1, SESSION_NUMBER, self.token)
                self.socket.sendto(accepted.encode(), self.client)
            case LogoutRequest():
                self.socket.sendto(self.bare(ConnectionClosed), self.client)
            case RetransmissionRequest():
                self.counts["asked again"] += 1
                self.mistreat(self.heard_trouble, lambda: self.take(data))
            case _:
                self.counts["heartbeats"] += datagram.message_count == 0
                self.mistreat(self.heard_trouble, lambda: self.take(data))

    def take(self, data: bytes) -> None:
        for packet in self.connection.receive(data, self.now):
            request = INBOUND_MESSAGES.decode(CLIENT_PACKETS.decode(packet).message)  # type: ignore[attr-defined]
            self.take_request(request)

    def take_request(self, request: Any) -> None:
        if isinstance(request, AccountQuery):
            self.put(AccountQueryResponse(0, FIRST_NUMBER))
            return
        self.counts["sent"] += 1
        for message in self.answer(request):
            self.put(message)

    def put(self, message: Any) -> None:
        self.connection.put(soupbintcp.SequencedData(message.encode()).encode())

    def say(self, datagram: bytes) -> None:
        if self.forges:
            for forgery in self.forgeries():
                self.counts["forged"] += 1
                self.socket.sendto(forgery, self.client)
        self.mistreat(self.said_trouble, lambda: self.socket.sendto(datagram, self.client))

    def mistreat(self, trouble: float, deliver: Callable[[], object]) -> None:
        lost, doubled, delayed = (self.chance.random() < trouble for _ in range(3))
        for _ in range(0 if lost else 1 + doubled):
            if delayed:
                self.late.append(deliver)  # type: ignore[arg-type]
            else:
                deliver()

    def bare(self, kind: Any, **changes: int) -> bytes:
        fields = {
            "session_number": SESSION_NUMBER,
            "token": self.token,
            "sequence_number": self.connection.next_number,
            "next_wanted": self.connection.next_wanted,
            "message_count": 0,
        }
        return bytes(kind(**(fields | changes)).encode())

    def forgeries(self) -> list[bytes]:
        """Datagrams that nobody should believe."""
        numbers = SESSION_NUMBER, self.token, 1, 1, 1
        rejection = soupbintcp.SequencedData(Rejected(0, FIRST_NUMBER, 1, "").encode()).encode()
        forged = SequencedData(*numbers, rejection).encode()
        return [
            b"",
            self.chance.randbytes(self.chance.randint(1, 1500)),
            forged[: HEADER_BYTES - 1],
            SequencedData(SESSION_NUMBER + 1, *numbers[1:], rejection).encode(),
            SequencedData(SESSION_NUMBER, self.token ^ 1, *numbers[2:], rejection).encode(),
            self.bare(ConnectionClosed, token=self.token - 1),
            self.bare(EndOfSession, session_number=0),
            b"?" + self.bare(ConnectionClosed)[1:],
            self.bare(ConnectionClosed) + b"!",
        ]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "DRAIN_NS", int(BOUND_SECONDS * 1e9))
    monkeypatch.setattr(sessions, "LOGOUT_SECONDS", BOUND_SECONDS)
    compile_loop("udp")


@contextmanager
def logged_on(kind: type[Peer], count: int, seed: int) -> Iterator[tuple[list[Peer], list[UdpSession]]]:
    peers, lines = [kind(seed + index) for index in range(count)], []
    try:
        for index, peer in enumerate(peers):
            lines.append(UdpSession(peer.endpoint, Login(f"U{index}", "x")))
        yield peers, lines
    finally:
        for line in lines:
            line.close()
        for peer in peers:
            peer.stop()


def prepare(lines: list[UdpSession], rate: float | None, seed: int = 1, **changes: Any) -> _Run:
    logins = tuple(Login(line.name, "x") for line in lines)
    plan = LoadPlan(Endpoint("moody", 1), logins, (rate,), 0.3, 0.1, orders=4, seed=seed, transport="udp")
    return _Run(plan._replace(**changes), rate, 0, lines)


def run(
    kind: type[Peer], count: int, rate: float | None, seed: int, **changes: Any
) -> tuple[LoadPoint, list[Peer]]:
    """A run to its end, and everything that was sent has come to the peers."""
    with logged_on(kind, count, seed) as (peers, lines):
        one = prepare(lines, rate, seed, **changes)
        point = load_point(one.measure(), rate or 0.0, 0)
        one.give_back()
        log_out(lines, [[] for _ in lines])
        assert all(line.connection.is_closed for line in lines)
        return point, peers


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "rate"), [(1, 3000.0), (6, 1500.0), (2, None)])
def test_over_a_bad_line_the_loop_and_the_exchange_agree_about_every_request(
    count: int, rate: float | None, seed: int
) -> None:
    class Bad(Peer):
        heard_trouble = said_trouble = 0.15
        forges = True

    point, peers = run(Bad, count, rate, seed)
    for key in ("sent", "answered", "rejected", "lapsed"):
        assert point.counts[key] == sum(peer.counts[key] for peer in peers), key
        assert point.counts[key] > 0, key
    assert point.counts["unanswered"] == 0
    assert point.back_pressure["sent again"] > 0
    assert point.back_pressure["asked again"] > 0
    assert 0 < point.back_pressure["strange datagrams"] <= sum(peer.counts["forged"] for peer in peers)
    unread = sum(peer.counts["executions"] for peer in peers) - point.counts["executions"]
    assert 0 <= unread <= 5 * count


def test_what_is_lost_on_the_way_here_is_asked_for() -> None:
    class Mumbling(Peer):
        said_trouble = 0.3

    point, (peer,) = run(Mumbling, 1, 3000.0, 1)
    assert point.counts["unanswered"] == 0
    assert 0 < point.back_pressure["asked again"] <= peer.counts["asked again"]
    assert point.back_pressure["strange datagrams"] == 0


def test_what_is_lost_on_the_way_there_is_sent_again() -> None:
    class Deaf(Peer):
        heard_trouble = 0.3

    point, peers = run(Deaf, 1, 3000.0, 1)
    assert point.counts["unanswered"] == 0
    assert point.counts["sent"] == sum(peer.counts["sent"] for peer in peers)
    assert point.back_pressure["sent again"] > 0
    assert point.back_pressure["asked again"] == point.back_pressure["strange datagrams"] == 0


def test_no_more_than_a_window_is_on_its_way() -> None:
    """A peer that reads nothing until as much has come as may: the line is full, and goes on when it wakes up."""

    class Asleep(Peer):
        def __init__(self, seed: int) -> None:
            self.held: list[bytes] = []
            self.sizes: dict[int, int] = {}
            self.sleeps = False
            super().__init__(seed)

        def take_request(self, request: Any) -> None:
            super().take_request(request)
            self.sleeps |= isinstance(request, AccountQuery)

        def take(self, data: bytes) -> None:
            if not self.sleeps:
                super().take(data)
                return
            datagram = SequencedData.decode(data)
            for index, packet in enumerate(packets_of(datagram)):
                self.sizes[datagram.sequence_number + index] = 2 + len(packet)
            self.held += [data] if sum(self.sizes.values()) > WINDOW_BYTES - 100 else []
            self.sleeps = len(self.held) < 30  # more than a window of them, so some of it came twice

    point, (peer,) = run(Asleep, 1, 4000.0, 1, seconds=1.0, arrivals="constant")
    assert isinstance(peer, Asleep)
    assert not peer.sleeps
    assert sum(peer.sizes.values()) <= WINDOW_BYTES
    assert point.back_pressure["line"] > 0
    assert point.back_pressure["sent again"] > 0
    assert point.counts["sent"] == peer.counts["sent"] == 4400
    assert point.counts["unanswered"] == 0


def test_requests_that_are_due_together_share_datagrams() -> None:
    class Measuring(Peer):
        def take(self, data: bytes) -> None:
            self.counts["largest"] = max(self.counts["largest"], len(data) - HEADER_BYTES)
            super().take(data)

    point, (peer,) = run(Measuring, 1, None, 1, window=2000)
    assert point.counts["unanswered"] == 0
    assert PACKETS_BYTES_MAX - 60 < peer.counts["largest"] <= PACKETS_BYTES_MAX


def test_a_quiet_session_acknowledges_and_keeps_its_line_alive() -> None:
    class Attentive(Peer):
        def take_request(self, request: Any) -> None:
            self.counts["unacknowledged"] += self.connection.unacknowledged
            super().take_request(request)
            self.put(SystemEvent(0, "S"))

    point, (peer,) = run(
        Attentive, 1, 0.5, 1, seconds=4.0, warmup_seconds=0.0, arrivals="constant"
    )  # two requests, two seconds from each other
    assert point.counts["sent"] == peer.counts["sent"] == 2
    assert peer.counts["unacknowledged"] == 0
    assert peer.counts["heartbeats"] >= 3  # with the acknowledgements
    assert point.back_pressure == {"line": 0, "sent again": 0, "asked again": 0, "strange datagrams": 0}


class Abrupt(Peer):
    """It answers the account query, and the first request with ``last_words``."""

    def last_words(self) -> bytes:
        raise NotImplementedError

    def take_request(self, request: Any) -> None:
        if isinstance(request, AccountQuery):
            super().take_request(request)
        else:
            self.socket.sendto(self.last_words(), self.client)


def data(count: int, packets: bytes) -> Callable[[Peer], bytes]:
    def made(peer: Peer) -> bytes:
        following = peer.connection.next_number
        return SequencedData(SESSION_NUMBER, peer.token, following, 1, count, packets).encode()

    return made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (lambda peer: peer.bare(ConnectionClosed), "the exchange closed the connection"),
        (lambda peer: peer.bare(EndOfSession), "the exchange ended the session"),
        (data(1, soupbintcp.EndOfSession().encode()), "the exchange ended the session"),
        (data(1, b"\x00\x05?what"), "what it sends is not SoupBinTCP"),
        (data(2, soupbintcp.EndOfSession().encode()), "what it sends is not SoupBinTCP"),
        (data(1, soupbintcp.EndOfSession().encode() + b"\x00"), "what it sends is not SoupBinTCP"),
        (data(0, b"\x00"), "what it sends is not SoupBinTCP"),
    ],
)
def test_a_line_that_ends_is_told(words: Callable[[Peer], bytes], told: str) -> None:
    class Ending(Abrupt):
        last_words = words  # type: ignore[assignment]

    with logged_on(Ending, 1, 1) as (_, lines):
        one = prepare(lines, 1000.0)
        with pytest.raises(UserError, match=rf"^session of U0, after 0 answers: {told}"):
            one.measure()
        one.give_back()
        log_out(lines, [[FIRST_NUMBER]])
        assert lines[0].connection.is_closed


def test_an_exchange_that_is_gone_is_told() -> None:
    with logged_on(Peer, 1, 1) as ((peer,), lines):
        peer.stop()
        one = prepare(lines, 1000.0)
        with pytest.raises(
            UserError, match=r"^session of U0, after 0 answers: nobody listens there any more"
        ):
            one.measure()


def test_silence_is_told() -> None:
    with logged_on(Peer, 1, 1) as (_, lines):
        one = prepare(lines, 1000.0)
        store_int64(one._address(0) + udp_line.HEARD_NS, -udp_line.SILENCE_NS)
        with pytest.raises(UserError, match="the exchange has said nothing for 15 s"):
            one.measure()


def test_orders_that_rest_are_cancelled_behind_what_was_lost() -> None:
    """The load ends with requests that nobody has acknowledged; they arrive before the cancels, each once."""

    class Absent(Peer):
        is_absent = False

        def take(self, data: bytes) -> None:
            if not self.is_absent:
                super().take(data)

    with logged_on(Absent, 1, 1) as ((peer,), lines):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(generator, "DRAIN_NS", 0)
            one = prepare(lines, 1000.0)
        peer.is_absent = True  # type: ignore[attr-defined]
        counts = one.measure().counts
        assert counts["unanswered"] + counts["lapsed"] == counts["sent"] > 0
        resting = one.resting_numbers()
        one.give_back()
        peer.is_absent = False  # type: ignore[attr-defined]
        log_out(lines, resting)
        assert peer.counts["sent"] == counts["sent"] + len(resting[0])
        assert peer.alive == {}
