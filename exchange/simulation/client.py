"""A simulated client: what it does when it gets its turn, and what it knows from what it has been told.

It behaves as a client of OUCH should, and often enough as one should not: it enters, replaces, modifies and cancels
orders, hangs up in the middle of a packet, pulls the cable, comes back and asks for the messages that it lacks, or for
more than it lacks; it stops reading, repeats itself, sends garbage.

What it holds against the exchange is what a client can know. Messages are numbered without gap, and a message that
comes again under its number is the same byte for byte, whatever happened in between. An order is accepted once, nothing
is executed or canceled that is not open, and what a replacement leaves open is what the request said less what was
executed. What it *cannot* know is the business of :mod:`exchange.simulation.invariants`.

After a lost line a client sends everything again that was not answered, in the same order and before anything new: that
is how OUCH wants it, and what makes each order come to exactly one answer in the end."""

from typing import Final, NamedTuple
from zlib import crc32

from exchange.simulation.chance import Chance, Trace, Weights
from exchange.simulation.dialects import DAY, IMMEDIATE, Dialect, Entry, Ouch50, Told
from exchange.simulation.invariants import broken
from exchange.simulation.network import Line
from exchange.wire.ouch_codes import Side
from exchange.wire.soupbintcp import (
    SERVER_PACKETS,
    ClientHeartbeat,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRequest,
    LogoutRequest,
    PacketSplitter,
    SequencedData,
    UnsequencedData,
)

PASSWORD: Final = "secret"
FIRMS: Final = ("", "", "LIME", "MINT")
PRICE_MIDDLE: Final = 1_000_000
PRICE_STEP: Final = 100
REMEMBERED: Final = 24
"""Requests that a client may repeat for no reason."""

_SALES: Final = (Side.SELL, Side.SELL_SHORT, Side.SELL_SHORT_EXEMPT)


class Habits(NamedTuple):
    """How a client behaves: what it does while it is connected, and how wide its prices lie around the middle."""

    actions: Weights[str]
    price_steps: int
    reconnects: float


class OrderAccount:
    """An order as its owner knows it. ``executed`` counts what the orders that it replaced traded as well."""

    __slots__ = ("executed", "is_live", "number", "open", "price", "side", "symbol")

    def __init__(self, told: Told, executed: int = 0) -> None:
        self.number = told.number
        self.symbol = told.symbol
        self.side = told.side
        self.price = told.price
        self.open = told.quantity
        self.executed = executed
        self.is_live = told.quantity > 0

    def take(self, quantity: int) -> None:
        """Shares are no longer open."""
        self.open -= quantity
        self.is_live = self.open > 0


class SimulatedClient:
    """One user of the exchange.

    Attributes:
        line: its connection, or None.
        told: every sequenced message it was ever sent, by number.
        heard: how many of them, from the first on without gap, it has made sense of.
        orders: its orders by number, those that are over included.
    """

    def __init__(
        self, name: str, dialect: Dialect, symbols: tuple[str, ...], habits: Habits, seed: int, trace: Trace
    ) -> None:
        self.name: Final = name
        self.dialect: Final = dialect
        self.line: Line | None = None
        self.is_logged_on = False
        self.is_reading = True
        self.told: dict[int, bytes] = {}
        self.heard = 0
        self.orders: dict[int, OrderAccount] = {}
        self.new: list[Told] = []
        """What was heard since somebody last looked."""
        self.told_by: list[int] = []
        """For each message that was heard the shard whose event it tells."""
        self.has_lost = False
        """It was told something that is not so any more, which an exchange may do that does not wait for its disk."""
        self.entered: dict[int, int] = {}
        """For each new order that was sent how often it was answered: in the end once."""
        self._totals: dict[int, int] = {}
        self._symbols: Final = symbols
        self._habits: Final = habits
        self._chance: Final = Chance.of(seed, f"client {name}")
        self._trace: Final = trace
        self._unanswered: dict[tuple[str, int], bytes] = {}
        self._asked: dict[tuple[str, int], bytes] = {}
        self._sent: list[bytes] = []
        self._next_number = 1
        self._next_sequence = 0
        self._first_sequence = 0
        self._asked_sequence = 0
        self._has_repeated = False
        self._splitter = PacketSplitter(SERVER_PACKETS)
        self._lines = 0
        self._is_careful = False
        self._is_silent = False
        """On this line it has said something after which nothing can be understood."""

    # What it does.

    def act(self, session_name: str) -> None:
        """Take a turn."""
        if self.line is None:
            if self._is_careful or self._chance.happens(self._habits.reconnects):
                self.open_line(session_name)
        elif self.is_logged_on and self._first_sequence > self.heard + 1:
            if self._is_careful or self._chance.happens(0.2):
                self._hang_up()  # it has seen where the end is, and now wants what is before it
        elif self._is_careful:
            self._say_again()
        elif self._is_silent:
            if self._chance.happens(0.3):
                self._chance.pick((self._hang_up, self._pull_cable))()
        elif self.is_logged_on:
            getattr(self, "_" + self._habits.actions.draw(self._chance))()
        elif self._chance.happens(0.005):
            self._hang_up()

    def be_careful(self) -> None:
        """From now on only connect, read and repeat what was not answered."""
        self._is_careful, self.is_reading = True, True

    def open_line(self, session_name: str) -> None:
        """Connect and ask to log on, mostly for the first message that it lacks."""
        self._lines += 1
        self.line = Line(f"{self.name}.{self._lines}")
        self._splitter = PacketSplitter(SERVER_PACKETS)
        self._has_repeated = self._is_silent = self.is_logged_on = False
        self.is_reading = True
        password, session, wanted = PASSWORD, self._chance.pick(("", session_name)), self.heard + 1
        if not self._is_careful:
            password = "wrong" if self._chance.happens(0.02) else PASSWORD
            session = "other" if self._chance.happens(0.02) else session
            if self._chance.happens(0.3):
                wanted = self._chance.pick((1, self._chance.number(1, self.heard + 1), 0, self.heard + 50))
        self._asked_sequence = wanted
        self._trace.note("connect", self.line.name, wanted)
        self.line.upward.extend(LoginRequest(self.name, password, session, wanted).encode())
        if self._chance.happens(0.2):
            self._say_again()

    def _enter(self) -> None:
        chance, number = self._chance, self._take_number()
        is_buy = chance.happens(0.5)
        steps = chance.number(-self._habits.price_steps, self._habits.price_steps) + (-1 if is_buy else 1)
        entry = Entry(
            number,
            Side.BUY if is_buy else chance.pick(_SALES),
            chance.number(1, 300),
            chance.pick(self._symbols),
            PRICE_MIDDLE + steps * PRICE_STEP,
            IMMEDIATE if chance.happens(0.15) else DAY,
            chance.pick(FIRMS),
        )
        if chance.happens(0.05):
            entry = chance.pick(
                (entry._replace(symbol="NONE"), entry._replace(price=0), entry._replace(flaw="display"))
            )
        self._trace.note("enter", self.name, *entry)
        self.entered[number] = 0
        self._request(("order", number), self.dialect.enter(entry))

    def _replace(self) -> None:
        order = self._some_order()
        if order is None:
            self._enter()
            return
        number = self._take_number()
        total = order.executed + self._chance.number(1, 2 * max(order.open, 1))
        price = order.price + self._chance.number(-2, 2) * PRICE_STEP
        if self._chance.happens(0.04):
            price = 0
        self._trace.note("replace", self.name, order.number, number, total, price)
        self._totals[number] = total
        self._request(("order", number), self.dialect.replace(order.number, number, total, price))

    def _cancel(self) -> None:
        order = self._some_order()
        if order is None:
            self._enter()
            return
        left = 0 if self._chance.happens(0.6) else order.executed + self._chance.number(0, order.open)
        self._trace.note("cancel", self.name, order.number, left)
        self._request(("cancel", order.number), self.dialect.cancel(order.number, left))

    def _modify(self) -> None:
        order = self._some_order()
        if order is None:
            self._enter()
            return
        side = order.side if order.side == Side.BUY else self._chance.pick(_SALES)
        total = order.executed + self._chance.number(1, max(order.open, 1))
        self._trace.note("modify", self.name, order.number, side, total)
        self._request(("modify", order.number), self.dialect.modify(order.number, side, total))

    def _mass_cancel(self) -> None:
        if isinstance(self.dialect, Ouch50):
            number, symbol = self._take_number(), self._chance.pick(("", *self._symbols))
            firm = self._chance.pick(FIRMS)
            self._trace.note("mass cancel", self.name, number, symbol, firm)
            message = self.dialect.mass_cancel(number, symbol, firm)
            self._request(("firm", number), message)

    def _change_firm(self) -> None:
        if isinstance(self.dialect, Ouch50):
            number, disables = self._take_number(), self._chance.happens(0.3)
            firm = self._chance.pick(FIRMS)
            self._trace.note("disable" if disables else "enable", self.name, number, firm)
            message = self.dialect.change_firm(number, firm, disables=disables)
            self._request(("firm", number), message)

    def _query(self) -> None:
        if isinstance(self.dialect, Ouch50):
            self._send(UnsequencedData(self.dialect.query()).encode())

    def _repeat(self) -> None:
        if self._sent:
            self._say_again()
            self._send(self._chance.pick(self._sent))

    def _beat(self) -> None:
        self._send(ClientHeartbeat().encode())

    def _log_out(self) -> None:
        self._send(LogoutRequest().encode())

    def _log_on_twice(self) -> None:
        self._send(LoginRequest(self.name, PASSWORD, "", 1).encode())

    def _garble(self) -> None:
        self._is_silent = True
        kind = self._chance.number(0, 2)
        if kind == 0:
            self._send(bytes(self._chance.number(0, 255) for _ in range(self._chance.number(1, 40))))
        elif kind == 1:
            self._send(UnsequencedData(b"Z" + bytes(self._chance.number(0, 60))).encode())
        elif self._sent:
            spoiled = bytearray(self._chance.pick(self._sent))
            spoiled[self._chance.number(0, 3)] ^= 1 << self._chance.number(0, 7)
            self._send(bytes(spoiled))

    def _break_off(self) -> None:
        self._is_silent = True
        if self._sent and self.line is not None:
            packet = self._chance.pick(self._sent)
            self._send(packet[: self._chance.number(1, len(packet) - 1)])

    def _hang_up(self) -> None:
        """The line ends; some of what was on its way still arrives."""
        if self.line is not None:
            kept = self._chance.number(0, len(self.line.downward))
            self._trace.note("hang up", self.line.name, kept)
            self.line.cut(kept)

    def _pull_cable(self) -> None:
        if self.line is not None:
            self._trace.note("pull cable", self.line.name)
            self.lose_line()

    def _stop_reading(self) -> None:
        self.is_reading = not self.is_reading
        self._trace.note("reads" if self.is_reading else "stops reading", self.name)

    def lose_line(self) -> None:
        """There is no line any more, as far as the client knows."""
        self.line, self.is_logged_on = None, False

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += self._chance.pick((1, 1, 1, 1, 2, 9))
        return number

    def _some_order(self) -> OrderAccount | None:
        live = [order for order in self.orders.values() if order.is_live]
        if self.orders and (not live or self._chance.happens(0.05)):
            live = list(self.orders.values())[-REMEMBERED:]
        return self._chance.pick(live) if live else None

    def _request(self, key: tuple[str, int], message: bytes) -> None:
        packet = UnsequencedData(message).encode()
        if not self._has_repeated:
            self._say_again()
        self._unanswered[key] = self._asked[key] = packet
        self._sent = [*self._sent[1 - REMEMBERED :], packet]
        self._send(packet)

    def _say_again(self) -> None:
        """Send what was not answered, once on each line."""
        if not self._has_repeated and (self.is_logged_on or not self._is_careful):
            self._has_repeated = True
            for packet in tuple(self._unanswered.values()):
                self._send(packet)

    def _send(self, data: bytes) -> None:
        if self.line is not None and not self.line.is_cut:
            self._trace.note("says", self.line.name, len(data), crc32(data))
            self.line.upward.extend(data)

    # What it is told.

    def hear(self, data: bytes) -> None:
        """Bytes have arrived."""
        for packet in self._splitter.feed(data):
            self._take(packet)
        if self._splitter.garbage is not None:
            raise broken("the exchange speaks SoupBinTCP", f"{self.name}: {self._splitter.garbage}")

    def _take(self, packet: bytes) -> None:
        if packet[2] == SequencedData.layout.type_byte:
            return self._take_message(packet[3:])
        message = SERVER_PACKETS.decode(packet)
        if isinstance(message, LoginAccepted):
            self._check_position(message.sequence_number)
            self.is_logged_on = True
            self._next_sequence = self._first_sequence = message.sequence_number
            if self._is_careful or self._chance.happens(0.7):
                self._say_again()
        elif isinstance(message, LoginRejected | EndOfSession):
            self._trace.note("refused", self.name, packet)
        return None

    def _check_position(self, sequence: int) -> None:
        """Whether messages begin where we asked for, or where that is impossible, at the end of what there is."""
        asked, known = self._asked_sequence, max(self.told, default=0)
        if asked == 0:
            is_right = sequence >= max(known, 1)
        elif asked <= known + 1:
            is_right = sequence == asked
        else:
            is_right = known < sequence <= asked
        if not is_right:
            raise broken(
                "no message is lost",
                f"{self.name} asked for message {asked}, has {known}, and is to get {sequence} next",
            )

    def _take_message(self, message: bytes) -> None:
        sequence = self._next_sequence
        self._next_sequence += 1
        before = self.told.setdefault(sequence, message)
        if before != message:
            raise broken(
                "a message stays what it is",
                f"{self.name} was sent message {sequence} as {before.hex()} and now as {message.hex()}",
            )
        while (following := self.told.get(self.heard + 1)) is not None:
            self.heard += 1
            told = self.dialect.told(following)
            self._trace.note("told", self.name, self.heard, *told)
            self._account(told)
            self.new.append(told)

    def forget(self, kept: int) -> None:
        """The exchange has lost all messages behind that number, as it may: begin again from what is left."""
        self.has_lost = True
        self.told = {sequence: message for sequence, message in self.told.items() if sequence <= kept}
        self.heard = 0
        self.orders.clear()
        self.entered = dict.fromkeys(self.entered, 0)
        self._unanswered = dict(self._asked)
        while (following := self.told.get(self.heard + 1)) is not None:
            self.heard += 1
            self._account(self.dialect.told(following))
        del self.told_by[self.heard :]

    def _account(self, told: Told) -> None:
        """Keep the accounts of its orders, and see that they come out even."""
        if told.letter in "AJ":
            self._answer_entry(told)
        elif told.letter == "U":
            self._replace_order(told)
        elif told.letter in "EC":
            order = self.orders.get(told.number)
            if order is None or told.quantity > order.open:
                has = 0 if order is None else order.open
                raise broken(
                    "quantity is conserved",
                    f"{self.name}: {told} takes {told.quantity} shares of an order that has {has} open",
                )
            order.take(told.quantity)
            order.executed += told.quantity if told.letter == "E" else 0
            if not order.is_live or told.letter == "C":
                self._unanswered.pop(("cancel", told.number), None)
        elif told.letter == "M":
            order = self.orders.get(told.number)
            if order is None or told.quantity > order.open:
                raise broken("quantity is conserved", f"{self.name}: {told} of {order and order.open} open")
            order.side, order.open, order.is_live = told.side, told.quantity, told.quantity > 0
            self._unanswered.pop(("modify", told.number), None)
        elif told.letter in "XGK":
            self._unanswered.pop(("firm", told.number), None)

    def _answer_entry(self, told: Told) -> None:
        self._unanswered.pop(("order", told.number), None)
        if told.number in self._totals:  # a replacement, refused
            return
        answers = self.entered.get(told.number)
        if answers != 0:
            times = "never sent" if answers is None else f"answered {answers + 1} times"
            raise broken("one answer for each order", f"{self.name}: order {told.number} was {times}: {told}")
        self.entered[told.number] = 1
        if told.letter == "A":
            self.orders[told.number] = OrderAccount(told)

    def _replace_order(self, told: Told) -> None:
        old = self.orders.get(told.original)
        if old is None or not old.is_live or told.number in self.orders:
            raise broken("no order twice", f"{self.name}: {told} replaces {old and old.open} open shares")
        total = self._totals.get(told.number, -1)
        if told.quantity != max(total - old.executed, 0):
            raise broken(
                "quantity is conserved",
                f"{self.name}: asked for {total} shares in total, {old.executed} are executed: {told}",
            )
        old.take(old.open)
        self._unanswered.pop(("order", told.number), None)
        self._unanswered.pop(("cancel", told.original), None)
        self._unanswered.pop(("modify", told.original), None)
        self.orders[told.number] = OrderAccount(told, old.executed)
