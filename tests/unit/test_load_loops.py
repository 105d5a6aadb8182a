"""The loop of a load against an exchange of a few lines that does everything OUCH allows, and counts what it did."""

import random
import socket
import threading
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from exchange.bench.results import LoadPoint
from exchange.errors import UserError
from exchange.load.generator import LoadPlan, _load_point, _Run, compile_loop
from exchange.load.logins import Endpoint, Login
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    INBOUND_MESSAGES,
    CancelOrder,
    EnterOrder,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderReplaced,
    Rejected,
    ReplaceOrder,
    SystemEvent,
    TimeInForce,
)
from exchange.wire.soupbintcp import (
    CLIENT_PACKETS,
    ClientHeartbeat,
    EndOfSession,
    PacketSplitter,
    SequencedData,
    ServerHeartbeat,
    UnsequencedData,
)

FIRST_NUMBER = 41
SEND_BUFFER_BYTES = 8192
"""Little, so that a line is soon full."""


class Moody:
    """An exchange with one client: it fills, rejects and ignores as chance will have it, as OUCH says."""

    def __init__(self, line: socket.socket, seed: int) -> None:
        self.line, self.chance = line, random.Random(seed)
        self.alive: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
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

    def answer(self, request: Message) -> list[Message]:
        match request:
            case EnterOrder():
                return self.enter(request)
            case ReplaceOrder():
                return self.replace(request)
            case CancelOrder(user_reference_number=number):
                return self.cancel(number)
        raise AssertionError(request)

    def enter(self, order: EnterOrder) -> list[Message]:
        number = order.user_reference_number
        if self.chance.random() < 0.1:
            self.counts["rejected"] += 1
            return [Rejected(0, number, 0x0F, "")]
        self.counts["answered"] += 1
        said: list[Message] = [
            OrderAccepted(0, number, order.side, order.quantity, order.symbol, order.price, order.time_in_force,
                          "Y", number, "P", "N", "N", "L", "")
        ]  # fmt: skip
        if order.time_in_force == TimeInForce.IMMEDIATE_OR_CANCEL:
            return [*said, OrderCanceled(0, number, order.quantity, "I")]
        self.alive[number] = order.quantity
        return said + self.maybe_fill(number)

    def maybe_fill(self, number: int) -> list[Message]:
        if self.chance.random() < 0.7:
            return []
        parts = [100] * (self.alive[number] // 100)
        parts = parts if self.chance.random() < 0.5 else parts[:1]
        self.alive[number] -= sum(parts)
        if self.alive[number] == 0:
            del self.alive[number]
        self.counts["executions"] += len(parts)
        return [OrderExecuted(0, number, part, 1, "A", 1) for part in parts]

    def replace(self, request: ReplaceOrder) -> list[Message]:
        original, number = request.original_user_reference_number, request.user_reference_number
        left = self.alive.pop(original, 0)
        if left == 0:
            self.counts["lapsed"] += 1
            return []
        if self.chance.random() < 0.2:
            self.counts["rejected"] += 1
            return [OrderCanceled(0, original, left, "D")]
        self.counts["answered"] += 1
        left = 0 if self.chance.random() < 0.1 else left
        said: list[Message] = [
            OrderReplaced(0, original, number, "B", left, "AAPL", request.price, "0", "Y", number, "P", "N", "N",
                          "L" if left else "D", "")
        ]  # fmt: skip
        if left:
            self.alive[number] = left
            said += self.maybe_fill(number)
        return said

    def cancel(self, number: int) -> list[Message]:
        left = self.alive.pop(number, 0)
        if left == 0:
            self.counts["lapsed"] += 1
            return []
        self.counts["answered"] += 1
        return [OrderCanceled(0, number, left, "U"), SystemEvent(0, "S")]


class Line(NamedTuple):
    """What the loop asks of a session."""

    name: str
    socket: socket.socket
    next_number: int


def run(moodies: int, rate: float | None, seed: int, **changes: Any) -> tuple[LoadPoint, list[Moody], _Run]:
    compile_loop()
    pairs = [socket.socketpair() for _ in range(moodies)]
    for here, _ in pairs:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    exchanges = [Moody(there, seed + index) for index, (_, there) in enumerate(pairs)]
    lines: list[Any] = [Line(f"U{index}", here, FIRST_NUMBER) for index, (here, _) in enumerate(pairs)]
    plan = LoadPlan(
        Endpoint("moody", 1), tuple(Login(line.name, "x") for line in lines), (rate,), 0.3, 0.1, orders=4, seed=seed
    )._replace(**changes)  # fmt: skip
    try:
        one = _Run(plan, rate, 0, lines)
        return _load_point(one.measure(), rate or 0.0, 0), exchanges, one
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


class Abrupt(Moody):
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
    monkeypatch.setitem(globals(), "Moody", Abrupt)
    with pytest.raises(UserError, match=rf"^session of U0, after 0 answers: ({told})"):
        run(1, 1000.0, 1)


def test_requests_that_do_not_fit_are_counted_and_late() -> None:
    """An exchange that reads nothing for a while: the line fills, and latency counts from the intended times."""

    class Asleep(Moody):
        def serve(self) -> None:
            threading.Event().wait(0.5)
            super().serve()

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(globals(), "Moody", Asleep)
        point, _, _ = run(1, 2000.0, 1, warmup_seconds=0.0)
    assert point.back_pressure["line"] > 0
    assert point.counts["unanswered"] == 0
    assert point.percentiles is not None
    assert point.percentiles.max_ns > 300_000_000
    assert point.behind
