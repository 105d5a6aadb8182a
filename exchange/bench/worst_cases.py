"""The worst cases of an order book, as commands: what a hostile or an unlucky market could ask for.

Each *case* is made for a size n: commands that prepare the book (not timed), commands that are timed, and how many
events of each kind the timed ones must cause. :data:`CLEAR` empties the book again, so that a case can be played many
times over.

The axis of all cases is n, the number of orders that stand in the way. A book whose cost of an event depends on n
takes time in proportion to n squared for the whole case.

Rules: one symbol; prices are inside the default band; at most ``size`` orders and a few rest at once; all that may be
left at the end belong to session 0. Equal arguments give equal commands."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.limits import PRICE_TICKS_MAX, PRICE_TICKS_MIN
from exchange.messages import BUY, COMMAND_DTYPE, SELL, CommandKind, EventKind, OrderType, TimeInForce

type Commands = NDArray[Any]
type Ids = NDArray[np.int64]

MIDDLE_TICKS: Final = 1 << 35
"""Half way up the default band."""
ATTACKED_PRICES: Final = 128
"""How many prices the orders of a case stand on whose subject is not the prices."""
LIVE_BANDS: Final = 16
MASS_CANCELS: Final = 64
OTHER_SESSION: Final = 1
GOLDEN_RATIO: Final = 0x9E3779B97F4A7C15
"""2**64 / golden ratio: what the ladder's index of ids multiplies with."""

_SEED: Final = 20_260_301


CLEAR: Final = np.zeros(1, COMMAND_DTYPE)
"""What ends a case: session 0 takes away all its orders."""
CLEAR["kind"] = int(CommandKind.MASS_CANCEL)


class Script(NamedTuple):
    """A case at one size: shapes (m,) and (k,) of ``COMMAND_DTYPE``, and the timed commands' events by their kind."""

    prepare: Commands
    timed: Commands
    events: dict[EventKind, int]


class Case(NamedTuple):
    """A worst case. ``orders_max``: no larger size is measured, where the cost is known to grow or memory to."""

    name: str
    script: Callable[[int], Script]
    orders_max: int = 1 << 17


def _new(ids: Ids, side: int, prices: Any, **fields: int) -> Commands:
    commands = np.zeros(len(ids), COMMAND_DTYPE)
    commands["kind"] = int(CommandKind.NEW)
    commands["order_id"] = ids
    commands["side"] = side
    commands["price_ticks"] = prices
    commands["quantity_lots"] = 1
    for name, value in fields.items():
        commands[name] = value
    return commands


def _cancel(ids: Ids) -> Commands:
    commands = np.zeros(len(ids), COMMAND_DTYPE)
    commands["kind"] = int(CommandKind.CANCEL)
    commands["order_id"] = ids
    return commands


def _immediate(ids: Ids, side: int, prices: Any) -> Commands:
    return _new(ids, side, prices, time_in_force=int(TimeInForce.IMMEDIATE_OR_CANCEL))


def _market(ids: Ids, side: int, quantity_lots: int) -> Commands:
    return _new(ids, side, 0, order_type=int(OrderType.MARKET), quantity_lots=quantity_lots)


def _in_turn(*parts: Commands) -> Commands:
    """The first of each part, then the second of each, and so on; all are equally long."""
    return np.stack(parts, axis=1).reshape(-1)


def _nothing() -> Commands:
    return np.zeros(0, COMMAND_DTYPE)


def _ids(count: int, first: int = 1) -> Ids:
    return np.arange(first, first + count, dtype=np.int64)


def _shuffled(values: Ids) -> Ids:
    return np.random.default_rng(_SEED).permutation(values)


def _apart(count: int) -> Ids:
    """Prices as far from each other as the default band allows, ascending."""
    return PRICE_TICKS_MIN + _ids(count) * ((PRICE_TICKS_MAX - PRICE_TICKS_MIN) // (count + 1))


def _sweep(prices: Callable[[int], Any]) -> Callable[[int], Script]:
    def script(count: int) -> Script:
        prepare = _new(_ids(count), SELL, prices(count))
        sweep = _market(_ids(1, count + 1), BUY, count)
        return Script(prepare, sweep, {EventKind.ACCEPTED: 1, EventKind.EXECUTED: count})

    return script


def _one_price_cancelled(count: int) -> Script:
    prepare = _new(_ids(count), BUY, MIDDLE_TICKS)
    return Script(prepare, _cancel(_shuffled(_ids(count))), {EventKind.CANCELED: count})


def _one_price_traded(count: int) -> Script:
    prepare = _new(_ids(count), SELL, MIDDLE_TICKS)
    timed = _immediate(_ids(count, count + 1), BUY, MIDDLE_TICKS)
    return Script(prepare, timed, {EventKind.ACCEPTED: count, EventKind.EXECUTED: count})


def _band_jumps(count: int) -> Script:
    """Every order alone, with as much of the band between it and the next as there is."""
    enter = _new(_ids(count), BUY, _shuffled(_apart(count)))
    leave = _cancel(_shuffled(_ids(count)))
    events = {EventKind.ACCEPTED: count, EventKind.CANCELED: count}
    return Script(_nothing(), np.concatenate((enter, leave)), events)


def _between_bands(count: int) -> Script:
    """Few orders that live in one of ``count`` distant places after the other."""
    ids = _ids(count)
    enter, leave = _new(ids, BUY, _shuffled(_apart(count))), _cancel(ids)
    live = min(LIVE_BANDS, count)
    timed = np.concatenate((_in_turn(enter[live:], leave[:-live]), leave[-live:]))
    events = {EventKind.ACCEPTED: count - live, EventKind.CANCELED: count}
    return Script(enter[:live], timed, events)


def _best_cancelled(bids: Callable[[int], Any], asks: Callable[[int], Any]) -> Callable[[int], Script]:
    """The best bid goes and somebody asks for it, the best ask goes and somebody asks for it, until none is left."""

    def script(count: int) -> Script:
        half = count // 2
        bid_ids, ask_ids = _ids(half), _ids(half, half + 1)
        bid_prices, ask_prices = bids(half), asks(half)
        prepare = np.concatenate((_new(bid_ids, BUY, bid_prices), _new(ask_ids, SELL, ask_prices)))
        timed = _in_turn(
            _cancel(bid_ids),
            _immediate(_ids(half, count + 1), SELL, bid_prices),
            _cancel(ask_ids),
            _immediate(_ids(half, 2 * count + 1), BUY, ask_prices),
        )
        return Script(prepare, timed, {EventKind.CANCELED: 4 * half, EventKind.ACCEPTED: 2 * half})

    return script


def _best_flickers(count: int) -> Script:
    """An order comes to the touch and goes again, with all others far behind it."""
    behind = _new(_ids(count), BUY, _shuffled(_apart(2 * count)[:count]))
    ids, price = _ids(count, count + 1), PRICE_TICKS_MAX - 1
    timed = _in_turn(_new(ids, BUY, price), _cancel(ids), _immediate(_ids(count, 2 * count + 1), SELL, price))
    events = {EventKind.ACCEPTED: 2 * count, EventKind.CANCELED: 2 * count}
    return Script(behind, timed, events)


def _mass_cancel(count: int) -> Script:
    ids = _ids(count)
    events = {EventKind.CANCELED: count, EventKind.MASS_CANCELED: 1}
    return Script(_new(ids, BUY, _few_prices(ids)), CLEAR, events)


def _mass_cancel_of_one(count: int) -> Script:
    """Sessions with one order each ask for their orders, among ``count`` orders of somebody else."""
    ids = _ids(count)
    prepare = _new(ids, BUY, _few_prices(ids))
    one = _new(_ids(MASS_CANCELS, count + 1), BUY, MIDDLE_TICKS, session_id=OTHER_SESSION)
    take = np.zeros(MASS_CANCELS, COMMAND_DTYPE)
    take["kind"], take["session_id"] = int(CommandKind.MASS_CANCEL), OTHER_SESSION
    kinds = (EventKind.ACCEPTED, EventKind.CANCELED, EventKind.MASS_CANCELED)
    return Script(prepare, _in_turn(one, take), dict.fromkeys(kinds, MASS_CANCELS))


def _with_ids(ids_of: Callable[[int], Ids]) -> Callable[[int], Script]:
    def script(count: int) -> Script:
        ids = ids_of(count)
        timed = np.concatenate((_new(ids, BUY, _few_prices(_ids(count))), _cancel(_shuffled(ids))))
        return Script(_nothing(), timed, {EventKind.ACCEPTED: count, EventKind.CANCELED: count})

    return script


def _few_prices(numbers: Ids) -> Ids:
    return MIDDLE_TICKS + numbers % ATTACKED_PRICES


def _random_ids(count: int) -> Ids:
    """Any 63 bits; two alike are as good as impossible, and the count of events would show it."""
    return np.random.default_rng(_SEED).integers(1, 2**63 - 1, count)


def _multiples_of(power: int) -> Callable[[int], Ids]:
    return lambda count: _ids(count) << power


def _colliding_ids(count: int) -> Ids:
    """Ids whose products with the golden ratio have the same upper 32 bits, by the ratio's inverse modulo 2**64."""
    inverse = pow(GOLDEN_RATIO, -1, 1 << 64)
    numbers = [(((1 << 63) + number) * inverse) % (1 << 64) for number in range(count)]
    return np.array(numbers, np.uint64).view(np.int64)


CASES: Final = (
    Case("one order sweeps one price", _sweep(lambda _: MIDDLE_TICKS)),
    Case("one order sweeps as many prices", _sweep(lambda count: MIDDLE_TICKS + _ids(count))),
    Case("every order far from all others", _band_jumps),
    Case("a market that jumps between distant bands", _between_bands),
    Case("orders on one price, cancelled in any order", _one_price_cancelled, 1 << 20),
    Case("orders on one price, traded one by one", _one_price_traded, 1 << 20),
    Case(
        "best prices cancelled in turn, the next a tick away",
        _best_cancelled(lambda half: MIDDLE_TICKS - _ids(half), lambda half: MIDDLE_TICKS + _ids(half)),
    ),
    Case(
        "best prices cancelled in turn, the next far away",
        _best_cancelled(lambda half: _apart(2 * half)[half - 1 :: -1], lambda half: _apart(2 * half)[half:]),
    ),
    Case("a best price that comes and goes, the others far away", _best_flickers),
    Case("mass cancel of all orders", _mass_cancel),
    Case("mass cancel of one order among many", _mass_cancel_of_one),
    Case("ids in sequence", _with_ids(_ids)),
    Case("ids at random", _with_ids(_random_ids)),
    Case("ids that are multiples of 2**20", _with_ids(_multiples_of(20))),
    Case("ids that are multiples of 2**44", _with_ids(_multiples_of(44))),
    Case("ids chosen to collide", _with_ids(_colliding_ids), 10_000),
)
"""All cases, in the order of a report."""
