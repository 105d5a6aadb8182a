"""What the tester sends: one JSON object a line, turned into checked records or refused in one line.

Everything that comes from outside goes through :func:`read_message`; behind it a field has its type and its
range, and which fields an event must have has been looked at. What is refused here is a mistake of the
sender's program, and ends the conversation. What is a proper request that an exchange would refuse (a price
below zero, an id that is taken) passes: to refuse it is the book's task, and whether it does is tested.

Rules: fields that are not named here are ignored, as the protocol's own reader does. Integers are what a
64-byte record can carry; a larger one is refused rather than folded into the range."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from exchange.errors import UserError

PROTOCOL_NAME: Final = "tracebook.conformance"
PROTOCOL_VERSION: Final = 1
LINE_BYTES_MAX: Final = 1 << 20
"""A message is some hundred bytes. A line without end would otherwise be read until memory is gone."""

_INT64_MAX: Final = (1 << 63) - 1

TickSize = Annotated[str, Meta(pattern=r"\A(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?\Z", max_length=20)]
OrderId = Annotated[int, Meta(ge=1, le=_INT64_MAX)]
Owner = Annotated[int, Meta(ge=-_INT64_MAX - 1, le=_INT64_MAX)]
TimestampNs = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
Operation = Literal["new", "cancel", "reduce", "replace", "clear"]


class ProtocolError(UserError):
    """The sender broke the protocol; the text says how, in one line."""


class Config(Struct, frozen=True):
    """The matching semantics that a run asks for. ``tick_size`` is a decimal string, such as ``0.01``."""

    matching_algorithm: Literal["fifo", "pro_rata"] = "fifo"
    tick_size: TickSize = "0.01"
    self_trade_policy: Literal["NONE", "CANCEL_RESTING", "CANCEL_INCOMING"] = "NONE"
    quantity_decimal_places: Annotated[int, Meta(ge=0, le=18)] = 12


class MarketEvent(Struct, frozen=True):
    """One request of a trace. Prices and quantities are in the tester's units, as it sends them."""

    op: Operation
    symbol: str
    order_id: OrderId | None = None
    side: Literal["BUY", "SELL"] | None = None
    order_type: Literal["LIMIT", "MARKET", "IOC", "FOK"] = "LIMIT"
    price: float | None = None
    quantity: float | None = None
    owner: Owner = -1
    timestamp_ns: TimestampNs | None = None


class Hello(Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message of a run."""

    protocol: str
    protocol_version: int
    config: Config = Config()


class EventMessage(Struct, frozen=True, tag_field="type", tag="event"):
    """Apply one event; events of a run are counted from 1."""

    index: int
    event: MarketEvent


class SnapshotRequest(Struct, frozen=True, tag_field="type", tag="snapshot"):
    """Show every resting order as it is after event ``index``."""

    index: int


class Finish(Struct, frozen=True, tag_field="type", tag="finish"):
    """The last message of a run."""

    event_count: int


Message = Hello | EventMessage | SnapshotRequest | Finish

_decoder: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)


def read_message(line: bytes) -> Message:
    """One line of the tester's as a message.

    Raises:
        ProtocolError: it is too long, not JSON, not a message of the protocol, or a field is missing or out of range.
    """
    if len(line) > LINE_BYTES_MAX:
        raise ProtocolError(f"a line is longer than {LINE_BYTES_MAX} bytes")
    try:
        message = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(" ".join(str(error).split())) from error
    if isinstance(message, Hello):
        _check_hello(message)
    elif isinstance(message, EventMessage):
        _check_event(message.event)
    return message


def _check_hello(hello: Hello) -> None:
    if hello.protocol != PROTOCOL_NAME:
        raise ProtocolError(f"protocol must be {PROTOCOL_NAME!r}, not {hello.protocol[:80]!r}")
    if hello.protocol_version != PROTOCOL_VERSION:
        raise ProtocolError(f"protocol_version must be {PROTOCOL_VERSION}")
    if float(hello.config.tick_size) <= 0:
        raise ProtocolError("tick_size must be positive")


def _check_event(event: MarketEvent) -> None:
    """The fields that each operation needs, as the protocol's own reader demands them."""
    if not event.symbol.strip():
        raise ProtocolError("symbol must not be empty")
    if event.op == "clear":
        return
    if event.order_id is None:
        raise ProtocolError(f"{event.op}: order_id is required")
    match event.op:
        case "new" if event.side is None:
            raise ProtocolError("new: side is required")
        case "new" if event.quantity is None:
            raise ProtocolError("new: quantity is required")
        case "new" if event.price is None and event.order_type != "MARKET":
            raise ProtocolError("new: price is required")
        case "reduce" if event.quantity is None or event.quantity <= 0:
            raise ProtocolError("reduce: quantity must be positive")
        case "replace" if event.price is None and event.quantity is None:
            raise ProtocolError("replace: price or quantity is required")
