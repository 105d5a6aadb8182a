"""From the store of a feed into a UDP socket: the compiled sender, and the sink that an egress gives events to.

At each turn of the egress :func:`send_due` packs what the store has not sent into up to :data:`BATCH_DATAGRAMS`
datagrams and hands them to the kernel with one ``sendmmsg``; with nothing to send it makes a heartbeat when one is due.
What the kernel has no room for is offered again at the next turn; it never waits. A datagram that the kernel refuses
for another reason (no route, a filter) is counted and passed over: subscribers find the gap and ask for it.

The datagrams are packed where the kernel reads them. Their ``struct mmsghdr`` are written once, when the memory is
made, and the word in which :class:`~exchange.wire.moldudp64.DatagramBuffer` counts its bytes is the kernel's
``iov_len``. So a datagram costs its packing and its share of a system call.

:class:`PublishingSink` is what joins the feed to a transport: clients first, then everybody else.

Rules: one thread sends. After it has ended, another may go on. Sources: sendmmsg(2), ip(7).
"""

from typing import Any, Final, NamedTuple

from exchange.market_data.datagram_store import StoreState, pack_heartbeat, take_datagram
from exchange.market_data.publisher_memory import PublisherState
from exchange.native import (
    VECTOR_BYTES,
    WOULD_BLOCK,
    Arena,
    implements,
    inlined,
    kernel,
    load_int64,
    monotonic_ns,
    socket_send_many,
    store_int64,
    unlikely,
    view_bytes,
    write_vector,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SOCKET_ADDRESS_BYTES,
    VECTOR_LENGTH,
    socket_address,
    write_message_header,
)
from exchange.transport.protocol import flush, send
from exchange.wire.moldudp64 import DATAGRAM_BYTES_MAX, DatagramBuffer

BATCH_DATAGRAMS: Final = 32
"""47 KiB, some 1,200 messages: what a turn brings at most, with few exceptions."""

_DATAGRAM_STRIDE: Final = 1_536
# words
BEGIN: Final = 0
END: Final = 8
"""The datagrams that are packed and that the kernel has not taken."""
HEARTBEAT_DUE_NS: Final = 16
REFUSED: Final = 24
"""Datagrams that the kernel would not send."""
SENT: Final = 32
"""Datagrams that the kernel took, heartbeats included."""
WORDS_BYTES: Final = 64


class SenderState(NamedTuple):
    """A sender, as compiled code sees it: ``headers`` and ``vectors`` are the kernel's structures, one per datagram."""

    store: StoreState
    words: int
    datagrams: int
    headers: int
    vectors: int
    descriptor: int
    heartbeat_ns: int


class SenderMemory:
    """Owner of a sender's memory.

    Args:
        store: what is to be sent.
        descriptor: of a UDP socket, which the caller keeps open.
        address: where to, a numeric IPv4 address.
        port: and which port there.
        heartbeat_ns: a heartbeat is sent after so long without another datagram.
    """

    def __init__(
        self, store: StoreState, descriptor: int, address: str, port: int, heartbeat_ns: int
    ) -> None:
        per_datagram = _DATAGRAM_STRIDE + MESSAGE_HEADER_BYTES + VECTOR_BYTES
        self._arena: Final = Arena.private(BATCH_DATAGRAMS * per_datagram + 4096)
        self.state: Final = SenderState(
            store=store,
            words=self._arena.allocate(WORDS_BYTES),
            datagrams=self._arena.allocate(BATCH_DATAGRAMS * _DATAGRAM_STRIDE),
            headers=self._arena.allocate(BATCH_DATAGRAMS * MESSAGE_HEADER_BYTES),
            vectors=self._arena.allocate(BATCH_DATAGRAMS * VECTOR_BYTES),
            descriptor=descriptor,
            heartbeat_ns=heartbeat_ns,
        )
        receiver = self._arena.allocate(SOCKET_ADDRESS_BYTES)
        view_bytes(receiver, SOCKET_ADDRESS_BYTES)[:] = socket_address(address, port)
        for index in range(BATCH_DATAGRAMS):
            vector = self.state.vectors + VECTOR_BYTES * index
            write_vector(vector, self.state.datagrams + _DATAGRAM_STRIDE * index, 0)
            write_message_header(self.state.headers + MESSAGE_HEADER_BYTES * index, receiver, vector)


class PublishingSink(NamedTuple):
    """A transport's sink, and behind it the feed."""

    first: Any
    publisher: PublisherState
    sender: SenderState


@inlined
def _buffer(sender: SenderState, index: int) -> DatagramBuffer:
    """Where a datagram is packed; its length is counted in the kernel's own structure."""
    return DatagramBuffer(
        sender.datagrams + _DATAGRAM_STRIDE * index,
        DATAGRAM_BYTES_MAX,
        sender.vectors + VECTOR_BYTES * index + VECTOR_LENGTH,
    )


@inlined
def _pack(sender: SenderState) -> int:
    """Pack what waits in the store; how many datagrams that is."""
    count = 0
    while count < BATCH_DATAGRAMS and take_datagram(sender.store, _buffer(sender, count)) > 0:
        count += 1
    return count


@kernel
def send_due(sender: SenderState) -> int:
    """Send what the feed has to send now; how many datagrams are done with, 0 if there is none or no room for any."""
    words, now_ns = sender.words, monotonic_ns()
    begin, end = load_int64(words + BEGIN), load_int64(words + END)
    if begin == end:
        begin, end = 0, _pack(sender)
        if end == 0:
            if now_ns < load_int64(words + HEARTBEAT_DUE_NS):
                return 0
            pack_heartbeat(sender.store, _buffer(sender, 0))
            end = 1
    first = sender.headers + MESSAGE_HEADER_BYTES * begin
    done = socket_send_many(sender.descriptor, first, end - begin)
    if unlikely(done == WOULD_BLOCK):
        done = 0
    elif unlikely(done < 0):
        store_int64(words + REFUSED, load_int64(words + REFUSED) + 1)
        store_int64(words + SENT, load_int64(words + SENT) - 1)
        done = 1
    store_int64(words + SENT, load_int64(words + SENT) + done)
    store_int64(words + BEGIN, begin + done)
    store_int64(words + END, end)
    store_int64(words + HEARTBEAT_DUE_NS, now_ns + sender.heartbeat_ns)
    return done


@implements(send, PublishingSink, inline=False)
def _send(sink: PublishingSink, events_address: int, count: int) -> None:
    send(sink.first, events_address, count)
    send(sink.publisher, events_address, count)


@implements(flush, PublishingSink, inline=False)
def _flush(sink: PublishingSink) -> int:
    done = flush(sink.first)
    return done + send_due(sink.sender)
