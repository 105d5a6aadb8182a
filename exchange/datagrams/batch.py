"""Room for a batch of datagrams: headers, vectors, peers and bytes, laid out as a port wants them.

Rules: a batch is used by one thread. Whoever sends from it sets the lengths of its vectors, and whoever receives into
it again sets them back (:func:`give_all_room`), for a vector's length is how much there is to send, or how much room.
"""

from typing import NamedTuple

from exchange.native import (
    VECTOR_BYTES,
    Arena,
    inlined,
    load_uint32,
    store_int64,
    view_bytes,
    write_vector,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SIZE_BYTES,
    SOCKET_ADDRESS_BYTES,
    VECTOR_LENGTH,
    write_message_header,
)


class Batch(NamedTuple):
    """``capacity`` datagrams of up to ``room_bytes`` bytes; of each a header, a vector, a peer and a place."""

    headers: int
    vectors: int
    peers: int
    places: int
    capacity: int
    room_bytes: int


class BatchMemory:
    """The owner of a :class:`Batch`, and how Python reads and writes it."""

    def __init__(self, capacity: int, room_bytes: int) -> None:
        stride = (room_bytes + 63) & -64
        self._arena = arena = Arena.private(capacity * (stride + 256) + 4096, huge_pages="never")
        headers, vectors = (
            arena.allocate(capacity * MESSAGE_HEADER_BYTES),
            arena.allocate(capacity * VECTOR_BYTES),
        )
        peers, places = arena.allocate(capacity * SOCKET_ADDRESS_BYTES), arena.allocate(capacity * stride)
        self.batch = Batch(headers, vectors, peers, places, capacity, stride)
        for index in range(capacity):
            vector, peer = vectors + index * VECTOR_BYTES, peers + index * SOCKET_ADDRESS_BYTES
            write_vector(vector, places + index * stride, stride)
            write_message_header(headers + index * MESSAGE_HEADER_BYTES, peer, vector)

    def put(self, index: int, payload: bytes, peer: bytes) -> None:
        """Make one of them a datagram to send."""
        batch = self.batch
        view_bytes(batch.places + index * batch.room_bytes, len(payload))[:] = payload
        view_bytes(batch.peers + index * SOCKET_ADDRESS_BYTES, SOCKET_ADDRESS_BYTES)[:] = peer
        store_int64(batch.vectors + index * VECTOR_BYTES + VECTOR_LENGTH, len(payload))

    def payload(self, index: int) -> bytes:
        """What one of them that was received says."""
        batch = self.batch
        size_bytes = load_uint32(batch.headers + index * MESSAGE_HEADER_BYTES + SIZE_BYTES)
        return bytes(view_bytes(batch.places + index * batch.room_bytes, size_bytes))

    def peer(self, index: int) -> bytes:
        """Who one of them is from, or goes to: 16 bytes."""
        return bytes(view_bytes(self.batch.peers + index * SOCKET_ADDRESS_BYTES, SOCKET_ADDRESS_BYTES))


@inlined
def give_all_room(batch: Batch) -> None:
    """Make all vectors as long as there is room again."""
    for index in range(batch.capacity):
        store_int64(batch.vectors + index * VECTOR_BYTES + VECTOR_LENGTH, batch.room_bytes)
