"""The gateway's inbound side alone, for the tests of requests: bytes in, commands and answers out, no socket.

Behind it stands an exchange that accepts all there is and never trades: an order that is cancelled or replaced is
finished, a modification is answered."""

from collections import deque

import numpy as np

from exchange.gateway.config import GatewayConfig
from exchange.gateway.firm_requests import write_due_cancels
from exchange.gateway.inbound import ANSWER_KIND, ANSWER_REASON, ANSWER_USER_REFERENCE, REJECTED, Requests
from exchange.gateway.order_table import (
    ANSWERED,
    MODIFIED,
    NO_ORDER,
    USER_REFERENCE_MASK,
    find_order,
    finish_order,
)
from exchange.gateway.requests42 import TRANSLATED_BYTES
from exchange.gateway.session_memory import LAST_USER_REFERENCE, TOKENS, SessionMemory
from exchange.gateway.symbol_table import SymbolTable
from exchange.gateway.token_index import TokenIndex
from exchange.gateway.versions import take_request
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES, Command, CommandKind
from exchange.native import (
    Arena,
    kernel,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    view_bytes,
)
from exchange.risk.limits import LimitsMemory

SESSION = 1
SESSIONS = 2
SYMBOLS = ("AAPL", "MSFT")
PRICE_MAX_TICKS = 10**9
NOW_NS = 77
LIVE_MAX = 200
MESSAGE_BYTES_MAX = 1024
CANCELS_A_TURN = 32
LOG_BYTES = 4096


@kernel
def decode(requests, session, message, size_bytes, command):  # type: ignore[no-untyped-def]
    return take_request(requests, SESSION, session, message, size_bytes, NOW_NS, command)


@kernel
def look_up(sessions, session, number):  # type: ignore[no-untyped-def]
    return find_order(sessions, session, number)


class RequestBench:
    """A session of OUCH 5.0, or of 4.2, and room for a message, commands and the gateway's answers.

    Attributes:
        commands: what the last message came to.
        rejected: number and reason of each reject that answers the last message.
    """

    def __init__(self, *, speaks_ouch42: bool = False) -> None:
        self.speaks_ouch42 = speaks_ouch42
        self.risk = LimitsMemory(SESSIONS, len(SYMBOLS))
        self.symbols = SymbolTable(SYMBOLS)
        self.arena = Arena.private(1 << 16)
        self.message = self.arena.allocate(MESSAGE_BYTES_MAX)
        self.command = self.arena.allocate(CANCELS_A_TURN * RECORD_BYTES)
        self.cancels_due = self.arena.allocate(8)
        self.commands: list[Command] = []
        self.rejected: list[tuple[int, int]] = []
        self._live: deque[int] = deque()
        self.begin_session()
        self.requests = Requests(
            self.memory.sessions,
            self.symbols.symbols,
            self.risk.state,
            1,
            PRICE_MAX_TICKS,
            0,
            self.arena.allocate(TRANSLATED_BYTES),
            self.cancels_due,
        )

    def begin_session(self) -> None:
        """A session that has had no orders yet."""
        self.memory = SessionMemory(GatewayConfig(capacity_orders=4096, log_bytes=LOG_BYTES), SESSIONS)
        self.session = self.memory.address(SESSION)
        self.tokens = TokenIndex(LOG_BYTES)
        if self.speaks_ouch42:
            store_int64(self.session + TOKENS, self.tokens.address)
        self._live.clear()

    def put(self, data: bytes) -> None:
        """Write a message where :meth:`decode_only` takes it from."""
        view_bytes(self.message, MESSAGE_BYTES_MAX)[: len(data)] = data

    def decode_only(self, size_bytes: int) -> int:
        """What the decoder says; nobody reads its answers."""
        requests = self.requests._replace(sessions=self.memory.sessions)
        return int(decode(requests, self.session, self.message, size_bytes, self.command))

    def take(self, data: bytes) -> int:
        """What the decoder says of a message; what it asks for is done."""
        self.put(data)
        outcome = self.decode_only(len(data))
        self.commands, self.rejected = [], []
        if outcome > 0 and load_uint8(self.command) != CommandKind.ANSWER:
            self.commands = self._written(outcome)
        elif outcome > 0 and load_uint8(self.command + ANSWER_KIND) == REJECTED:
            number = load_uint32(self.command + ANSWER_USER_REFERENCE)
            self.rejected = [(number, load_uint16(self.command + ANSWER_REASON))]
        requests = self.requests._replace(sessions=self.memory.sessions)
        while load_int64(self.cancels_due) != 0:
            count = write_due_cancels(requests, 0, 1, self.command, CANCELS_A_TURN, NOW_NS)
            self.commands += self._written(count)
        for command in self.commands:
            self._answer(command)
        return outcome

    def _written(self, count: int) -> list[Command]:
        records = np.frombuffer(view_bytes(self.command, count * RECORD_BYTES), COMMAND_DTYPE)
        return [Command(*record) for record in records.tolist()]

    def _answer(self, command: Command) -> None:
        """What the outbound side would do."""
        number = command.order_id & USER_REFERENCE_MASK
        match CommandKind(command.kind):
            case CommandKind.NEW:
                self._accept(number)
            case CommandKind.REPLACE if command.new_order_id == command.order_id:
                order = self._find(number)
                store_int64(order + MODIFIED, load_int64(order + MODIFIED) + 1)
            case CommandKind.REPLACE:
                self._finish(number)
                self._accept(command.new_order_id & USER_REFERENCE_MASK)
            case CommandKind.CANCEL if command.quantity_lots == 0:
                self._finish(number)

    def _find(self, number: int) -> int:
        return int(look_up(self.memory.sessions, self.session, number))

    def _accept(self, number: int) -> None:
        store_int64(self._find(number) + ANSWERED, number)
        self._live.append(number)
        if len(self._live) > LIVE_MAX:
            self._finish(self._live.popleft())

    def _finish(self, number: int) -> None:
        order = self._find(number)
        if order != NO_ORDER:
            finish_order(order, number)

    @property
    def last_number(self) -> int:
        """The last number that was used."""
        return load_int64(self.session + LAST_USER_REFERENCE)
