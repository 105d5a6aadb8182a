"""Which address of the admin interface answers with what.

========================================= =======================================================================
GET /health                               ``{"status": "ok"}``: the control plane lives. No token needed
GET /metrics                              for Prometheus; with the token, which its ``authorization`` can send
GET /sessions                             :class:`~exchange.admin.readings.SessionDocument` of every user
POST /sessions/USER/disconnect            let the user's connection go
POST /sessions/USER/cancel-all            cancel all of the user's orders
POST /sessions/USER/kill                  take no new orders of the user any more, and cancel all that there are
POST /sessions/USER/revive                take them again
PUT /sessions/USER/limits                 ``{"limit": ..., "value": ...}``: change what the user may ask for
GET /risk                                 :class:`~exchange.admin.risk.RiskDocument`: limits and what is used of them
GET /limits                               :class:`~exchange.admin.readings.LimitDocument` of all that has an end
PUT /limits                               ``{"name": ..., "value": ...}``: change one that is changeable
GET /symbols                              which symbols trade
POST /symbols/SYMBOL/halt                 ``{"reason": "T1"}``; the body may be left out
POST /symbols/SYMBOL/resume               the same
PUT /symbols/SYMBOL/limits                ``{"limit": ..., "value": ...}``: change what may be asked for in the symbol
PUT /symbols/SYMBOL/reference-price       ``{"price_ticks": ...}``: the middle of its collar until the next trade
GET /statistics                           :class:`~exchange.gateway.statistics.Statistics`
========================================= =======================================================================

Everything but ``/health`` needs ``Authorization: Bearer TOKEN``. Whatever goes wrong is answered with
``{"error": {"field": ..., "value": ..., "allowed": ...}}`` and a status that says whose fault it is; a token that was
sent is never sent back. Browsers are not spoken to: no cross-origin header is ever sent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from exchange.admin.access import is_right
from exchange.admin.actions import Actions
from exchange.admin.metrics import CONTENT_TYPE, render_metrics
from exchange.admin.readings import Readings
from exchange.admin.refusal import Refusal
from exchange.gateway.refusals import RefusalLog
from exchange.logs import log_event
from exchange.messages import SymbolState

if TYPE_CHECKING:
    from exchange.gateway.server import Server

BODY_BYTES_MAX: Final = 4096
_OPEN_TO_ALL: Final = ("/health",)

Handler = Callable[[Request], Awaitable[object]]


class StateBody(Struct, forbid_unknown_fields=True):
    """What may be said with a halt."""

    reason: str = ""


class LimitBody(Struct, forbid_unknown_fields=True):
    """A limit and its new value."""

    name: str
    value: int


class OwnLimitBody(Struct, forbid_unknown_fields=True):
    """A limit of a session or of a symbol, and its new value."""

    limit: str
    value: int


class PriceBody(Struct, forbid_unknown_fields=True):
    """A reference price."""

    price_ticks: int


def build_app(server: "Server", token: str, refusals: RefusalLog) -> Starlette:
    """The app of one served exchange. Who comes without the token is noted in ``refusals``."""
    endpoints = _Endpoints(server)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/health", endpoints.health),
        ("GET", "/metrics", endpoints.metrics),
        ("GET", "/sessions", endpoints.sessions),
        ("POST", "/sessions/{user}/disconnect", endpoints.disconnect),
        ("POST", "/sessions/{user}/cancel-all", endpoints.cancel_all),
        ("POST", "/sessions/{user}/kill", endpoints.kill),
        ("POST", "/sessions/{user}/revive", endpoints.revive),
        ("PUT", "/sessions/{user}/limits", endpoints.limit_session),
        ("GET", "/risk", endpoints.risk),
        ("GET", "/limits", endpoints.limits),
        ("PUT", "/limits", endpoints.set_limit),
        ("GET", "/symbols", endpoints.symbols),
        ("POST", "/symbols/{symbol}/halt", endpoints.halt),
        ("POST", "/symbols/{symbol}/resume", endpoints.resume),
        ("PUT", "/symbols/{symbol}/limits", endpoints.limit_symbol),
        ("PUT", "/symbols/{symbol}/reference-price", endpoints.give_price),
        ("GET", "/statistics", endpoints.statistics),
    ]
    routes = [
        Route(path, _guarded(handler, token, refusals, open_to_all=path in _OPEN_TO_ALL), methods=[method])
        for method, path, handler in table
    ]
    handlers = {HTTPException: _on_http_exception, Refusal: _on_refusal, Exception: _on_failure}
    return Starlette(routes=routes, exception_handlers=handlers)


class _Endpoints:
    """What each address does."""

    def __init__(self, server: "Server") -> None:
        self._readings: Final = Readings(server)
        self._actions: Final = Actions(server)

    async def health(self, request: Request) -> object:
        return {"status": "ok"}

    async def metrics(self, request: Request) -> object:
        return Response(render_metrics(self._readings.statistics()), media_type=CONTENT_TYPE)

    async def sessions(self, request: Request) -> object:
        return await asyncio.to_thread(self._readings.sessions)

    async def disconnect(self, request: Request) -> object:
        return self._actions.disconnect(request.path_params["user"], _peer(request))

    async def cancel_all(self, request: Request) -> object:
        return self._actions.cancel_all(request.path_params["user"], _peer(request))

    async def kill(self, request: Request) -> object:
        return self._set_killed(request, is_killed=True)

    async def revive(self, request: Request) -> object:
        return self._set_killed(request, is_killed=False)

    def _set_killed(self, request: Request, *, is_killed: bool) -> object:
        return self._actions.set_killed(
            request.path_params["user"], is_killed=is_killed, asked_by=_peer(request)
        )

    async def risk(self, request: Request) -> object:
        return await asyncio.to_thread(self._actions.risk.document)

    async def limit_session(self, request: Request) -> object:
        body = await _body(request, OwnLimitBody)
        session_id = self._actions.session_of(request.path_params["user"])
        self._actions.risk.limit_session(session_id, body.limit, body.value, _peer(request))
        return await self.risk(request)

    async def limit_symbol(self, request: Request) -> object:
        body = await _body(request, OwnLimitBody)
        symbol_id = self._actions.symbol_of(request.path_params["symbol"])
        self._actions.risk.limit_symbol(symbol_id, body.limit, body.value, _peer(request))
        return await self.risk(request)

    async def give_price(self, request: Request) -> object:
        body = await _body(request, PriceBody)
        symbol_id = self._actions.symbol_of(request.path_params["symbol"])
        self._actions.risk.give_price(symbol_id, body.price_ticks, _peer(request))
        return await self.risk(request)

    async def limits(self, request: Request) -> object:
        return await asyncio.to_thread(self._readings.limits)

    async def set_limit(self, request: Request) -> object:
        body = await _body(request, LimitBody)
        self._actions.set_limit(body.name, body.value, _peer(request))
        return await self.limits(request)

    async def symbols(self, request: Request) -> object:
        return self._readings.symbols()

    async def halt(self, request: Request) -> object:
        return await self._set_state(request, SymbolState.HALTED)

    async def resume(self, request: Request) -> object:
        return await self._set_state(request, SymbolState.TRADING)

    async def statistics(self, request: Request) -> object:
        return self._readings.statistics()

    async def _set_state(self, request: Request, state: SymbolState) -> object:
        body = await _body(request, StateBody)
        return await self._actions.set_state(request.path_params["symbol"], state, body.reason)


def _guarded(
    handler: Handler, token: str, refusals: RefusalLog, *, open_to_all: bool
) -> Callable[[Request], Awaitable[Response]]:
    """The handler behind the check of the token, and what it returns as a response."""

    async def respond(request: Request) -> Response:
        if not open_to_all and not is_right(request.headers.get("authorization"), token):
            refusals.note("admin refused", _peer(request), "wrong token", path=request.url.path)
            return _error(
                401, "Authorization", None, "must be 'Bearer TOKEN', with the token of the token file"
            )
        found = await handler(request)
        return found if isinstance(found, Response) else _json(found, 200)

    return respond


def _peer(request: Request) -> str:
    """Where a request came from."""
    return request.client.host if request.client is not None else ""


async def _body[Body: Struct](request: Request, kind: type[Body]) -> Body:
    """The request's body as a struct of that kind; an empty one is an empty object."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise Refusal(413, "body", f"{len(body)} bytes", f"must be {BODY_BYTES_MAX} bytes or fewer")
    except ClientDisconnect as error:
        raise Refusal(400, "body", f"{len(body)} bytes", "must be as long as the header says") from error
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fields = ", ".join(kind.__struct_fields__)
        shown = body.decode("utf-8", "replace")[:200]
        raise Refusal(422, "body", shown, f"must be a JSON object with {fields}: {error}") from error


def _json(document: Any, status: int) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _error(status: int, field: str, value: object, allowed: str) -> Response:
    return _json({"error": {"field": field, "value": value, "allowed": allowed}}, status)


async def _on_refusal(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return _error(refusal.status, refusal.field, refusal.value, refusal.allowed)


async def _on_http_exception(request: Request, exception: Exception) -> Response:
    """An address or a method that is not there."""
    assert isinstance(exception, HTTPException)
    asked = f"{request.method} {request.url.path}"
    return _error(exception.status_code, "request", asked, "must be one of the addresses in docs/operate.md")


async def _on_failure(request: Request, failure: Exception) -> Response:
    """A mistake of ours: it ends this request and nothing else, and is logged."""
    log_event("admin failed", level=logging.ERROR, path=request.url.path, error=repr(failure))
    return _error(
        500, "request", request.url.path, "nothing of yours is wrong; the log of the exchange says more"
    )
