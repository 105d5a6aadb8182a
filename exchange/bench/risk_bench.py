"""``exchange bench risk``: what limits cost the gateway for each order.

The two sides of a gateway on one core, with no socket, no queue and no book. An Enter Order is decoded, checked and
made a command; then its Order Accepted and its Order Canceled are written, as if a book had said so at once. All is in
the first caches, so that the difference between the variants is what the checks take of a core that does nothing else:
their instructions, and not the lines that travel between cores when ingress and egress have one each. A round's value
is that of its median batch of orders, so that a core which others use meanwhile does not decide it.

========== ==================================================================
none       ``risk.kind = "none"``
off        ``risk.kind = "limits"``, and no limit is set
on         all of them are set, so high that nothing is refused
========== ==================================================================

Rules: an order that is refused or has to wait ends the measurement; the variant is left out and the result says so."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from exchange import limits
from exchange.bench.micro import Table, check_kinds, choose_cores, finish, in_turns, run_pinned
from exchange.bench.results import BenchResult
from exchange.book import ladder_events as record
from exchange.book.ladder_events import write_accepted, write_canceled
from exchange.gateway.config import GatewayConfig
from exchange.gateway.inbound import FORWARD, Requests
from exchange.gateway.outbound import Reports
from exchange.gateway.reports import report_events
from exchange.gateway.requests import ENTER
from exchange.gateway.requests42 import TRANSLATED_BYTES
from exchange.gateway.session_memory import LOG_END, LOG_MESSAGES, SessionMemory, session_address
from exchange.gateway.symbol_table import SymbolTable
from exchange.gateway.versions import take_request
from exchange.messages import RECORD_BYTES, CommandKind, Reason
from exchange.native import (
    Arena,
    address_of,
    kernel,
    load_int64,
    load_uint8,
    load_uint32,
    monotonic_ns,
    store_big_endian_uint32,
    store_int64,
    view_bytes,
)
from exchange.risk import RiskMemory
from exchange.risk.limits import LimitsMemory
from exchange.risk.none import NoneMemory
from exchange.wire.ouch50 import CrossType, Display, EnterOrder, TimeInForce
from exchange.wire.ouch_codes import Capacity, Side, YesOrNo

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

RISK_KINDS: Final = ("none", "off", "on")
BATCH: Final = 64
"""Orders between two looks at the clock."""

STEP_NS: Final = 2_000
"""How far apart orders come by the exchange's clock: half of what the rate limit lets in."""

_SYMBOL: Final = "AAPL"
_PRICE: Final = 100_0000
_REHEARSAL: Final = 64 * BATCH
_CANCEL: Final = int(CommandKind.CANCEL)
_BY_CLIENT: Final = int(Reason.BY_CLIENT)


class RiskBenchPlan(NamedTuple):
    """How much to measure: orders of each variant in a round."""

    orders: int = 1_000_000
    rounds: int = 7


def run_risk_bench(
    kinds: Sequence[str], plan: RiskBenchPlan, command_line: str, progress: "Progress"
) -> BenchResult:
    """Measure ``kinds`` (none means all); the first is the baseline.

    Raises:
        UserError: an unknown kind.
    """
    kinds = list(kinds) or list(RISK_KINDS)
    check_kinds("risk", kinds, RISK_KINDS)
    cores = choose_cores()
    table = Table(kinds, cores)
    progress.total(len(kinds) + plan.rounds)
    gateways = {}
    for kind in kinds:
        progress.step(f"{kind}: compiling and warming up")
        gateways[kind] = _Gateway(_risk_of(kind), cores.first, plan.orders)
        gateways[kind].rehearse()
    for round_index in range(plan.rounds):
        progress.step(f"round {round_index + 1} of {plan.rounds}")
        for kind in in_turns(table.remaining(), round_index):
            taken, inbound_ns, outbound_ns = gateways[kind].run(plan.orders)
            if taken != plan.orders:
                table.skip(kind, f"only {taken} of {plan.orders} orders were taken")
                continue
            table.add("an Enter Order made a command", kind, inbound_ns, "ns", "lower")
            table.add("its Accepted and its Canceled written", kind, outbound_ns, "ns", "lower")
    return finish("risk", table, (), command_line)


def _risk_of(kind: str) -> RiskMemory:
    if kind == "none":
        return NoneMemory()
    memory = LimitsMemory(1, 1)
    if kind == "on":
        for name, value in (
            ("order_lots_max", limits.RISK_ORDER_LOTS_MAX),
            ("order_notional_max", limits.RISK_NOTIONAL_MAX // 2),
            ("orders_per_second", limits.RISK_ORDERS_PER_SECOND_MAX),
            ("open_orders_max", limits.SESSION_ORDERS_MAX),
            ("exposure_max", limits.RISK_NOTIONAL_MAX // 2),
        ):
            memory.limit_session(0, name, value)
        memory.limit_symbol(0, "collar_basis_points", 1000)
        memory.give_price(0, _PRICE)
    return memory


class _Gateway:
    """One session, one symbol, and what both sides of a gateway need."""

    def __init__(self, risk: RiskMemory, unit: int, orders: int) -> None:
        self._unit: Final = unit
        config = GatewayConfig(symbols=(_SYMBOL,), capacity_orders=1024, log_bytes=1 << 16)
        self._kept: Final = (risk, SessionMemory(config, 1), SymbolTable(config.symbols))
        self._arena: Final = Arena.private(1 << 16)
        allocate, sessions = self._arena.allocate, self._kept[1].sessions
        message = EnterOrder(
            1, Side.BUY, 100, _SYMBOL, _PRICE, TimeInForce.DAY, Display.VISIBLE, Capacity.AGENCY, YesOrNo.NO,
            CrossType.CONTINUOUS, "order",
        ).encode()  # fmt: skip
        self._size_bytes: Final = len(message)
        self._message: Final = allocate(len(message))
        view_bytes(self._message, len(message))[:] = message
        self._commands: Final = allocate(BATCH * RECORD_BYTES)
        self._events: Final = allocate(2 * BATCH * RECORD_BYTES)
        self._stop: Final = allocate(8)
        symbols = self._kept[2].symbols
        self._requests: Final = Requests(
            sessions, symbols, risk.state, 1, 10**9, 0, allocate(TRANSLATED_BYTES), allocate(8)
        )
        self._reports: Final = Reports(sessions, risk.state, allocate(8), allocate(8), allocate(1), 1, 0)
        self._times: Final = np.zeros((max(orders, _REHEARSAL) // BATCH, 2), np.int64)
        self._number = 1

    def rehearse(self) -> None:
        """Compile, and warm the caches up."""
        self._measure(self._number, _REHEARSAL)
        self._number += _REHEARSAL

    def run(self, orders: int) -> tuple[int, float, float]:
        """So many orders, a multiple of :data:`BATCH`: how many were taken, nanoseconds an order of either side."""
        first, self._number = self._number, self._number + orders
        (taken,) = run_pinned([(self._unit, lambda: self._measure(first, orders))], self._stop)
        inbound_ns, outbound_ns = np.median(self._times[: orders // BATCH], axis=0) / BATCH
        return int(taken), float(inbound_ns), float(outbound_ns)

    def _measure(self, first: int, orders: int) -> int:
        return enter_and_answer(
            self._requests, self._reports, self._message, self._size_bytes, self._commands, self._events,
            address_of(self._times), first, orders,
        )  # fmt: skip


@kernel
def enter_and_answer(
    requests: Requests,
    reports: Reports,
    message: int,
    size_bytes: int,
    commands: int,
    events: int,
    times: int,
    first: int,
    orders: int,
) -> int:
    """Enter orders with the numbers from ``first`` on, and have each accepted and canceled.

    At ``times`` two words are written for each batch, the nanoseconds of either side. Returns how many orders became
    commands.
    """
    session, taken = session_address(requests.sessions, 0), 0
    for batch in range(orders // BATCH):
        began_ns = monotonic_ns()
        for index in range(BATCH):
            number = first + batch * BATCH + index
            store_big_endian_uint32(message + ENTER.user_reference_number, number)
            command = commands + index * RECORD_BYTES
            outcome = take_request(requests, 0, session, message, size_bytes, number * STEP_NS, command)
            taken += int(outcome == FORWARD and load_uint8(command) == record.NEW)
        store_int64(times + 16 * batch, monotonic_ns() - began_ns)
        _answer_all(commands, events)
        began_ns = monotonic_ns()
        report_events(reports, events, 2 * BATCH)
        store_int64(times + 16 * batch + 8, monotonic_ns() - began_ns)
        store_int64(session + LOG_END, 0)
        store_int64(session + LOG_MESSAGES, 0)
    return taken


@kernel
def _answer_all(commands: int, events: int) -> None:
    """The events of a batch: each order is accepted, then canceled."""
    for index in range(BATCH):
        command = commands + index * RECORD_BYTES
        events = write_accepted(events, command)
        order_id, lots = load_int64(command + record.ORDER_ID), load_uint32(command + record.QUANTITY)
        price = load_int64(command + record.PRICE)
        events = write_canceled(events, command, 0, _BY_CLIENT, order_id, price, lots, _CANCEL)
