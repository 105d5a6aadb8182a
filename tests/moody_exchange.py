"""An exchange of a few lines for the tests of a load: it does everything OUCH allows, and counts what it did."""

import random
from collections import Counter

from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    CancelOrder,
    EnterOrder,
    OrderAccepted,
    OrderCanceled,
    OrderExecuted,
    OrderReplaced,
    Rejected,
    ReplaceOrder,
    SystemEvent,
    TimeInForce,
)

FIRST_NUMBER = 41
"""The number of the first order."""


class Moody:
    """An exchange with one client: it fills, rejects and ignores as chance will have it, as OUCH says."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.alive: dict[int, int] = {}
        self.counts: Counter[str] = Counter()

    def answer(self, request: Message) -> list[Message]:
        match request:
            case EnterOrder():
                return self.enter(request)
            case ReplaceOrder():
                return self.replace(request)
            case CancelOrder(user_reference_number=number):
                return self.cancel(number)
        raise AssertionError(request)

    def enter(self, order: EnterOrder) -> list[Message]:
        number = order.user_reference_number
        if self.chance.random() < 0.1:
            self.counts["rejected"] += 1
            return [Rejected(0, number, 0x0F, "")]
        self.counts["answered"] += 1
        said: list[Message] = [
            OrderAccepted(0, number, order.side, order.quantity, order.symbol, order.price, order.time_in_force,
                          "Y", number, "P", "N", "N", "L", "")
        ]  # fmt: skip
        if order.time_in_force == TimeInForce.IMMEDIATE_OR_CANCEL:
            return [*said, OrderCanceled(0, number, order.quantity, "I")]
        self.alive[number] = order.quantity
        return said + self.maybe_fill(number)

    def maybe_fill(self, number: int) -> list[Message]:
        if self.chance.random() < 0.7:
            return []
        parts = [100] * (self.alive[number] // 100)
        parts = parts if self.chance.random() < 0.5 else parts[:1]
        self.alive[number] -= sum(parts)
        if self.alive[number] == 0:
            del self.alive[number]
        self.counts["executions"] += len(parts)
        return [OrderExecuted(0, number, part, 1, "A", 1) for part in parts]

    def replace(self, request: ReplaceOrder) -> list[Message]:
        original, number = request.original_user_reference_number, request.user_reference_number
        left = self.alive.pop(original, 0)
        if left == 0:
            self.counts["lapsed"] += 1
            return []
        if self.chance.random() < 0.2:
            self.counts["rejected"] += 1
            return [OrderCanceled(0, original, left, "D")]
        self.counts["answered"] += 1
        left = 0 if self.chance.random() < 0.1 else left
        said: list[Message] = [
            OrderReplaced(0, original, number, "B", left, "AAPL", request.price, "0", "Y", number, "P", "N", "N",
                          "L" if left else "D", "")
        ]  # fmt: skip
        if left:
            self.alive[number] = left
            said += self.maybe_fill(number)
        return said

    def cancel(self, number: int) -> list[Message]:
        left = self.alive.pop(number, 0)
        if left == 0:
            self.counts["lapsed"] += 1
            return []
        self.counts["answered"] += 1
        return [OrderCanceled(0, number, left, "U"), SystemEvent(0, "S")]
