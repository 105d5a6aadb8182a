"""SoupBinTCP packets against bytes written by hand from the specification."""

import pytest

from exchange.wire.fields import WireError
from exchange.wire.soupbintcp import (
    CLIENT_PACKETS,
    PAYLOAD_BYTES_MAX,
    SERVER_PACKETS,
    ClientHeartbeat,
    Debug,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRejectReason,
    LoginRequest,
    LogoutRequest,
    SequencedData,
    ServerHeartbeat,
    UnsequencedData,
)

LOGIN = LoginRequest("trader", "secret", "", 1)
LOGIN_BYTES = b"\0\x2fL" + b"trader" + b"secret    " + b" " * 10 + b"1".rjust(20)


def test_the_packets_of_each_side() -> None:
    assert "".join(CLIENT_PACKETS) == "LURO+"
    assert "".join(SERVER_PACKETS) == "AJSHZ+"


@pytest.mark.parametrize(
    ("packet", "data"),
    [
        (LOGIN, LOGIN_BYTES),
        (
            LoginRequest("a", "", "S", 0, heartbeat_timeout=5000),
            b"\0\x34La".ljust(19) + b"S".ljust(10) + b"0".rjust(20) + b" 5000",
        ),
        (UnsequencedData(b"\0order"), b"\0\7U\0order"),
        (ClientHeartbeat(), b"\0\1R"),
        (LogoutRequest(), b"\0\1O"),
        (Debug(b"hello"), b"\0\6+hello"),
    ],
)
def test_packets_of_the_client(packet: LoginRequest, data: bytes) -> None:
    assert packet.encode() == data
    assert CLIENT_PACKETS.decode(data) == packet


@pytest.mark.parametrize(
    ("packet", "data"),
    [
        (LoginAccepted("0000000007", 42), b"\0\x1fA" + b"0000000007" + b"42".rjust(20)),
        (LoginAccepted("S1", 10**20 - 1), b"\0\x1fA" + b"S1".rjust(10) + b"9" * 20),
        (LoginRejected("A"), b"\0\2JA"),
        (SequencedData(b"event"), b"\0\6Sevent"),
        (ServerHeartbeat(), b"\0\1H"),
        (EndOfSession(), b"\0\1Z"),
        (Debug(b""), b"\0\1+"),
    ],
)
def test_packets_of_the_server(packet: LoginAccepted, data: bytes) -> None:
    assert packet.encode() == data
    assert SERVER_PACKETS.decode(data) == packet


def test_padding_is_read_on_either_side() -> None:
    left = b"\0\x2fL" + b"trader" + b"    secret" + b" " * 10 + b"1".rjust(20)
    right = b"\0\x2fL" + b"trader" + b"secret    " + b" " * 10 + b"1".ljust(20)
    assert CLIENT_PACKETS.decode(left) == CLIENT_PACKETS.decode(right) == LOGIN
    accepted = b"\0\x1fA" + b"S1".ljust(10) + b"42".ljust(20)
    assert SERVER_PACKETS.decode(accepted) == LoginAccepted("S1", 42)


def test_a_password_is_shown_nowhere() -> None:
    assert "secret" not in repr(LOGIN)
    assert "trader" in repr(LOGIN)
    with pytest.raises(WireError, match="password is not shown, allowed are at most 10") as refusal:
        LoginRequest("trader", "secret secret", "", 1).encode()
    assert "secret s" not in str(refusal.value)
    with pytest.raises(WireError, match="password is not shown, allowed is printable") as refusal:
        CLIENT_PACKETS.decode(LOGIN_BYTES.replace(b"secret ", b"secret\0"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "number", [b" " * 20, b"-1".rjust(20), b"1.5".rjust(20), b"\xb2".rjust(20), b"1 2".rjust(20)]
)
def test_a_sequence_number_has_digits(number: bytes) -> None:
    with pytest.raises(WireError, match=r"requested_sequence_number is b'.*', allowed are decimal digits"):
        CLIENT_PACKETS.decode(LOGIN_BYTES[:29] + number)


def test_a_login_has_one_of_two_sizes() -> None:
    for extra in (b"1", b"1234", b"123456"):
        data = bytes([0, 47 + len(extra)]) + LOGIN_BYTES[2:] + extra
        with pytest.raises(WireError, match="Login Request"):
            CLIENT_PACKETS.decode(data)


def test_reasons_of_a_refused_login() -> None:
    assert LoginRejected(LoginRejectReason.SESSION_NOT_AVAILABLE).encode() == b"\0\2JS"
    with pytest.raises(WireError, match="reject_reason_code is 'X', allowed is one of A, S"):
        LoginRejected("X").check()


def test_the_largest_payload() -> None:
    assert PAYLOAD_BYTES_MAX == 65_534
    assert len(SequencedData(bytes(PAYLOAD_BYTES_MAX)).encode()) == 65_537
    with pytest.raises(WireError, match="length is 65,536, allowed is up to 65,535"):
        SequencedData(bytes(PAYLOAD_BYTES_MAX + 1)).encode()
