"""What clients were told, held against the journal of who is primary at the end.

A client's request is *acknowledged* when Accepted, Replaced or Canceled has come for it. When the exchange has ended,
the survivor's journal is replayed from its first record on, in the textbook's books, and with it come the logs of all
sessions: every message that was ever sent to anybody. There each acknowledged order has to be, once, by the number that
its client gave it. One that is missing was lost; one that is there twice was done twice.

Rules: the exchange has ended, and all of the journal is there (no snapshot has had a part of it deleted).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from exchange.failover.results import Account
from exchange.load.measured import Measured
from exchange.load.requests import SessionRequests
from exchange.recovery.twin import Twin
from exchange.wire.ouch50 import OUTBOUND_MESSAGES, OrderAccepted, OrderCanceled, OrderReplaced, Rejected


class Told(NamedTuple):
    """What one session was told, as a journal has it: how often each number was answered, and cancelled."""

    answered: Counter[int]
    cancelled: Counter[int]


class Replayed(NamedTuple):
    """What a journal comes to: what each session was told, and the digest of the books."""

    told: tuple[Told, ...]
    digest: str


def replay_journal(directory: Path) -> Replayed:
    """Replay a journal in the textbook's books.

    Raises:
        UserError: it is damaged, or not whole.
    """
    with Twin(directory, book="naive", from_snapshot=False) as twin:
        twin.replay()
        return Replayed(tuple(map(read_told, twin.told())), str(twin.exchange.digest()))


def read_told(messages: Sequence[bytes]) -> Told:
    """What the messages of a session's log say of its requests."""
    told = Told(Counter(), Counter())
    for payload in messages:
        match OUTBOUND_MESSAGES.decode(payload):
            case OrderAccepted() | OrderReplaced() | Rejected() as answer:
                told.answered[answer.user_reference_number] += 1
            case OrderCanceled() as answer:
                told.cancelled[answer.user_reference_number] += 1
            case _:
                pass
    return told


def account_of(measured: Measured, replayed: Replayed) -> Account:
    """The account of a run that kept its requests."""
    acknowledged = lost = twice = 0
    for requests, told in zip(measured.requests, replayed.told, strict=True):
        orders, cancels = acknowledged_numbers(requests)
        for numbers, known in ((orders, told.answered), (cancels, told.cancelled)):
            acknowledged += len(numbers)
            lost += sum(known[number] == 0 for number in numbers)
            twice += sum(known[number] > 1 for number in numbers)
    return Account(
        sent=measured.counts["sent"],
        acknowledged=acknowledged,
        lost=lost,
        twice=twice,
        unanswered=measured.counts["unanswered"] + measured.counts["not sent"],
        sent_again=sum(one.sent_again for one in measured.losses),
        taken_back=sum(one.taken_back for one in measured.losses),
    )


def acknowledged_numbers(requests: SessionRequests) -> tuple[list[int], list[int]]:
    """The numbers of the orders and replacements that were acknowledged, and of the orders whose cancels were."""
    records = requests.records
    is_answered = records["answered_ns"] > 0
    has_number = records["number"] != 0
    orders: list[int] = records["number"][is_answered & has_number].tolist()
    cancelled: list[int] = records["number"][records["order"][is_answered & ~has_number]].tolist()
    return orders, cancelled
