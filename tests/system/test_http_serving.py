"""The web servers against clients that are slow, many, or too big; and over TLS."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from exchange import http_serving
from exchange.admin.client import AdminClient
from exchange.admin.listening import CONNECTIONS_PER_ADDRESS
from exchange.errors import UserError
from exchange.gateway.server import Server
from exchange.page import browsers
from exchange.page.page_process import page_arguments
from exchange.page.serving import Page, PageOptions
from exchange.page.statistics_reader import StatisticsReader
from exchange.tls import client_context, pinned_context
from tests.certificates import make_certificate
from tests.gateway_driver import eventually, run, serving
from tests.page_driver import page_by_hand, run_page_test

TOKEN = "a-token-for-tests-0123"
LOCAL = "127.0.0.1"
OTHER = "127.0.0.66"
"""Another address of this machine, as far as a server can tell."""


@asynccontextmanager
async def administered(tmp_path: Path, overrides: Sequence[str] = ()) -> AsyncIterator[tuple[Server, int]]:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    settings = ["admin.kind=http", "admin.port=0", f"admin.token_file={file}", *overrides]
    async with serving("alice", overrides=settings) as server:
        assert server.admin is not None
        yield server, server.admin.address[1]


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side has closed; whatever it says before is thrown away."""
    try:
        while await reader.read(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


async def health(port: int) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{LOCAL}:{port}/health")).status_code


HALF_REQUESTS = {
    "nothing": b"",
    "half a head": b"GET /health HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"PUT /limits HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    + TOKEN.encode()
    + b"\r\nContent-Length: 50\r\n\r\n{",
}


@pytest.mark.parametrize("name", HALF_REQUESTS)
def test_who_does_not_come_to_the_point_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(http_serving, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(http_serving, "ANSWER_SECONDS", 0.4)
    caplog.set_level(logging.WARNING)

    async def scenario() -> None:
        async with administered(tmp_path) as (_, port):
            reader, writer = await asyncio.open_connection(LOCAL, port)
            writer.write(HALF_REQUESTS[name])
            assert await is_closed(reader)
            writer.close()
            assert await health(port) == 200

    run(scenario())
    lines = [one.exchange_fields for one in caplog.records if one.message == "admin closed"]  # type: ignore[attr-defined]
    assert [one["reason"].startswith("waited too long for") for one in lines] == [True]


def test_an_address_that_takes_all_its_connections_leaves_those_of_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (_, port):
            held = [
                await asyncio.open_connection(LOCAL, port, local_addr=(OTHER, 0))
                for _ in range(CONNECTIONS_PER_ADDRESS + 5)
            ]
            for reader, _ in held[CONNECTIONS_PER_ADDRESS:]:
                assert await is_closed(reader)
            assert await health(port) == 200
            for _, writer in held:
                writer.close()
            again = 0
            while again != 200:  # its places are free when the server has seen that
                reader, writer = await asyncio.open_connection(LOCAL, port, local_addr=(OTHER, 0))
                writer.write(b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n")
                try:
                    again = int(((await reader.readline()) or b"x 0").split()[1])
                except ConnectionError:
                    again = 0
                writer.close()

    run(scenario())


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (_, port):
            reader, writer = await asyncio.open_connection(LOCAL, port)
            writer.write(b"GET /health HTTP/1.1\r\nX: " + b"x" * (2 * http_serving.HEAD_BYTES_MAX))
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            assert await is_closed(reader)
            writer.close()

    run(scenario())


def test_the_page_hangs_up_too_and_keeps_its_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_serving, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(http_serving, "ANSWER_SECONDS", 0.4)

    async def scenario() -> None:
        async with page_by_hand() as (page, _):
            address = page.url.replace("http", "ws") + "/live"
            async with connect(address, origin=page.url, proxy=None) as browser:  # type: ignore[arg-type]
                reader, writer = await asyncio.open_connection(*page.listener.getsockname()[:2])
                assert await is_closed(reader)
                writer.close()
                reader, writer = await asyncio.open_connection(*page.listener.getsockname()[:2])
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
                assert await is_closed(reader)
                writer.close()
                assert json.loads(await browser.recv())["type"] == "hello"
                await browser.ping()

    run_page_test(scenario())


def test_an_address_with_many_browsers_makes_place_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "BROWSERS_MAX", 4)

    async def scenario() -> None:
        async with page_by_hand() as (page, _), AsyncExitStack() as stack:
            address = page.url.replace("http", "ws") + "/live"

            async def come(source: str) -> ClientConnection:
                line = socket.socket()
                line.bind((source, 0))
                line.setblocking(False)
                await asyncio.get_running_loop().sock_connect(line, page.listener.getsockname()[:2])
                browser = connect(address, origin=page.url, sock=line, proxy=None)  # type: ignore[arg-type]
                return await stack.enter_async_context(browser)

            crowd = [await come(OTHER) for _ in range(4)]
            await eventually(lambda: len(page.room.browsers) == 4)
            late = await come(OTHER)
            await late.wait_closed()
            single, oldest = await come(LOCAL), crowd[0]
            assert json.loads(await single.recv())["type"] == "hello"
            await oldest.wait_closed()
            assert oldest.close_code == 1013
            await eventually(lambda: len(page.room.browsers) == 4)
            for browser in (*crowd[1:], single):
                await browser.ping()

    run_page_test(scenario())


def test_the_admin_interface_over_tls(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    overrides = [f"admin.tls_certificate={made.certificate}", f"admin.tls_key={made.key}"]

    async def scenario() -> None:
        async with administered(tmp_path, overrides) as (server, port):
            url, trusted = f"https://{LOCAL}:{port}", client_context(str(made.certificate), "--ca")
            client = AdminClient(url, TOKEN, trusted=trusted)
            assert (await asyncio.to_thread(client.get, "sessions"))[0]["user"] == "ALICE"
            with pytest.raises(UserError, match=r"its certificate is not trusted .*--ca FILE"):
                await asyncio.to_thread(AdminClient(url, TOKEN).get, "health")
            with pytest.raises(UserError, match="no admin interface at http://"):
                await asyncio.to_thread(AdminClient(f"http://{LOCAL}:{port}", TOKEN).get, "health")
            arguments = page_arguments(server, f"{LOCAL}:0")
            assert arguments[arguments.index("--admin") + 1] == url
            pinned = pinned_context(arguments[arguments.index("--admin-pin") + 1], "--admin-pin")
            token_file = arguments[arguments.index("--admin-token-file") + 1]
            assert not isinstance(await StatisticsReader(url, token_file, pinned).read(), str)

    run(scenario())


def test_a_handshake_that_is_not_made_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_serving, "HANDSHAKE_SECONDS", 0.3)
    made = make_certificate(tmp_path)
    overrides = [f"admin.tls_certificate={made.certificate}", f"admin.tls_key={made.key}"]

    async def scenario() -> None:
        async with administered(tmp_path, overrides) as (_, port):
            reader, writer = await asyncio.open_connection(LOCAL, port)
            assert await is_closed(reader)
            writer.close()

    run(scenario())


def test_the_page_over_tls(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)

    async def scenario() -> None:
        async with page_by_hand(tls_certificate=str(made.certificate), tls_key=str(made.key)) as (page, _):
            assert page.url.startswith("https://")
            assert page.is_encrypted
            trusted = ssl.create_default_context(cafile=str(made.certificate))
            async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:
                assert (await client.get(page.url + "/health")).status_code == 200
            address = page.url.replace("https", "wss") + "/live"
            async with connect(address, origin=page.url, ssl=trusted, proxy=None) as browser:  # type: ignore[arg-type]
                assert json.loads(await browser.recv())["type"] == "hello"

    run_page_test(scenario())


def test_a_page_with_half_of_tls_does_not_start(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    options = PageOptions((LOCAL, 0), None, "", "", (), tls_certificate=str(made.certificate))
    with pytest.raises(UserError, match="--tls-key = '': must name a file, as --tls-certificate does"):
        Page(options, lambda: pytest.fail("the feed is not listened to"))
