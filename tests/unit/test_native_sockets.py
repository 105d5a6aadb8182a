"""Sockets from compiled code do what their plain twins do, and say -errno where C would only say -1."""

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from exchange.native import (
    EPOLL_ADD,
    EPOLL_DELETE,
    EPOLL_EVENT_BYTES,
    READABLE,
    VECTOR_BYTES,
    WOULD_BLOCK,
    Arena,
    epoll_control,
    epoll_event_data,
    epoll_poll,
    epoll_wait,
    kernel,
    load_uint32,
    socket_receive,
    socket_receive_many,
    socket_send,
    socket_send_many,
    view_bytes,
    write_epoll_event,
    write_vector,
)
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SIZE_BYTES,
    SOCKET_ADDRESS_BYTES,
    address_and_port,
    socket_address,
    write_message_header,
)


@kernel
def receive_compiled(descriptor: int, address: int, size_bytes: int) -> int:
    return socket_receive(descriptor, address, size_bytes)


@kernel
def send_compiled(descriptor: int, address: int, size_bytes: int) -> int:
    return socket_send(descriptor, address, size_bytes)


@kernel
def control_compiled(epoll: int, operation: int, descriptor: int, event: int) -> int:
    return epoll_control(epoll, operation, descriptor, event)


@kernel
def poll_compiled(epoll: int, events: int, limit: int) -> int:
    return epoll_poll(epoll, events, limit)


@kernel
def send_many_compiled(descriptor: int, headers: int, count: int) -> int:
    return socket_send_many(descriptor, headers, count)


@kernel
def receive_many_compiled(descriptor: int, headers: int, count: int) -> int:
    return socket_receive_many(descriptor, headers, count)


@kernel
def wait_compiled(epoll: int, events: int, limit: int, timeout_ms: int) -> int:
    return epoll_wait(epoll, events, limit, timeout_ms)


FORMS = {
    "plain": (socket_receive, socket_send, epoll_control, epoll_poll),
    "compiled": (receive_compiled, send_compiled, control_compiled, poll_compiled),
}

each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@each_form
def test_bytes_go_and_come(form: str, pair: tuple[socket.socket, socket.socket]) -> None:
    receive, send, _, _ = FORMS[form]
    left, right = pair
    arena = Arena.private(4096)
    there, here = arena.allocate(64), arena.allocate(64)
    view_bytes(there, 5)[:] = b"hello"
    assert receive(right.fileno(), here, 64) == WOULD_BLOCK == -errno.EAGAIN
    assert send(left.fileno(), there, 5) == 5
    assert receive(right.fileno(), here, 3) == 3
    assert receive(right.fileno(), here + 3, 64) == 2
    assert bytes(view_bytes(here, 5)) == b"hello"
    left.close()
    assert receive(right.fileno(), here, 64) == 0, "the end of the stream"


@each_form
def test_failures_say_why(form: str, pair: tuple[socket.socket, socket.socket]) -> None:
    receive, send, control, poll = FORMS[form]
    left, right = pair
    arena = Arena.private(1 << 20)
    address = arena.allocate(1 << 19)
    number = left.fileno()
    while (sent := send(number, address, 1 << 19)) > 0:
        pass
    assert sent == WOULD_BLOCK
    right.close()
    assert send(number, address, 1) == -errno.EPIPE, "and no signal"
    left.close()
    assert receive(number, address, 1) == -errno.EBADF
    assert send(number, address, 1) == -errno.EBADF
    assert control(number, EPOLL_ADD, number, address) == -errno.EBADF
    assert poll(number, address, 1) == -errno.EBADF


@each_form
def test_epoll_names_what_is_ready(form: str, pair: tuple[socket.socket, socket.socket]) -> None:
    _, _, control, poll = FORMS[form]
    left, right = pair
    arena = Arena.private(4096)
    events = arena.allocate(4 * EPOLL_EVENT_BYTES)
    with select.epoll() as epoll:
        for one, data in ((left, 7), (right, 0xFFFF)):
            write_epoll_event(events, READABLE, data)
            assert control(epoll.fileno(), EPOLL_ADD, one.fileno(), events) == 0
        assert poll(epoll.fileno(), events, 4) == 0
        left.send(b"x")
        assert poll(epoll.fileno(), events, 4) == 1
        assert epoll_event_data(events) == 0xFFFF
        right.send(b"y")
        assert poll(epoll.fileno(), events, 4) == 2
        assert {epoll_event_data(events + index * EPOLL_EVENT_BYTES) for index in (0, 1)} == {7, 0xFFFF}
        assert control(epoll.fileno(), EPOLL_DELETE, right.fileno(), events) == 0
        assert poll(epoll.fileno(), events, 4) == 1


@pytest.mark.parametrize("send_many", [socket_send_many, send_many_compiled], ids=["plain", "compiled"])
def test_many_datagrams_go_with_one_call(send_many: Callable[[int, int, int], int]) -> None:
    texts = [b"one", b"", b"three"]
    arena = Arena.private(4096)
    headers = arena.allocate(64 * len(texts))
    for index, text in enumerate(texts):
        place, vector = arena.allocate(8), arena.allocate(16)
        view_bytes(place, len(text))[:] = text
        view_bytes(vector, 16)[:] = struct.pack("@PN", place, len(text))
        view_bytes(headers + 64 * index, 64)[:] = struct.pack("@PI4xPNPNi4xI4x", 0, 0, vector, 1, 0, 0, 0, 0)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        assert send_many(left.fileno(), headers, 3) == 3
        assert [right.recv(100) for _ in texts] == texts
        sent = [send_many(left.fileno(), headers, 3) for _ in range(1000)]
        assert 0 < sent.index(WOULD_BLOCK) < 1000
        right.close()
        assert send_many(left.fileno(), headers, 3) == -errno.ECONNREFUSED
    assert send_many(-1, headers, 3) == -errno.EBADF


@pytest.mark.parametrize(
    "receive_many", [socket_receive_many, receive_many_compiled], ids=["plain", "compiled"]
)
def test_many_datagrams_come_with_one_call(receive_many: Callable[[int, int, int], int]) -> None:
    arena = Arena.private(8192)
    count = 3
    headers, vectors = arena.allocate(count * MESSAGE_HEADER_BYTES), arena.allocate(count * VECTOR_BYTES)
    rooms, peers = arena.allocate(count * 64), arena.allocate(count * SOCKET_ADDRESS_BYTES)
    for index in range(count):
        write_vector(vectors + index * VECTOR_BYTES, rooms + index * 64, 64)
        peer = peers + index * SOCKET_ADDRESS_BYTES
        write_message_header(headers + index * MESSAGE_HEADER_BYTES, peer, vectors + index * VECTOR_BYTES)
    there, here = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with there, here:
        for one in (there, here):
            one.bind(("127.0.0.1", 0))
        assert receive_many(here.fileno(), headers, count) == WOULD_BLOCK
        for text in (b"one", b"", b"x" * 100, b"four"):
            there.sendto(text, here.getsockname())
        assert receive_many(here.fileno(), headers, count) == 3
        sizes = [load_uint32(headers + index * MESSAGE_HEADER_BYTES + SIZE_BYTES) for index in range(count)]
        assert sizes == [3, 0, 64], "what is longer than its room is cut"
        assert bytes(view_bytes(rooms, 3)) == b"one"
        for index in range(count):
            peer = bytes(view_bytes(peers + index * SOCKET_ADDRESS_BYTES, SOCKET_ADDRESS_BYTES))
            assert address_and_port(peer) == there.getsockname()
            assert peer == socket_address(*there.getsockname())
        assert receive_many(here.fileno(), headers, count) == 1
    assert receive_many(-1, headers, count) == -errno.EBADF


@pytest.mark.parametrize("wait", [epoll_wait, wait_compiled], ids=["plain", "compiled"])
def test_a_sleep_ends_with_its_time_or_with_what_comes(
    wait: Callable[[int, int, int, int], int], pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    arena = Arena.private(4096)
    events = arena.allocate(EPOLL_EVENT_BYTES)
    with select.epoll() as epoll:
        epoll.register(right.fileno(), select.EPOLLIN)
        began_ns = time.monotonic_ns()
        assert wait(epoll.fileno(), events, 1, 20) == 0
        assert time.monotonic_ns() - began_ns > 15_000_000
        left.send(b"x")
        assert wait(epoll.fileno(), events, 1, 60_000) == 1
    assert wait(-1, events, 1, 1) == -errno.EBADF
