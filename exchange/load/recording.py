"""A recorded market, sent to an exchange on the network by its clients, and what the world sees of it.

``exchange replay`` plays a recording through an exchange in memory. Here the same orders go the long way: clients log
on, each order is an OUCH message over a socket, and the book at the end is the one that a stranger builds from the
published feed. If gateway, transport, publisher and subscriber are right, it is the book of the replay, order by order:
the two *public* digests (:mod:`exchange.matching.digest`) are equal.

**Order.** A recording is one sequence, and with several clients its orders come from several sockets, which an exchange
reads as it likes. So whoever sends next waits until the exchange has taken in what the one before had sent
(:meth:`~exchange.client.Client.synchronize`). Orders change hands in runs of :data:`ORDERS_PER_TURN`; a cancel is its
order's client's. An exchange with several ingress lanes takes from them in any order: there, send as one client.

**Replaces.** OUCH's replace speaks of totals with executions in them, which may be under way. So a recorded replace is
sent as a cancel and a new order, which is what it is: on NASDAQ a replaced order loses its place. The replay that the
feed is held against does the same.

Rules: the books of the recording's symbols must be empty, and nobody else may trade in them meanwhile.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exchange.client import Client, Side, TimeInForce
from exchange.errors import UserError
from exchange.flow import Flow
from exchange.line import Carrier, LineOpener
from exchange.load.carriage import LoadCarrier
from exchange.load.logins import Endpoint, Login
from exchange.market_data.feed_book import FeedBook
from exchange.market_data.feed_receiver import FeedReceiver
from exchange.messages import BUY, COMMAND_DTYPE, CommandKind
from exchange.messages import TimeInForce as CommandTimeInForce
from exchange.replay import Watcher, play
from exchange.settings import Settings
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, OrderExecuted, Rejected

ORDERS_PER_TURN: Final = 64
"""So many new orders in a row are one client's."""

WATCHED_EVERY: Final = 512
"""After so many requests whoever watches is told."""

ANSWER_SECONDS: Final = 10.0
"""How long the last answers are waited for, and the feed's first message."""

QUIET_DATAGRAMS: Final = 2
"""So many datagrams without a new message, heartbeats that is, and the feed has told all."""

TURN_SECONDS: Final = 0.02


class Destination(NamedTuple):
    """Where the orders go and what carries them, and where the feed comes.

    The feed's are arguments of :class:`~exchange.market_data.feed_receiver.FeedReceiver`. With the transports "afxdp"
    and "dpdk", ``device`` is our card and ``address`` our IPv4 address on the wire. ``backups`` are other places where
    the exchange may be, now or later.
    """

    endpoint: Endpoint
    logins: tuple[Login, ...]
    feed_address: str
    feed_port: int
    interface: str = ""
    transport: LoadCarrier = "tcp"
    device: str = ""
    address: str = ""
    backups: tuple[Endpoint, ...] = ()


class SentReport(msgspec.Struct, frozen=True):
    """What came of it. ``feed_digest`` and ``replay_digest`` are public digests over the recording's symbols."""

    flow: str
    clients: int
    requests: int
    orders: int
    accepted: int
    rejected: int
    executions: int
    canceled: int
    elapsed_ns: int
    feed_messages: int
    feed_faults: int
    live_orders: int
    feed_digest: str
    replay_digest: str

    @property
    def is_equal(self) -> bool:
        """Whether the feed's book is the replay's, and no order was refused."""
        return self.feed_digest == self.replay_digest and self.rejected == 0 and self.feed_faults == 0


def send_recording(
    flow: Flow,
    destination: Destination,
    settings: Settings,
    *,
    speed_factor: float | None = None,
    watcher: Watcher = Watcher(),  # noqa: B008  (immutable)
) -> SentReport:
    """Send a recording's orders, wait until the feed has told of all, and replay the same in memory.

    Args:
        flow: a recording; every symbol in it must be traded at the exchange.
        destination: the exchange.
        settings: the profile of the exchange in memory that the feed's book is held against.
        speed_factor: send at the recorded times, this many times as fast as they happened; None: at once.
        watcher: told how far it is.

    Raises:
        UserError: nobody listens, a logon is refused, no feed comes; a symbol is not traded there, or has orders.
        ConnectionError: a line was lost and not found again.
        TimeoutError: an answer did not come.
    """
    flow = without_replaces(flow)
    with _Listener(destination, flow.symbols) as listener:
        watcher.compiling("waiting for the feed")
        listener.wait_for_directory()
        totals, elapsed_ns = asyncio.run(_send_all(flow, destination, speed_factor, watcher))
        listener.wait_for_quiet()
        book, messages = listener.receiver.subscriber.book, listener.receiver.subscriber.next_sequence - 1
    played = play(_with_symbols(flow, book.symbols), settings, watcher=watcher)
    return SentReport(
        flow=flow.name,
        clients=len(destination.logins),
        requests=len(flow.commands),
        orders=totals.orders,
        accepted=totals.accepted,
        rejected=totals.rejected,
        executions=totals.executions,
        canceled=totals.canceled,
        elapsed_ns=elapsed_ns,
        feed_messages=messages,
        feed_faults=book.counts().faults,
        live_orders=book.live_orders(),
        feed_digest=book.digest(public=True),
        replay_digest=played.exchange.digest(public=True),
    )


def without_replaces(flow: Flow) -> Flow:
    """The flow with a cancel and a new order in place of each replace."""
    commands = flow.commands
    is_replace = commands["kind"] == CommandKind.REPLACE
    if not is_replace.any():
        return flow
    sides = _sides_of_orders(commands)
    copies = np.where(is_replace, 2, 1)
    source = np.repeat(np.arange(len(commands)), copies)
    is_second = np.zeros(len(source), np.bool_)
    is_second[np.cumsum(copies)[is_replace] - 1] = True
    is_first = is_replace[source] & ~is_second
    made = commands[source]
    made["kind"][is_first] = CommandKind.CANCEL
    made["quantity_lots"][is_first] = 0
    made["kind"][is_second] = CommandKind.NEW
    made["order_id"][is_second] = made["new_order_id"][is_second]
    made["side"][is_second] = sides[source[is_second]]
    made["new_order_id"] = 0
    makers = np.where(is_first, 0, flow.expected_maker[source])
    return replace(flow, commands=made, expected_maker=makers)


def _sides_of_orders(commands: NDArray[Any]) -> NDArray[np.uint8]:
    """For each command the side of the order that it names."""
    side_of: dict[tuple[int, int], int] = {}
    sides = np.zeros(len(commands), np.uint8)
    for index, command in enumerate(
        commands[["kind", "side", "symbol_id", "order_id", "new_order_id"]].tolist()
    ):
        kind, side, symbol_id, order_id, new_order_id = command
        if kind != CommandKind.NEW:
            side = side_of.get((symbol_id, order_id), BUY)
        side_of[symbol_id, new_order_id if kind == CommandKind.REPLACE else order_id] = side
        sides[index] = side
    return sides


def _with_symbols(flow: Flow, symbols: Sequence[str]) -> Flow:
    """The flow with its symbols numbered as in ``symbols``, as the digest of a book counts them."""
    numbers = np.array([symbols.index(name) for name in flow.symbols], np.uint16)
    commands = flow.commands.copy()
    commands["symbol_id"] = numbers[commands["symbol_id"]]
    return replace(flow, commands=commands, symbols=tuple(symbols))


class _Listener:
    """A subscriber on a thread of its own."""

    def __init__(self, destination: Destination, symbols: tuple[str, ...]) -> None:
        self._symbols: Final = symbols
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="feed", daemon=True)
        self.receiver: Final = FeedReceiver(
            destination.feed_address,
            destination.feed_port,
            lambda: FeedBook(symbols),
            interface=destination.interface,
        )

    def __enter__(self) -> "_Listener":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self.receiver.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.receiver.turn(TURN_SECONDS)

    def _wait(self, until: Any, otherwise: str) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while not until():
            if time.monotonic() > deadline:
                raise UserError(otherwise)
            time.sleep(TURN_SECONDS)

    def wait_for_directory(self) -> None:
        """Until the feed is whole; UserError if the recording's symbols are not there, or have orders."""
        subscriber = self.receiver.subscriber
        self._wait(
            lambda: subscriber.session != "",
            "--feed: nothing comes there; market_data of the profile says where",
        )
        self._wait_until_whole()
        missing = [symbol for symbol in self._symbols if symbol not in subscriber.book.symbols]
        if missing:
            raise UserError(
                f"{missing[0]}: not traded at this exchange; its gateway.symbols must have {', '.join(self._symbols)}"
            )
        if subscriber.book.live_orders():
            raise UserError(
                f"{', '.join(self._symbols)}: {subscriber.book.live_orders():,} orders rest there already, so the book"
                " could not be the recording's; start with an empty exchange"
            )

    def wait_for_quiet(self) -> None:
        """Until the feed has nothing more to say."""
        subscriber = self.receiver.subscriber
        seen, datagrams = 0, 0
        while True:
            self._wait_until_whole()
            if subscriber.next_sequence != seen:
                seen, datagrams = subscriber.next_sequence, subscriber.counts().datagrams
            elif subscriber.counts().datagrams >= datagrams + QUIET_DATAGRAMS:
                return
            time.sleep(TURN_SECONDS)

    def _wait_until_whole(self) -> None:
        subscriber = self.receiver.subscriber
        self._wait(
            lambda: subscriber.next_request_ns() is None or subscriber.wants_snapshot,
            "--feed: messages are missing",
        )
        if subscriber.wants_snapshot:
            raise UserError(
                f"--feed: messages from {subscriber.next_sequence} on are lost and not kept any more"
                " (market_data.capacity_messages)"
            )


class _Totals(NamedTuple):
    orders: int = 0
    accepted: int = 0
    rejected: int = 0
    executions: int = 0
    canceled: int = 0


async def _send_all(
    flow: Flow, destination: Destination, speed_factor: float | None, watcher: Watcher
) -> tuple[_Totals, int]:
    """All orders, by all clients; what they were answered, and how long it took."""
    watcher.compiling("logging on")
    senders: list[_Sender] = []
    async with AsyncExitStack() as stack:
        transport = await _open_transport(destination, stack)
        for login in destination.logins:
            client = await stack.enter_async_context(await _log_on(destination, login, transport))
            senders.append(_Sender(client))
        readers = [asyncio.create_task(sender.read()) for sender in senders]
        try:
            start_ns = time.monotonic_ns()
            await _Conductor(flow, senders, speed_factor, watcher).run()
            for sender in senders:
                await sender.client.synchronize()
            async with asyncio.timeout(ANSWER_SECONDS):
                while not all(sender.is_answered() for sender in senders):
                    for reader in readers:
                        if reader.done():
                            reader.result()
                    await asyncio.sleep(TURN_SECONDS)
            elapsed_ns = time.monotonic_ns() - start_ns
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
    return _Totals(
        *(sum(column) for column in zip(*(sender.totals for sender in senders), strict=True))
    ), elapsed_ns


async def _open_transport(destination: Destination, stack: AsyncExitStack) -> Carrier | LineOpener:
    """What carries all clients' lines; a card is open until the stack is closed."""
    if destination.transport == "tcp" or destination.transport == "udp":
        return destination.transport
    from exchange.card_line import ClientCard

    card = ClientCard(destination.device, destination.address, destination.transport)
    return (await stack.enter_async_context(card)).open


async def _log_on(destination: Destination, login: Login, transport: Carrier | LineOpener) -> Client:
    endpoint = destination.endpoint
    try:
        return await Client.connect(
            endpoint.host,
            endpoint.port,
            login.name,
            login.password,
            backups=destination.backups,
            sequence=0,
            transport=transport,
        )
    except OSError as error:
        raise UserError(f"cannot connect to {endpoint}: {error.strerror or error}") from error


class _Sender:
    """A client with what it has sent: each order's number and how much of it may trade in total."""

    def __init__(self, client: Client) -> None:
        self.client: Final = client
        self.totals = _Totals()
        self._orders: Final[dict[tuple[int, int], tuple[int, int]]] = {}

    def is_answered(self) -> bool:
        """Whether every order has been accepted or rejected."""
        return self.totals.orders == self.totals.accepted + self.totals.rejected

    async def read(self) -> None:
        """Count answers until cancelled."""
        async for answer in self.client:
            match answer:
                case OrderAccepted():
                    self._add(accepted=1)
                case Rejected():
                    self._add(rejected=1)
                case OrderExecuted():
                    self._add(executions=1)
                case OrderCanceled():
                    self._add(canceled=1)
        raise UserError("the exchange ended the session")

    async def place(self, command: dict[str, Any], symbol: str) -> None:
        """Send a new order."""
        is_immediate = command["time_in_force"] == CommandTimeInForce.IMMEDIATE_OR_CANCEL
        number = await self.client.place(
            symbol,
            Side.BUY if command["side"] == BUY else Side.SELL,
            command["quantity_lots"],
            price_ticks=command["price_ticks"],
            time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL if is_immediate else TimeInForce.DAY,
        )
        self._orders[command["symbol_id"], command["order_id"]] = number, command["quantity_lots"]
        self._add(orders=1)

    async def cancel(self, command: dict[str, Any]) -> None:
        """Take lots away from an order, or all of it."""
        key, lots = (command["symbol_id"], command["order_id"]), command["quantity_lots"]
        number, total = self._orders[key]
        left = max(total - lots, 0) if lots else 0
        self._orders[key] = number, left
        await self.client.cancel(number, left)

    def _add(self, **more: int) -> None:
        self.totals = self.totals._replace(
            **{name: getattr(self.totals, name) + by for name, by in more.items()}
        )


class _Conductor:
    """Gives each command to the client that is to send it, in order and in time."""

    def __init__(
        self, flow: Flow, senders: Sequence[_Sender], speed_factor: float | None, watcher: Watcher
    ) -> None:
        self._flow: Final = flow
        self._senders: Final = senders
        self._speed_factor: Final = speed_factor
        self._watcher: Final = watcher
        self._owner_of: Final[dict[tuple[int, int], int]] = {}

    async def run(self) -> None:
        """Send everything."""
        names, orders, last = COMMAND_DTYPE.names or (), 0, 0
        start = asyncio.get_running_loop().time()
        for index, values in enumerate(self._flow.commands.tolist()):
            command = dict(zip(names, values, strict=True))
            key = command["symbol_id"], command["order_id"]
            if self._speed_factor is not None:
                due = start + command["timestamp_ns"] / 1e9 / self._speed_factor
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            if command["kind"] == CommandKind.NEW:
                self._owner_of[key] = orders // ORDERS_PER_TURN % len(self._senders)
                orders += 1
            owner = self._owner_of.get(key)
            if owner is None:
                continue  # a cancel of what was never an order here
            if owner != last:
                await self._senders[last].client.synchronize()
                last = owner
            sender = self._senders[owner]
            if command["kind"] == CommandKind.NEW:
                await sender.place(command, self._flow.symbols[command["symbol_id"]])
            else:
                await sender.cancel(command)
            if index % WATCHED_EVERY == 0:
                self._watcher.answered(index)
                await asyncio.sleep(0)
