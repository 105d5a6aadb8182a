"""Requests from outside may be any bytes: the compiled decoder and the plain one agree on what is a message.

What comes out of good messages is tested over sockets; here it is what becomes of bad ones, a hundred thousand of them
and more, without a socket in between."""

import random
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.gateway.config import GatewayConfig
from exchange.gateway.inbound import FORWARD, GARBAGE, NOTHING, WAIT, Requests
from exchange.gateway.order_table import ANSWERED, find_order, finish_order
from exchange.gateway.requests42 import TRANSLATED_BYTES
from exchange.gateway.session_memory import LAST_USER_REFERENCE, SessionMemory
from exchange.gateway.symbol_table import SymbolTable
from exchange.gateway.versions import take_request
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import Arena, kernel, load_int64, store_int64, view_bytes
from exchange.queues.protocol import poll_batch
from exchange.queues.spsc import SpscQueue
from exchange.wire.fields import WireError
from exchange.wire.ouch50 import (
    INBOUND_MESSAGES,
    AccountQuery,
    CancelOrder,
    MassCancel,
    ModifyOrder,
    ReplaceOrder,
)
from exchange.wire.ouch50_options import Option, OptionTag
from tests.gateway_driver import order

SESSION = 1
SLOTS = 64
LIVE_MAX = 200
MESSAGE_BYTES_MAX = 1024
NOT_TAKEN = frozenset(b"MDE")
"""Messages of the specification that this exchange does not take."""


@kernel
def decode(requests, session, message, size_bytes, command):  # type: ignore[no-untyped-def]
    return take_request(requests, SESSION, session, message, size_bytes, 77, command)


@kernel
def look_up(sessions, session, number):  # type: ignore[no-untyped-def]
    return find_order(sessions, session, number)


class Bench:
    """A session, and room for a message, a command and the gateway's answers."""

    def __init__(self) -> None:
        self.symbols = SymbolTable(["AAPL", "MSFT"])
        self.answers = SpscQueue(SLOTS)
        self.arena = Arena.private(1 << 16)
        self.message = self.arena.allocate(MESSAGE_BYTES_MAX)
        self.command = self.arena.allocate(RECORD_BYTES)
        self.polled = self.arena.allocate(SLOTS * RECORD_BYTES)
        self._live: deque[int] = deque()
        self.begin_session()
        self.requests = Requests(
            self.memory.sessions,
            self.symbols.symbols,
            1,
            10**9,
            self.answers.producer(0),
            self.arena.allocate(RECORD_BYTES),
            self.arena.allocate(TRANSLATED_BYTES),
            self.arena.allocate(8),
        )

    def begin_session(self) -> None:
        """A session that has had no orders yet."""
        self.memory = SessionMemory(GatewayConfig(capacity_orders=4096, log_bytes=4096), 2)
        self.session = self.memory.address(SESSION)
        self._live.clear()

    def take(self, data: bytes) -> int:
        """What the decoder says of a message; the ring of answers is emptied."""
        view_bytes(self.message, MESSAGE_BYTES_MAX)[: len(data)] = data
        requests = self.requests._replace(sessions=self.memory.sessions)
        outcome = decode(requests, self.session, self.message, len(data), self.command)
        poll_batch(self.answers.consumer(0), self.polled, SLOTS)
        if outcome == FORWARD:
            self._answer(self.last_command())
        return int(outcome)

    def _answer(self, command: np.void) -> None:
        """What the outbound side would do: the order is accepted, and an old one is finished."""
        number = (
            int(command["new_order_id" if command["kind"] == CommandKind.REPLACE else "order_id"])
            & 0xFFFF_FFFF
        )
        if command["kind"] not in (CommandKind.NEW, CommandKind.REPLACE):
            return
        store_int64(look_up(self.memory.sessions, self.session, number) + ANSWERED, number)
        self._live.append(number)
        if len(self._live) > LIVE_MAX:
            ended = self._live.popleft()
            finish_order(look_up(self.memory.sessions, self.session, ended), ended)

    def last_command(self) -> np.void:
        return np.frombuffer(view_bytes(self.command, RECORD_BYTES), COMMAND_DTYPE)[0].copy()  # type: ignore[no-any-return]

    @property
    def last_number(self) -> int:
        return load_int64(self.session + LAST_USER_REFERENCE)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


SAMPLES = [
    order(1).encode(),
    order(2, options=(Option(OptionTag.FIRM, "LIME"), Option(OptionTag.CUSTOMER_TYPE, "R"))).encode(),
    ReplaceOrder(1, 3, 50, 99_0000, "0", "Y", "N", "again").encode(),
    CancelOrder(1, 10).encode(),
    CancelOrder(1, 0, ()).encode(),
    MassCancel(4, "LIME", "AAPL").encode(),
    ModifyOrder(1, "S", 5).encode(),
    AccountQuery().encode(),
    AccountQuery(()).encode(),
    AccountQuery((Option(OptionTag.USER_REFERENCE_INDEX, 0),)).encode(),
    CancelOrder(1, 5, (Option(OptionTag.USER_REFERENCE_INDEX, 0),)).encode(),
]


def mutated(noise: random.Random, count: int) -> Iterator[bytes]:
    """Messages with bytes changed, taken out and put in."""
    for _ in range(count):
        data = bytearray(noise.choice(SAMPLES))
        for _ in range(noise.randint(0, 3)):
            position = noise.randrange(len(data) + 1)
            match noise.randrange(3):
                case 0:
                    data[position : position + 1] = noise.randbytes(1)
                case 1:
                    del data[position : position + noise.randint(1, 4)]
                case _:
                    data[position:position] = noise.randbytes(noise.randint(1, 4))
            if not data:
                data = bytearray(b"Q")
        yield bytes(data)


def is_a_message(data: bytes) -> bool | None:
    """What the plain decoder says; None where the two differ on purpose, for the gateway does not read texts."""
    if data[:1] and data[0] in NOT_TAKEN:
        return False
    try:
        INBOUND_MESSAGES.decode(data)
    except WireError as error:
        return None if "printable" in str(error) or "twice" in str(error) else False
    return True


def check(bench: Bench, data: bytes) -> None:
    number = bench.last_number
    outcome = bench.take(data)
    assert outcome in (FORWARD, NOTHING, GARBAGE)
    expected = is_a_message(data)
    if expected is not None:
        assert (outcome != GARBAGE) == expected, data.hex()
    assert bench.last_number >= number
    if outcome == FORWARD:
        command = bench.last_command()
        assert command["kind"] in tuple(CommandKind)
        assert (command["session_id"], command["timestamp_ns"], command["tag"]) == (SESSION, 77, 0)
        assert command["kind"] == CommandKind.MASS_CANCEL or command["symbol_id"] < 2
        if command["kind"] in (CommandKind.NEW, CommandKind.REPLACE):
            assert 1 <= command["quantity_lots"] <= 999_999
    if bench.last_number > 1 << 20:
        bench.begin_session()  # a huge number would silence all that follow


def test_a_hundred_thousand_mutated_messages(bench: Bench) -> None:
    for data in mutated(random.Random(50), 100_000):
        check(bench, data)


@given(st.binary(min_size=1, max_size=80))
@settings(deadline=None, max_examples=2000)
def test_any_bytes(bench: Bench, data: bytes) -> None:
    check(bench, data)


def test_a_full_ring_of_answers_makes_the_message_wait_and_changes_nothing() -> None:
    bench = Bench()
    wrong = order(1, symbol="NOPE").encode()
    view_bytes(bench.message, MESSAGE_BYTES_MAX)[: len(wrong)] = wrong

    def take() -> int:
        return int(decode(bench.requests, bench.session, bench.message, len(wrong), bench.command))

    query = AccountQuery().encode()
    view_bytes(bench.message, MESSAGE_BYTES_MAX)[: len(query)] = query
    for _ in range(SLOTS):
        assert int(decode(bench.requests, bench.session, bench.message, len(query), bench.command)) == NOTHING
    assert int(decode(bench.requests, bench.session, bench.message, len(query), bench.command)) == WAIT
    view_bytes(bench.message, MESSAGE_BYTES_MAX)[: len(wrong)] = wrong
    assert take() == WAIT
    assert bench.last_number == 0
    assert poll_batch(bench.answers.consumer(0), bench.polled, 1) == 1
    assert take() == NOTHING
    assert bench.last_number == 1
