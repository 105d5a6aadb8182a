"""The requests of a load: every byte that will be sent is made beforehand, from a seed, with the time it is due.

The loop that sends is then as short as a loop can be, and two runs with one seed send the same. Each session behaves
like a market maker: it keeps a few orders in the book and works round and round through them, Enter, Replace, Cancel,
one request to each in turn. Now and then one of its requests is a *taker* instead, an Immediate-or-Cancel order that
trades with whoever is best. Makers buy below the middle price and sell above it, so they trade with takers only.

A request names an order by the number that its session gave it (UserRefNum), so the order of a session's requests is
all that must hold: which session's request comes first in the book makes no difference to what can be sent.

Rules: quantities are shares, prices ticks of 1/10,000 dollar. A number is taken for every Enter and every Replace, in
sequence from the one that the exchange says is next. Prices stay within :data:`DEPTH_STEPS` cents of the middle."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.wire.layout import LENGTH_BYTES, Message
from exchange.wire.ouch50 import CancelOrder, CrossType, Display, EnterOrder, ReplaceOrder, TimeInForce
from exchange.wire.ouch_codes import Capacity, Side, YesOrNo
from exchange.wire.soupbintcp import UnsequencedData

REQUEST_DTYPE: Final = np.dtype(
    [
        ("intended_ns", np.int64),
        ("end_bytes", np.int64),
        ("order", np.int64),
        ("follower", np.int64),
        ("state", np.int64),
        ("open_shares", np.int64),
        ("answered_ns", np.int64),
        ("number", np.int64),
    ]
)
"""A request as the loop sees it, 64 bytes: when it is due (from the run's start), where its bytes end in the packets,
the request whose order it names and the request that will name its own order (indexes, or :data:`NOBODY`), what has
become of it, what is open of the order that it made, when it was answered (0: it was not, or it lapsed), and its
UserRefNum (of a cancel: 0)."""

UNSENT: Final = 0
UNANSWERED: Final = 1
SETTLED: Final = 2
"""What has become of a request: it was not sent, or not answered, or it was answered or lapsed."""
LOOK_BACK: Final = 4096
"""So many requests are looked at at a time."""

NOBODY: Final = -1

ACTS: Final = 3
"""Enter, Replace, Cancel: the life of an order."""
TAKERS: Final = 0.1
"""The part of the requests that trade."""
LOTS_MAX: Final = 5
LOT_SHARES: Final = 100
CENT_TICKS: Final = 100
DEPTH_STEPS: Final = 50

_ENTER: Final = 0
_REPLACE: Final = 1
_CANCEL: Final = 2


class SessionRequests(NamedTuple):
    """What one session sends.

    ``records`` has shape (n,), :data:`REQUEST_DTYPE`, with indexes that count from this session's first request and
    ``end_bytes`` from its first byte; ``packets`` are those bytes; ``creators`` gives for each number, from the first
    on, the request that took it.
    """

    records: NDArray[Any]
    packets: NDArray[np.uint8]
    creators: NDArray[np.int64]


def session_requests(
    intended_ns: NDArray[np.int64],
    first_number: int,
    symbols: tuple[str, ...],
    middle_ticks: int,
    orders: int,
    seed: tuple[int, int],
) -> SessionRequests:
    """The requests of one session.

    Args:
        intended_ns: shape (n,), int64: when each is due, not decreasing.
        first_number: the UserRefNum that its first order gets.
        symbols: what is traded.
        middle_ticks: the price around which the orders lie.
        orders: how many orders the session keeps in the book.
        seed: of the run, and the session's place.
    """
    draws, count = np.random.default_rng(seed), len(intended_ns)
    takes = draws.random(count) < TAKERS
    turn = np.cumsum(~takes) - 1  # of the makers' requests
    kind = np.where(takes, _ENTER, turn // orders % ACTS)
    takes_number = kind != _CANCEL
    number = np.where(takes_number, first_number + np.cumsum(takes_number) - 1, 0)

    # A maker's request speaks of the same order as the one so many turns before, unless it is an order's first.
    order = np.full(count, NOBODY)
    makers = np.flatnonzero(~takes)
    follows = makers[kind[makers] != _ENTER]
    order[follows] = makers[turn[follows] - orders]
    follower = np.full(count, NOBODY)
    follower[order[follows]] = follows

    # What an order is does not change while it lives; takers live for one request.
    life = np.where(
        takes, turn.max(initial=0) + 1 + np.arange(count), turn // (ACTS * orders) * orders + turn % orders
    )
    lives = int(life.max(initial=0)) + 1
    buys = (draws.random(lives) < 0.5)[life]
    lots = draws.integers(1, LOTS_MAX + 1, lives)[life]
    symbol = draws.integers(0, len(symbols), lives)[life]
    steps = np.where(takes, -DEPTH_STEPS, draws.integers(1, DEPTH_STEPS + 1, count))
    price_ticks = middle_ticks + CENT_TICKS * np.where(buys, -steps, steps)

    shares = LOT_SHARES * np.where(takes, 1, lots)
    named = np.array([name.encode("ascii").ljust(8) for name in symbols])[symbol]
    columns = {
        "user_reference_number": np.where(kind == _CANCEL, number[order], number),
        "original_user_reference_number": number[order],
        "side": np.where(buys, Side.BUY.encode(), Side.SELL.encode()),
        "quantity": np.where(kind == _CANCEL, 0, shares),
        "symbol": named,
        "price": price_ticks,
        "time_in_force": np.where(takes, TimeInForce.IMMEDIATE_OR_CANCEL.encode(), TimeInForce.DAY.encode()),
    }
    records = np.zeros(count, REQUEST_DTYPE)
    records["intended_ns"], records["order"], records["follower"] = intended_ns, order, follower
    records["number"] = number
    packets, records["end_bytes"] = _encode(kind, columns)
    return SessionRequests(records, packets, np.flatnonzero(takes_number))


def first_unanswered(requests: SessionRequests, sent: int, unanswered: int) -> int:
    """The first request that has been sent and has no answer; ``sent`` if there is none.

    Args:
        requests: of a session.
        sent: how many of them have been sent.
        unanswered: how many of those have no answer. They are looked for from the end, where they are in most cases.
    """
    states, end, first = requests.records["state"], sent, sent
    while unanswered > 0 and end > 0:
        begin = max(end - LOOK_BACK, 0)
        found = np.flatnonzero(states[begin:end] == UNANSWERED)
        if len(found):
            first = begin + int(found[0])
        unanswered -= len(found)
        end = begin
    return first


def resting_numbers(requests: SessionRequests) -> list[int]:
    """The numbers of the orders that may rest in the book."""
    records = requests.records
    is_unanswered = records["state"] == UNANSWERED
    rests = (records["number"] != 0) & (is_unanswered | (records["open_shares"] > 0))
    numbers: list[int] = records["number"][rests].tolist()
    return numbers


def _encode(
    kind: NDArray[np.int64], columns: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All packets, one behind the other, and where each ends."""
    classes: tuple[type[Message], ...] = (EnterOrder, ReplaceOrder, CancelOrder)
    sizes = np.array([UnsequencedData.layout.size_bytes + one.layout.size_bytes for one in classes])
    ends = np.cumsum(sizes[kind])
    packets = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for index, message_class in enumerate(classes):
        chosen = np.flatnonzero(kind == index)
        size_bytes = int(sizes[index])
        encoded = _packets(
            message_class, size_bytes, {key: column[chosen] for key, column in columns.items()}
        )
        places = (ends[chosen] - size_bytes)[:, None] + np.arange(size_bytes)
        packets[places] = encoded.view(np.uint8).reshape(len(chosen), size_bytes)
    return packets, ends


def _packets(message_class: type[Message], size_bytes: int, columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Unsequenced Data packets with messages of one class: columns over constants over zeros."""
    header, layout = UnsequencedData.layout, message_class.layout
    dtype = np.dtype([("packet", header.dtype), ("message", layout.dtype)])
    rows = np.zeros(len(next(iter(columns.values()))), dtype)
    constants: dict[str, Any] = {
        "display": Display.VISIBLE.encode(),
        "capacity": Capacity.PRINCIPAL.encode(),
        "intermarket_sweep_eligibility": YesOrNo.NO.encode(),
        "cross_type": CrossType.CONTINUOUS.encode(),
        "client_order_id": b" " * 14,
    }
    rows["packet"]["packet_length"] = size_bytes - LENGTH_BYTES
    rows["packet"]["message_type"] = header.message_type.encode()
    message = rows["message"]
    message["message_type"] = layout.message_type.encode()
    for name in layout.dtype.names or ():
        if name in columns:
            message[name] = columns[name]
        elif name in constants:
            message[name] = constants[name]
    return rows
