"""The way over the kernel's sockets: the baseline that one-sided writes are compared with.

One connection for all streams. The primary sends *messages*: a header of 64 bytes, which says of which stream the bytes
are and where they belong, and the bytes of the ring. The backup reads them from its socket and puts them into the same
place of its own ring; from there on everything is as with a one-sided write. In the other direction go
acknowledgements, 64 bytes for a stream.

So a copy costs a system call here and two there, and "received" is what the backup has read from its socket: a frame in
the kernel's buffers of either side counts for nothing.

Both sides are written to by a thread that never waits. What the socket has no room for stays where it is; a message
goes out whole before the next one is begun.

Rules: what comes over the socket may be anything; what cannot be ends the link and changes nothing outside the ring.
Sources: sendmmsg(2), recv(2), tcp(7)."""

import errno
from typing import Final, NamedTuple

from exchange.native import (
    VECTOR_BYTES,
    WOULD_BLOCK,
    copy_bytes,
    copy_record,
    crc32c,
    implements,
    inlined,
    kernel,
    load_acquire,
    load_int64,
    load_uint32,
    socket_receive,
    socket_send,
    socket_send_many,
    store_int64,
    store_release,
    unlikely,
    write_vector,
)
from exchange.native.datagram_headers import MESSAGE_HEADER_BYTES, SIZE_BYTES, VECTOR_COUNT
from exchange.replication.protocol import acknowledge, beat, reap, receive, ship, take_link
from exchange.replication.words import (
    BEGUN,
    CONSUMED,
    ENDED,
    LINE_BYTES,
    LINE_STREAM,
    NONSENSE,
    RECEIVED,
    RECEIVER_STREAM_BYTES,
    is_whole_line,
)

# a message's header
MESSAGE_BYTES: Final = 64
MESSAGE_MAGIC: Final = int.from_bytes(b"EXSHIP01", "little")
MESSAGE_STREAM: Final = 8
MESSAGE_POSITION: Final = 16
MESSAGE_SIZE: Final = 24
MESSAGE_CHECKSUM: Final = 32

# words of a socket, of either side
DESCRIPTOR: Final = 0
"""0 for none."""
OUT_LEFT: Final = 8
"""Bytes of the message or of the lines under way that the socket has not taken."""
OUT_AT: Final = 16
"""Where they are, but for what is left of a header."""
HEADER_LEFT: Final = 24
IN_BYTES: Final = 32
"""Bytes of a line, or of a header, that have arrived."""
BODY_LEFT: Final = 40
BODY_AT: Final = 48
BODY_STREAM: Final = 56
OUT_HEADER: Final = 64
IN_HEADER: Final = 128
SEND_HEADER: Final = 192
SEND_VECTORS: Final = SEND_HEADER + MESSAGE_HEADER_BYTES
STAGE: Final = 384
STAGE_BYTES: Final = 1 << 16
SOCKET_BYTES: Final = STAGE + STAGE_BYTES
"""Behind that a receiver has room for its acknowledgements."""

_NO_STREAM: Final = -1


class TcpLink(NamedTuple):
    """The primary's end: the socket's words, the rings, and the lines that acknowledgements go to."""

    socket: int
    rings: int
    ring_bytes: int
    lines: int
    stream_count: int


class TcpReceiver(NamedTuple):
    """The backup's end: the socket's words, the rings, and the words of their streams."""

    socket: int
    rings: int
    ring_bytes: int
    streams: int
    stream_count: int
    control: int


@implements(take_link, TcpLink)
def _take_link(link: TcpLink, wanted: int) -> None:
    for word in range(0, OUT_HEADER, 8):
        store_int64(link.socket + word, 0)
    store_int64(link.socket + DESCRIPTOR, wanted)


@implements(ship, TcpLink, inline=False)
def _ship(link: TcpLink, stream: int, position: int, offset: int, size_bytes: int, slot: int) -> int:
    return begin_message(
        link.socket, stream, position, link.rings + stream * link.ring_bytes + offset, size_bytes
    )


@implements(beat, TcpLink)
def _beat(link: TcpLink) -> int:
    return begin_message(link.socket, _NO_STREAM, 0, 0, 0)


@kernel
def begin_message(socket: int, stream: int, position: int, body: int, size_bytes: int) -> int:
    """Begin to send a message: 1, or 0 if another one is under way, or -errno."""
    if load_int64(socket + OUT_LEFT) + load_int64(socket + HEADER_LEFT) > 0:
        result = go_on_sending(socket)
        if result <= 0:
            return result
    header = socket + OUT_HEADER
    store_int64(header, MESSAGE_MAGIC)
    store_int64(header + MESSAGE_STREAM, stream)
    store_int64(header + MESSAGE_POSITION, position)
    store_int64(header + MESSAGE_SIZE, size_bytes)
    store_int64(header + MESSAGE_CHECKSUM, crc32c(0, header, MESSAGE_CHECKSUM))
    store_int64(socket + HEADER_LEFT, MESSAGE_BYTES)
    store_int64(socket + OUT_AT, body)
    store_int64(socket + OUT_LEFT, size_bytes)
    result = go_on_sending(socket)
    return result if result < 0 else 1


@kernel
def go_on_sending(socket: int) -> int:
    """Hand the socket what is left: 1 if it has taken all, 0 if not, or -errno."""
    header_left, left = load_int64(socket + HEADER_LEFT), load_int64(socket + OUT_LEFT)
    vectors = socket + SEND_VECTORS
    write_vector(vectors, socket + OUT_HEADER + MESSAGE_BYTES - header_left, header_left)
    write_vector(vectors + VECTOR_BYTES, load_int64(socket + OUT_AT), left)
    store_int64(socket + SEND_HEADER + VECTOR_COUNT, 2 if left > 0 else 1)
    sent = socket_send_many(load_int64(socket + DESCRIPTOR), socket + SEND_HEADER, 1)
    if sent < 0:
        return 0 if sent == WOULD_BLOCK else sent
    taken = load_uint32(socket + SEND_HEADER + SIZE_BYTES)
    of_header = min(taken, header_left)
    store_int64(socket + HEADER_LEFT, header_left - of_header)
    store_int64(socket + OUT_AT, load_int64(socket + OUT_AT) + taken - of_header)
    store_int64(socket + OUT_LEFT, left - (taken - of_header))
    return 1 if taken == header_left + left else 0


@implements(reap, TcpLink, inline=False)
def _reap(link: TcpLink) -> int:
    if load_int64(link.socket + OUT_LEFT) + load_int64(link.socket + HEADER_LEFT) > 0:
        result = go_on_sending(link.socket)
        if result < 0:
            return result
    count = receive_some(link.socket)
    if count <= 0:
        return count
    return take_lines(link, count)


@kernel
def take_lines(link: TcpLink, count: int) -> int:
    """Put the acknowledgements among ``count`` bytes that have arrived to their lines; how many, or -errno."""
    at, found = 0, 0
    line = link.socket + IN_HEADER
    while at < count:
        have = load_int64(link.socket + IN_BYTES)
        taken = min(LINE_BYTES - have, count - at)
        copy_bytes(line + have, link.socket + STAGE + at, taken)
        at += taken
        store_int64(link.socket + IN_BYTES, (have + taken) & (LINE_BYTES - 1))
        if have + taken < LINE_BYTES:
            break
        stream = load_int64(line + LINE_STREAM)
        if not is_whole_line(line) or not 0 <= stream < link.stream_count:
            return NONSENSE
        copy_record(link.lines + stream * LINE_BYTES, line)
        found += 1
    return found


@inlined
def receive_some(socket: int) -> int:
    """What has arrived, to the socket's stage: how many bytes, 0 if nothing has, or -errno."""
    count = socket_receive(load_int64(socket + DESCRIPTOR), socket + STAGE, STAGE_BYTES)
    if count == 0:
        return ENDED
    return 0 if count in (WOULD_BLOCK, -errno.EINTR) else count


@implements(receive, TcpReceiver, inline=False)
def _receive(link: TcpReceiver) -> int:
    if unlikely(load_int64(link.socket + OUT_LEFT) > 0):
        result = go_on_acknowledging(link.socket)
        if result < 0:
            return result
    # Until it is known where the streams begin, what is sent waits in the kernel's buffers.
    if load_acquire(link.control + BEGUN) == 0:
        return 0
    count = receive_some(link.socket)
    if count <= 0:
        return count
    return place_bytes(link, count)


@kernel
def place_bytes(link: TcpReceiver, count: int) -> int:
    """Put ``count`` bytes that have arrived to where the headers among them say. 1, or -errno."""
    socket, at = link.socket, 0
    while at < count:
        left = load_int64(socket + BODY_LEFT)
        if left > 0:
            taken = min(left, count - at)
            copy_bytes(load_int64(socket + BODY_AT), socket + STAGE + at, taken)
            store_int64(socket + BODY_AT, load_int64(socket + BODY_AT) + taken)
            store_int64(socket + BODY_LEFT, left - taken)
            words = link.streams + load_int64(socket + BODY_STREAM) * RECEIVER_STREAM_BYTES
            store_release(words + RECEIVED, load_int64(words + RECEIVED) + taken)
        else:
            have = load_int64(socket + IN_BYTES)
            taken = min(MESSAGE_BYTES - have, count - at)
            copy_bytes(socket + IN_HEADER + have, socket + STAGE + at, taken)
            store_int64(socket + IN_BYTES, (have + taken) & (MESSAGE_BYTES - 1))
            if have + taken == MESSAGE_BYTES and not _begin_body(link):
                return NONSENSE
        at += taken
    return 1


@inlined
def _begin_body(link: TcpReceiver) -> bool:
    """Take a header. False if it is none, or wants its bytes where they must not go."""
    socket, header = link.socket, link.socket + IN_HEADER
    if load_int64(header) != MESSAGE_MAGIC or load_int64(header + MESSAGE_CHECKSUM) != crc32c(
        0, header, MESSAGE_CHECKSUM
    ):
        return False
    stream, size_bytes = load_int64(header + MESSAGE_STREAM), load_int64(header + MESSAGE_SIZE)
    if stream == _NO_STREAM:
        return size_bytes == 0
    if not 0 <= stream < link.stream_count or size_bytes <= 0:
        return False
    words, position = link.streams + stream * RECEIVER_STREAM_BYTES, load_int64(header + MESSAGE_POSITION)
    offset = position & (link.ring_bytes - 1)
    if position != load_int64(words + RECEIVED) or size_bytes > link.ring_bytes - offset:
        return False
    if position + size_bytes > load_int64(words + CONSUMED) + link.ring_bytes:
        return False
    store_int64(socket + BODY_STREAM, stream)
    store_int64(socket + BODY_AT, link.rings + stream * link.ring_bytes + offset)
    store_int64(socket + BODY_LEFT, size_bytes)
    return True


@implements(acknowledge, TcpReceiver, inline=False)
def _acknowledge(link: TcpReceiver, lines: int, size_bytes: int) -> int:
    socket = link.socket
    if load_int64(socket + OUT_LEFT) > 0:
        return 0
    copy_bytes(socket + SOCKET_BYTES, lines, size_bytes)
    store_int64(socket + OUT_AT, socket + SOCKET_BYTES)
    store_int64(socket + OUT_LEFT, size_bytes)
    result = go_on_acknowledging(socket)
    return result if result < 0 else 1


@kernel
def go_on_acknowledging(socket: int) -> int:
    """Hand the socket what is left of acknowledgements: 0 or -errno."""
    left = load_int64(socket + OUT_LEFT)
    sent = socket_send(load_int64(socket + DESCRIPTOR), load_int64(socket + OUT_AT), left)
    if sent < 0:
        return 0 if sent == WOULD_BLOCK else sent
    store_int64(socket + OUT_AT, load_int64(socket + OUT_AT) + sent)
    store_int64(socket + OUT_LEFT, left - sent)
    return 0
