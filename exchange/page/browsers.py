"""The browsers that look at the page: what each is sent, and what each may do.

A :class:`Browser` has two tasks. One reads its requests, one after the other. The other sends, and it never has a list
of what is still to be sent: when it is woken it looks at what has changed since it last looked, and sends how that is
now. If the browser does not take it, the task waits, and what changes meanwhile is seen once, afterwards. So a slow
browser has no backlog, and holds nobody up.

Rules: one event loop. Nothing that came from a browser is trusted (:mod:`exchange.page.requests`). A user can be logged
on in one browser at a time: the exchange would give the session to the second and leave the first without an answer.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from exchange.page.documents import AccountView, Done, Hello, History, Notice, Problem, encode
from exchange.page.market import Market
from exchange.page.requests import (
    BadRequest,
    Cancel,
    LogOff,
    LogOn,
    Place,
    Replace,
    Request,
    Watch,
    parse_request,
)
from exchange.page.statistics_reader import Sampler
from exchange.page.trader import Trader

BROWSERS_MAX: Final = 200
"""Each costs an encoding less than it seems, and a socket: four times as many as were asked for. When all places are
taken, a newcomer gets that of the oldest browser of the address that has most, so that none keeps others out."""

_NUMBERS: Final = count()

REPLIES_KEPT: Final = 16
REQUEST_PAUSE_SECONDS: Final = 0.02
"""A person does not ask fifty things a second."""

REFUSED_PAUSE_SECONDS: Final = 1.0
"""After a log on that was refused: guessing passwords shall take long."""

LOG_ONS_AT_A_TIME: Final = 2
"""The exchange checks a password in tens of milliseconds of a core."""

TICKS_PER_SECOND: Final = 15


class Room:
    """What all browsers share.

    Args:
        market: the books.
        sampler: the points of the charts.
        exchange: where people are logged on: hosts and ports where the exchange may be; none: nowhere.
    """

    def __init__(self, market: Market, sampler: Sampler, exchange: Sequence[tuple[str, int]]) -> None:
        self.market: Final = market
        self.sampler: Final = sampler
        self.exchange: Final = exchange
        self.trouble = ""
        self.sessions_connected: int | None = None
        self.browsers: Final[set[Browser]] = set()
        self.users: Final[dict[str, Browser]] = {}
        self.logging_on: Final = asyncio.Semaphore(LOG_ONS_AT_A_TIME)
        self._closing: asyncio.Task[None] | None = None
        self._histories: dict[int, bytes] = {}
        self._history_key: tuple[int, str, int | None] | None = None

    def has_place_for(self, network: str) -> bool:
        """Whether one more browser of an address may come; if all places are taken, somebody may have to go for it."""
        if len(self.browsers) < BROWSERS_MAX:
            return True
        counts = Counter(browser.network for browser in self.browsers)
        fullest, most = counts.most_common(1)[0]
        if most < counts[network] + 2:
            return False
        oldest = min((one for one in self.browsers if one.network == fullest), key=lambda one: one.number)
        self.browsers.discard(oldest)
        self._closing = asyncio.create_task(oldest.close(1013))
        return True

    def watched(self) -> set[str]:
        """The symbols that somebody looks at."""
        return {browser.symbol for browser in self.browsers}

    def wake(self) -> None:
        """Let every browser look for what has changed."""
        for browser in self.browsers:
            browser.wake()

    def history_since(self, number: int) -> bytes:
        """Points behind one, encoded; once for all browsers that have got as far."""
        points = self.sampler.points
        key = (points[-1].number if points else 0, self.trouble, self.sessions_connected)
        if key != self._history_key:
            self._history_key, self._histories = key, {}
        if number not in self._histories:
            since = self.sampler.since(number)
            self._histories[number] = encode(History(self.trouble, self.sessions_connected, since))
        return self._histories[number]


class Browser:
    """One connection of one browser, accepted.

    Args:
        websocket: the connection.
        room: what it shares with the others.
        network: the address that it comes from, as it counts.
    """

    def __init__(self, websocket: WebSocket, room: Room, network: str = "") -> None:
        self.symbol = ""
        self.sent = 0
        self.number: Final = next(_NUMBERS)
        self.network: Final = network
        self._websocket: Final = websocket
        self._room: Final = room
        self._changed: Final = asyncio.Event()
        self._replies: Final[deque[bytes]] = deque(maxlen=REPLIES_KEPT)
        self._overview_version = self._book_version = 0
        self._point_number = 0
        self._point_trouble: str | None = None
        self._trader: Trader | None = None
        self._is_logging_on = False
        self._account_changed = True

    @property
    def holds_session(self) -> bool:
        """Whether somebody is logged on here, or about to be."""
        return self._is_logging_on or (self._trader is not None and self._trader.is_connected)

    async def serve(self) -> None:
        """Talk to the browser until it goes."""
        exchange = self._room.exchange
        address = f"{exchange[0][0]}:{exchange[0][1]}" if exchange else ""
        self._replies.append(encode(Hello(address, TICKS_PER_SECOND)))
        self._room.browsers.add(self)
        sending = asyncio.create_task(self._send())
        self.wake()
        try:
            await self._listen()
        finally:
            self._room.browsers.discard(self)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await self._log_off()

    def wake(self) -> None:
        """Look for what has changed, when there is time."""
        self._changed.set()

    async def close(self, code: int = 1001) -> None:
        """Hang up, and say why (RFC 6455, section 7.4): 1001 is the end of the page, 1013 that there is no place."""
        with suppress(RuntimeError, OSError, WebSocketDisconnect):
            await self._websocket.close(code)

    async def _send(self) -> None:
        with suppress(WebSocketDisconnect, OSError, RuntimeError):  # the reader sees it too, and ends
            while True:
                await self._changed.wait()
                self._changed.clear()
                for data in self._due():
                    await self._websocket.send_bytes(data)
                    self.sent += 1

    def _due(self) -> list[bytes]:
        """What has changed since it was sent, as it is now."""
        room, due = self._room, list[bytes]()
        while self._replies:
            due.append(self._replies.popleft())
        if self._account_changed:
            self._account_changed = False
            due.append(encode(self._account()))
        if room.market.overview.version != self._overview_version:
            self._overview_version = room.market.overview.version
            due.append(room.market.overview.data)
        sheet = room.market.books.get(self.symbol)
        if sheet is not None and sheet.version != self._book_version:
            self._book_version = sheet.version
            due.append(sheet.data)
        points = room.sampler.points
        newest = points[-1].number if points else 0
        if newest != self._point_number or room.trouble != self._point_trouble:
            due.append(room.history_since(self._point_number))
            self._point_number, self._point_trouble = newest, room.trouble
        return due

    def _account(self) -> AccountView:
        if self._trader is None:
            return AccountView("", [], 0, [], [])
        view = self._trader.account.view()
        if not self._trader.is_connected:
            last = view.notices[0].text if view.notices else "the connection has ended"
            return AccountView("", [], 0, view.fills, [Notice(0, "error", last)])
        return view

    def _mark_account(self) -> None:
        self._account_changed = True
        self.wake()

    async def _listen(self) -> None:
        with suppress(WebSocketDisconnect):
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("text") or message.get("bytes") or b""
                try:
                    request = parse_request(data)
                    await self._do(request)
                    if not isinstance(request, Watch):
                        action = type(request).__struct_config__.tag
                        self._replies.append(encode(Done(str(action))))
                except BadRequest as error:
                    self._replies.append(encode(Problem(error.field, str(error))))
                self.wake()
                await asyncio.sleep(REQUEST_PAUSE_SECONDS)

    async def _do(self, request: Request) -> None:
        match request:
            case Watch():
                if request.symbol not in self._room.market.symbols:
                    raise BadRequest("symbol", f"{request.symbol} is not traded here")
                self.symbol, self._book_version = request.symbol, 0
            case LogOn():
                await self._log_on(request)
            case LogOff():
                await self._log_off()
            case Place():
                await self._trading().place(request)
            case Replace():
                await self._trading().replace(request)
            case Cancel():
                await self._trading().cancel(request)

    def _trading(self) -> Trader:
        if self._trader is None or not self._trader.is_connected:
            raise BadRequest("", "log on first")
        return self._trader

    async def _log_on(self, request: LogOn) -> None:
        room, user = self._room, request.user.upper()
        if not room.exchange:
            raise BadRequest("", "this page was started without an exchange to log on to (--exchange)")
        if self._trader is not None and self._trader.is_connected:
            raise BadRequest("user", f"{self._trader.account.user} is logged on here; log off first")
        await self._log_off()
        holder = room.users.get(user)
        if holder is not None and holder.holds_session:
            raise BadRequest("user", f"{user} is logged on in another browser; log off there first")
        room.users[user], self._is_logging_on = self, True
        try:
            async with room.logging_on:
                self._trader = await Trader.log_on(room.exchange, user, request.password, self._mark_account)
        except BadRequest:
            await asyncio.sleep(REFUSED_PAUSE_SECONDS)
            raise
        finally:
            self._is_logging_on = False
        self._mark_account()

    async def _log_off(self) -> None:
        trader, self._trader = self._trader, None
        if trader is not None:
            await trader.close()
            if self._room.users.get(trader.account.user) is self:
                del self._room.users[trader.account.user]
            self._mark_account()
