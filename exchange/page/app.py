"""The page over HTTP: its files, and the WebSocket over which a browser talks to us.

Who may talk to us is decided before anything else, in :class:`Guard`:

* **Host.** A page that listens on the loopback can be reached by any site that a browser of this machine visits: the
  site has its own name resolve to 127.0.0.1 (*DNS rebinding*) and is then of the same origin as we. But the name
  stands in the Host header. Addresses in digits cannot be rebound; of names only localhost and those that the page was
  told are let in.
* **Origin.** A WebSocket may be opened from any site's script, and the browser says from which. Only ours is let in.

Every answer tells the browser to load nothing that does not come from here, and to run no script but our files.
"""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from exchange.gateway.admission import network_of
from exchange.page.browsers import BROWSERS_MAX, Browser, Room

STATIC: Final = Path(__file__).parent / "static"

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


class Guard:
    """Lets in who may come in, and adds :data:`HEADERS` to every answer.

    Args:
        app: what is behind it.
        names: by which names the page may be called, besides localhost.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app: Final = app
        self._names: Final = frozenset({"localhost", *(name.lower() for name in names)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        is_right = self._is_known(host)
        if scope["type"] == "websocket":
            origin = headers.get("origin", "")
            if is_right and origin in (f"http://{host}", f"https://{host}"):
                await self._app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = PlainTextResponse("this page is not known by that name (exchange page --name)", 421)
        await (self._app if is_right else refusal)(scope, receive, send_with_headers)

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def build_app(room: Room, names: Sequence[str] = ()) -> ASGIApp:
    """The app of one page.

    Args:
        room: what browsers look at.
        names: by which names the page may be called, besides localhost and addresses in digits.
    """

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        network = network_of(websocket.client.host) if websocket.client is not None else ""
        if not room.has_place_for(network):
            await websocket.close(1013, f"this page has its {BROWSERS_MAX} browsers")
            return
        await Browser(websocket, room, network).serve()

    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"ok {len(room.browsers)} browsers\n")

    routes = [
        WebSocketRoute("/live", talk),
        Route("/health", health),
        Mount("/", StaticFiles(directory=STATIC, html=True)),
    ]
    return Guard(Starlette(routes=routes), names)
