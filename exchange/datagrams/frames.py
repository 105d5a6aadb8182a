"""What ports have in common that take frames and not datagrams, wherever a frame lies: DPDK's and AF_XDP's.

A socket hides Ethernet. Behind these ports each frame is read where it lies, and the payload of one that is a datagram
for us is copied to where the caller's vector points (:func:`take_frame`). All others are counted by what was wrong with
them and forgotten. A datagram that is to go is put behind the room for its headers, and those are written in front of
it (:func:`write_frame`).

An ARP request arrives at the receiving thread, and only the sending thread may answer. So the first keeps its bytes in
a ring of :data:`ARP_SLOTS` slots and releases the count; the second acquires it when it attends. What finds the ring
full is forgotten: who asks, asks again.

Each receiving queue has :data:`QUEUE_BYTES` of words::

    +0      frames of each kind                                written by the thread that receives
    +128    ARP requests kept, ever; who answered us last
    +256    ARP requests answered; datagrams sent; not sent    written by the thread that sends
    +384    the ARP requests

Rules: the state of such a port has ``words``, the address of its queue's words, and ``local``, who we are
(:class:`~exchange.ethernet.Local`). A remote is the address of the 16 bytes of the peer to whom datagrams without a
receiver go, zeros if there is none.
"""

import errno
from collections.abc import Sequence
from typing import Any, Final

from exchange.ethernet import (
    HEADERS_BYTES,
    PAYLOAD_BYTES_MAX,
    FrameKind,
    Local,
    note_peer,
    parse_frame,
    write_arp_reply,
    write_datagram_headers,
)
from exchange.ethernet.layout import (
    ARP_BYTES,
    ARP_SENDER_ADDRESS,
    ARP_SENDER_MAC,
    ETHERNET_BYTES,
    PEER_FAMILY,
)
from exchange.native import (
    VECTOR_BYTES,
    copy_bytes,
    generic,
    inlined,
    likely,
    load_acquire,
    load_big_endian_uint32,
    load_big_endian_uint48,
    load_int64,
    load_relaxed,
    load_uint16,
    store_relaxed,
    store_release,
    store_uint32,
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

_TOO_LONG: Final = -errno.EMSGSIZE
_NO_RECEIVER: Final = -errno.EDESTADDRREQ
_DATAGRAM: Final = int(FrameKind.DATAGRAM)
_ARP_REQUEST: Final = int(FrameKind.ARP_REQUEST)
_ARP_REPLY: Final = int(FrameKind.ARP_REPLY)


@generic
def ask(port: Any, address: int) -> int:
    """Ask by ARP which card has an IPv4 address; 1, or 0 if there is no room to. For the thread that sends."""
    raise NotImplementedError


@inlined
def take_frame(words: int, local: Local, frame: int, frame_bytes: int, header: int) -> int:
    """Do with a frame what is to be done with one of its kind, and count it.

    Returns:
        1 if it was a datagram for us, which is now where ``header``, a ``struct mmsghdr``, wants it; 0 otherwise.
    """
    kind, payload, payload_bytes = parse_frame(frame, frame_bytes, local)
    _count(words + KINDS + 8 * kind)
    if likely(kind == _DATAGRAM):
        _take(header, frame, payload, payload_bytes)
        return 1
    if kind == _ARP_REQUEST:
        _keep_request(words, frame)
    elif kind == _ARP_REPLY:
        _note_reply(words, frame)
    return 0


@inlined
def _take(header: int, frame: int, payload: int, payload_bytes: int) -> None:
    vector = load_int64(header + VECTORS_ADDRESS)
    copied_bytes = min(payload_bytes, load_int64(vector + VECTOR_LENGTH))
    copy_bytes(load_int64(vector + VECTOR_ADDRESS), payload, copied_bytes)
    store_uint32(header + SIZE_BYTES, copied_bytes)
    peer = load_int64(header + PEER_ADDRESS)
    if peer != 0:
        note_peer(frame, payload, peer)


@inlined
def _keep_request(words: int, frame: int) -> None:
    kept = load_relaxed(words + ARP_KEPT)
    if kept - load_acquire(words + ARP_ANSWERED) < ARP_SLOTS:
        copy_bytes(_slot(words, kept), frame, _ARP_FRAME_BYTES)
        store_release(words + ARP_KEPT, kept + 1)


@inlined
def _slot(words: int, number: int) -> int:
    return words + ARP_REQUESTS + (number & (ARP_SLOTS - 1)) * _SLOT_BYTES


@inlined
def _note_reply(words: int, frame: int) -> None:
    arp = frame + ETHERNET_BYTES
    # Whoever reads an old card with the new address sees a reply that never came, so there is no address in between.
    store_release(words + REPLY_ADDRESS, 0)
    store_release(words + REPLY_MAC, load_big_endian_uint48(arp + ARP_SENDER_MAC))
    store_release(words + REPLY_ADDRESS, load_big_endian_uint32(arp + ARP_SENDER_ADDRESS))


@inlined
def _count(word: int) -> None:
    store_relaxed(word, load_relaxed(word) + 1)


@inlined
def is_asked(words: int) -> bool:
    """Whether an ARP request waits for its answer."""
    return load_acquire(words + ARP_KEPT) != load_relaxed(words + ARP_ANSWERED)


@inlined
def write_answer(words: int, local: Local, frame: int) -> int:
    """Make a frame the answer to the oldest ARP request that waits, which is answered with that; the frame's length."""
    number = load_relaxed(words + ARP_ANSWERED)
    frame_bytes = write_arp_reply(frame, _slot(words, number), local)
    store_release(words + ARP_ANSWERED, number + 1)
    return frame_bytes


@inlined
def count_sendable(remote: int, headers_address: int, count: int) -> tuple[int, int]:
    """How many of ``count`` datagrams, up to a burst, can be sent before the first that never can; and why, as -errno.

    ``headers_address``: as many ``struct mmsghdr``.
    """
    sendable, trouble = 0, 0
    while sendable < min(count, BURST_FRAMES) and trouble == 0:
        trouble = _trouble_with(remote, headers_address + sendable * MESSAGE_HEADER_BYTES)
        sendable += 1 if trouble == 0 else 0
    return sendable, trouble


@inlined
def _trouble_with(remote: int, header: int) -> int:
    if load_int64(header + PEER_ADDRESS) == 0 and load_uint16(remote + PEER_FAMILY) == 0:
        return _NO_RECEIVER
    return _TOO_LONG if _payload_bytes(header) > PAYLOAD_BYTES_MAX else 0


@inlined
def _payload_bytes(header: int) -> int:
    vector = load_int64(header + VECTORS_ADDRESS)
    first = load_int64(vector + VECTOR_LENGTH)
    is_one = load_int64(header + VECTOR_COUNT) == 1
    return first if is_one else first + load_int64(vector + VECTOR_BYTES + VECTOR_LENGTH)


@inlined
def write_frame(frame: int, local: Local, remote: int, header: int) -> int:
    """Make a frame of the datagram that ``header``, a ``struct mmsghdr``, describes; the frame's length."""
    vector = load_int64(header + VECTORS_ADDRESS)
    first_bytes, payload_bytes = load_int64(vector + VECTOR_LENGTH), _payload_bytes(header)
    payload = frame + HEADERS_BYTES
    copy_bytes(payload, load_int64(vector + VECTOR_ADDRESS), first_bytes)
    if payload_bytes > first_bytes:
        second = load_int64(vector + VECTOR_BYTES + VECTOR_ADDRESS)
        copy_bytes(payload + first_bytes, second, payload_bytes - first_bytes)
    peer = load_int64(header + PEER_ADDRESS)
    peer = peer if peer != 0 else remote
    return write_datagram_headers(frame, local, local.port_first, peer, payload_bytes)


@inlined
def note_sent(words: int, sent: int, not_sent: int) -> None:
    """Count frames that went, and frames for which there was no room."""
    store_relaxed(words + SENT, load_relaxed(words + SENT) + sent)
    if not_sent != 0:
        store_relaxed(words + NOT_SENT, load_relaxed(words + NOT_SENT) + not_sent)


def frame_counts(queues: Sequence[int]) -> dict[FrameKind, int]:
    """How many frames of each kind have come, over all queues, of which the words are given."""
    return {kind: sum(load_acquire(words + KINDS + 8 * kind) for words in queues) for kind in FrameKind}


def counters(queues: Sequence[int]) -> dict[str, int]:
    """What a port has counted, by the names of :meth:`exchange.datagrams.port.Port.counters`; the first queue sends."""
    came = {f"frames_{kind.name.lower()}": count for kind, count in frame_counts(queues).items()}
    sent, not_sent = load_acquire(queues[0] + SENT), load_acquire(queues[0] + NOT_SENT)
    return came | {"frames_sent": sent, "frames_not_sent": not_sent}
