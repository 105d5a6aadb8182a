"""A person's session at the exchange: an OUCH client, and what its answers add up to.

:class:`Account` is the bookkeeping and has no connection: the exchange's answers go in, in sequence, and open orders,
executions and notices come out. As a session's answers can be had again from number 1, a person who logs on sees the
orders that were placed earlier that day, also those of another program under the same name.

:class:`Trader` has the connection. It does not come back by itself when the line ends: the exchange gives a session to
whoever logs on last, and two programs that both came back would take it from each other for ever. It only follows an
exchange that has gone to another of its addresses.

Rules: one event loop. The password is with the client object, for as long as that lives.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from exchange.client import Client, LoginRefused
from exchange.page.documents import AccountView, FillRow, Notice, OrderRow
from exchange.page.requests import BadRequest, Cancel, Place, Replace, parse_price
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    AiqCanceled,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderModified,
    OrderReplaced,
    Rejected,
    RejectReason,
    SystemEvent,
    TimeInForce,
)
from exchange.wire.ouch_codes import CancelReason, EventCode, OrderState, Side

ORDERS_TOLD: Final = 100
FILLS_KEPT: Final = 50
NOTICES_KEPT: Final = 20
FOLLOW_SECONDS: Final = 10.0
"""How long an exchange may take to be at another of its addresses."""
ANSWERS_AT_A_TIME: Final = 200
"""Answers taken before others have their turn: those of a long day are many."""


@dataclass(slots=True)
class _Order:
    symbol: str
    side: str
    price_ticks: int
    open_lots: int
    executed_lots: int = 0
    chain_executed_lots: int = 0
    """Executions of the orders that it replaced: a replace speaks of the total."""


class Account:
    """What a user's answers add up to.

    Args:
        user: the name.
    """

    def __init__(self, user: str) -> None:
        self.user: Final = user
        self._orders: Final[dict[int, _Order]] = {}
        self._fills: Final[deque[FillRow]] = deque(maxlen=FILLS_KEPT)
        self._notices: Final[deque[Notice]] = deque(maxlen=NOTICES_KEPT)
        self._fill_count = 0
        self._notice_count = 0

    def view(self) -> AccountView:
        """How things are, newest first."""
        newest = islice(reversed(self._orders.items()), ORDERS_TOLD)
        rows = [
            OrderRow(number, one.symbol, one.side, one.price_ticks, one.open_lots, one.executed_lots)
            for number, one in newest
        ]
        left_out = len(self._orders) - len(rows)
        return AccountView(
            self.user, rows, left_out, list(reversed(self._fills)), list(reversed(self._notices))
        )

    def total_for(self, number: int, open_lots: int) -> int:
        """The total by which a Replace leaves an order with ``open_lots``. Raises BadRequest: it is not open."""
        order = self._orders.get(number)
        if order is None:
            raise BadRequest("number", "this order is not open any more")
        return order.chain_executed_lots + order.executed_lots + open_lots

    def note(self, kind: str, text: str) -> None:
        """Tell the person something."""
        self._notice_count += 1
        self._notices.append(Notice(self._notice_count, kind, text))

    def apply(self, answer: Message) -> None:
        """Take in the next answer."""
        match answer:
            case OrderAccepted():
                if answer.order_state == OrderState.LIVE:
                    self._orders[answer.user_reference_number] = _order_of(answer)
            case OrderReplaced():
                self._replace(answer)
            case OrderExecuted():
                self._execute(answer)
            case OrderCanceled():
                self._reduce(answer.user_reference_number, answer.quantity, answer.reason)
            case AiqCanceled():
                self._reduce(answer.user_reference_number, answer.decrement_shares, answer.reason)
            case OrderModified():
                if (order := self._orders.get(answer.user_reference_number)) is not None:
                    order.open_lots = answer.quantity
            case Rejected():
                self.note("error", f"the exchange refused the request: {_reject_text(answer.reason)}")
            case SystemEvent() if answer.event_code == EventCode.END_OF_DAY:
                self.note("info", "the exchange ended its day")

    def _replace(self, answer: OrderReplaced) -> None:
        before = self._orders.pop(answer.original_user_reference_number, None)
        if answer.order_state == OrderState.LIVE:
            order = _order_of(answer)
            if before is not None:
                order.chain_executed_lots = before.chain_executed_lots + before.executed_lots
            self._orders[answer.user_reference_number] = order

    def _execute(self, answer: OrderExecuted) -> None:
        order = self._orders.get(answer.user_reference_number)
        if order is None:
            return
        order.open_lots -= answer.quantity
        order.executed_lots += answer.quantity
        self._fill_count += 1
        self._fills.append(
            FillRow(
                self._fill_count, answer.timestamp, order.symbol, order.side, answer.price, answer.quantity
            )
        )
        if order.open_lots <= 0:
            del self._orders[answer.user_reference_number]

    def _reduce(self, number: int, lots: int, reason: str) -> None:
        order = self._orders.get(number)
        if order is None:
            return
        order.open_lots -= lots
        if reason != CancelReason.USER:
            self.note("info", f"{lots:,} {order.symbol} cancelled: {_cancel_text(reason)}")
        if order.open_lots <= 0:
            del self._orders[number]


class Trader:
    """A user's connection to the exchange. Make it with :meth:`log_on`.

    Args:
        client: logged on.
        user: its name.
        changed: called when the account looks different.
    """

    def __init__(self, client: Client, user: str, changed: Callable[[], None]) -> None:
        self.account: Final = Account(user)
        self.is_connected = True
        self._client: Final = client
        self._changed: Final = changed
        self._task: Final = asyncio.create_task(self._listen())

    @classmethod
    async def log_on(
        cls,
        addresses: Sequence[tuple[str, int]],
        user: str,
        password: str,
        changed: Callable[[], None],
    ) -> "Trader":
        """Log on, and hear the whole day. Raises BadRequest if the exchange is not there or refuses the user."""
        (host, port), *backups = addresses
        try:
            client = await Client.connect(
                host,
                port,
                user,
                password,
                backups=backups,
                reconnect_seconds=FOLLOW_SECONDS if backups else 0,
                returns=False,
            )
        except LoginRefused as error:
            raise BadRequest("password", "the exchange does not know this name with this password") from error
        except (OSError, TimeoutError) as error:
            places = " or ".join(f"{host}:{port}" for host, port in addresses)
            raise BadRequest("", f"the exchange at {places} does not answer") from error
        return cls(client, user, changed)

    async def place(self, request: Place) -> None:
        """Place an order."""
        await self._client.place(
            request.symbol,
            Side(request.side),
            request.quantity,
            price_ticks=parse_price(request.price),
            time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL if request.immediate else TimeInForce.DAY,
        )

    async def replace(self, request: Replace) -> None:
        """Give an order another price or size. Raises BadRequest if it is not open."""
        total = self.account.total_for(request.number, request.quantity)
        await self._client.replace(request.number, total, price_ticks=parse_price(request.price))

    async def cancel(self, request: Cancel) -> None:
        """Cancel an order. Raises BadRequest if it is not open."""
        self.account.total_for(request.number, 0)
        await self._client.cancel(request.number)

    async def close(self) -> None:
        """Log off."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._client.close()

    async def _listen(self) -> None:
        taken = 0
        try:
            async for answer in self._client:
                self.account.apply(answer)
                self._changed()
                taken += 1
                if taken % ANSWERS_AT_A_TIME == 0:
                    await asyncio.sleep(0)
            self.account.note("info", "the exchange ended the session")
        except (ConnectionError, LoginRefused):
            self.account.note(
                "error",
                "the exchange closed the connection, or gave the session to another log on of this user",
            )
        self.is_connected = False
        self._changed()


def _order_of(answer: OrderAccepted | OrderReplaced) -> _Order:
    return _Order(answer.symbol, answer.side, answer.price, answer.quantity)


def _reject_text(reason: int) -> str:
    return RejectReason(reason).meaning if reason in RejectReason else f"reason {reason}"


def _cancel_text(reason: str) -> str:
    return CancelReason(reason).meaning if reason in CancelReason else f"reason {reason}"
