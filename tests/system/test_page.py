"""The page over its WebSocket: what browsers are told, what they may do, who is let in. No screen, nothing mocked."""

import asyncio
import urllib.error
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange.page.app import STATIC
from exchange.page.requests import REQUEST_BYTES_MAX
from exchange.page.serving import Page
from exchange.wire.itch50 import AddOrder, OrderCancel, OrderExecuted, StockTradingAction
from tests.gateway_driver import PASSWORD, compile_once
from tests.gateway_driver import connect as client_of
from tests.page_driver import page_by_hand, page_of_exchange, run_page_test, screen_of

BROWSERS = 50


async def get(page: Page, path: str, host: str = "") -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(page.url + path, headers={"Host": host} if host else {})

    def ask() -> tuple[int, dict[str, str], bytes]:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, dict(response.headers.items()), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers.items()), error.read()

    return await asyncio.to_thread(ask)


def test_the_files_come_with_headers_that_forbid_everything_else() -> None:
    async def scenario() -> None:
        async with page_by_hand() as (page, _):
            for path in ("/", *(f"/{one.relative_to(STATIC)}" for one in STATIC.rglob("*.*"))):
                status, headers, body = await get(page, path)
                assert (status, headers["x-content-type-options"]) == (200, "nosniff"), path
                assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
                assert body
            assert (await get(page, "/../app.py"))[0] == 404
            assert (await get(page, "/%2e%2e/app.py"))[0] == 404
            assert (await get(page, "/", host="rebound.example"))[0] == 421
            assert (await get(page, "/", host="localhost:80"))[0] == 200

    run_page_test(scenario())


def test_the_page_takes_nothing_from_elsewhere() -> None:
    text = "".join(
        one.read_text("utf-8") for one in STATIC.iterdir() if one.suffix in (".html", ".js", ".css")
    )
    for word in ("http://", "https://", "<style", "style=", "onclick=", "innerHTML", "eval(", "@import"):
        assert word not in text.replace("http://www.w3.org/2000/svg", ""), word


@pytest.mark.parametrize("origin", [None, "http://elsewhere.example", "null", "http://127.0.0.1:1"])
def test_a_script_of_another_site_is_not_let_in(origin: str | None) -> None:
    async def scenario() -> None:
        async with page_by_hand() as (page, _):
            with pytest.raises(InvalidStatus) as refused:
                await connect(page.url.replace("http", "ws") + "/live", origin=origin, proxy=None)  # type: ignore[arg-type]
            assert refused.value.response.status_code == 403

    run_page_test(scenario())


def test_a_book_its_trades_and_a_halt_reach_the_browser() -> None:
    async def scenario() -> None:
        async with page_by_hand() as (page, feed), screen_of(page) as screen:
            await screen.until(lambda one: one.last.get("overview", {}).get("feed") == "waiting")
            feed.open("AAPL", "MSFT")
            assert (await screen.watch("MSFT"))["bids"] == []
            feed.send(
                AddOrder(1, 0, 5, 1, "B", 9, "AAPL", 17_0000),
                AddOrder(2, 0, 5, 7, "S", 100, "MSFT", 100_0001),
                AddOrder(2, 0, 6, 8, "S", 200, "MSFT", 100_0001),
                AddOrder(2, 0, 6, 9, "B", 300, "MSFT", 99_9900),
                OrderExecuted(2, 0, 7, 7, 40, 1),
                OrderExecuted(2, 0, 8, 9, 10, 2),
                OrderCancel(2, 0, 9, 8, 50),
            )
            book = await screen.until(lambda one: (b := one.book("MSFT")) and b["traded_lots"] == 50 and b)
            assert book["asks"] == [[100_0001, 210, 2]]
            assert book["bids"] == [[99_9900, 290, 1]]
            assert book["trades"] == [[2, 8, 99_9900, 10, "S"], [1, 7, 100_0001, 40, "B"]]
            row = ["MSFT", "T", 99_9900, 290, 100_0001, 210, 99_9900, 50]
            await screen.until(lambda one: one.symbols()["MSFT"] == row)
            assert screen.symbols()["AAPL"] == ["AAPL", "T", 17_0000, 9, 0, 0, 0, 0]
            feed.send(StockTradingAction(2, 0, 10, "MSFT", "H", " ", "T1"))
            await screen.until(lambda one: one.symbols()["MSFT"][1] == one.book("MSFT")["state"] == "H")
            history = await screen.until(
                lambda one: (
                    any(point["feed_per_second"] for point in one.last["history"]["points"])
                    and one.last["history"]
                )
            )
            assert "without the address of an admin interface" in history["trouble"]
            assert history["points"][-1]["latency_p50_ns"] is None

    run_page_test(scenario())


def test_while_messages_are_missing_no_price_is_shown_and_a_new_session_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exchange.page.market.SILENT_SECONDS", 0.05)

    async def scenario() -> None:
        async with page_by_hand() as (page, feed), screen_of(page) as screen:
            feed.open("AAPL")
            await screen.watch("AAPL")
            feed.next_sequence += 1
            feed.send(AddOrder(1, 0, 5, 1, "B", 9, "AAPL", 17_0000))
            await screen.until(lambda one: one.last["overview"]["feed"] in ("behind", "lost"))
            assert screen.symbols()["AAPL"][2] == 0
            again = type(feed)(feed._to[1], "SECOND")
            while "QQQ" not in screen.symbols():
                again.next_sequence = 1
                again.open("QQQ")
                await screen.hear()
            again.close()

    run_page_test(scenario())


def test_fifty_browsers_are_all_told_from_one_encoding() -> None:
    async def scenario() -> None:
        async with page_by_hand() as (page, feed), asyncio.TaskGroup() as group:
            feed.open("AAPL", "MSFT")
            told = asyncio.Barrier(BROWSERS + 1)

            async def browse(number: int) -> None:
                symbol = ("AAPL", "MSFT")[number % 2]
                async with screen_of(page) as screen:
                    await screen.watch(symbol)
                    await told.wait()
                    for size in (100, 200, 300):
                        level = [50_0000, size, size // 100]
                        await screen.until(lambda one, level=level: one.book(symbol)["bids"] == [level])
                        await told.wait()
                    await told.wait()

            for number in range(BROWSERS):
                group.create_task(browse(number))
            await told.wait()
            assert len(page.room.browsers) == BROWSERS
            versions = {symbol: sheet.version for symbol, sheet in page.market.books.items()}
            for number in range(3):
                feed.send(
                    *(
                        AddOrder(s + 1, 0, 5, 2 * number + s, "B", 100, ("AAPL", "MSFT")[s], 50_0000)
                        for s in (0, 1)
                    )
                )
                await told.wait()
            now = {symbol: sheet.version for symbol, sheet in page.market.books.items()}
            assert now == {symbol: version + 3 for symbol, version in versions.items()}
            await told.wait()

    run_page_test(scenario())


def test_a_request_that_is_none_is_answered_and_a_huge_one_ends_the_line() -> None:
    async def scenario() -> None:
        async with page_by_hand() as (page, feed):
            feed.open("AAPL")
            async with screen_of(page) as screen:
                for text in ("", "[]", "{", '{"action":"place"}', "\x00"):
                    await screen._line.send(text)
                    assert "no request" in (await screen.problem())["text"]
                await screen.ask(action="watch", symbol="WHO")
                assert (await screen.problem())["text"] == "WHO is not traded here"
                await screen.ask(action="cancel", number=1)
                assert (await screen.problem())["text"] == "log on first"
                await screen.ask(action="log-on", user="alice", password="secret")
                assert "without an exchange" in (await screen.problem())["text"]
                await screen._line.send("x" * (REQUEST_BYTES_MAX + 1))
                with pytest.raises(ConnectionClosed):
                    await screen.until(lambda _: False)

    run_page_test(scenario())


def test_two_people_trade_with_each_other() -> None:
    compile_once()

    async def scenario() -> None:
        async with (
            page_of_exchange("alice", "bob") as (page, _),
            screen_of(page) as alice,
            screen_of(page) as bob,
        ):
            await alice.watch("AAPL")
            await alice.ask(action="log-on", user="alice", password="wrong")
            assert "does not know this name with this password" in (await alice.problem())["text"]
            await alice.ask(action="log-on", user="alice", password=PASSWORD)
            await alice.until(lambda one: one.account["user"] == "ALICE")
            await bob.ask(action="log-on", user="ALICE", password=PASSWORD)
            assert (await bob.problem())[
                "text"
            ] == "ALICE is logged on in another browser; log off there first"
            await bob.ask(action="log-on", user="bob", password=PASSWORD)
            await bob.until(lambda one: one.account["user"] == "BOB")

            await alice.ask(action="place", symbol="AAPL", side="B", quantity=100, price="50.1")
            (order,) = await alice.until(lambda one: one.account["orders"])
            assert (order["price_ticks"], order["open_lots"]) == (50_1000, 100)
            await alice.until(lambda one: one.book("AAPL")["bids"] == [[50_1000, 100, 1]])
            await bob.ask(action="place", symbol="AAPL", side="S", quantity=30, price="50.1", immediate=True)
            await alice.until(lambda one: one.account["orders"][0]["executed_lots"] == 30)
            await alice.until(
                lambda one: [trade[2:] for trade in one.book("AAPL")["trades"]] == [[50_1000, 30, "S"]]
            )
            fills = await bob.until(lambda one: one.account["fills"])
            assert (fills[0]["side"], fills[0]["lots"], fills[0]["price_ticks"]) == ("S", 30, 50_1000)

            number = alice.account["orders"][0]["number"]
            await alice.ask(action="replace", number=number, quantity=200, price="50.0001")
            await alice.until(lambda one: one.book("AAPL")["bids"] == [[50_0001, 200, 1]])
            await alice.ask(action="cancel", number=number)
            assert "not open any more" in (await alice.problem())["text"]
            await alice.ask(action="cancel", number=alice.account["orders"][0]["number"])
            await alice.until(lambda one: one.account["orders"] == [] and one.book("AAPL")["bids"] == [])
            await bob.ask(action="place", symbol="NOSUCH", side="S", quantity=1, price="1")
            notices = await bob.until(lambda one: one.account["notices"])
            assert "invalid symbol" in notices[0]["text"]

    run_page_test(scenario())


def test_a_session_goes_to_the_last_log_on_and_its_orders_are_there_again() -> None:
    compile_once()

    async def scenario() -> None:
        async with page_of_exchange("alice") as (page, server), screen_of(page) as first:
            await first.ask(action="log-on", user="alice", password=PASSWORD)
            await first.ask(action="place", symbol="QQQ", side="S", quantity=5, price="600")
            await first.until(lambda one: one.account.get("orders"))
            client = await client_of(server, "alice")
            await first.until(lambda one: one.account["user"] == "")
            assert "another log on" in first.account["notices"][0]["text"]
            await client.close()
            async with screen_of(page) as second:
                await second.ask(action="log-on", user="alice", password=PASSWORD)
                await second.until(lambda one: len(one.account.get("orders", [])) == 1)
                await second.ask(action="place", symbol="QQQ", side="B", quantity=7, price="500")
                await second.until(lambda one: len(one.account["orders"]) == 2)
                await second.ask(action="log-off")
                await second.until(lambda one: one.account["user"] == "")
            assert page.room.users == {}

    run_page_test(scenario())
