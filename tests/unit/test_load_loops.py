"""The loop of a load over streams, against an exchange of a few lines that does everything OUCH allows."""

import socket
import threading
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from exchange.bench.results import LoadPoint
from exchange.errors import UserError
from exchange.load.generator import _Run, compile_loop
from exchange.load.logins import Endpoint, Login
from exchange.load.measured import load_point
from exchange.load.plan import LoadPlan
from exchange.wire.ouch50 import INBOUND_MESSAGES
from exchange.wire.soupbintcp import (
    CLIENT_PACKETS,
    ClientHeartbeat,
    EndOfSession,
    PacketSplitter,
    SequencedData,
    ServerHeartbeat,
    UnsequencedData,
)
from tests.moody_exchange import FIRST_NUMBER, Moody

SEND_BUFFER_BYTES = 8192
"""Little, so that a line is soon full."""


class Streaming(Moody):
    """It reads a stream, and answers in pieces."""

    def __init__(self, line: socket.socket, seed: int) -> None:
        super().__init__(seed)
        self.line = line
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        splitter = PacketSplitter(CLIENT_PACKETS)
        while data := self.receive():
            answers = b""
            for packet in splitter.feed(data):
                decoded = CLIENT_PACKETS.decode(packet)
                if isinstance(decoded, UnsequencedData):
                    self.counts["sent"] += 1
                    said = self.answer(INBOUND_MESSAGES.decode(decoded.message))
                    answers += b"".join(SequencedData(one.encode()).encode() for one in said)
                elif isinstance(decoded, ClientHeartbeat):
                    self.counts["heartbeats"] += 1
                    answers += ServerHeartbeat().encode()
            while answers:  # in pieces that end anywhere
                cut = self.chance.randint(1, 200)
                with suppress(OSError):  # the load may have heard all that it wanted
                    self.line.sendall(answers[:cut])
                answers = answers[cut:]

    def receive(self) -> bytes:
        try:
            return self.line.recv(1 << 16)
        except ConnectionResetError:
            return b""


class Line(NamedTuple):
    """What the loop asks of a session."""

    name: str
    socket: socket.socket
    next_number: int
    next_wanted: int = 1

    @property
    def descriptor(self) -> int:
        """The socket's."""
        return self.socket.fileno()


def run(
    sessions: int, rate: float | None, seed: int, **changes: Any
) -> tuple[LoadPoint, list[Streaming], _Run]:
    compile_loop()
    pairs = [socket.socketpair() for _ in range(sessions)]
    for here, _ in pairs:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    exchanges = [Streaming(there, seed + index) for index, (_, there) in enumerate(pairs)]
    lines: list[Any] = [Line(f"U{index}", here, FIRST_NUMBER) for index, (here, _) in enumerate(pairs)]
    plan = LoadPlan(
        Endpoint("moody", 1), tuple(Login(line.name, "x") for line in lines), (rate,), 0.3, 0.1, orders=4, seed=seed
    )._replace(**changes)  # fmt: skip
    try:
        one = _Run(plan, rate, 0, lines)
        return load_point(one.measure(), rate or 0.0, 0), exchanges, one
    finally:
        for (here, _), exchange in zip(pairs, exchanges, strict=True):
            here.close()
            exchange.thread.join()
            exchange.line.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("sessions", "rate"), [(1, 3000.0), (6, 3000.0), (2, None)])
def test_the_loop_and_the_exchange_agree_about_every_request(
    sessions: int, rate: float | None, seed: int
) -> None:
    point, exchanges, one = run(sessions, rate, seed)
    for key in ("sent", "answered", "rejected", "lapsed"):
        assert point.counts[key] == sum(exchange.counts[key] for exchange in exchanges), key
        assert point.counts[key] > 0, key
    assert point.counts["unanswered"] == 0
    assert 0 < point.sample_count < point.counts["answered"] + point.counts["rejected"]
    # The run ends with its last answer; what is filled behind that is not read any more.
    unread = sum(exchange.counts["executions"] for exchange in exchanges) - point.counts["executions"]
    assert 0 <= unread <= 5 * sessions
    for numbers, exchange in zip(one.resting_numbers(), exchanges, strict=True):
        assert set(exchange.alive) <= set(numbers)
        assert len(numbers) <= len(exchange.alive) + unread


def test_a_quiet_session_keeps_its_line_alive() -> None:
    point, (exchange,), _ = run(1, 0.5, 1, seconds=4.0, warmup_seconds=0.0, arrivals="constant")
    assert (point.counts["sent"], exchange.counts["heartbeats"]) == (2, 1)


class Abrupt(Streaming):
    """It says one thing to the first request, whatever it was, and hangs up."""

    said = b""

    def serve(self) -> None:
        self.line.recv(1)
        self.line.sendall(self.said)
        self.line.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "the exchange closed the connection|the line is broken"),
        (EndOfSession().encode(), "the exchange ended the session"),
        (b"\x00\x05?what", "what it sends is not SoupBinTCP"),
        (b"\x00\x00", "what it sends is not SoupBinTCP"),
    ],
)
def test_a_line_that_ends_is_told(monkeypatch: pytest.MonkeyPatch, said: bytes, told: str) -> None:
    monkeypatch.setattr(Abrupt, "said", said)
    monkeypatch.setitem(globals(), "Streaming", Abrupt)
    with pytest.raises(UserError, match=rf"^session of U0, after 0 answers: ({told})"):
        run(1, 1000.0, 1)


def test_requests_that_do_not_fit_are_counted_and_late() -> None:
    """An exchange that reads nothing for a while: the line fills, and latency counts from the intended times."""

    class Asleep(Streaming):
        def serve(self) -> None:
            threading.Event().wait(0.5)
            super().serve()

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(globals(), "Streaming", Asleep)
        point, _, _ = run(1, 2000.0, 1, warmup_seconds=0.0)
    assert point.back_pressure["line"] > 0
    assert point.counts["unanswered"] == 0
    assert point.percentiles is not None
    assert point.percentiles.max_ns > 300_000_000
    assert point.behind
