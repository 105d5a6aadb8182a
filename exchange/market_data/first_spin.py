"""What a GLIMPSE server begins with that was not there when the day began: the state of a feed, told in ITCH messages.

A server of snapshots builds its book from the first message on. After a restart of the exchange the first messages may
not be in the store any more, so it could never begin. Therefore the exchange writes down what its own publisher holds:
the day's first messages, the last trading action of each symbol, every displayed order, and the number at which the
feed goes on. It is a spin as clients get it, in blocks (two bytes of length, the message) as in the file of a day, and
whoever follows the feed from that number on has the whole book.

Rules: no agent publishes while a spin is made. It is made piece by piece, a symbol at a time."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from exchange.errors import UserError
from exchange.market_data.displayed import export_displayed
from exchange.market_data.publisher import Publisher, opening_messages
from exchange.market_data.publisher_memory import OPENED_NS, action_address
from exchange.market_data.snapshot import fill_add_orders
from exchange.market_data.subscriber import Subscriber
from exchange.messages import COMMAND_DTYPE, RECORD_BYTES
from exchange.native import Arena, load_int64, view_bytes
from exchange.wire.fields import WireError
from exchange.wire.glimpse import EndOfSnapshot
from exchange.wire.itch50 import AddOrder, StockTradingAction
from exchange.wire.layout import LENGTH_BYTES
from exchange.wire.moldudp64 import encode_blocks

_ADD_BYTES: Final = AddOrder.layout.size_bytes
_ACTION_BYTES: Final = StockTradingAction.layout.size_bytes
_BLOCK_DTYPE: Final = np.dtype([("length", ">u2"), ("message", AddOrder.layout.dtype)])
_END_BYTES: Final = LENGTH_BYTES + EndOfSnapshot.layout.size_bytes

assert _BLOCK_DTYPE.itemsize == LENGTH_BYTES + _ADD_BYTES


def encode_first_spin(publisher: Publisher) -> Iterator[bytes]:
    """The blocks of a spin, the end included, in pieces of any length."""
    state = publisher.state
    opening = opening_messages(publisher.symbols, load_int64(state.words + OPENED_NS))
    actions = (
        bytes(view_bytes(action_address(state, symbol_id), _ACTION_BYTES))
        for symbol_id in range(len(publisher.symbols))
    )
    yield encode_blocks(
        next(actions) if isinstance(message, StockTradingAction) else message.encode() for message in opening
    )
    size_bytes = (publisher.live_orders() + 1) * RECORD_BYTES
    arena = Arena.private(size_bytes)
    out = arena.allocate(size_bytes)
    for symbol_id, name in enumerate(publisher.symbols):
        count = export_displayed(state, symbol_id, out)
        if count == 0:
            continue
        orders = np.frombuffer(view_bytes(out, count * RECORD_BYTES), COMMAND_DTYPE)
        blocks: Any = np.zeros(count, _BLOCK_DTYPE)
        blocks["length"] = _ADD_BYTES
        fill_add_orders(blocks["message"], orders, orders["tag"], symbol_id + 1, name, publisher.timestamp_ns)
        yield blocks.tobytes()
    yield encode_blocks([EndOfSnapshot(publisher.store.next_sequence).encode()])


def load_first_spin(subscriber: Subscriber, blocks: bytes, now_ns: int) -> None:
    """Have a subscriber begin with a spin and go on with the message behind it.

    Raises:
        UserError: it has no end, or is none at all.
    """
    spin, end = blocks[:-_END_BYTES], blocks[-_END_BYTES:]
    try:
        if int.from_bytes(end[:LENGTH_BYTES], "big") != _END_BYTES - LENGTH_BYTES:
            raise WireError(f"{len(blocks)} bytes and no End of Snapshot (G)")
        subscriber.load_blocks(spin, EndOfSnapshot.decode(end[LENGTH_BYTES:]).sequence_number, now_ns)
    except WireError as error:
        raise UserError(f"the snapshot to begin with: {error}") from error
