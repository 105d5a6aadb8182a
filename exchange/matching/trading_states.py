"""Which symbols of a shard trade, and what becomes of commands for those that do not.

A halt is a command like any other: it comes in through an ingress, gets its number in the shard's sequence, and what
is before it in that sequence happened before the halt, what is behind it after. So the order of things is the same for
the book, for clients, for the feed and for whoever applies the sequence again, however many ingress lanes there are
and wherever an order was when somebody pressed the button.

While a symbol is halted, a new order or a replace in it is refused (``SYMBOL_HALTED``), whether or not it would have
traded: when trading goes on, the book must not be crossed. Cancels and mass cancels are applied, and so is a
*modification*: a replace of an order by itself, at the price that it has, to a total that is not above the one before
(``liability_lots``). Whoever makes such a command, as the gateway does, leaves the price alone.

The book knows nothing of this. A shard notices while it stamps a batch whether there is a TRADING_STATE in it, and only
then, or while one of its symbols is halted, it has the batch cut into runs here: those that the book is to apply, and
those that are answered without it. With all symbols trading a command costs two instructions more than without states.
An ANSWER of the gateway's own is answered here as well: it becomes an event as it stands.

The memory: for each symbol a row that the shard alone writes: its state, the reason, and how often it was told one.
Python reads them at any time; see ``docs/decisions/0016-a-halt-is-a-command.md``.
"""

from typing import Final, NamedTuple

from exchange.book.ladder_events import (
    CAUSE,
    KIND,
    LIABILITY,
    ORDER_ID,
    OTHER_ORDER_ID,
    PRICE,
    QUANTITY,
    SYMBOL_ID,
    write_rejected,
)
from exchange.book.ladder_events import MATCH_NUMBER as EVENT_MATCH_NUMBER
from exchange.messages import (
    RECORD_BYTES,
    CommandKind,
    EventKind,
    Reason,
    SymbolState,
    reason_text,
    reason_word,
)
from exchange.native import (
    Arena,
    copy_record,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_release,
    store_uint8,
    store_uint32,
)

HALTED_COUNT: Final = 0
"""How many of the shard's symbols are halted."""
ROWS: Final = 64

# a symbol's row
STATE: Final = 0
REASON: Final = 8
CHANGES: Final = 16
"""How many TRADING_STATE commands have been applied; released last."""
ROW_SHIFT: Final = 5

_ANSWER_COMMAND: Final = int(CommandKind.ANSWER)
_ANSWER_EVENT: Final = int(EventKind.ANSWER)
_TRADING_STATE_COMMAND: Final = int(CommandKind.TRADING_STATE)
_TRADING_STATE_EVENT: Final = int(EventKind.TRADING_STATE)
_NEW: Final = int(CommandKind.NEW)
_REPLACE: Final = int(CommandKind.REPLACE)
_TRADING: Final = int(SymbolState.TRADING)
_HALTED: Final = int(SymbolState.HALTED)
_SYMBOL_HALTED: Final = int(Reason.SYMBOL_HALTED)
_UNKNOWN_SYMBOL: Final = int(Reason.UNKNOWN_SYMBOL)
_INVALID_FIELD: Final = int(Reason.INVALID_FIELD)


class TradingStates(NamedTuple):
    """The words at ``base`` and the rows behind them, of symbols 0 to ``symbol_count`` - 1."""

    base: int
    symbol_count: int


class TradingState(NamedTuple):
    """A symbol's state as Python sees it; ``changes`` counts how often one was told."""

    state: SymbolState
    reason: str
    changes: int


class TradingStateMemory:
    """Owner of a shard's trading states; every symbol trades at first."""

    def __init__(self, symbol_count: int) -> None:
        self._arena: Final = Arena.private(ROWS + (symbol_count << ROW_SHIFT) + 256, huge_pages="never")
        base = self._arena.allocate(ROWS + (symbol_count << ROW_SHIFT))
        self.state: Final = TradingStates(base, symbol_count)
        for symbol_id in range(symbol_count):
            row = row_address(self.state, symbol_id)
            store_int64(row + STATE, _TRADING)
            store_int64(row + REASON, reason_word(""))

    def read(self, symbol_id: int) -> TradingState:
        """A symbol's state, at any time; while it is being changed the reason may be the one of before."""
        row = row_address(self.state, symbol_id)
        changes = load_acquire(row + CHANGES)
        state, reason = load_acquire(row + STATE), load_acquire(row + REASON)
        return TradingState(SymbolState(state), reason_text(reason), int(changes))


@inlined
def row_address(states: TradingStates, symbol_id: int) -> int:
    """Where a symbol's state stands."""
    return states.base + ROWS + (symbol_id << ROW_SHIFT)


@inlined
def any_halted(states: TradingStates) -> bool:
    """Whether a symbol of the shard is halted."""
    return load_int64(states.base + HALTED_COUNT) != 0


@inlined
def _is_modification(command: int) -> bool:
    """Whether a replace keeps an order's id and asks for no more of it than before."""
    is_same = load_int64(command + ORDER_ID) == load_int64(command + OTHER_ORDER_ID)
    return is_same and load_uint32(command + QUANTITY) <= load_uint32(command + LIABILITY)


@inlined
def _is_of_book(states: TradingStates, command: int) -> bool:
    """Whether a command is to be applied by the book, which also refuses what is nonsense."""
    kind, symbol_id = load_uint8(command + KIND), load_uint16(command + SYMBOL_ID)
    if kind in (_TRADING_STATE_COMMAND, _ANSWER_COMMAND):
        return False
    if kind not in (_NEW, _REPLACE) or symbol_id >= states.symbol_count:
        return True
    is_halted = load_int64(row_address(states, symbol_id) + STATE) == _HALTED
    return not is_halted or (kind == _REPLACE and _is_modification(command))


@kernel
def count_of_book(states: TradingStates, commands: int, count: int) -> int:
    """How many of the first commands, up to ``count``, the book is to apply."""
    run = 0
    while run < count and _is_of_book(states, commands + run * RECORD_BYTES):
        run += 1
    return run


@kernel
def answer_first(states: TradingStates, commands: int, count: int, events: int) -> int:
    """Answer the first commands, up to ``count``, as long as they are not for the book.

    Returns how many that were; each has given one event.
    """
    answered = 0
    while answered < count and not _is_of_book(states, commands + answered * RECORD_BYTES):
        command, event = commands + answered * RECORD_BYTES, events + answered * RECORD_BYTES
        kind = load_uint8(command + KIND)
        if kind == _TRADING_STATE_COMMAND:
            _change(states, command, event)
        elif kind == _ANSWER_COMMAND:
            copy_record(event, command)
            store_uint8(event + KIND, _ANSWER_EVENT)
        else:
            write_rejected(event, command, _SYMBOL_HALTED)
        answered += 1
    return answered


@inlined
def _change(states: TradingStates, command: int, event: int) -> None:
    """Give a symbol the state that a command names, and write the event."""
    symbol_id, state = load_uint16(command + SYMBOL_ID), load_uint32(command + QUANTITY)
    if symbol_id >= states.symbol_count:
        write_rejected(event, command, _UNKNOWN_SYMBOL)
        return
    if state not in (_TRADING, _HALTED):
        write_rejected(event, command, _INVALID_FIELD)
        return
    row = row_address(states, symbol_id)
    before = load_int64(row + STATE)
    halted = load_int64(states.base + HALTED_COUNT) + (state == _HALTED) - (before == _HALTED)
    store_int64(states.base + HALTED_COUNT, halted)
    store_int64(row + REASON, load_int64(command + ORDER_ID))
    store_release(row + STATE, state)
    store_release(row + CHANGES, load_int64(row + CHANGES) + 1)
    copy_record(event, command)
    store_uint32(event + KIND, _TRADING_STATE_EVENT)
    store_int64(event + OTHER_ORDER_ID, 0)
    store_int64(event + PRICE, 0)
    store_uint32(event + CAUSE, _TRADING_STATE_COMMAND << 16)
    store_int64(event + EVENT_MATCH_NUMBER, 0)


assert RECORD_BYTES == 1 << 6
