"""What must hold: of what clients are told, at every moment; of the whole exchange, when it has come to rest.

**Told is what happened.** The events of the shards' twins (:mod:`exchange.simulation.oracle`) say what each session is
to be told, in which order, from each shard. Everything that a client hears must be the next of that, of some shard; so
nothing is told twice, left out, made up, told to somebody else, or told before it happened.

**At rest** everything has been told; the log of each session is what its client has; each open order of a client is in
the book with just that quantity, and the book has no other; the gateway's tables have no order that nobody has; the
books are the twins' books; nothing has been lost, and nothing waits."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.book.naive import NaiveBook
from exchange.gateway import inbound
from exchange.gateway.order_table import SESSION_SHIFT, USER_REFERENCE_MASK
from exchange.matching.match_numbers import public_match_number
from exchange.messages import EVENT_STRUCT, RECORD_BYTES, CommandKind, Event, EventKind, Reason
from exchange.risk.config import LimitsRiskConfig, RiskConfig

if TYPE_CHECKING:
    from exchange.simulation.dialects import Told

DAY_NS: Final = 86_400_000_000_000
REMOVED: Final = "R"
ADDED: Final = "A"

_OF_ANSWER: Final = {
    inbound.REJECTED: "J",
    inbound.ACCOUNT: "Q",
    inbound.MASS_CANCEL: "X",
    inbound.DISABLED: "G",
    inbound.ENABLED: "K",
    inbound.SYSTEM_EVENT: "S",
}
"""What the gateway's own answers say; the others say nothing."""
_SAME_IN_BOTH: Final = "AUECM"
"""Messages whose quantity is what the event says, whatever the version of OUCH."""


class BrokenInvariant(Exception):
    """Something that must hold does not: which it is, and what was seen."""


def broken(invariant: str, seen: str) -> BrokenInvariant:
    """The exception to raise."""
    return BrokenInvariant(f"{invariant}: {seen}")


class Fact(NamedTuple):
    """What a session is to be told: as :class:`~exchange.simulation.dialects.Told`, with the engine's number.

    ``sequence`` is the number of the record that it comes from in its shard's stream; ``text`` what the client called
    its order, if a reject says so.
    """

    letter: str
    number: int
    original: int
    quantity: int
    price: int
    match_number: int
    day_ns: int
    sequence: int
    text: str = ""


Texts = dict[tuple[int, int], str]
"""For session and number of an order what its client calls it."""


def facts_of(
    event: Event, raw: bytes, shard: int, shard_count: int, midnight_ns: int, sessions: int, texts: Texts
) -> Iterator[tuple[int, Fact]]:
    """What an event means: for each session that is to be told of it, the session's number and what."""
    day_ns, sequence = (event.timestamp_ns + midnight_ns) % DAY_NS, event.command_sequence
    number, other = event.order_id & USER_REFERENCE_MASK, event.other_order_id & USER_REFERENCE_MASK
    quantity, price, session = event.quantity_lots, event.price_ticks, event.session_id
    match EventKind(event.kind):
        case EventKind.ACCEPTED:
            yield session, Fact("A", number, 0, quantity, price, 0, day_ns, sequence)
        case EventKind.EXECUTED:
            match_number = public_match_number(event.match_number, shard, shard_count)
            for whose, which in ((session, number), (event.other_session_id, other)):
                yield whose, Fact("E", which, 0, quantity, price, match_number, day_ns, sequence)
        case EventKind.REPLACED if event.other_order_id == event.order_id:
            yield session, Fact("M", number, 0, quantity, 0, 0, day_ns, sequence)
        case EventKind.REPLACED:
            yield session, Fact("U", other, number, quantity, price, 0, day_ns, sequence)
        case EventKind.CANCELED:
            is_replace = event.command_kind == CommandKind.REPLACE
            if is_replace and event.other_order_id != event.order_id:
                yield session, Fact("U", other, number, 0, -1, 0, day_ns, sequence)
            else:
                yield session, Fact("C", number, 0, quantity, 0, 0, day_ns, sequence)
        case EventKind.REJECTED if event.command_kind == CommandKind.NEW:
            text = texts.get((session, number), "")
            yield session, Fact("J", number, 0, 0, 0, 0, day_ns, sequence, text)
        case EventKind.REJECTED if event.command_kind == CommandKind.REPLACE:
            if event.reason == Reason.SYMBOL_HALTED and event.other_order_id != event.order_id:
                text = texts.get((session, other), "")
                yield session, Fact("J", other, 0, 0, 0, 0, day_ns, sequence, text)
        case EventKind.ANSWER if raw[inbound.ANSWER_KIND] in _OF_ANSWER:
            letter = _OF_ANSWER[raw[inbound.ANSWER_KIND]]
            place = inbound.ANSWER_USER_REFERENCE
            number = int.from_bytes(raw[place : place + 4], "little")
            text = text_of_words(raw[inbound.ANSWER_CLIENT_ORDER_ID :]) if letter == "J" else ""
            for whose in range(sessions) if letter == "S" else (session,):
                said = Fact(letter, 0 if letter == "S" else number, 0, 0, 0, 0, day_ns, sequence, text)
                yield whose, said


def text_of_words(words: bytes) -> str:
    """What :func:`exchange.gateway.inbound.keep_client_order_id` made two words of."""
    return (words[7::-1] + words[13:7:-1]).decode("ascii", "replace").rstrip()


class Expectations:
    """What each session is still to be told, from each shard.

    Args:
        session_count: how many sessions there are.
        shard_count: how many shards there are.
        midnight_ns: what is added to a time to get, modulo a day, the time of day that messages carry.
        texts: what clients call the orders that may be refused, if they do not call them by their numbers.
    """

    def __init__(self, session_count: int, shard_count: int, midnight_ns: int, texts: Texts) -> None:
        self._texts: Final = texts
        self._shard_count: Final = shard_count
        self._midnight_ns: Final = midnight_ns
        self._due: list[list[deque[Fact]]] = [
            [deque() for _ in range(shard_count)] for _ in range(session_count)
        ]
        self._numbers: Final[list[dict[int, int]]] = [{} for _ in range(session_count)]
        self.told_sequence: Final = [0] * shard_count
        """For each shard the highest record of whose outcome somebody has heard."""

    def add(self, shard: int, events: bytes) -> None:
        """A shard has made events."""
        sessions = len(self._due)
        for place, fields in enumerate(EVENT_STRUCT.iter_unpack(events)):
            raw = events[place * RECORD_BYTES : (place + 1) * RECORD_BYTES]
            event = Event(*fields)
            for session_id, fact in facts_of(
                event, raw, shard, self._shard_count, self._midnight_ns, sessions, self._texts
            ):
                self._due[session_id][shard].append(fact)

    def hear(self, session_id: int, told: "Told", among: Sequence[int] = (), *, speaks_ouch42: bool) -> int:
        """A client was told something: it must be what is due next from some shard, or from one of ``among``.

        Returns:
            The shard.
        """
        for shard in among or range(self._shard_count):
            due = self._due[session_id][shard]
            if due and self._means(session_id, due[0], told, speaks_ouch42):
                self.told_sequence[shard] = max(self.told_sequence[shard], due.popleft().sequence)
                return shard
        next_ones = [due[0] for due in self._due[session_id] if due]
        raise broken("told is what happened", f"session {session_id} was told {told}; due is {next_ones}")

    def check_all_told(self) -> None:
        """Nothing is due any more."""
        for session_id, shards in enumerate(self._due):
            for due in shards:
                if due:
                    raise broken("everything is told", f"session {session_id} was never told {due[0]}")

    def numbers_of(self, session_id: int) -> dict[int, int]:
        """The engine's numbers of orders that their client calls otherwise."""
        return self._numbers[session_id]

    def _means(self, session_id: int, fact: Fact, told: "Told", speaks_ouch42: bool) -> bool:
        if fact.letter != told.letter or fact.day_ns != told.day_ns:
            return False
        if fact.letter in _SAME_IN_BOTH and fact.quantity != told.quantity:
            return False
        if fact.price not in (0, -1, told.price) or fact.match_number != told.match_number:
            return False
        if not speaks_ouch42:
            return fact.number == told.number and fact.original in (0, told.original)
        numbers = self._numbers[session_id]
        if told.reference != 0:
            numbers[told.number] = told.reference & USER_REFERENCE_MASK
        if told.letter == "S":
            return True
        if told.letter == "J":
            return fact.text in ("", f"T{told.number}")
        return (
            numbers.get(told.number) == fact.number
            and told.reference in (0, session_id << SESSION_SHIFT | fact.number)
            and (fact.original == 0 or numbers.get(told.original) == fact.original)
        )


class OpenOrders(NamedTuple):
    """What a session has in the books: open lots by the order's number, and the value of all in ticks times lots."""

    lots: dict[int, int]
    value: int


def open_orders(books: Sequence[NaiveBook], session_id: int) -> OpenOrders:
    """A session's orders in the twins' books."""
    own = [order for book in books for order in book.orders.values() if order.session_id == session_id]
    return OpenOrders(
        {order.order_id & USER_REFERENCE_MASK: order.quantity_lots for order in own},
        sum(order.price_ticks * order.quantity_lots for order in own),
    )


class LimitsKept:
    """A session has no more in the books than its limits allow.

    Limits are for a session, whatever the shard. So if a shard has lost its last records and others have not, a session
    may have more, from what a restart has found in the books: orders that were gone came back beside those that came
    after them. From then on it may only become less.
    """

    def __init__(self, risk: RiskConfig, session_count: int) -> None:
        self._risk: Final = risk
        self._found: Final = [(0, 0)] * session_count

    def note_found(self, session_id: int, has: OpenOrders) -> None:
        """A session has this after a restart."""
        self._found[session_id] = (len(has.lots), has.value)

    def check(self, name: str, session_id: int, has: OpenOrders) -> None:
        """Raises BrokenInvariant."""
        if not isinstance(self._risk, LimitsRiskConfig):
            return
        orders, value = self._found[session_id]
        for what, count, found, most in (
            ("open_orders_max", len(has.lots), orders, self._risk.open_orders_max),
            ("exposure_max", has.value, value, self._risk.exposure_max),
            ("order_lots_max", max(has.lots.values(), default=0), 0, self._risk.order_lots_max),
        ):
            if 0 < most < count and count > found:
                raise broken("limits are kept", f"{name} has {count} in the books, and {what} is {most}")
        self._found[session_id] = (min(orders, len(has.lots)), min(value, has.value))
