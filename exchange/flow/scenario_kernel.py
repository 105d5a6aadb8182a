"""How a scenario's commands are made: prices along a walk, a shuffle, then one life after the other.

The model (what, and why) is described in :mod:`exchange.flow.scenario`; this file is how. Three passes:

* :func:`place_orders` walks the mid-price from the first order to the last and gives each order its price, its
  depth, its quantity and its session.
* :func:`shuffle` puts the orders into the sequence in which they arrive.
* :func:`write_lives` takes them in that sequence and writes each order's commands: it is entered, perhaps
  replaced, usually cancelled, and only then comes the next one.

Everything is an integer. The walk is the Euler scheme of geometric Brownian motion, ``mid += mid * step`` with a
normally distributed ``step``: one multiplication, and no exponential function whose last bit might differ between two
machines. Where the closed form adds ``step - variance / 2`` to the logarithm of the price, this adds ``step - step**2
/ 2``: the same on average, and over a million steps the same.

Rules: all arrays are the caller's and of fixed size; nothing is checked. One thread. Random words are
:func:`~exchange.flow.synthetic_market.draw_word`'s, and each pass draws the same number for each order, so
that the scenarios of one seed differ in their prices and in nothing else.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange.flow.synthetic_market import SHARE_BITS, SHARE_MASK, draw_word, interpolate, uncounted
from exchange.messages import BUY, SELL, CommandKind, TimeInForce
from exchange.native import inlined, kernel, shift_right_logical

MID_FRACTION_BITS: Final = 24
STEP_FRACTION_BITS: Final = 36
"""The mid-price counts 2**-24 of a tick; a step of the walk counts 2**-36 of the mid-price. Coarser ones would round
the smallest steps (a fifty-thousandth of the price, in ``normal``) to few distinct values."""

MID_TICKS_MAX: Final = 1 << 20
"""A walk that gets so far, 31 times its start, is held there, so that no product leaves 64 bits. In the wildest
scenario that is more than five standard deviations away."""

DEPTH_BITS: Final = 32
GUIDE_BITS: Final = 12
STRETCH_BITS: Final = 8

PLACED_DTYPE: Final = np.dtype(
    [("price_ticks", "<i4"), ("session_id", "<u2"), ("depth", "<u2"), ("lots", "u1")], align=True
)
"""An order before it arrives. ``depth`` is the number of ticks behind the first price next to the mid."""

COUNTS: Final = (
    "commands", "immediate_or_cancel_orders", "cancels", "duplicate_cancels", "replaces", "stale_replaces",
)  # fmt: skip
"""What :func:`write_lives` counts, in this order; ``cancels`` and ``replaces`` are without the repeated ones."""
COMMANDS, IMMEDIATE_ORDERS, CANCELS, DUPLICATE_CANCELS, REPLACES, STALE_REPLACES = range(len(COUNTS))

COMMANDS_PER_ORDER_MAX: Final = 5
"""New, replace, cancel, duplicate cancel, stale replace."""

_NEW, _CANCEL, _REPLACE = int(CommandKind.NEW), int(CommandKind.CANCEL), int(CommandKind.REPLACE)
_DAY, _IMMEDIATE = int(TimeInForce.DAY), int(TimeInForce.IMMEDIATE_OR_CANCEL)
_HALF_TICK: Final = 1 << MID_FRACTION_BITS - 1
_COARSE_BITS: Final = 16
"""The mid-price goes into the product without its lowest bits."""
_PRODUCT_SHIFT: Final = STEP_FRACTION_BITS - _COARSE_BITS
_PRODUCT_HALF: Final = 1 << _PRODUCT_SHIFT - 1


class Scenario(NamedTuple):
    """The model's numbers and its random source. Shares are in 1/65,536; times in ns.

    Attributes:
        step_of: quantiles of a step of the walk, in 2**-36 of the mid-price; for ``interpolate``.
        lifetime_of: quantiles of the lifetime of an order of depth 0; for ``interpolate``.
        stretch_of: by depth, how many 256ths of that an order lives.
        depth_ends: by depth, the share of orders that is not deeper, in 2**-32.
        depth_guide: by the leading 12 bits of such a share, the first depth that is possible.
        words: as in ``Market``; only the state of the random source is used.
        start_ticks: the mid-price before the first order.
        lots_max: quantities are uniform from 1 to this.
        sessions: how many there are.
        immediate_share, replace_share, reprice_share, cancel_share, repeat_share: of all orders; of the others; of
            the replaces; of the others; of the cancels and of the replaced orders.
        replace_after_ns, replace_spread_ns: a replace comes so long after its order, and up to so much later.
        repeat_after_ns, repeat_spread_ns: a repeated command comes so long after the one before.
        pause_ns: from the end of a life to the next order.
    """

    step_of: NDArray[np.int64]
    lifetime_of: NDArray[np.int64]
    stretch_of: NDArray[np.int64]
    depth_ends: NDArray[np.int64]
    depth_guide: NDArray[np.int64]
    words: NDArray[np.int64]
    start_ticks: int
    lots_max: int
    sessions: int
    immediate_share: int
    replace_share: int
    reprice_share: int
    cancel_share: int
    repeat_share: int
    replace_after_ns: int
    replace_spread_ns: int
    repeat_after_ns: int
    repeat_spread_ns: int
    pause_ns: int


@uncounted
@kernel
def place_orders(scenario: Scenario, placed: NDArray[Any]) -> None:
    """Walk the mid-price and place an order at each step: buys in the first half, sells in the second."""
    buys = len(placed) // 2
    mid = scenario.start_ticks << MID_FRACTION_BITS
    for index in range(len(placed)):
        draw, detail = draw_word(scenario), draw_word(scenario)
        step = interpolate(scenario.step_of, draw)
        mid += (mid >> _COARSE_BITS) * step + _PRODUCT_HALF >> _PRODUCT_SHIFT
        mid = min(max(mid, 1 << MID_FRACTION_BITS), MID_TICKS_MAX << MID_FRACTION_BITS)
        mid_ticks = mid + _HALF_TICK >> MID_FRACTION_BITS
        share = shift_right_logical(draw, DEPTH_BITS)
        depth = scenario.depth_guide[share >> DEPTH_BITS - GUIDE_BITS]
        while scenario.depth_ends[depth] <= share:
            depth += 1
        order = placed[index]
        order["price_ticks"] = max(1, mid_ticks - 1 - depth) if index < buys else mid_ticks + 1 + depth
        order["depth"] = depth
        order["lots"] = 1 + ((detail & SHARE_MASK) * scenario.lots_max >> SHARE_BITS)
        order["session_id"] = (detail >> SHARE_BITS & SHARE_MASK) * scenario.sessions >> SHARE_BITS


@uncounted
@kernel
def shuffle(scenario: Scenario, arrivals: NDArray[np.int32]) -> None:
    """Put ``arrivals`` into random order (Fisher and Yates)."""
    for last in range(len(arrivals) - 1, 0, -1):
        other = shift_right_logical(draw_word(scenario), 32) * (last + 1) >> 32
        kept = arrivals[last]
        arrivals[last] = arrivals[other]
        arrivals[other] = kept


@uncounted
@kernel
def write_lives(
    scenario: Scenario,
    placed: NDArray[Any],
    arrivals: NDArray[np.int32],
    commands: NDArray[Any],
    counts: NDArray[np.int64],
) -> None:
    """Write the commands of each order, in the sequence of ``arrivals``; time never goes back.

    Args:
        scenario: the numbers.
        placed: the orders. Order ``placed[i]`` gets the id ``i + 1``.
        arrivals: indices into ``placed``.
        commands: room for ``COMMANDS_PER_ORDER_MAX`` commands of each order, zeroed.
        counts: ``COUNTS``, zeroed.
    """
    now_ns = 0
    buys = len(placed) // 2
    for index in arrivals:
        order = placed[index]
        price = np.int64(order["price_ticks"])
        side = BUY if index < buys else SELL
        what, when, again = draw_word(scenario), draw_word(scenario), draw_word(scenario)
        command = commands[_send(commands, counts, _NEW, now_ns, index, order, side)]
        command["price_ticks"] = price
        command["quantity_lots"] = order["lots"]
        if (what & SHARE_MASK) < scenario.immediate_share:
            command["time_in_force"] = _IMMEDIATE
            counts[IMMEDIATE_ORDERS] += 1
            now_ns += scenario.pause_ns
            continue
        is_replaced = (what >> 16 & SHARE_MASK) < scenario.replace_share
        is_cancelled = (what >> 32 & SHARE_MASK) < scenario.cancel_share
        if is_replaced:
            if (what >> 48 & SHARE_MASK) < scenario.reprice_share:
                price += 1 if side == BUY else -1
            now_ns += _between(scenario.replace_after_ns, scenario.replace_spread_ns, when >> 32)
            at = _send(commands, counts, _REPLACE, now_ns, index, order, side)
            _ask_for_more(commands[at], price, order)
            counts[REPLACES] += 1
        if is_cancelled:
            now_ns += (
                interpolate(scenario.lifetime_of, when) * scenario.stretch_of[order["depth"]] >> STRETCH_BITS
            )
            _send(commands, counts, _CANCEL, now_ns, index, order, side)
            counts[CANCELS] += 1
            if (again & SHARE_MASK) < scenario.repeat_share:
                now_ns += _between(scenario.repeat_after_ns, scenario.repeat_spread_ns, again >> 16)
                _send(commands, counts, _CANCEL, now_ns, index, order, side)
                counts[DUPLICATE_CANCELS] += 1
        if is_replaced and is_cancelled and (again >> 32 & SHARE_MASK) < scenario.repeat_share:
            now_ns += _between(scenario.repeat_after_ns, scenario.repeat_spread_ns, again >> 48)
            at = _send(commands, counts, _REPLACE, now_ns, index, order, side)
            _ask_for_more(commands[at], price, order)
            counts[STALE_REPLACES] += 1
        now_ns += scenario.pause_ns


@uncounted
@inlined
def _send(commands: Any, counts: Any, kind: int, now_ns: int, index: int, order: Any, side: int) -> Any:
    """Begin the next command; its index, for a record that a compiled function returns is a copy."""
    at = counts[COMMANDS]
    counts[COMMANDS] += 1
    command = commands[at]
    command["kind"] = kind
    command["side"] = side
    command["session_id"] = order["session_id"]
    command["order_id"] = index + 1
    command["timestamp_ns"] = now_ns
    return at


@uncounted
@inlined
def _ask_for_more(command: Any, price: Any, order: Any) -> None:
    """A replace asks for one lot more, at the price given, and keeps the order's id."""
    command["new_order_id"] = command["order_id"]
    command["price_ticks"] = price
    command["quantity_lots"] = np.int64(order["lots"]) + 1


@uncounted
@inlined
def _between(after_ns: int, spread_ns: int, draw: int) -> Any:
    """``after_ns`` and less than ``spread_ns`` more; uses the low 16 bits of ``draw``."""
    return after_ns + ((draw & SHARE_MASK) * spread_ns >> SHARE_BITS)


@uncounted
@kernel
def fill_with_words(scenario: Scenario, words: NDArray[np.int64]) -> None:
    """The next random words of the source, all different from each other.

    SplitMix64's state is a counter that comes back to a value after 2**64 words, and what it makes of the state can be
    undone, so no word comes twice before all have come.
    """
    for index in range(len(words)):
        words[index] = draw_word(scenario)
