"""A port that is a queue pair of DPDK's: frames come and go by polling, without the kernel, and ARP is ours to answer.

A turn of the receiving thread takes a burst of frames from the card, reads each where it lies, and copies the payload
of those that are datagrams for us to where the caller's vectors point. All others are counted by what was wrong with
them and forgotten. Then all packet buffers go back at once.

A turn of the sending thread takes as many packet buffers as there are datagrams, puts the pieces of each behind the
room for its headers, writes those, and hands the burst to the card. What the card does not take is given back and
reported as not sent: nobody waits.

An ARP request arrives at the receiving thread, and only the sending thread may answer. So the first keeps its bytes in
a ring of :data:`ARP_SLOTS` slots and releases the count; the second acquires it when it attends. What finds the ring
full is forgotten: who asks, asks again.

Each queue has :data:`QUEUE_BYTES` of words::

    +0      frames of each kind                                written by the thread that receives
    +128    ARP requests kept, ever; who answered us last
    +256    ARP requests answered; datagrams sent; not sent    written by the thread that sends
    +384    the ARP requests

Rules: a card has one receiving queue or several, each a port of its own with a thread of its own. Only the first is
sent to and attended, by one thread, and it answers what all have kept. A peer's last two bytes say on which sending
queue an answer goes: the one beside the queue that it was heard on (:data:`PEER_QUEUE`).
"""

import errno
from typing import Final, NamedTuple

from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.dpdk.calls import allocate_buffers, free_buffers, receive_burst, send_burst
from exchange.ethernet import (
    HEADERS_BYTES,
    PAYLOAD_BYTES_MAX,
    FrameKind,
    Local,
    note_peer,
    parse_frame,
    write_arp_reply,
    write_arp_request,
    write_datagram_headers,
)
from exchange.ethernet.layout import (
    ARP_BYTES,
    ARP_SENDER_ADDRESS,
    ARP_SENDER_MAC,
    ETHERNET_BYTES,
    PEER_BYTES,
    PEER_FAMILY,
)
from exchange.native import (
    VECTOR_BYTES,
    WOULD_BLOCK,
    copy_bytes,
    implements,
    inlined,
    kernel,
    likely,
    load_acquire,
    load_big_endian_uint32,
    load_big_endian_uint48,
    load_int64,
    load_relaxed,
    load_uint16,
    prefetch_for_read,
    store_relaxed,
    store_release,
    store_uint16,
    store_uint32,
    unlikely,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    PEER_ADDRESS,
    SIZE_BYTES,
    VECTOR_ADDRESS,
    VECTOR_COUNT,
    VECTOR_LENGTH,
    VECTORS_ADDRESS,
)

BURST_FRAMES: Final = 64
"""Frames that one call takes or sends at most."""

KINDS: Final = 0
ARP_KEPT: Final = 128
REPLY_ADDRESS: Final = 136
"""The address that the last ARP reply to us was about; its card stands behind it and is written first."""
REPLY_MAC: Final = 144
ARP_ANSWERED: Final = 256
SENT: Final = 264
NOT_SENT: Final = 272
ARP_REQUESTS: Final = 384
ARP_SLOTS: Final = 16
_SLOT_BYTES: Final = 64
_ARP_FRAME_BYTES: Final = ETHERNET_BYTES + ARP_BYTES
QUEUE_BYTES: Final = ARP_REQUESTS + ARP_SLOTS * _SLOT_BYTES

PEER_QUEUE: Final = PEER_BYTES - 2
_FIRST_QUEUE: Final = 0
_TOO_LONG: Final = -errno.EMSGSIZE
_NO_RECEIVER: Final = -errno.EDESTADDRREQ
_DATAGRAM: Final = int(FrameKind.DATAGRAM)
_ARP_REQUEST: Final = int(FrameKind.ARP_REQUEST)
_ARP_REPLY: Final = int(FrameKind.ARP_REPLY)


class DpdkPort(NamedTuple):
    """One receiving queue of a card, and the card's sending queues: who is heard here is answered on
    ``answering_queue``.

    ``words`` are this queue's, and ``first_words`` those of the first of ``queue_count`` queues. ``received`` and
    ``sending`` are room for :data:`BURST_FRAMES` addresses of packet buffers. ``remote`` is the address of the 16 bytes
    of the peer to whom datagrams without a receiver go, zeros if there is none. The others are the places of fields in
    a packet buffer.
    """

    local: Local
    device: int
    queue: int
    queue_count: int
    answering_queue: int
    pool: int
    words: int
    first_words: int
    received: int
    sending: int
    remote: int
    data_address: int
    data_offset: int
    data_length: int
    frame_length: int


@implements(receive_many, DpdkPort, inline=False)
def _receive_many(port: DpdkPort, headers_address: int, count: int) -> int:
    arrived = receive_burst(port.device, port.queue, port.received, min(count, BURST_FRAMES))
    if arrived == 0:
        return 0
    taken = 0
    for index in range(arrived):
        if index + 1 < arrived:
            prefetch_for_read(frame_of(port, load_int64(port.received + 8 * index + 8)))
        buffer = load_int64(port.received + 8 * index)
        # A frame in several pieces is longer than any of ours: the first piece then ends before its headers say.
        frame, frame_bytes = frame_of(port, buffer), load_uint16(buffer + port.data_length)
        kind, payload, payload_bytes = parse_frame(frame, frame_bytes, port.local)
        _count(port.words + KINDS + 8 * kind)
        if likely(kind == _DATAGRAM):
            _take(port, headers_address + taken * MESSAGE_HEADER_BYTES, frame, payload, payload_bytes)
            taken += 1
        elif kind == _ARP_REQUEST:
            _keep_request(port, frame)
        elif kind == _ARP_REPLY:
            _note_reply(port, frame)
    free_buffers(port.received, arrived)
    return taken


@inlined
def frame_of(port: DpdkPort, buffer: int) -> int:
    """Where the frame of a packet buffer begins."""
    return load_int64(buffer + port.data_address) + load_uint16(buffer + port.data_offset)


@inlined
def _take(port: DpdkPort, header: int, frame: int, payload: int, payload_bytes: int) -> None:
    vector = load_int64(header + VECTORS_ADDRESS)
    copied_bytes = min(payload_bytes, load_int64(vector + VECTOR_LENGTH))
    copy_bytes(load_int64(vector + VECTOR_ADDRESS), payload, copied_bytes)
    store_uint32(header + SIZE_BYTES, copied_bytes)
    peer = load_int64(header + PEER_ADDRESS)
    if peer != 0:
        note_peer(frame, payload, peer)
        store_uint16(peer + PEER_QUEUE, port.answering_queue)


@inlined
def _keep_request(port: DpdkPort, frame: int) -> None:
    kept = load_relaxed(port.words + ARP_KEPT)
    if kept - load_acquire(port.words + ARP_ANSWERED) < ARP_SLOTS:
        copy_bytes(_slot(port.words, kept), frame, _ARP_FRAME_BYTES)
        store_release(port.words + ARP_KEPT, kept + 1)


@inlined
def _slot(words: int, number: int) -> int:
    return words + ARP_REQUESTS + (number & (ARP_SLOTS - 1)) * _SLOT_BYTES


@inlined
def _note_reply(port: DpdkPort, frame: int) -> None:
    arp = frame + ETHERNET_BYTES
    # Whoever reads an old card with the new address sees a reply that never came, so there is no address in between.
    store_release(port.words + REPLY_ADDRESS, 0)
    store_release(port.words + REPLY_MAC, load_big_endian_uint48(arp + ARP_SENDER_MAC))
    store_release(port.words + REPLY_ADDRESS, load_big_endian_uint32(arp + ARP_SENDER_ADDRESS))


@inlined
def _count(word: int) -> None:
    store_relaxed(word, load_relaxed(word) + 1)


@implements(send_many, DpdkPort, inline=False)
def _send_many(port: DpdkPort, headers_address: int, count: int) -> int:
    wanted, trouble, queue = 0, 0, _queue_for(port, headers_address)
    while wanted < min(count, BURST_FRAMES) and trouble == 0:
        header = headers_address + wanted * MESSAGE_HEADER_BYTES
        if _queue_for(port, header) != queue:
            break
        trouble = _trouble_with(port, header)
        wanted += 1 if trouble == 0 else 0
    if unlikely(wanted == 0):
        return trouble
    if unlikely(allocate_buffers(port.pool, port.sending, wanted) != 0):
        store_relaxed(port.words + NOT_SENT, load_relaxed(port.words + NOT_SENT) + wanted)
        return WOULD_BLOCK
    for index in range(wanted):
        _fill(port, load_int64(port.sending + 8 * index), headers_address + index * MESSAGE_HEADER_BYTES)
    sent = _hand_over(port, queue, wanted)
    return sent if sent > 0 else WOULD_BLOCK


@inlined
def _queue_for(port: DpdkPort, header: int) -> int:
    """The sending queue for a datagram."""
    peer = load_int64(header + PEER_ADDRESS)
    return _FIRST_QUEUE if peer == 0 or port.queue_count == 1 else load_uint16(peer + PEER_QUEUE)


@inlined
def _trouble_with(port: DpdkPort, header: int) -> int:
    """Why a datagram can never be sent, as -errno, or 0."""
    if load_int64(header + PEER_ADDRESS) == 0 and load_uint16(port.remote + PEER_FAMILY) == 0:
        return _NO_RECEIVER
    return _TOO_LONG if _payload_bytes(header) > PAYLOAD_BYTES_MAX else 0


@inlined
def _payload_bytes(header: int) -> int:
    vector = load_int64(header + VECTORS_ADDRESS)
    first = load_int64(vector + VECTOR_LENGTH)
    is_one = load_int64(header + VECTOR_COUNT) == 1
    return first if is_one else first + load_int64(vector + VECTOR_BYTES + VECTOR_LENGTH)


@inlined
def _fill(port: DpdkPort, buffer: int, header: int) -> None:
    """Make a packet buffer the frame of a datagram."""
    vector, frame = load_int64(header + VECTORS_ADDRESS), frame_of(port, buffer)
    first_bytes, payload_bytes = load_int64(vector + VECTOR_LENGTH), _payload_bytes(header)
    payload = frame + HEADERS_BYTES
    copy_bytes(payload, load_int64(vector + VECTOR_ADDRESS), first_bytes)
    if payload_bytes > first_bytes:
        second = load_int64(vector + VECTOR_BYTES + VECTOR_ADDRESS)
        copy_bytes(payload + first_bytes, second, payload_bytes - first_bytes)
    peer = load_int64(header + PEER_ADDRESS)
    peer = peer if peer != 0 else port.remote
    frame_bytes = write_datagram_headers(frame, port.local, port.local.port_first, peer, payload_bytes)
    set_frame_bytes(port, buffer, frame_bytes)


@inlined
def set_frame_bytes(port: DpdkPort, buffer: int, frame_bytes: int) -> None:
    """Say how long the frame of a packet buffer is."""
    store_uint16(buffer + port.data_length, frame_bytes)
    store_uint32(buffer + port.frame_length, frame_bytes)


@inlined
def _hand_over(port: DpdkPort, queue: int, count: int) -> int:
    """Send what is in the burst, free what the card does not take, and count both."""
    sent = send_burst(port.device, queue, port.sending, count)
    store_relaxed(port.words + SENT, load_relaxed(port.words + SENT) + sent)
    if unlikely(sent < count):
        free_buffers(port.sending + 8 * sent, count - sent)
        store_relaxed(port.words + NOT_SENT, load_relaxed(port.words + NOT_SENT) + count - sent)
    return sent


@implements(attend, DpdkPort)
def _attend(port: DpdkPort) -> int:
    answered = 0
    for queue in range(port.queue_count):
        words = port.first_words + queue * QUEUE_BYTES
        if unlikely(load_acquire(words + ARP_KEPT) != load_relaxed(words + ARP_ANSWERED)):
            answered += _answer(port, words)
    return answered


@kernel
def _answer(port: DpdkPort, words: int) -> int:
    """Answer the oldest ARP request that a queue has kept; 1, or 0 if there is no room to."""
    number = load_relaxed(words + ARP_ANSWERED)
    if allocate_buffers(port.pool, port.sending, 1) != 0:
        return 0
    buffer = load_int64(port.sending)
    set_frame_bytes(port, buffer, write_arp_reply(frame_of(port, buffer), _slot(words, number), port.local))
    store_release(words + ARP_ANSWERED, number + 1)
    return _hand_over(port, _FIRST_QUEUE, 1)


@kernel
def ask(port: DpdkPort, address: int) -> int:
    """Ask by ARP which card has an IPv4 address; 1, or 0 if there is no room to. For the thread that sends."""
    if allocate_buffers(port.pool, port.sending, 1) != 0:
        return 0
    buffer = load_int64(port.sending)
    set_frame_bytes(port, buffer, write_arp_request(frame_of(port, buffer), port.local, address))
    return _hand_over(port, _FIRST_QUEUE, 1)
