"""The requests of a load: what is sent can be read by the protocol's own codec, and means what the records say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.load.logins import Endpoint, Login, parse_endpoint, read_logins
from exchange.load.requests import NOBODY, SessionRequests, renumber, session_requests
from exchange.wire.layout import Message
from exchange.wire.ouch50 import INBOUND_MESSAGES, CancelOrder, EnterOrder, ReplaceOrder, TimeInForce
from exchange.wire.ouch_codes import Side
from exchange.wire.soupbintcp import CLIENT_PACKETS, UnsequencedData

MIDDLE_TICKS = 100_0000


def made(count: int, orders: int, seed: int, first_number: int = 1) -> SessionRequests:
    times = np.arange(count, dtype=np.int64)
    return session_requests(times, first_number, ("AAPL", "MSFT"), MIDDLE_TICKS, orders, (seed, 0))


def decoded(requests: SessionRequests) -> list[Message]:
    ends = requests.records["end_bytes"].tolist()
    packets = requests.packets.tobytes()
    messages = []
    for begin, end in zip([0, *ends], ends, strict=False):
        packet = CLIENT_PACKETS.decode(packets[begin:end])
        assert isinstance(packet, UnsequencedData)
        messages.append(INBOUND_MESSAGES.decode(packet.message).check())
    assert len(packets) == (ends[-1] if ends else 0)
    return messages


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.integers(1, 40), st.integers(0, 1000), st.integers(1, 1 << 30))
def test_requests_with_other_numbers_are_those_that_were_made_with_them(
    count: int, orders: int, seed: int, first_number: int
) -> None:
    requests, expected = made(count, orders, seed), made(count, orders, seed, first_number)
    renumber(requests, first_number)
    for found, wanted in zip(requests, expected, strict=True):
        assert found.tobytes() == wanted.tobytes()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.integers(1, 40), st.integers(0, 1000), st.integers(1, 1 << 30))
def test_every_request_names_an_order_that_its_session_has(
    count: int, orders: int, seed: int, first_number: int
) -> None:
    requests = made(count, orders, seed, first_number)
    records, alive, next_number = requests.records, set[int](), first_number
    for index, message in enumerate(decoded(requests)):
        named = records["order"][index]
        if isinstance(message, EnterOrder | ReplaceOrder):
            assert message.user_reference_number == next_number == records["number"][index]
            assert requests.creators[next_number - first_number] == index
            next_number += 1
        if isinstance(message, EnterOrder):
            assert named == NOBODY
            buys, crosses = message.side == Side.BUY, message.time_in_force == TimeInForce.IMMEDIATE_OR_CANCEL
            assert ((message.price < MIDDLE_TICKS) == buys) != crosses
        elif isinstance(message, ReplaceOrder):
            assert message.original_user_reference_number == records["number"][named]
            alive.remove(message.original_user_reference_number)
        elif isinstance(message, CancelOrder):
            assert message.user_reference_number == records["number"][named]
            alive.remove(message.user_reference_number)
        if named != NOBODY:
            assert records["follower"][named] == index
        if records["number"][index] != 0 and getattr(message, "time_in_force", "") == TimeInForce.DAY:
            alive.add(int(records["number"][index]))
        assert len(alive) <= orders
    assert len(requests.creators) == next_number - first_number


def test_a_seed_gives_the_same_bytes_and_another_one_others() -> None:
    assert made(300, 8, 1).packets.tobytes() == made(300, 8, 1).packets.tobytes()
    assert made(300, 8, 1).packets.tobytes() != made(300, 8, 2).packets.tobytes()


def test_logins_of_a_file_of_names_and_of_a_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "logins"
    path.write_text("# members\nalice:secret1\n\nbob:secret2\n")
    assert read_logins(str(path), None) == [Login("ALICE", "secret1"), Login("BOB", "secret2")]
    path.write_text("ALICE:scrypt:16384:8:1:c2FsdA==:aGFzaA==\nbob\n")
    assert read_logins(str(path), "SECRET") == [Login("ALICE", "hunter2"), Login("BOB", "hunter2")]
    assert "hunter2" not in repr(read_logins("alice", "SECRET"))
    with pytest.raises(UserError, match="no password for ALICE"):
        read_logins(str(path), None)
    with pytest.raises(UserError, match="no such file"):
        read_logins(str(tmp_path / "none"), "SECRET")
    path.write_text("alice:this is no password\n")
    with pytest.raises(UserError, match=r"^password of alice: allowed are 1 to 10 letters and digits$"):
        read_logins(str(path), None)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:9005", Endpoint("127.0.0.1", 9005)),
        ("[::1]:9005", Endpoint("::1", 9005)),
        ("host:65535", Endpoint("host", 65535)),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert str(endpoint) == text


@given(st.text(max_size=20))
def test_an_address_is_one_or_a_mistake(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except UserError:
        return
    assert 1 <= endpoint.port <= 65535
