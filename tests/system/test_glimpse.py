"""Snapshots over TCP: who gets one and what is in it, and what clients of all kinds cannot do to the server."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from exchange.errors import UserError
from exchange.market_data import glimpse_client, glimpse_server
from exchange.market_data.publisher import opening_messages
from exchange.market_data.snapshot import take_snapshot
from exchange.wire.glimpse import EndOfSnapshot
from exchange.wire.itch50 import AddOrder
from exchange.wire.soupbintcp import (
    ClientHeartbeat,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    LogoutRequest,
    SequencedData,
    UnsequencedData,
)
from tests.gateway_driver import PASSWORD, eventually, users
from tests.glimpse_driver import SESSION, GlimpseClient, glimpse_serving, seek, snapshot_book

OPENING = [one.encode() for one in opening_messages(["AAPL", "QQQ"], 0)]
SECONDS_MAX = 60.0


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    glimpse_server.warm_up()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, SECONDS_MAX))


def orders(first: int, count: int) -> list[bytes]:
    """Orders that rest, of two symbols and on both sides."""
    return [
        AddOrder(
            1 + n % 2,
            0,
            n,
            n,
            "BS"[n // 2 % 2],
            100,
            ("AAPL", "QQQ")[n % 2],
            100_0000 + (1 if n // 2 % 2 else -1) * n,
        ).encode()
        for n in range(first, first + count)
    ]


def test_a_spin_is_the_servers_book_at_one_number() -> None:
    async def scenario() -> None:
        async with glimpse_serving(users(["alice"])) as served:
            served.feed.publish(OPENING + orders(1, 500))
            await served.followed()
            client = await GlimpseClient.log_on(served.address, "alice", PASSWORD)
            accepted, snapshot = await client.spin()
            assert accepted == LoginAccepted(session=SESSION, sequence_number=1)
            subscriber = served.server.receiver.subscriber
            assert snapshot == take_snapshot(subscriber.book, subscriber.next_sequence)
            assert snapshot == await seek(served.address, "ALICE", PASSWORD.upper())
            assert [message[:1] for message in snapshot.messages[:6]] == [one[:1] for one in OPENING[:6]]
            assert len(snapshot.messages) == len(OPENING) + 500
            assert snapshot.sequence_number == served.feed.store.next_sequence
            book = snapshot_book()
            for one in snapshot.messages:
                book.apply(one)
            assert book.digest() == subscriber.book.digest()

    run(scenario())


def test_who_has_no_business_here_is_rejected() -> None:
    async def scenario() -> None:
        async with glimpse_serving(users(["alice"])) as served:
            served.feed.publish(OPENING)
            await served.followed()
            for login, code in (
                (("alice", "wrong"), "A"),
                (("bob", PASSWORD), "A"),
                (("alice", PASSWORD, "ANOTHER"), "S"),
                (("alice", PASSWORD, "", 2), "S"),
            ):
                client = await GlimpseClient.log_on(served.address, *login)
                assert await client.everything() == [LoginRejected(code)]
            with pytest.raises(UserError, match="wrong user name or password"):
                await seek(served.address, "alice", "wrong")
            assert served.server.refused == 5
            assert (await seek(served.address, "alice", PASSWORD)).messages == tuple(OPENING)

    run(scenario())


def test_while_messages_are_missing_nobody_is_told_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gets its snapshot when the gap is closed, or is rejected when that takes too long."""

    async def scenario() -> None:
        async with glimpse_serving() as served:
            monkeypatch.setattr(glimpse_server, "BOOK_SECONDS", 0.05)
            client = await GlimpseClient.log_on(served.address)  # nothing of the feed has been heard yet
            assert await client.everything() == [LoginRejected("S")]
            served.feed.publish(OPENING)
            await served.followed()
            for one in orders(1, 60):
                served.feed.store.append(one)
            assert list(served.feed.store.take_datagrams())  # and they are lost
            served.feed.publish([])
            while served.server.has_whole_book:
                await asyncio.sleep(0.001)
            client = await GlimpseClient.log_on(served.address)
            assert await client.everything() == [LoginRejected("S")]
            monkeypatch.setattr(glimpse_server, "BOOK_SECONDS", SECONDS_MAX)
            waiting = asyncio.create_task(seek(served.address))
            while not waiting.done():
                await asyncio.sleep(0.001)
                try:
                    request, asker = served.feed.socket.recvfrom(64)
                except BlockingIOError:
                    continue
                answer = served.feed.store.answer(request)
                assert answer is not None
                served.feed.socket.sendto(answer, asker)
            assert len(waiting.result().messages) == len(OPENING) + 60

    run(scenario())


def test_hundreds_come_at_once_and_the_feed_is_followed_meanwhile() -> None:
    async def scenario() -> None:
        async with glimpse_serving() as served:
            served.feed.publish(OPENING)
            await served.followed()
            seeking = [asyncio.create_task(seek(served.address)) for _ in range(300)]
            first = 1
            while not all(one.done() for one in seeking):
                served.feed.publish(orders(first, 5) if first < 1_000 else [])
                first += 5 if first < 1_000 else 0
                await asyncio.sleep(0.001)
            await served.followed()
            for one in seeking:
                snapshot = one.result()
                assert (
                    len(snapshot.messages) == snapshot.sequence_number - 1
                )  # nothing that was told is gone again
            await eventually(lambda: served.server.served == 300)  # a client may know it first
            assert served.server.receiver.subscriber.counts().dropped == 0

    run(scenario())


def test_whatever_a_client_sends_the_next_one_is_served() -> None:
    chance = random.Random(6)
    login = LoginRequest("", "", "", 1).encode()
    junk = [b"", b"\0", b"\0\0", b"\xff" * 100, login[:-1], login[:20], login + b"\0\1?", login + b"\xff\xff"]
    junk += [login + UnsequencedData(b"x" * 100).encode() * 60, login + ClientHeartbeat().encode() * 3_000]
    junk += [login + login, LogoutRequest().encode(), b"GET / HTTP/1.1\r\n\r\n"]
    junk += [chance.randbytes(chance.randrange(1, 80)) for _ in range(100)]
    junk += [bytes(b ^ (chance.random() < 0.05) << chance.randrange(8) for b in login) for _ in range(60)]
    junk += [login + chance.randbytes(chance.randrange(1, 80)) for _ in range(60)]

    async def send(address: tuple[str, int], data: bytes) -> None:
        client = await GlimpseClient.dial(address)
        client.writer.write(data)
        if data and chance.random() < 0.5:
            client.writer.write_eof()
        with suppress(TimeoutError, ConnectionError, AssertionError):  # cut off, or waiting for more of ours
            await asyncio.wait_for(client.everything(), 0.3)
        client.writer.close()

    async def scenario() -> None:
        async with glimpse_serving() as served:
            served.feed.publish(OPENING)
            await served.followed()
            await asyncio.gather(*(send(served.address, data) for data in junk))
            assert (await seek(served.address)).messages == tuple(OPENING)
            assert not served.task.done()

    run(scenario())


def test_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glimpse_server, "SLOW_READER_SECONDS", 0.1)
    monkeypatch.setattr(glimpse_server, "SPINS_BYTES_MAX", 1)  # so that nobody else gets one before

    async def scenario() -> None:
        async with glimpse_serving() as served:
            monkeypatch.setattr(glimpse_server, "encode_spin", lambda *_: bytes(1 << 25))
            served.feed.publish(OPENING)
            await served.followed()
            reader, writer = await asyncio.open_connection(*served.address, limit=1)
            writer.transport.pause_reading()
            writer.write(LoginRequest("", "", "", 1).encode())
            while served.server.spins == 0:
                await asyncio.sleep(0.001)
            monkeypatch.undo()
            assert len((await seek(served.address)).messages) == len(OPENING)
            assert served.server.served == 1
            writer.close()
            del reader

    run(scenario())


def test_the_end_of_the_session_is_passed_on() -> None:
    async def scenario() -> None:
        async with glimpse_serving() as served:
            served.feed.publish(OPENING)
            await served.followed()
            client = await GlimpseClient.log_on(served.address)
            while served.server.served == 0:
                await asyncio.sleep(0.001)
            served.feed.end()
            assert (await client.everything())[-1] == EndOfSession()
            await served.task

    run(scenario())


def test_who_stays_is_sent_heartbeats_and_then_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glimpse_server, "HEARTBEAT_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(glimpse_server, "LINGER_SECONDS", 0.2)

    async def scenario() -> None:
        async with glimpse_serving() as served:
            served.feed.publish(OPENING)
            client = await GlimpseClient.log_on(served.address)
            packets = await client.everything()
            assert [type(one).__name__ for one in packets[-3:]] == ["ServerHeartbeat"] * 3

    run(scenario())


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glimpse_client, "PAUSE_NS_FIRST", 1_000_000)

    async def scenario() -> None:
        with pytest.raises(UserError, match=r"no snapshot from 127\.0\.0\.1, port 1: Connection refused"):
            await seek(("127.0.0.1", 1))

    run(scenario())


def test_whatever_a_server_sends_the_seeker_gets_a_snapshot_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(glimpse_client, "PAUSE_NS_FIRST", 0)
    monkeypatch.setattr(glimpse_client, "ATTEMPTS_MAX", 1)
    chance = random.Random(8)
    messages = [*OPENING, *orders(1, 5), EndOfSnapshot(99).encode()]
    whole = LoginAccepted(session=SESSION, sequence_number=1).encode()
    whole += b"".join(SequencedData(one).encode() for one in messages)
    junk = [whole, b"", b"\0\0", b"\xff" * 50, whole[:-1], whole[:40] + SequencedData(b"?").encode()]
    junk += [whole[:40] + SequencedData(b"").encode(), EndOfSession().encode(), chance.randbytes(300)]
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        junk.append(bytes(data))

    async def outcome(data: bytes) -> int:
        """How many messages the snapshot had; -1 if there was none."""

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for at in range(0, len(data), 97):  # in pieces that cut packets anywhere
                writer.write(data[at : at + 97])
                await asyncio.sleep(0)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            try:
                return len((await seek(server.sockets[0].getsockname()[:2])).messages)
            except UserError as error:
                return -len(str(error).splitlines())

    async def scenario() -> None:
        outcomes = [await outcome(data) for data in junk]
        assert set(outcomes) <= set(range(-1, len(messages)))
        assert min(outcomes.count(-1), len(outcomes) - outcomes.count(-1)) >= 5

    run(scenario())
