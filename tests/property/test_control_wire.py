"""What the two of a pair say to each other: whatever comes in, in whatever pieces, is understood or refused."""

import random
import socket
import threading
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.replication.control_line import ControlLine, LineTrouble, parse_address
from exchange.replication.control_wire import (
    MESSAGE_BYTES_MAX,
    PIECE_BYTES_MAX,
    PROTOCOL_VERSION,
    STRANGER_BYTES_MAX,
    Attached,
    Chunk,
    CopyFile,
    Frames,
    GoOn,
    Hello,
    Join,
    Message,
    MessageSplitter,
    Offer,
    Proof,
    Received,
    Refused,
    StreamEnd,
    WantStatus,
    WireTrouble,
    chunk_header,
    encode_message,
    frames_header,
)

HEX = "0123456789abcdef" * 4
SAID: tuple[Message, ...] = (
    Hello(PROTOCOL_VERSION, "a", "join", HEX),
    Join(-5, 7, HEX, (StreamEnd(1), StreamEnd(9, 2, 77)), "10.0.0.1:9020"),
    GoOn(3),
    Offer({"address": [1, 2, 3]}, "ab12"),
    Attached((0, 64), (1, 9), 3),
    Refused("no"),
)


def trusting() -> MessageSplitter:
    splitter = MessageSplitter()
    splitter.trust()
    return splitter


def everything(splitter: MessageSplitter, content: bytes, pieces: random.Random) -> list[Received]:
    found: list[Received] = []
    place = 0
    while place < len(content):
        until = place + pieces.choice([1, 3, 64, 5000])
        splitter.feed(content[place:until])
        place = until
        while (one := splitter.take()) is not None:
            found.append(one)
    return found


@given(st.integers(0, 1 << 30), st.lists(st.sampled_from([*SAID, Frames(3, b"x" * 640), Chunk(b"yz")])))
def test_what_was_said_is_understood_in_any_pieces(seed: int, said: list[Received]) -> None:
    content = b""
    for one in said:
        match one:
            case Frames(stream, frames):
                content += frames_header(stream, len(frames)) + frames
            case Chunk(piece):
                content += chunk_header(len(piece)) + piece
            case message:
                content += encode_message(message)
    assert everything(trusting(), content, random.Random(seed)) == said


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 1 << 30), st.booleans())
def test_anything_at_all_is_a_message_or_refused(content: bytes, seed: int, is_trusted: bool) -> None:
    splitter = trusting() if is_trusted else MessageSplitter()
    with suppress(WireTrouble):
        everything(splitter, content, random.Random(seed))


@settings(max_examples=300)
@given(st.sampled_from(SAID), st.integers(0, 1 << 30))
def test_a_message_with_wrong_bytes_is_a_message_or_refused(message: Message, seed: int) -> None:
    chance, content = random.Random(seed), bytearray(encode_message(message))
    for _ in range(chance.choice([1, 2, 8])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    with suppress(WireTrouble):
        everything(trusting(), bytes(content), chance)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["type", "version", "node", "nonce", "streams", "offer"]), inner), max_leaves=12))  # fmt: skip
def test_json_that_is_no_message_is_refused(document: object) -> None:
    content = msgspec.json.encode(document)
    splitter = trusting()
    splitter.feed(b"J" + len(content).to_bytes(4, "little") + content)
    with pytest.raises(WireTrouble):
        splitter.take()


@pytest.mark.parametrize(
    ("kind", "size_bytes"),
    [(b"J", MESSAGE_BYTES_MAX + 1), (b"F", PIECE_BYTES_MAX + 1), (b"C", (1 << 32) - 1), (b"X", 1)],
)
def test_what_is_too_long_is_refused_before_it_has_come(kind: bytes, size_bytes: int) -> None:
    splitter = trusting()
    splitter.feed(kind + size_bytes.to_bytes(4, "little"))
    with pytest.raises(WireTrouble):
        splitter.take()


@pytest.mark.parametrize(
    "content",
    [
        encode_message(WantStatus()),
        frames_header(0, 64),
        chunk_header(64),
        b"J" + (STRANGER_BYTES_MAX + 1).to_bytes(4, "little"),
    ],
)
def test_a_stranger_may_only_introduce_itself(content: bytes) -> None:
    splitter = MessageSplitter()
    splitter.feed(content)
    with pytest.raises(WireTrouble):
        splitter.take()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a//b", "A", "", "snapshots/../../x"])
def test_a_file_of_a_copy_is_named_plainly(path: str) -> None:
    content = msgspec.json.encode({"type": "copy file", "path": path, "size_bytes": 1})
    splitter = trusting()
    splitter.feed(b"J" + len(content).to_bytes(4, "little") + content)
    with pytest.raises(WireTrouble):
        splitter.take()
    assert CopyFile("snapshots/00000000000000000004.snapshot", 1).path


def both(first_secret: str, second_secret: str) -> tuple[object, object]:
    """What shaking hands comes to at whoever connects and at the other; an exception, or the line."""
    listener = socket.create_server(("127.0.0.1", 0))
    found: list[object] = []

    def welcome() -> None:
        connection, _peer = listener.accept()
        line = ControlLine(connection)
        try:
            line.welcome("server", second_secret)
            found.append((line.node, line.purpose))
            with suppress(LineTrouble):
                line.receive(1.0)
        except LineTrouble as trouble:
            found.append(trouble)
        line.close()

    thread = threading.Thread(target=welcome)
    thread.start()
    try:
        with ControlLine.connect(listener.getsockname(), "client", "join", first_secret) as line:
            ours: object = line.node
    except LineTrouble as trouble:
        ours = trouble
    thread.join()
    listener.close()
    return ours, found[0]


def test_hands_are_shaken_only_by_two_that_know_the_secret() -> None:
    assert both("a secret of both", "a secret of both") == ("server", ("client", "join"))
    ours, theirs = both("a secret of one", "a secret of another")
    assert isinstance(ours, LineTrouble)
    assert "refused: you do not know the pair's secret" in str(ours)
    assert isinstance(theirs, LineTrouble)
    assert "'client' does not know the pair's secret" in str(theirs)


def test_whoever_only_repeats_what_it_was_told_does_not_pass() -> None:
    """A server that does not know the secret gives the client's proof back, or one of its own making."""
    for shown in (None, "0" * 64):
        listener = socket.create_server(("127.0.0.1", 0))

        def impersonate(listener: socket.socket = listener, shown: str | None = shown) -> None:
            connection, _peer = listener.accept()
            line = ControlLine(connection)
            line.expect(Hello, 1.0)
            content = msgspec.json.encode(
                {"type": "challenge", "version": PROTOCOL_VERSION, "node": "server", "nonce": HEX}
            )
            line.send_bytes((b"J" + len(content).to_bytes(4, "little") + content,))
            proof = line.expect(Proof, 1.0)
            line.send(proof if shown is None else Proof(shown))
            line.close()

        thread = threading.Thread(target=impersonate)
        thread.start()
        with pytest.raises(LineTrouble, match="'server' does not know the pair's secret"):
            ControlLine.connect(listener.getsockname(), "client", "join", "the secret")
        thread.join()
        listener.close()


@pytest.mark.parametrize("text", ["", "host", "host:", ":9020", "host:0", "host:65536", "host:x", "host:-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be HOST:PORT"):
        parse_address(text, "--backup-of")


def test_an_address_may_be_of_either_kind() -> None:
    assert parse_address("10.0.0.1:9020", "--node") == ("10.0.0.1", 9020)
    assert parse_address("[::1]:9020", "--node") == ("::1", 9020)
