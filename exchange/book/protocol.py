"""What an order book promises, once, for every variant.

A book holds the resting orders of one shard's symbols and applies commands to them, one after the other, by
price-time priority: the best price first, at one price the earliest order first. It is a deterministic
function of the commands it has seen; it reads no clock and no random number, allocates nothing while it runs,
and knows nothing of queues, threads or clients. Exactly one thread uses a book.

The rules, which every variant follows to the byte:

* A trade prints at the resting order's price. An order trades as far as its limit allows; then a day order
  rests and an immediate-or-cancel or market order's remainder is cancelled (``IMMEDIATE_REMAINDER``).
* A cancel takes away ``quantity_lots`` (0 or too many: all) and costs no priority.
* A replace gives an order a new price, a new open quantity and perhaps a new id. At the same price with no
  more quantity it keeps its place; otherwise it leaves the book and comes in again as a new order would,
  trading if it crosses.
* A mass cancel takes all orders of a session in one symbol (or in ``ALL_SYMBOLS``): symbols ascending, bids
  before asks, best price first, earliest first; then one ``MASS_CANCELED``.
* A command that cannot be applied changes nothing and yields one ``REJECTED``. Checked in this order: kind,
  symbol, then for a new order: side / time in force / type, quantity, price band, duplicate id, room in the
  book (only an order that may rest needs room, and it needs it even if it would trade at once); for cancel
  and replace: order known, session its owner, then for replace: quantity, price band, new id free.
* ``ACCEPTED`` or ``REPLACED`` comes before the trades that it causes.

Memory is fixed when the book is built: ``capacity_orders`` orders may rest at once, at any prices in the
band."""

from typing import Any

from exchange.native import generic


@generic
def apply_commands(book: Any, commands_address: int, count: int, events_address: int) -> int:
    """Apply ``count`` consecutive commands, in order; write their events; return how many events there were.

    Args:
        book: the state of a book.
        commands_address: ``count`` records of ``COMMAND_DTYPE``, with ``sequence`` stamped.
        count: how many commands.
        events_address: room for :func:`events_bound` records of ``EVENT_DTYPE``.
    """
    raise NotImplementedError


@generic
def live_order_count(book: Any) -> int:
    """How many orders rest in the book, over all symbols."""
    raise NotImplementedError


@generic
def top_of_book(book: Any, symbol_id: int, out_address: int) -> int:
    """Write four int64: best bid price and quantity, best ask price and quantity; an empty side is 0, 0.

    Returns a bit mask of the sides that have orders: 1 bids, 2 asks.
    """
    raise NotImplementedError


@generic
def export_orders(book: Any, symbol_id: int, out_address: int) -> int:
    """Write one symbol's live orders as NEW commands in priority order (bids best first, then asks best first).

    ``out_address`` has room for :func:`live_order_count` records. Applying the records to an empty book builds
    the same book again: this is the state digest's and the snapshot's view of a book.
    """
    raise NotImplementedError


@generic
def match_count(book: Any) -> int:
    """How many trades there have been, which is also the last one's match number.

    It and the live orders are all that later events depend on: whoever has both has the book.
    """
    raise NotImplementedError


@generic
def restore_match_count(book: Any, matches: int) -> None:
    """Have the next trade's match number be ``matches`` + 1, in a book that orders have just been put back into."""
    raise NotImplementedError


OPERATIONS = (
    apply_commands,
    live_order_count,
    top_of_book,
    export_orders,
    match_count,
    restore_match_count,
)
"""What a variant has to implement for its state."""


def events_bound(capacity_orders: int, commands: int) -> int:
    """The most events that one call of :func:`apply_commands` can write.

    Each command writes at most three events of its own (answer, last partial trade, remainder), and each further
    event removes an order that was resting before the call or came to rest during it.
    """
    return capacity_orders + 4 * commands
