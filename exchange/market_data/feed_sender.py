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

import socket
import struct
from typing import Any, Final, NamedTuple

from exchange.market_data.datagram_store import StoreState, pack_heartbeat, take_datagram
from exchange.market_data.publisher_memory import PublisherState
from exchange.native import (
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
)
from exchange.transport.protocol import flush, send
from exchange.wire.moldudp64 import DATAGRAM_BYTES_MAX, DatagramBuffer

BATCH_DATAGRAMS: Final = 32
"""47 KiB, some 1,200 messages: what a turn brings at most, with few exceptions."""

_DATAGRAM_STRIDE: Final = 1_536
_HEADER = struct.Struct("@PI4xPNPNi4xI4x")
"""``struct mmsghdr``: address and its length; vectors and their number; control data and their length; flags; sent."""
_VECTOR = struct.Struct("@PN")
"""``struct iovec``: where the bytes are and how many."""
_VECTOR_LENGTH: Final = 8
_RECEIVER = struct.Struct("@H2s4s8x")
"""``struct sockaddr_in``: the family, and port and address in network order."""
_HEADER_BYTES: Final = 64
_VECTOR_BYTES: Final = 16
assert (_HEADER.size, _VECTOR.size, _RECEIVER.size) == (_HEADER_BYTES, _VECTOR_BYTES, 16)

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
        per_datagram = _DATAGRAM_STRIDE + _HEADER.size + _VECTOR.size
        self._arena: Final = Arena.private(BATCH_DATAGRAMS * per_datagram + 4096)
        self.state: Final = SenderState(
            store=store,
            words=self._arena.allocate(WORDS_BYTES),
            datagrams=self._arena.allocate(BATCH_DATAGRAMS * _DATAGRAM_STRIDE),
            headers=self._arena.allocate(BATCH_DATAGRAMS * _HEADER.size),
            vectors=self._arena.allocate(BATCH_DATAGRAMS * _VECTOR.size),
            descriptor=descriptor,
            heartbeat_ns=heartbeat_ns,
        )
        receiver = self._arena.allocate(_RECEIVER.size)
        view_bytes(receiver, _RECEIVER.size)[:] = _RECEIVER.pack(
            socket.AF_INET, port.to_bytes(2, "big"), socket.inet_aton(address)
        )
        for index in range(BATCH_DATAGRAMS):
            datagram = self.state.datagrams + _DATAGRAM_STRIDE * index
            vector = self.state.vectors + _VECTOR.size * index
            header = self.state.headers + _HEADER.size * index
            view_bytes(vector, _VECTOR.size)[:] = _VECTOR.pack(datagram, 0)
            view_bytes(header, _HEADER.size)[:] = _HEADER.pack(
                receiver, _RECEIVER.size, vector, 1, 0, 0, 0, 0
            )


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
        sender.vectors + _VECTOR_BYTES * index + _VECTOR_LENGTH,
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
    first = sender.headers + _HEADER_BYTES * begin
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
