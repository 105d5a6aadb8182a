"""What every port has to keep, whatever is behind it; written once, for sockets and for cards.

A check gets two ports that reach each other, as :class:`End`, and fails by ``assert``.
"""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exchange.datagrams.batch import BatchMemory, give_all_room
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.native import VECTOR_BYTES, WOULD_BLOCK, Arena, kernel, store_int64, view_bytes, write_vector
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    PEER_ADDRESS,
    SOCKET_ADDRESS_BYTES,
    VECTOR_LENGTH,
    address_and_port,
    write_message_header,
)

PATIENCE_SECONDS = 30
BATCH = 32
ROOM_BYTES = 2048


@kernel
def receive_compiled(port: Any, headers: int, count: int) -> int:
    return receive_many(port, headers, count)


@kernel
def send_compiled(port: Any, headers: int, count: int) -> int:
    return send_many(port, headers, count)


@kernel
def attend_compiled(port: Any) -> int:
    return attend(port)


@dataclass
class End:
    """A port and the 16 bytes by which the other end reaches it; ``too_long_bytes`` do not fit into its datagrams."""

    port: Any
    peer: bytes
    too_long_bytes: int

    def __post_init__(self) -> None:
        self.memory = BatchMemory(BATCH, ROOM_BYTES)

    def receive(self, expected: int, limit: int = BATCH) -> list[tuple[bytes, bytes]]:
        """Payloads and who they are from, until there are ``expected``; fails if they do not come."""
        got: list[tuple[bytes, bytes]] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(got) < expected:
            assert time.monotonic() < deadline, f"{len(got)} of {expected} datagrams came"
            attend_compiled(self.port)
            count = receive_compiled(self.port, self.memory.batch.headers, limit)
            assert count == WOULD_BLOCK or 0 <= count <= limit
            got += [(self.memory.payload(index), self.memory.peer(index)) for index in range(count)]
        return got

    def drain(self) -> int:
        """Throw away what is still on its way; how much that was."""
        count, quiet_since = 0, time.monotonic()
        while time.monotonic() - quiet_since < 0.1:
            came = receive_compiled(self.port, self.memory.batch.headers, BATCH)
            if came > 0:
                count, quiet_since = count + came, time.monotonic()
        return count


def send(end: End, payloads: list[bytes], peer: bytes) -> None:
    """Send everything, in as many calls as it takes."""
    memory = BatchMemory(BATCH, ROOM_BYTES)
    for begin in range(0, len(payloads), BATCH):
        block = payloads[begin : begin + BATCH]
        for index, payload in enumerate(block):
            memory.put(index, payload, peer)
        done, deadline = 0, time.monotonic() + PATIENCE_SECONDS
        while done < len(block):
            assert time.monotonic() < deadline
            headers = memory.batch.headers + done * MESSAGE_HEADER_BYTES
            sent = send_compiled(end.port, headers, len(block) - done)
            assert sent == WOULD_BLOCK or 0 < sent <= len(block) - done
            done += max(sent, 0)


def check_nothing_is_no_datagram(left: End, right: End) -> None:
    assert receive_compiled(left.port, left.memory.batch.headers, BATCH) in (0, WOULD_BLOCK)
    assert attend_compiled(left.port) == 0


def check_datagrams_come_whole_and_in_order(left: End, right: End) -> None:
    sizes = (0, 1, 2, 17, 18, 19, 63, 64, 65, 333, 1471, 1472)
    payloads = [bytes((index + place) % 251 for place in range(size)) for index, size in enumerate(sizes)]
    send(left, payloads, right.peer)
    assert [payload for payload, _ in right.receive(len(payloads))] == payloads


def check_an_answer_goes_to_where_the_question_came_from(left: End, right: End) -> None:
    send(left, [b"question"], right.peer)
    [(_, asker)] = right.receive(1)
    assert address_and_port(asker) == address_and_port(left.peer)
    send(right, [b"answer"], asker)
    [(answer, answerer)] = left.receive(1)
    assert answer == b"answer"
    assert address_and_port(answerer) == address_and_port(right.peer)


def check_two_pieces_are_one_datagram(left: End, right: End) -> None:
    arena = Arena.private(8192, huge_pages="never")
    header, vectors = arena.allocate(MESSAGE_HEADER_BYTES), arena.allocate(2 * VECTOR_BYTES)
    peer, places = arena.allocate(SOCKET_ADDRESS_BYTES), (arena.allocate(64), arena.allocate(64))
    view_bytes(peer, SOCKET_ADDRESS_BYTES)[:] = right.peer
    for first, second in ((b"head", b"and a body"), (b"", b"body"), (b"head", b"")):
        for index, piece in enumerate((first, second)):
            view_bytes(places[index], len(piece) or 1)[: len(piece)] = piece
            write_vector(vectors + index * VECTOR_BYTES, places[index], len(piece))
        write_message_header(header, peer, vectors, 2)
        assert send_compiled(left.port, header, 1) == 1
        assert right.receive(1)[0][0] == first + second


def check_no_more_come_than_are_asked_for(left: End, right: End) -> None:
    payloads = [b"%d" % index for index in range(3 * BATCH)]
    for begin in range(0, len(payloads), BATCH):
        send(left, payloads[begin : begin + BATCH], right.peer)
    assert [payload for payload, _ in right.receive(len(payloads), limit=7)] == payloads


def check_what_is_longer_than_its_room_is_cut(left: End, right: End) -> None:
    memory = right.memory
    store_int64(memory.batch.vectors + VECTOR_LENGTH, 10)
    send(left, [b"0123456789abcdef"], right.peer)
    assert right.receive(1, limit=1)[0][0] == b"0123456789"
    _all_room(right)


def _all_room(end: End) -> None:
    give_all_room_compiled(end.memory.batch)


@kernel
def give_all_room_compiled(batch: Any) -> None:
    give_all_room(batch)


def check_what_is_too_long_is_refused(left: End, right: End) -> None:
    memory = BatchMemory(2, left.too_long_bytes)
    memory.put(0, b"short", right.peer)
    memory.put(1, bytes(left.too_long_bytes), right.peer)
    assert send_compiled(left.port, memory.batch.headers, 2) == 1, "those before it are sent"
    assert send_compiled(left.port, memory.batch.headers + MESSAGE_HEADER_BYTES, 1) == -errno.EMSGSIZE
    assert right.receive(1)[0][0] == b"short"


def check_a_datagram_without_a_receiver_is_refused(left: End, right: End) -> None:
    memory = BatchMemory(1, 64)
    memory.put(0, b"to nobody", right.peer)
    store_int64(memory.batch.headers + PEER_ADDRESS, 0)
    store_int64(memory.batch.headers + PEER_ADDRESS + 8, 0)
    assert send_compiled(left.port, memory.batch.headers, 1) == -errno.EDESTADDRREQ


def check_a_flood_is_lost_or_refused_and_never_waited_for(left: End, right: End) -> None:
    memory = BatchMemory(BATCH, ROOM_BYTES)
    for index in range(BATCH):
        memory.put(index, b"flood", right.peer)
    for _ in range(2000):
        sent = send_compiled(left.port, memory.batch.headers, BATCH)
        assert sent == WOULD_BLOCK or 0 < sent <= BATCH
    right.drain()
    send(left, [b"afterwards"], right.peer)
    assert right.receive(1)[0][0] == b"afterwards"


CHECKS: dict[str, Callable[[End, End], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def check_contract(left: End, right: End) -> None:
    """All of it, in both directions."""
    for check in CHECKS.values():
        check(left, right)
        if left is not right:
            check(right, left)
