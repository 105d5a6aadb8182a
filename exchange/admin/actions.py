"""What the admin interface can have done: halt and resume a symbol, disconnect or cancel for a user, change a limit.

Halts and cancels become commands that go through the order path, behind whatever clients asked before
(:meth:`exchange.transport.network.NetworkTransport.command`); nothing here touches an order. A halt is answered when
its shard has applied it, which is the moment from which no order comes into the book any more.

Whatever is wrong with what was asked is a :class:`Refusal` that names field, value and what is allowed. Every action
is logged.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from exchange import limits
from exchange.admin.refusal import Refusal
from exchange.admin.risk import RiskDesk
from exchange.gateway.admission import CONTROL_LIMITS, ControlLimit
from exchange.gateway.inbound import KILLED, REVIVED
from exchange.gateway.session_memory import LOG_MESSAGES
from exchange.gateway.statistics import SymbolStatistics
from exchange.logs import log_event
from exchange.messages import (
    ALL_SYMBOLS,
    REASON_CHARACTERS,
    Command,
    CommandKind,
    Reason,
    SymbolState,
    reason_word,
)
from exchange.native import load_acquire
from exchange.transport.network import CHANGEABLE

if TYPE_CHECKING:
    from exchange.gateway.server import Server

APPLIED_SECONDS: Final = 2.0
"""How long a halt is waited for. It takes microseconds, but for an exchange with full queues on a busy machine."""

_BUSY: Final = "too many commands are waiting; try again"

_OF_AGENTS: Final = {
    "client_timeout_ns": ControlLimit(limits.SILENCE_NS_MIN, limits.SILENCE_NS_MAX, "nanoseconds"),
    "heartbeat_ns": ControlLimit(limits.HEARTBEAT_NS_MIN, limits.HEARTBEAT_NS_MAX, "nanoseconds"),
    "slow_reader_ns": ControlLimit(limits.SILENCE_NS_MIN, limits.SILENCE_NS_MAX, "nanoseconds"),
}
assert set(_OF_AGENTS) == set(CHANGEABLE)
_RANGES: Final = _OF_AGENTS | CONTROL_LIMITS


class Done(Struct, frozen=True):
    """An action on a user's session that has been passed on to the agents."""

    user: str
    session: int
    action: str


class Actions:
    """The actions on one served exchange; to be called in its event loop.

    Attributes:
        risk: what there is to do about limits of sessions and symbols.
    """

    def __init__(self, server: "Server") -> None:
        self._server: Final = server
        self.risk: Final = RiskDesk(server)
        self._one_at_a_time: Final = asyncio.Lock()

    async def set_state(self, symbol: str, state: SymbolState, reason: str) -> SymbolStatistics:
        """Halt a symbol or let it trade again, and wait until that is so.

        Raises:
            Refusal: no such symbol, a reason that the feed cannot carry, or the order path takes nothing.
        """
        symbol_id = self.symbol_of(symbol)
        if len(reason) > REASON_CHARACTERS or not (reason == "" or (reason.isascii() and reason.isalnum())):
            raise Refusal(
                422, "reason", reason, f"must be up to {REASON_CHARACTERS} letters and digits, such as T1"
            )
        command = Command(
            CommandKind.TRADING_STATE,
            symbol_id=symbol_id,
            order_id=reason_word(reason),
            quantity_lots=state,
        )
        async with self._one_at_a_time:
            changes = self._server.exchange.trading_state(symbol_id).changes
            self._send(command, "symbol", symbol)
            deadline = time.monotonic() + APPLIED_SECONDS
            while self._server.exchange.trading_state(symbol_id).changes == changes:
                if time.monotonic() > deadline:
                    raise Refusal(
                        504, "symbol", symbol, "the command is on its way, but was not applied in time"
                    )
                await asyncio.sleep(0.001)
        log_event("trading state", symbol=symbol, state=state.name.lower(), reason=reason)
        shard = self._server.exchange.shard_of_symbol[symbol_id]
        return SymbolStatistics(symbol, state.name.lower(), reason, shard)

    def disconnect(self, user: str, asked_by: str) -> Done:
        """Have the agents let a user's connection go. Raises Refusal: no such user, or not connected."""
        session_id = self.session_of(user)
        if session_id not in self._server.control.connections:
            raise Refusal(409, "user", user, "must be connected")
        self._server.control.disconnect(session_id)
        return self._done(session_id, "disconnect", asked_by)

    def cancel_all(self, user: str, asked_by: str) -> Done:
        """Cancel all orders of a user, in every symbol. Raises Refusal: no such user, or nothing is taken."""
        session_id = self.session_of(user)
        if not self._cancel_orders(session_id):
            raise Refusal(503, "user", user, _BUSY)
        return self._done(session_id, "cancel-all", asked_by)

    def set_killed(self, user: str, *, is_killed: bool, asked_by: str) -> Done:
        """Take no new orders of a user any more and cancel all that there are, or take them again.

        It goes through the order path as well, so that a restart from a journal finds it as it was.

        Raises:
            Refusal: no such user, or nothing is taken; a user that was to be killed is refused all the same.
        """
        session_id, transport = self.session_of(user), self._server.transport
        # Before the commands: whatever is decoded behind them sees it.
        transport.set_killed(session_id, is_killed=is_killed)
        is_passed_on = transport.note(KILLED if is_killed else REVIVED, session_id)
        if is_killed:
            is_passed_on = self._cancel_orders(session_id) and is_passed_on
        done = self._done(session_id, "kill" if is_killed else "revive", asked_by)
        if not is_passed_on:
            raise Refusal(503, "user", user, _BUSY)
        return done

    def _cancel_orders(self, session_id: int) -> bool:
        """Cancel all orders of a session, whose client is told that it was the operator; False: try again."""
        return self._server.transport.command(
            Command(
                CommandKind.MASS_CANCEL,
                symbol_id=ALL_SYMBOLS,
                session_id=session_id,
                quantity_lots=Reason.BY_OPERATOR,
            )
        )

    def set_limit(self, name: object, value: object, asked_by: str) -> None:
        """Change a limit. Raises Refusal: it is fixed, or the value is out of range."""
        key = str(name).removeprefix("gateway.")
        if key not in _RANGES:
            allowed = ", ".join(f"gateway.{one}" for one in _RANGES)
            raise Refusal(422, "name", name, f"must be one of {allowed}; others are fixed by the profile")
        least, most, unit = _RANGES[key].least, _RANGES[key].most, _RANGES[key].unit
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Refusal(422, f"gateway.{key}", value, f"must be {least} to {most} {unit}")
        if key in CONTROL_LIMITS:
            old = getattr(self._server.control.limits, key)
            setattr(self._server.control.limits, key, value)
        else:
            old = self._server.transport.limit(key)
            self._server.transport.set_limit(key, value)
        log_event("limit changed", name=f"gateway.{key}", value=value, old=old, asked_by=asked_by)

    def symbol_of(self, symbol: str) -> int:
        """The number of a symbol. Raises Refusal: there is no such symbol."""
        symbols = self._server.settings.gateway.symbols
        if symbol not in symbols:
            raise Refusal(404, "symbol", symbol, f"must be one of {', '.join(symbols)}")
        return symbols.index(symbol)

    def session_of(self, user: str) -> int:
        """The number of a user's session. Raises Refusal: there is no such user."""
        number = self._server.control.users.number_of(user)
        if number is None:
            raise Refusal(404, "user", user, "must be a user of the exchange; GET /sessions names them")
        return number

    def _send(self, command: Command, field: str, value: str) -> None:
        if not self._server.transport.command(command):
            raise Refusal(503, field, value, _BUSY)

    def _done(self, session_id: int, action: str, asked_by: str) -> Done:
        user = self._server.control.users.users[session_id].name
        session = self._server.transport.memory.address(session_id)
        sequence = load_acquire(session + LOG_MESSAGES)
        log_event("admin", action=action, user=user, session=session_id, sequence=sequence, asked_by=asked_by)
        return Done(user, session_id, action)
