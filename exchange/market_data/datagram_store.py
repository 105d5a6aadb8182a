"""The messages of a feed as they are numbered, kept to be sent and to be sent again.

A ring of slots, one for each message, 64 bytes: two bytes of length and the message, just as it will stand in a
datagram. Message n is in slot n modulo the capacity, so that the newest ones are there and one that is too old is
known to be gone. Datagrams are not kept. They are put together when they are wanted, by the same code for the live
feed (:func:`take_datagram`), for who asks again (:func:`answer_request`) and for heartbeats
(:func:`pack_heartbeat`): as many consecutive messages as there are and as fit. So the live feed packs more into a
datagram the busier it is, and nothing waits to fill one.

Rules: one thread appends. One thread takes the live datagrams, that one or another; any thread may answer requests.
Nobody waits for anybody: a reader that was overtaken by the ring notices it (:data:`TOO_OLD`) and has sent nothing.
Live datagrams that were not taken in time are counted as overrun; a subscriber finds the gap like any other, and
what is gone for good it takes from a snapshot.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exchange import limits
from exchange.errors import UserError
from exchange.native import (
    FALSE_SHARING_BYTES,
    Arena,
    HugePages,
    copy_bytes,
    fence_acquire,
    inlined,
    kernel,
    load_acquire,
    load_big_endian_int64,
    load_big_endian_uint16,
    load_int64,
    load_uint8,
    store_big_endian_uint16,
    store_int64,
    store_release,
    view_bytes,
)
from exchange.wire.fields import WireError
from exchange.wire.itch50 import MESSAGE_BYTES_MAX
from exchange.wire.layout import LENGTH_BYTES, Buffer
from exchange.wire.moldudp64 import (
    DATAGRAM_BYTES_MAX,
    HEADER_BYTES,
    SESSION_BYTES,
    DatagramBuffer,
    PacketHeader,
    Request,
    begin_datagram,
    end_session,
    try_append_message,
)

SLOT_BYTES: Final = 64
SLOT_MESSAGE: Final = LENGTH_BYTES
assert LENGTH_BYTES + MESSAGE_BYTES_MAX <= SLOT_BYTES

# words: what the appending thread writes, what the sending thread writes, what nobody writes
NEXT: Final = 0
"""The number that the next message will get; 1 at first."""
NEXT_TO_SEND: Final = FALSE_SHARING_BYTES
OVERRUN: Final = FALSE_SHARING_BYTES + 8
"""Messages that the live feed never sent, because the ring came round first."""
SESSION: Final = 2 * FALSE_SHARING_BYTES
FIRST: Final = 2 * FALSE_SHARING_BYTES + 16
"""The first message that was ever here: 1, or a later one in a store that was put back after a restart."""
WORDS_BYTES: Final = 3 * FALSE_SHARING_BYTES

TOO_OLD: Final = -1
"""Instead of a count of messages: the first one that was asked for is not there any more."""

REQUEST_BYTES: Final = Request.layout.size_bytes
_REQUEST_SEQUENCE: Final = Request.layout.offset("sequence_number")
_REQUEST_COUNT: Final = Request.layout.offset("requested_message_count")


class StoreState(NamedTuple):
    """A store, as compiled code sees it; ``mask`` is the number of slots less one."""

    words: int
    slots: int
    mask: int


class DatagramStore:
    """Owner of a store's memory, and the store as plain Python uses it.

    Args:
        session: the session's name, up to ten characters.
        capacity_messages: how many messages can be asked for again; a power of two.
        huge_pages: see :class:`exchange.native.Arena`.

    Raises:
        UserError: the name is too long, or the capacity out of range or no power of two.
    """

    def __init__(
        self,
        session: str,
        capacity_messages: int = limits.FEED_STORE_MESSAGES_DEFAULT,
        huge_pages: HugePages = "advise",
    ) -> None:
        try:
            header = PacketHeader(session, 1, 0).encode()
        except WireError as error:
            raise UserError(f"session = {session!r}: {error}") from None
        most = limits.FEED_STORE_MESSAGES_MAX
        if not 2 <= capacity_messages <= most or capacity_messages & (capacity_messages - 1):
            raise UserError(
                f"capacity_messages = {capacity_messages}: must be a power of two from 2 to {most}"
            )
        size_bytes = WORDS_BYTES + SLOT_BYTES * capacity_messages + DATAGRAM_BYTES_MAX
        self._arena: Final = Arena.private(size_bytes + 4096, huge_pages)
        words = self._arena.allocate(WORDS_BYTES)
        slots = self._arena.allocate(SLOT_BYTES * capacity_messages)
        self.state: Final = StoreState(words, slots, capacity_messages - 1)
        view_bytes(words + SESSION, SESSION_BYTES)[:] = header[:SESSION_BYTES]
        for word in (FIRST, NEXT, NEXT_TO_SEND):
            store_int64(words + word, 1)
        self.buffer: Final = DatagramBuffer(
            self._arena.allocate(DATAGRAM_BYTES_MAX), DATAGRAM_BYTES_MAX, self._arena.allocate(8)
        )

    @property
    def session(self) -> str:
        """The session's name."""
        return bytes(view_bytes(self.state.words + SESSION, SESSION_BYTES)).decode("ascii").rstrip(" ")

    @property
    def next_sequence(self) -> int:
        """The number that the next message will get."""
        return int(load_acquire(self.state.words + NEXT))

    @property
    def unsent_messages(self) -> int:
        """How many messages the live feed has not sent yet."""
        return self.next_sequence - int(load_acquire(self.state.words + NEXT_TO_SEND))

    @property
    def overrun_messages(self) -> int:
        """How many messages the live feed never sent."""
        return int(load_acquire(self.state.words + OVERRUN))

    def skip_to_end(self) -> None:
        """The live feed goes on with the message that comes next; only while no agent runs."""
        store_int64(self.state.words + NEXT_TO_SEND, self.next_sequence)

    def kept_slots(self) -> tuple[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """The number of the oldest message that is sure to be there, and the slots from it on, where they lie.

        Two arrays, shape (slots, 64), the second of which goes on where the first ends; nobody may append meanwhile.
        """
        oldest, behind = int(oldest_sequence(self.state)), self.next_sequence
        ring = self._ring()
        first, count = oldest & self.state.mask, behind - oldest
        at_once = min(count, len(ring) - first)
        return oldest, (ring[first : first + at_once], ring[: count - at_once])

    def restore(self, oldest: int, slots: NDArray[np.uint8]) -> None:
        """Put messages back into a fresh store: the slots of :meth:`kept_slots`, end to end, the first one's number.

        A store that has fewer slots keeps the newest. All of them count as sent.
        """
        assert self.next_sequence == 1
        behind = oldest + len(slots)
        kept = slots[max(0, len(slots) - self.state.mask) :]
        first = behind - len(kept)
        self._ring()[np.arange(first, behind) & self.state.mask] = kept
        for word, value in ((FIRST, first), (NEXT_TO_SEND, behind), (NEXT, behind)):
            store_int64(self.state.words + word, value)

    def _ring(self) -> NDArray[np.uint8]:
        size_bytes = SLOT_BYTES * (self.state.mask + 1)
        return np.frombuffer(view_bytes(self.state.slots, size_bytes), np.uint8).reshape(-1, SLOT_BYTES)

    def append(self, message: bytes) -> None:
        """Append a message from Python; only while no compiled agent appends.

        Raises:
            WireError: it is longer than any ITCH message.
        """
        if len(message) > MESSAGE_BYTES_MAX:
            raise WireError(f"message of {len(message)} bytes, allowed are {MESSAGE_BYTES_MAX}")
        view_bytes(next_message(self.state), len(message))[:] = message
        append_written(self.state, len(message))

    def take_datagrams(self) -> Iterable[bytes]:
        """All live datagrams that are due now, one after the other."""
        while take_datagram(self.state, self.buffer) > 0:
            yield self._datagram()

    def heartbeat(self) -> bytes:
        """A datagram without messages, with the number that comes next."""
        pack_heartbeat(self.state, self.buffer)
        return self._datagram()

    def end_of_session(self) -> bytes:
        """The datagram that ends the session."""
        pack_heartbeat(self.state, self.buffer)
        end_session(self.buffer)
        return self._datagram()

    def answer(self, request: Buffer) -> bytes | None:
        """What a request packet is answered with; None for what gets no answer: nothing sensible, too old, too new."""
        if len(request) != REQUEST_BYTES:
            return None
        place = self.buffer.address  # the request is read before the answer is written
        view_bytes(place, REQUEST_BYTES)[:] = request
        return self._datagram() if answer_request(self.state, place, self.buffer) > 0 else None

    def _datagram(self) -> bytes:
        return bytes(view_bytes(self.buffer.address, load_int64(self.buffer.length_address)))


@inlined
def _slot(store: StoreState, sequence_number: int) -> int:
    return store.slots + SLOT_BYTES * (sequence_number & store.mask)


@inlined
def next_message(store: StoreState) -> int:
    """Where the next message is to be written; :func:`append_written` then makes it part of the feed."""
    return _slot(store, load_int64(store.words + NEXT)) + SLOT_MESSAGE


@inlined
def append_written(store: StoreState, length: int) -> None:
    """The message that was written at :func:`next_message` has ``length`` bytes and is complete."""
    sequence_number = load_int64(store.words + NEXT)
    store_big_endian_uint16(_slot(store, sequence_number), length)
    store_release(store.words + NEXT, sequence_number + 1)


@inlined
def oldest_sequence(store: StoreState) -> int:
    """The first message that is sure to be there; the slot of the one before may be written to at this moment."""
    return max(load_int64(store.words + FIRST), load_acquire(store.words + NEXT) - store.mask)


@kernel
def pack_messages(store: StoreState, first: int, limit: int, buffer: DatagramBuffer) -> int:
    """Make a datagram of up to ``limit`` messages from number ``first`` on.

    Returns how many there are in it (0: a heartbeat), or ``TOO_OLD``; then what the buffer holds is no datagram.
    """
    if first < oldest_sequence(store):
        return TOO_OLD
    end = min(load_acquire(store.words + NEXT), first + limit)
    begin_datagram(buffer, store.words + SESSION, first)
    sequence_number = first
    while sequence_number < end:
        slot = _slot(store, sequence_number)
        if not try_append_message(buffer, slot + SLOT_MESSAGE, load_big_endian_uint16(slot)):
            break
        sequence_number += 1
    fence_acquire()  # what follows is read after the slots were
    return TOO_OLD if first < oldest_sequence(store) else sequence_number - first


@kernel
def copy_blocks(store: StoreState, first: int, out_address: int) -> int:
    """Copy the blocks of all messages from number ``first`` on, one behind the other; how many bytes they have.

    They must still be there, and nobody may append meanwhile; there is room for :data:`SLOT_BYTES` for each.
    """
    out = out_address
    for sequence_number in range(first, load_int64(store.words + NEXT)):
        slot = _slot(store, sequence_number)
        size_bytes = LENGTH_BYTES + load_big_endian_uint16(slot)
        copy_bytes(out, slot, size_bytes)
        out += size_bytes
    return out - out_address


@kernel
def take_datagram(store: StoreState, buffer: DatagramBuffer) -> int:
    """Make the next datagram of the live feed; how many messages it has, 0 if there is nothing to send."""
    while True:
        first = load_int64(store.words + NEXT_TO_SEND)
        if first == load_acquire(store.words + NEXT):
            return 0
        packed = pack_messages(store, first, store.mask + 1, buffer)
        if packed != TOO_OLD:
            store_int64(store.words + NEXT_TO_SEND, first + packed)
            return packed
        oldest = oldest_sequence(store)
        store_int64(store.words + OVERRUN, load_int64(store.words + OVERRUN) + oldest - first)
        store_int64(store.words + NEXT_TO_SEND, oldest)


@kernel
def pack_heartbeat(store: StoreState, buffer: DatagramBuffer) -> None:
    """Make a heartbeat: the number that the live feed will send next, and no message."""
    begin_datagram(buffer, store.words + SESSION, load_int64(store.words + NEXT_TO_SEND))


@kernel
def answer_request(store: StoreState, request_address: int, buffer: DatagramBuffer) -> int:
    """Make the datagram that answers a request packet of :data:`REQUEST_BYTES` bytes; how many messages it has.

    0 or ``TOO_OLD``: there is no answer. The request may lie where the datagram will; it is read first.
    """
    for index in range(SESSION_BYTES):
        if load_uint8(request_address + index) != load_uint8(store.words + SESSION + index):
            return 0
    first = load_big_endian_int64(request_address + _REQUEST_SEQUENCE)
    limit = load_big_endian_uint16(request_address + _REQUEST_COUNT)
    if first < 1 or first >= load_acquire(store.words + NEXT):
        return 0
    return int(pack_messages(store, first, limit, buffer))


assert HEADER_BYTES == REQUEST_BYTES
