"""Requests from outside may be any bytes: the compiled decoder and the plain one agree on what is a message.

What comes out of good messages is tested over sockets; here it is what becomes of bad ones, a hundred thousand of them
and more, without a socket in between."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.gateway.inbound import FORWARD, GARBAGE, NOTHING, WAIT
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES, CommandKind
from exchange.native import view_bytes
from exchange.wire.fields import WireError
from exchange.wire.ouch50 import (
    INBOUND_MESSAGES,
    AccountQuery,
    CancelOrder,
    DisableOrderEntry,
    EnableOrderEntry,
    MassCancel,
    ModifyOrder,
    ReplaceOrder,
)
from exchange.wire.ouch50_options import Option, OptionTag
from tests.gateway_driver import order
from tests.request_bench import NOW_NS, SESSION, RequestBench


@pytest.fixture(scope="module")
def bench() -> RequestBench:
    return RequestBench()


SAMPLES = [
    order(1).encode(),
    order(2, options=(Option(OptionTag.FIRM, "LIME"), Option(OptionTag.CUSTOMER_TYPE, "R"))).encode(),
    ReplaceOrder(1, 3, 50, 99_0000, "0", "Y", "N", "again").encode(),
    CancelOrder(1, 10).encode(),
    CancelOrder(1, 0, ()).encode(),
    MassCancel(4, "LIME", "AAPL").encode(),
    MassCancel(5, "", "", (Option(OptionTag.SIDE, "B"), Option(OptionTag.GROUP_ID, 7))).encode(),
    ModifyOrder(1, "S", 5).encode(),
    ModifyOrder(1, "B", 9, (Option(OptionTag.SHARES_LOCATED, "Y"),)).encode(),
    DisableOrderEntry(6, "LIME").encode(),
    EnableOrderEntry(7, "LIME").encode(),
    EnableOrderEntry(8, "").encode(),
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
    try:
        INBOUND_MESSAGES.decode(data)
    except WireError as error:
        return None if "printable" in str(error) or "twice" in str(error) else False
    return True


def check(bench: RequestBench, data: bytes) -> None:
    number = bench.last_number
    outcome = bench.take(data)
    assert outcome in (FORWARD, NOTHING, GARBAGE)
    expected = is_a_message(data)
    if expected is not None:
        assert (outcome != GARBAGE) == expected, data.hex()
    assert bench.last_number >= number
    assert len(bench.commands) <= 1 or data[:1] == b"C"
    for command in bench.commands:
        assert command.kind in (CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE)
        assert (command.session_id, command.timestamp_ns) == (SESSION, NOW_NS)
        assert command.tag == 0 or command.new_order_id == command.order_id
        assert command.symbol_id < 2
        if command.kind in (CommandKind.NEW, CommandKind.REPLACE):
            assert 1 <= command.quantity_lots <= 999_999
    if bench.last_number > 1 << 20:
        bench.begin_session()  # a huge number would silence all that follow


def test_a_hundred_thousand_mutated_messages(bench: RequestBench) -> None:
    for data in mutated(random.Random(50), 100_000):
        check(bench, data)


@given(st.binary(min_size=1, max_size=80))
@settings(deadline=None, max_examples=2000)
def test_any_bytes(bench: RequestBench, data: bytes) -> None:
    check(bench, data)


def test_the_gateways_own_answers_are_records_for_a_shard() -> None:
    bench = RequestBench()
    messages = (AccountQuery(), order(1, symbol="NOPE"), DisableOrderEntry(2, ""), MassCancel(3, "", ""))
    for number, message in enumerate(messages):
        data = message.encode()
        bench.put(data)
        assert bench.decode_only(len(data)) == FORWARD
        (record,) = np.frombuffer(view_bytes(bench.command, RECORD_BYTES), COMMAND_DTYPE)
        assert record["kind"] == CommandKind.ANSWER
        assert (record["session_id"], record["timestamp_ns"]) == (SESSION, NOW_NS)
        assert bench.last_number == number


def test_a_modification_waits_for_the_one_before() -> None:
    bench = RequestBench()
    bench.take(order(1, "S").encode())
    first, second = ModifyOrder(1, "T", 90).encode(), ModifyOrder(1, "E", 80).encode()
    bench.put(first)
    assert bench.decode_only(len(first)) == FORWARD
    bench.put(second)
    assert bench.decode_only(len(second)) == WAIT
    assert bench.decode_only(len(second)) == WAIT
