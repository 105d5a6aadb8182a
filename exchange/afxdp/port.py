"""A port that is a queue of an interface, shared with the kernel by AF_XDP.

A turn of the receiving thread takes what stands in the receiving ring, reads each frame where the kernel has written
it, does with it what :mod:`exchange.datagrams.frames` does with any, and gives the frame back through the fill ring.
There is no system call in that, unless the kernel says that it has to be woken.

A turn of the sending thread takes back frames that have been sent, makes one of each datagram, and puts them into the
sending ring. Where the driver sends by itself, that is all. Where the kernel copies (see :mod:`~exchange.afxdp.card`),
it sends when it is called, up to 32 frames at a time: that is a system call for each burst, and it is counted.

Half of the frames are for receiving and go around between fill and receiving ring; the other half are for sending, and
those that are free lie in a stack. Each ring has room for all frames that can come into it, so none is ever full.

Behind a queue's words (:mod:`exchange.datagrams.frames`) there are three of our own::

    +0      system calls to have frames received     written by the thread that receives
    +128    system calls to have frames sent         written by the thread that sends
    +136    free frames                              the same

Rules: one queue of the interface, with one thread that receives and one that sends; they may be the same.
"""

from typing import Final, NamedTuple

from exchange.afxdp.rings import (
    KernelRing,
    address_entry,
    consume,
    descriptor_entry,
    frame_bytes_at,
    move_addresses,
    needs_waking,
    produce,
    produced,
    unconsumed,
    write_descriptor,
)
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
from exchange.ethernet import Local, write_arp_request
from exchange.native import (
    WOULD_BLOCK,
    implements,
    inlined,
    kernel,
    load_int64,
    load_relaxed,
    load_uint32,
    prefetch_for_read,
    socket_receive,
    socket_send,
    store_int64,
    store_relaxed,
    unlikely,
)
from exchange.native.datagram_headers import MESSAGE_HEADER_BYTES

FRAME_BYTES: Final = 2048
"""What lies between two frames; the kernel keeps the first 256 bytes of each that it receives into for itself."""
RECEIVE_CALLS: Final = QUEUE_BYTES
SEND_CALLS: Final = QUEUE_BYTES + 128
FREE_FRAMES: Final = QUEUE_BYTES + 136
WORDS_BYTES: Final = QUEUE_BYTES + 256

_CALLS_MAX: Final = 4
"""A burst takes two where the kernel sends 32 frames with each, and the answer to ARP may stand before it."""


class AfxdpPort(NamedTuple):
    """A queue's four rings.

    ``descriptor`` is the socket's, ``words`` are the queue's, ``frames`` is the address of the memory of frames, and
    ``free`` that of the stack of those that may be sent. ``remote`` is as of :mod:`exchange.datagrams.frames`.
    """

    local: Local
    descriptor: int
    words: int
    remote: int
    frames: int
    free: int
    fill: KernelRing
    receiving: KernelRing
    sending: KernelRing
    completion: KernelRing


@implements(receive_many, AfxdpPort, inline=False)
def _receive_many(port: AfxdpPort, headers_address: int, count: int) -> int:
    arrived, taken = min(produced(port.receiving), count, BURST_FRAMES), 0
    begin, filled = load_uint32(port.receiving.consumer), load_uint32(port.fill.producer)
    for index in range(arrived):
        entry = descriptor_entry(port.receiving, begin + index)
        address = load_int64(entry)
        if index + 1 < arrived:
            prefetch_for_read(port.frames + load_int64(descriptor_entry(port.receiving, begin + index + 1)))
        header = headers_address + taken * MESSAGE_HEADER_BYTES
        taken += take_frame(port.words, port.local, port.frames + address, frame_bytes_at(entry), header)
        store_int64(address_entry(port.fill, filled + index), address & -FRAME_BYTES)
    if arrived > 0:
        consume(port.receiving, arrived)
        produce(port.fill, arrived)
    if unlikely(needs_waking(port.fill)):
        _count_call(port.words + RECEIVE_CALLS)
        socket_receive(port.descriptor, 0, 0)
    return taken


@inlined
def _count_call(word: int) -> None:
    store_relaxed(word, load_relaxed(word) + 1)


@implements(send_many, AfxdpPort, inline=False)
def _send_many(port: AfxdpPort, headers_address: int, count: int) -> int:
    wanted, trouble = count_sendable(port.remote, headers_address, count)
    if unlikely(wanted == 0):
        return trouble
    sent = min(_take_back(port), wanted)
    for index in range(sent):
        address = _take_free(port)
        header = headers_address + index * MESSAGE_HEADER_BYTES
        frame_bytes = write_frame(port.frames + address, port.local, port.remote, header)
        _describe(port, index, address, frame_bytes)
    _hand_over(port, sent)
    note_sent(port.words, sent, wanted - sent)
    return sent if sent > 0 else WOULD_BLOCK


@inlined
def _take_back(port: AfxdpPort) -> int:
    """Take back what the kernel has sent; how many frames are free now."""
    free, completed = load_int64(port.words + FREE_FRAMES), produced(port.completion)
    if completed > 0:
        move_addresses(port.completion, port.free + 8 * free, completed)
        store_int64(port.words + FREE_FRAMES, free + completed)
    return free + completed


@inlined
def _take_free(port: AfxdpPort) -> int:
    """A free frame; there must be one."""
    free = load_int64(port.words + FREE_FRAMES) - 1
    store_int64(port.words + FREE_FRAMES, free)
    return load_int64(port.free + 8 * free)


@inlined
def _describe(port: AfxdpPort, index: int, address: int, frame_bytes: int) -> None:
    """Write the descriptor that is ``index`` behind what the kernel has been told of."""
    number = load_uint32(port.sending.producer) + index
    write_descriptor(descriptor_entry(port.sending, number), address, frame_bytes)


@inlined
def _hand_over(port: AfxdpPort, count: int) -> None:
    """Let the kernel have what has been described, and wake it if it wants to be."""
    produce(port.sending, count)
    if needs_waking(port.sending):
        _wake(port)


@kernel
def _wake(port: AfxdpPort) -> None:
    """Have the kernel send what stands in the ring, in as many calls as that takes while it gets on."""
    waiting, before, calls = unconsumed(port.sending), 0, 0
    while waiting > 0 and waiting != before and calls < _CALLS_MAX:
        _count_call(port.words + SEND_CALLS)
        socket_send(port.descriptor, 0, 0)
        before, waiting, calls = waiting, unconsumed(port.sending), calls + 1


@implements(attend, AfxdpPort)
def _attend(port: AfxdpPort) -> int:
    # What the kernel had no room to send has still to be sent, also if nothing comes behind it.
    if unlikely(unconsumed(port.sending) > 0) and needs_waking(port.sending):
        _wake(port)
    return _answer(port) if unlikely(is_asked(port.words)) else 0


@kernel
def _answer(port: AfxdpPort) -> int:
    """Answer the oldest ARP request that was kept; 1, or 0 if there is no room to."""
    if _take_back(port) == 0:
        return 0
    address = _take_free(port)
    _describe(port, 0, address, write_answer(port.words, port.local, port.frames + address))
    _hand_over(port, 1)
    note_sent(port.words, 1, 0)
    return 1


@implements(ask, AfxdpPort, inline=False)
def _ask(port: AfxdpPort, address: int) -> int:
    if _take_back(port) == 0:
        return 0
    frame = _take_free(port)
    _describe(port, 0, frame, write_arp_request(port.frames + frame, port.local, address))
    _hand_over(port, 1)
    note_sent(port.words, 1, 0)
    return 1
