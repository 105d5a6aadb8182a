"""Requests from outside may be any bytes: the compiled decoder and the plain one agree on what is a message.

What comes out of good messages is tested over sockets; here it is what becomes of bad ones, a hundred thousand of them
and more, without a socket in between."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.gateway.inbound import FORWARD, GARBAGE, NOTHING, WAIT
from exchange.messages import CommandKind
from exchange.queues.protocol import poll_batch
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
from tests.request_bench import NOW_NS, SESSION, SLOTS, RequestBench


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
    assert len(bench.commands) == 1 or outcome != FORWARD
    for command in bench.commands:
        assert command.kind in (CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE)
        assert (command.session_id, command.timestamp_ns, command.tag) == (SESSION, NOW_NS, 0)
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


def test_a_full_ring_of_answers_makes_the_message_wait_and_changes_nothing() -> None:
    bench = RequestBench()
    wrong, query = order(1, symbol="NOPE").encode(), AccountQuery().encode()
    bench.put(query)
    for _ in range(SLOTS):
        assert bench.decode_only(len(query)) == NOTHING
    assert bench.decode_only(len(query)) == WAIT
    for message in (wrong, MassCancel(1, "", "").encode(), DisableOrderEntry(1, "").encode()):
        bench.put(message)
        assert bench.decode_only(len(message)) == WAIT
        assert bench.last_number == 0
    bench.put(wrong)
    assert poll_batch(bench.answers.consumer(0), bench.polled, 1) == 1
    assert bench.decode_only(len(wrong)) == NOTHING
    assert bench.last_number == 1


def test_a_modification_waits_for_the_one_before() -> None:
    bench = RequestBench()
    bench.take(order(1, "S").encode())
    first, second = ModifyOrder(1, "T", 90).encode(), ModifyOrder(1, "E", 80).encode()
    bench.put(first)
    assert bench.decode_only(len(first)) == FORWARD
    bench.put(second)
    assert bench.decode_only(len(second)) == WAIT
    assert bench.decode_only(len(second)) == WAIT
