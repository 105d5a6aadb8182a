"""The stages of a publisher's day: what is told before the first order, and behind the last.

The exchange's own System Events come to the publisher as events, in their turn. Start of day is told by Python, with
the directory (:meth:`exchange.market_data.publisher.Publisher.open_day`), before there is any event; so the first one
says nothing new. End of day closes the day. An exchange that goes on with its journal after that begins it once more,
and the feed tells its first stages again; the directory holds.

Rules: as of the publisher."""

from typing import Final

from exchange.gateway.inbound import ANSWER_KIND, ANSWER_REASON, SYSTEM_EVENT
from exchange.market_data.datagram_store import append_written, next_message
from exchange.market_data.itch_writer import write_system_event
from exchange.market_data.publisher_memory import IS_CLOSED, TIMESTAMP_NS, PublisherState
from exchange.native import kernel, load_int64, load_uint8, store_int64
from exchange.wire.itch50_codes import SystemEventCode
from exchange.wire.ouch_codes import EventCode

OPENING: Final = (
    SystemEventCode.START_OF_MESSAGES,
    SystemEventCode.START_OF_SYSTEM_HOURS,
    SystemEventCode.START_OF_MARKET_HOURS,
)
"""The stages of a day before the first order; the directory follows the first of them."""

CLOSING: Final = (
    SystemEventCode.END_OF_MARKET_HOURS,
    SystemEventCode.END_OF_SYSTEM_HOURS,
    SystemEventCode.END_OF_MESSAGES,
)
"""The stages of a day after the last order."""

_OPENING_LETTERS: Final = tuple(ord(code) for code in OPENING)
_CLOSING_LETTERS: Final = tuple(ord(code) for code in CLOSING)
_START: Final = ord(EventCode.START_OF_DAY)
_END: Final = ord(EventCode.END_OF_DAY)


@kernel
def publish_stages(publisher: PublisherState, answer: int) -> None:
    """Tell the stages that an ANSWER gives rise to, if it is a System Event of the exchange that says something new."""
    if load_uint8(answer + ANSWER_KIND) != SYSTEM_EVENT:
        return
    letter, is_closed = load_uint8(answer + ANSWER_REASON), load_int64(publisher.words + IS_CLOSED) != 0
    if letter == _END and not is_closed:
        store_int64(publisher.words + IS_CLOSED, 1)
        _append(publisher, _CLOSING_LETTERS)
    elif letter == _START and is_closed:
        store_int64(publisher.words + IS_CLOSED, 0)
        _append(publisher, _OPENING_LETTERS)


@kernel
def _append(publisher: PublisherState, letters: tuple[int, ...]) -> None:
    for letter in letters:
        message = next_message(publisher.store)
        length = write_system_event(message, load_int64(publisher.words + TIMESTAMP_NS), letter)
        append_written(publisher.store, length)
