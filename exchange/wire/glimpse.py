"""GLIMPSE 5.0: the state of all books at one moment, for who joins late.

A client logs in over SoupBinTCP (:mod:`exchange.wire.soupbintcp`), asks for message 1, and gets a *spin* as
Sequenced Data: ITCH 5.0 messages (:mod:`exchange.wire.itch50`) that build today's books from nothing. First come the
system events so far, the stock directory, and what else is known of the stocks; then an Add Order for each displayed
order, in priority order; last the message of this module, with the number at which the live feed goes on. Then the
client logs out.

How to join: listen to the live feed and keep its messages; take a snapshot; drop the kept messages with a number
below ``sequence_number``; apply the others, and go on live (:mod:`exchange.market_data.subscriber` does all that).

Rules: no text of the specification says in which order the kinds of messages before the orders come, so a reader
accepts any. ``sequence_number`` is read as the next message to apply.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from exchange.wire.fields import AsciiNumber20, WireError
from exchange.wire.itch50 import MESSAGES as ITCH_MESSAGES
from exchange.wire.itch50 import ItchMessage
from exchange.wire.layout import Buffer, Message, MessageTable, message


@message("G", "End of Snapshot")
class EndOfSnapshot(Message, frozen=True):
    """The last message of a snapshot: where the live feed goes on."""

    sequence_number: AsciiNumber20


SNAPSHOT_TYPES: Final = "SRHYLVWhNAF"
"""The ITCH messages that a snapshot may hold, in the order in which ours come: the day, the stocks, the orders."""

MESSAGES: Final = MessageTable(
    "GLIMPSE 5.0", *(ITCH_MESSAGES[letter] for letter in SNAPSHOT_TYPES), EndOfSnapshot
)
"""Every message of the protocol by its type."""


class Snapshot(NamedTuple):
    """A whole spin: its messages without the last one, and the number of the live feed to go on with."""

    messages: tuple[bytes, ...]
    sequence_number: int


def encode_snapshot(snapshot: Snapshot) -> list[bytes]:
    """The messages of a spin, the end included. Raises WireError for a number that is too large."""
    return [*snapshot.messages, EndOfSnapshot(snapshot.sequence_number).encode()]


def decode_snapshot(messages: Iterable[Buffer]) -> Snapshot:
    """Check the messages of a spin one by one.

    Raises:
        WireError: one is none of a snapshot's, the end is missing, or something follows it.
    """
    kept: list[bytes] = []
    end: EndOfSnapshot | None = None
    for data in messages:
        if end is not None:
            raise WireError("GLIMPSE 5.0: a message after End of Snapshot (G)")
        found = MESSAGES.decode(data)
        if isinstance(found, EndOfSnapshot):
            end = found
        else:
            assert isinstance(found, ItchMessage)
            kept.append(bytes(data))
    if end is None:
        raise WireError(f"GLIMPSE 5.0: {len(kept):,} messages and no End of Snapshot (G)")
    return Snapshot(tuple(kept), end.sequence_number)
