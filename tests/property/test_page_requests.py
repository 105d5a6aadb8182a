"""What browsers send: whatever the bytes are, a request that can be passed on comes out, or BadRequest."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.page.requests import (
    PRICE_TICKS_MAX,
    REQUEST_BYTES_MAX,
    BadRequest,
    Cancel,
    LogOn,
    Place,
    Replace,
    parse_price,
    parse_request,
)
from tests.wire_messages import mutated

GOOD = [
    {"action": "watch", "symbol": "AAPL"},
    {"action": "log-on", "user": "alice", "password": "hunter2"},
    {"action": "log-off"},
    {"action": "place", "symbol": "AAPL", "side": "B", "quantity": 100, "price": "187.25", "immediate": True},
    {"action": "replace", "number": 3, "quantity": 50, "price": "1"},
    {"action": "cancel", "number": 4_294_967_295},
]


def parse_or_refuse(data: bytes | str) -> None:
    """Everything that a request holds is inside what the exchange can be told."""
    try:
        request = parse_request(data)
    except BadRequest:
        return
    if isinstance(request, Place | Replace):
        assert 1 <= parse_price(request.price) <= PRICE_TICKS_MAX
        assert 1 <= request.quantity <= 999_999
    if isinstance(request, Replace | Cancel):
        assert 1 <= request.number < 1 << 32
    if isinstance(request, LogOn):
        assert request.user.isalnum()
        assert len(request.password) <= 10


@pytest.mark.parametrize("fields", GOOD, ids=lambda fields: str(fields["action"]))
def test_a_request_survives_the_way(fields: dict[str, object]) -> None:
    request = parse_request(json.dumps(fields))
    assert {name: getattr(request, name) for name in fields if name != "action"} == {
        name: value for name, value in fields.items() if name != "action"
    }


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_noise_is_refused(data: bytes | str) -> None:
    parse_or_refuse(data)


def test_damaged_requests_are_refused_or_right() -> None:
    chance = random.Random(4)
    for _ in range(20_000):
        parse_or_refuse(mutated(chance, json.dumps(chance.choice(GOOD)).encode()))


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"action": "place", "symbol": "A B", "side": "B", "quantity": 1, "price": "1"}, "symbol", "printable"),
        ({"action": "place", "symbol": "A", "side": "B", "quantity": 0, "price": "1"}, "quantity", "999,999"),
        ({"action": "place", "symbol": "A", "side": "B", "quantity": 1, "price": "1.00001"}, "price", "four decimals"),
        ({"action": "place", "symbol": "A", "side": "B", "quantity": 1, "price": "-1"}, "price", "four decimals"),
        ({"action": "place", "symbol": "A", "side": "B", "quantity": 1, "price": "0.0"}, "price", "0.0001"),
        ({"action": "place", "symbol": "A", "side": "B", "quantity": 1, "price": "200000"}, "price", "199999.9900"),
        ({"action": "place", "symbol": "A", "side": "X", "quantity": 1, "price": "1"}, "", "no request"),
        ({"action": "log-on", "user": "far-too-long", "password": "x"}, "user", "6 letters"),
        ({"action": "log-on", "user": "alice", "password": ""}, "password", "1 to 10"),
        ({"action": "cancel", "number": 1 << 32}, "number", "no such order"),
        ({"action": "watch", "symbol": "A", "more": 1}, "", "no request"),
        ({"action": "watch", "symbol": "A" * REQUEST_BYTES_MAX}, "", "at most"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_field(fields: dict[str, object], field: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told) as caught:
        parse_request(json.dumps(fields))
    assert caught.value.field == field


@given(st.integers(1, PRICE_TICKS_MAX))
def test_prices_are_read_exactly(ticks: int) -> None:
    text = f"{ticks // 10_000}.{ticks % 10_000:04}"
    assert parse_price(text) == ticks
    assert parse_price(f" {text.rstrip('0')} ") == ticks


def test_a_password_is_not_in_what_is_printed() -> None:
    assert "hunter2" not in repr(LogOn("alice", "hunter2"))
