"""What a restart makes of orders that were on their way when the exchange ended, and of what had gone meanwhile.

Found by the simulator; each test is the shortest way there."""

import numpy as np

from exchange.book.config import LadderBookConfig
from exchange.gateway.config import GatewayConfig
from exchange.gateway.details import ALL_RESTORED, forget_unanswered, restore_records
from exchange.gateway.order_table import NO_ORDER, engine_order_id, find_order, take_order
from exchange.gateway.session_memory import LAST_USER_REFERENCE, WAYS
from exchange.messages import COMMAND_DTYPE, CommandKind
from exchange.native import address_of, load_int64
from exchange.transport.network import NetworkOptions
from exchange.transport.tcp import TcpTransport

CAPACITY = 2 * WAYS
"""Two sets: odd numbers share one."""


class Restoring:
    """A transport to whose first session records are restored."""

    def __init__(self) -> None:
        config = GatewayConfig(capacity_orders=CAPACITY, log_bytes=1 << 14, time_zone="UTC")
        self.transport = TcpTransport(
            config,
            LadderBookConfig(),
            1,
            [0] * len(config.symbols),
            1,
            1,
            16,
            NetworkOptions(keeps_details=True),
        )
        self.sessions = self.transport.memory.sessions
        self.session = self.transport.memory.address(0)

    def restore(self, kind: CommandKind, number: int, new_number: int = 0, quantity: int = 100) -> bool:
        """Restore one record about an order; whether that was possible."""
        record = np.zeros(1, COMMAND_DTYPE)
        record["kind"], record["quantity_lots"] = kind, quantity
        record["order_id"], record["new_order_id"] = (
            engine_order_id(0, number),
            engine_order_id(0, new_number),
        )
        requests, _reports = self.transport.replica()
        return restore_records(requests, address_of(record), 1) == ALL_RESTORED

    def enter(self, number: int) -> bool:
        """An order's details and its command."""
        return self.restore(CommandKind.DETAILS, number) and self.restore(CommandKind.NEW, number)

    def has(self, number: int) -> bool:
        """Whether the order is alive."""
        return find_order(self.sessions, self.session, number) != NO_ORDER


def test_a_number_comes_again_if_there_were_only_details() -> None:
    restoring = Restoring()
    assert restoring.restore(CommandKind.DETAILS, 1)
    assert forget_unanswered(restoring.sessions, 0) == 0
    assert not restoring.has(1)
    assert load_int64(restoring.session + LAST_USER_REFERENCE) == 0
    take_order(restoring.sessions, restoring.session, 1)
    assert restoring.has(1)


def test_details_that_come_again_are_of_the_same_order() -> None:
    restoring = Restoring()
    assert restoring.restore(CommandKind.DETAILS, 1)
    assert restoring.enter(1)
    assert all(restoring.enter(number) for number in range(3, 3 + 2 * (WAYS - 1), 2))
    assert all(restoring.has(number) for number in range(1, 1 + 2 * WAYS, 2))


def test_in_a_full_set_an_order_of_which_there_were_only_details_makes_room() -> None:
    restoring = Restoring()
    assert restoring.restore(CommandKind.DETAILS, 1)
    assert all(restoring.enter(number) for number in range(3, 3 + 2 * WAYS, 2))
    assert not restoring.has(1)
    assert all(restoring.has(number) for number in range(3, 3 + 2 * WAYS, 2))
    assert not restoring.enter(3 + 2 * WAYS), "no exchange had room for that many"


def test_a_modification_of_an_order_that_had_gone_is_no_damage() -> None:
    restoring = Restoring()
    assert restoring.restore(CommandKind.REPLACE, 5, new_number=5)
    assert not restoring.restore(CommandKind.REPLACE, 5, new_number=6), "a replacement has details before it"
