"""The shard: one thread, one core, its own symbols, and nothing shared.

A turn of a shard: hand on what is left of the last turn's events; take a batch of commands from the inbox;
stamp each with the next *sequence*; append them to the journal; apply them to the book; hand the events to the outbox.
The stamped records are what is journaled and replicated: the books, and all that clients are told, are a deterministic
function of them. Not every record is for the book. Details of an order are for the journal alone; a command whose
symbol is halted or is to be, and an answer of the gateway's own, are dealt with by
:mod:`~exchange.matching.trading_states`. Whether there are such records is looked at for a whole batch at once.

After each batch the shard publishes its *status* as a latest value: how far it is, and the top of the book
that it touched last. Any thread can read it at any time, and never holds the shard up by reading.

If the outbox is full the rest of the events stays where it is and the shard takes no further commands: that
is back-pressure, and it travels to the inbox and from there to the ingress. The same happens if the journal has no
room: the batch stays as it is, neither applied nor answered. Nothing is dropped and nothing waits."""

from typing import Any, Final, NamedTuple

import numpy as np

from exchange.agent import do_work
from exchange.book.ladder_events import SEQUENCE as COMMAND_SEQUENCE
from exchange.book.ladder_events import SYMBOL_ID
from exchange.book.protocol import apply_commands, events_bound, live_order_count, top_of_book
from exchange.journal.protocol import append
from exchange.latest_value.protocol import publish, read
from exchange.latest_value.seqlock import SeqlockValue
from exchange.matching.trading_states import (
    TradingState,
    TradingStateMemory,
    TradingStates,
    answer_first,
    any_halted,
    count_of_book,
)
from exchange.messages import RECORD_BYTES, CommandKind
from exchange.native import (
    Arena,
    address_of,
    copy_record,
    generic,
    implements,
    kernel,
    likely,
    load_int64,
    load_uint8,
    load_uint16,
    store_int64,
    unlikely,
)
from exchange.queues.protocol import poll_batch, try_push_batch

# the shard's own words
SEQUENCE: Final = 0
"""Commands sequenced so far, which is also the last command's sequence."""
PENDING: Final = 8
"""Events that are still to be handed on."""
PENDING_FROM: Final = 16
"""The address of the first of them."""
EVENTS: Final = 24
"""Events made so far."""
HELD: Final = 32
"""Records of the batch that the journal had no room for yet; they are stamped already."""
STATUS: Final = 64
"""Where the next status is put together before it is published."""
WORDS_BYTES: Final = 128

READ_ATTEMPTS: Final = 1000

_DETAILS: Final = int(CommandKind.DETAILS)
_NOT_OF_BOOK: Final = int(CommandKind.TRADING_STATE | CommandKind.ANSWER)


class ShardStatus(NamedTuple):
    """What a shard publishes after each batch: eight words, in this order. An empty side of the book is 0, 0."""

    commands: int
    events: int
    live_orders: int
    symbol_id: int
    bid_price_ticks: int
    bid_quantity_lots: int
    ask_price_ticks: int
    ask_quantity_lots: int


STATUS_WORDS: Final = len(ShardStatus._fields)


class Shard(NamedTuple):
    """A shard's state: its ends of the queues, its book, its symbols' states, its journal, its words and buffers."""

    inbox: Any
    book: Any
    trading: TradingStates
    outbox: Any
    journal: Any
    words: int
    batch: int
    batch_commands: int
    events: int
    status: Any
    symbol_count: int


class ShardMemory:
    """Owner of a shard's words and buffers, and of the trading states of its symbols."""

    def __init__(self, batch_commands: int, capacity_orders: int, symbol_count: int) -> None:
        batch_bytes = batch_commands * RECORD_BYTES
        events_bytes = events_bound(capacity_orders, batch_commands) * RECORD_BYTES
        self.arena: Final = Arena.private(WORDS_BYTES + batch_bytes + events_bytes + 1024)
        self.words: Final = self.arena.allocate(WORDS_BYTES)
        self.batch: Final = self.arena.allocate(batch_bytes)
        self.events: Final = self.arena.allocate(events_bytes)
        self.status: Final = SeqlockValue(STATUS_WORDS)
        self.trading: Final = TradingStateMemory(symbol_count)

    def read_status(self) -> ShardStatus | None:
        """The shard's last status; None in the rare case that it was being written at every attempt."""
        out = np.zeros(STATUS_WORDS, np.int64)
        if read(self.status.reader(), address_of(out), READ_ATTEMPTS) == 0:
            return None
        return ShardStatus(*out.tolist())

    def trading_state(self, symbol_id: int) -> TradingState:
        """Whether a symbol of this shard trades; can be asked at any time."""
        return self.trading.read(symbol_id)


@kernel
def stamp_sequences(batch: int, count: int, last_sequence: int) -> int:
    """Number ``count`` records from ``last_sequence + 1`` on; the bits of all their kinds together."""
    kinds = 0
    for index in range(count):
        command = batch + index * RECORD_BYTES
        store_int64(command + COMMAND_SEQUENCE, last_sequence + index + 1)
        kinds |= load_uint8(command)
    return kinds


@kernel
def drop_details(batch: int, count: int) -> int:
    """Close the gaps that details leave in a batch; how many records are left."""
    kept = 0
    for index in range(count):
        command = batch + index * RECORD_BYTES
        if load_uint8(command) != _DETAILS:
            if kept < index:
                copy_record(batch + kept * RECORD_BYTES, command)
            kept += 1
    return kept


@generic
def apply_batch(shard: Any, count: int, kinds: int) -> int:
    """Apply the ``count`` stamped records of a shard's batch, whose kinds have these bits.

    Returns:
        How many events that made; they stand in the shard's room for events.
    """
    raise NotImplementedError


@generic
def publish_status(shard: Any, sequence: int, events: int) -> None:
    """The shard is at ``sequence`` and has made ``events`` more: tell whoever wants to know."""
    raise NotImplementedError


@implements(apply_batch, Shard)
def _apply_batch(shard: Shard, count: int, kinds: int) -> int:
    if unlikely(kinds & _DETAILS != 0):
        count = drop_details(shard.batch, count)
    is_judged = kinds & _NOT_OF_BOOK != 0 or any_halted(shard.trading)
    applied, events, run = 0, 0, count
    while applied < count:
        if unlikely(is_judged):
            answered = answer_first(
                shard.trading,
                shard.batch + applied * RECORD_BYTES,
                count - applied,
                shard.events + events * RECORD_BYTES,
            )
            applied, events = applied + answered, events + answered
            run = count_of_book(shard.trading, shard.batch + applied * RECORD_BYTES, count - applied)
        events += apply_commands(
            shard.book, shard.batch + applied * RECORD_BYTES, run, shard.events + events * RECORD_BYTES
        )
        applied += run
    symbol_id = load_uint16(shard.batch + (max(count, 1) - 1) * RECORD_BYTES + SYMBOL_ID)
    if symbol_id < shard.symbol_count:
        top_of_book(shard.book, symbol_id, shard.words + STATUS + 32)
        store_int64(shard.words + STATUS + 24, symbol_id)
    return events


@implements(publish_status, Shard)
def _publish_status(shard: Shard, sequence: int, events: int) -> None:
    words = shard.words
    store_int64(words + EVENTS, load_int64(words + EVENTS) + events)
    store_int64(words + SEQUENCE, sequence)
    store_int64(words + STATUS, sequence)
    store_int64(words + STATUS + 8, load_int64(words + EVENTS))
    store_int64(words + STATUS + 16, live_order_count(shard.book))
    publish(shard.status, words + STATUS)


@implements(do_work, Shard, inline=False)
def _do_work(shard: Shard) -> int:
    words = shard.words
    pending = load_int64(words + PENDING)
    if pending > 0:
        pushed = try_push_batch(shard.outbox, load_int64(words + PENDING_FROM), pending)
        store_int64(words + PENDING, pending - pushed)
        store_int64(words + PENDING_FROM, load_int64(words + PENDING_FROM) + pushed * RECORD_BYTES)
        if pushed < pending:
            return pushed
    count = load_int64(words + HELD)
    if likely(count == 0):
        count = poll_batch(shard.inbox, shard.batch, shard.batch_commands)
        if count == 0:
            return 0
    sequence = load_int64(words + SEQUENCE)
    kinds = stamp_sequences(shard.batch, count, sequence)
    if unlikely(not append(shard.journal, shard.batch, count, sequence + 1)):
        store_int64(words + HELD, count)
        return 0
    store_int64(words + HELD, 0)
    events = apply_batch(shard, count, kinds)
    pushed = try_push_batch(shard.outbox, shard.events, events)
    store_int64(words + PENDING, events - pushed)
    store_int64(words + PENDING_FROM, shard.events + pushed * RECORD_BYTES)
    publish_status(shard, sequence + count, events)
    return count
