"""Sockets from compiled code do what their plain twins do, and say -errno where C would only say -1."""

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from exchange.native import (
    EPOLL_ADD,
    EPOLL_DELETE,
    EPOLL_EVENT_BYTES,
    READABLE,
    WOULD_BLOCK,
    Arena,
    epoll_control,
    epoll_event_data,
    epoll_poll,
    kernel,
    socket_receive,
    socket_send,
    view_bytes,
    write_epoll_event,
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
