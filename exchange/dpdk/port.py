"""A port that is a queue pair of DPDK's: frames come and go by polling, without the kernel, and ARP is ours to answer.

A turn of the receiving thread takes a burst of frames from the card, reads each where it lies, and does with it what
:mod:`exchange.datagrams.frames` does with any. Then all packet buffers go back at once.

A turn of the sending thread takes as many packet buffers as there are datagrams, makes each a frame, and hands the
burst to the card. What the card does not take is given back and reported as not sent: nobody waits.

Rules: a card has one receiving queue or several, each a port of its own with a thread of its own, and each with words
as of :mod:`exchange.datagrams.frames`. Only the first is sent to and attended, by one thread, and it answers what all
have kept. A peer's last two bytes say on which sending queue an answer goes: the one beside the queue that it was heard
on (:data:`PEER_QUEUE`).
"""

from typing import Final, NamedTuple

from exchange.datagrams.frames import (
    BURST_FRAMES,
    QUEUE_BYTES,
    ask,
    count_sendable,
    is_asked,
    note_sent,
    take_frame,
    write_answer,
    write_frame,
)
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.dpdk.calls import allocate_buffers, free_buffers, receive_burst, send_burst
from exchange.ethernet import Local, write_arp_request
from exchange.ethernet.layout import PEER_BYTES
from exchange.native import (
    WOULD_BLOCK,
    implements,
    inlined,
    kernel,
    likely,
    load_int64,
    load_uint16,
    prefetch_for_read,
    store_uint16,
    store_uint32,
    unlikely,
)
from exchange.native.datagram_headers import MESSAGE_HEADER_BYTES, PEER_ADDRESS

PEER_QUEUE: Final = PEER_BYTES - 2
_FIRST_QUEUE: Final = 0


class DpdkPort(NamedTuple):
    """One receiving queue of a card, and the card's sending queues: who is heard here is answered on
    ``answering_queue``.

    ``words`` are this queue's, and ``first_words`` those of the first of ``queue_count`` queues. ``received`` and
    ``sending`` are room for :data:`~exchange.datagrams.frames.BURST_FRAMES` addresses of packet buffers. ``remote`` is
    as of :mod:`exchange.datagrams.frames`. The others are the places of fields in a packet buffer.
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
        header = headers_address + taken * MESSAGE_HEADER_BYTES
        if likely(take_frame(port.words, port.local, frame, frame_bytes, header) != 0):
            peer = load_int64(header + PEER_ADDRESS)
            if peer != 0:
                store_uint16(peer + PEER_QUEUE, port.answering_queue)
            taken += 1
    free_buffers(port.received, arrived)
    return taken


@inlined
def frame_of(port: DpdkPort, buffer: int) -> int:
    """Where the frame of a packet buffer begins."""
    return load_int64(buffer + port.data_address) + load_uint16(buffer + port.data_offset)


@implements(send_many, DpdkPort, inline=False)
def _send_many(port: DpdkPort, headers_address: int, count: int) -> int:
    wanted, trouble = count_sendable(port.remote, headers_address, count)
    if unlikely(wanted == 0):
        return trouble
    queue = _queue_for(port, headers_address)
    wanted = _count_of_queue(port, headers_address, wanted, queue)
    if unlikely(allocate_buffers(port.pool, port.sending, wanted) != 0):
        note_sent(port.words, 0, wanted)
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
def _count_of_queue(port: DpdkPort, headers_address: int, count: int, queue: int) -> int:
    """How many datagrams from the first on, of ``count``, go the same way."""
    same = 1
    if port.queue_count == 1:
        return count
    while same < count and _queue_for(port, headers_address + same * MESSAGE_HEADER_BYTES) == queue:
        same += 1
    return same


@inlined
def _fill(port: DpdkPort, buffer: int, header: int) -> None:
    """Make a packet buffer the frame of a datagram."""
    set_frame_bytes(port, buffer, write_frame(frame_of(port, buffer), port.local, port.remote, header))


@inlined
def set_frame_bytes(port: DpdkPort, buffer: int, frame_bytes: int) -> None:
    """Say how long the frame of a packet buffer is."""
    store_uint16(buffer + port.data_length, frame_bytes)
    store_uint32(buffer + port.frame_length, frame_bytes)


@inlined
def _hand_over(port: DpdkPort, queue: int, count: int) -> int:
    """Send what is in the burst, free what the card does not take, and count both."""
    sent = send_burst(port.device, queue, port.sending, count)
    note_sent(port.words, sent, count - sent)
    if unlikely(sent < count):
        free_buffers(port.sending + 8 * sent, count - sent)
    return sent


@implements(attend, DpdkPort)
def _attend(port: DpdkPort) -> int:
    answered = 0
    for queue in range(port.queue_count):
        words = port.first_words + queue * QUEUE_BYTES
        if unlikely(is_asked(words)):
            answered += _answer(port, words)
    return answered


@kernel
def _answer(port: DpdkPort, words: int) -> int:
    """Answer the oldest ARP request that a queue has kept; 1, or 0 if there is no room to."""
    if allocate_buffers(port.pool, port.sending, 1) != 0:
        return 0
    buffer = load_int64(port.sending)
    set_frame_bytes(port, buffer, write_answer(words, port.local, frame_of(port, buffer)))
    return _hand_over(port, _FIRST_QUEUE, 1)


@implements(ask, DpdkPort, inline=False)
def _ask(port: DpdkPort, address: int) -> int:
    if allocate_buffers(port.pool, port.sending, 1) != 0:
        return 0
    buffer = load_int64(port.sending)
    set_frame_bytes(port, buffer, write_arp_request(frame_of(port, buffer), port.local, address))
    return _hand_over(port, _FIRST_QUEUE, 1)
