"""A mailbox: datagrams from plain Python for the thread that sends to a port.

One thread sends to a port, and it is the egress. What the control plane has to say, to who logs on or has to go, it
posts here, and the egress delivers it at its next turn, from where it lies. A ring of slots, each with the kernel's
structures for one datagram; one poster, one deliverer, and two counters that each of them writes and releases and the
other acquires.

Rules: what finds no room is not posted, and what the port does not take is lost, like any datagram.
"""

from typing import Any, Final, NamedTuple

from exchange.datagrams.port import DATAGRAM_BYTES_MAX
from exchange.datagrams.protocol import send_many
from exchange.native import (
    FALSE_SHARING_BYTES,
    VECTOR_BYTES,
    WOULD_BLOCK,
    Arena,
    inlined,
    kernel,
    likely,
    load_acquire,
    load_int64,
    store_release,
    view_bytes,
    write_vector,
)
from exchange.native.datagram_headers import MESSAGE_HEADER_BYTES, SOCKET_ADDRESS_BYTES, write_message_header

POSTED: Final = 0
DELIVERED: Final = FALSE_SHARING_BYTES
_WORDS_BYTES: Final = 2 * FALSE_SHARING_BYTES
SLOTS: Final = 256
_SLOT_BYTES: Final = MESSAGE_HEADER_BYTES + VECTOR_BYTES + SOCKET_ADDRESS_BYTES + DATAGRAM_BYTES_MAX


class Post(NamedTuple):
    """The deliverer's end: words, and the kernel's structures of all slots, end to end."""

    words: int
    headers: int


class Mailbox:
    """The poster's end, and the owner of the memory."""

    def __init__(self) -> None:
        self._arena: Final = Arena.private(_WORDS_BYTES + SLOTS * _SLOT_BYTES + 4096, huge_pages="never")
        self._words: Final = self._arena.allocate(_WORDS_BYTES)
        self._headers: Final = self._arena.allocate(SLOTS * MESSAGE_HEADER_BYTES)
        self._vectors: Final = self._arena.allocate(SLOTS * VECTOR_BYTES)
        self._peers: Final = self._arena.allocate(SLOTS * SOCKET_ADDRESS_BYTES)
        self._datagrams: Final = self._arena.allocate(SLOTS * DATAGRAM_BYTES_MAX)
        for slot in range(SLOTS):
            write_message_header(
                self._headers + slot * MESSAGE_HEADER_BYTES,
                self._peers + slot * SOCKET_ADDRESS_BYTES,
                self._vectors + slot * VECTOR_BYTES,
            )

    @property
    def post(self) -> Post:
        """What the deliverer takes."""
        return Post(self._words, self._headers)

    def put(self, peer: bytes, data: bytes) -> bool:
        """Post a datagram of up to :data:`~exchange.datagrams.port.DATAGRAM_BYTES_MAX` bytes; False if all is full."""
        posted = load_int64(self._words + POSTED)
        if posted - load_acquire(self._words + DELIVERED) >= SLOTS:
            return False
        slot = posted % SLOTS
        address = self._datagrams + slot * DATAGRAM_BYTES_MAX
        view_bytes(self._peers + slot * SOCKET_ADDRESS_BYTES, SOCKET_ADDRESS_BYTES)[:] = peer
        view_bytes(address, len(data))[:] = data
        write_vector(self._vectors + slot * VECTOR_BYTES, address, len(data))
        store_release(self._words + POSTED, posted + 1)
        return True


@inlined
def deliver(post: Post, port: Any) -> int:
    """Send what has been posted; how many datagrams."""
    delivered = load_int64(post.words + DELIVERED)
    waiting = load_acquire(post.words + POSTED) - delivered
    if likely(waiting == 0):
        return 0
    return _deliver(post, port, delivered, waiting)


@kernel
def _deliver(post: Post, port: Any, delivered: int, waiting: int) -> int:
    slot = delivered & (SLOTS - 1)
    taken = send_many(port, post.headers + slot * MESSAGE_HEADER_BYTES, min(waiting, SLOTS - slot))
    if taken == WOULD_BLOCK:
        return 0
    if taken < 0:
        taken = 1  # there is no way to the first one
    store_release(post.words + DELIVERED, delivered + taken)
    return taken


assert SLOTS & (SLOTS - 1) == 0
