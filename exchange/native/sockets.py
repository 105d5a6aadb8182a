"""Sockets from compiled code: receive, send and epoll, of which only ``epoll_wait`` waits.

The accept, the options of a socket and everything else that happens once per connection is Python's business; what
happens once per message is here. Each function calls the C library by name and folds ``errno`` into its result, because
``errno`` belongs to a thread and would be lost by the time Python looked: a result of 0 or more is what C says, a
negative one is ``-errno`` (:data:`WOULD_BLOCK` above all).

Rules: descriptors are non-blocking, or used with the flags that say so (all calls here pass ``MSG_DONTWAIT``).
A peer that has gone gives an error and never a signal (``MSG_NOSIGNAL``).

Sources: recv(2), send(2), sendmmsg(2), recvmmsg(2), epoll(7)."""

import ctypes
import errno
import platform
from typing import Any, Final

from numba import types

from exchange.native.cache import inlined
from exchange.native.lowering import INT32, INT64, Emit, lowers_to
from exchange.native.raw_memory import load_uint32, store_uint32
from exchange.native.system_calls import emit_call_with_errno, with_errno

WOULD_BLOCK: Final = -errno.EAGAIN
"""Nothing to receive now, or no room to send now."""

_DONT_WAIT: Final = 0x40
_NO_SIGNAL: Final = 0x4000

EPOLL_ADD: Final = 1
EPOLL_DELETE: Final = 2
READABLE: Final = 1
"""EPOLLIN; an end of file and an error make a socket readable as well."""

_IS_PACKED: Final = platform.machine() in ("x86_64", "AMD64")
EPOLL_EVENT_BYTES: Final = 12 if _IS_PACKED else 16
"""``struct epoll_event``: four bytes of events, then eight of the caller's own; packed on x86-64 and nowhere else."""
EPOLL_EVENT_DATA: Final = 4 if _IS_PACKED else 8

_libc: Final = ctypes.CDLL(None, use_errno=True)


_THREE_WORDS = types.int64(types.int64, types.int64, types.int64)
_FOUR_WORDS = types.int64(types.int64, types.int64, types.int64, types.int64)


def _emit_transfer(name: str) -> Emit:
    call = emit_call_with_errno(name, INT64, (INT32, INT64, INT64, INT32))

    def emit(builder: Any, descriptor: Any, address: Any, size_bytes: Any) -> Any:
        return call(builder, descriptor, address, size_bytes, INT64(_DONT_WAIT | _NO_SIGNAL))

    return emit


@lowers_to(_THREE_WORDS, _emit_transfer("recv"))
def socket_receive(descriptor: int, address: int, size_bytes: int) -> int:
    """Up to ``size_bytes`` bytes that have arrived, to ``address``: how many, 0 at the end of the stream, or -errno."""
    flags = _DONT_WAIT | _NO_SIGNAL
    returned = _libc.recv(descriptor, ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), flags)
    return with_errno(int(returned))


@lowers_to(_THREE_WORDS, _emit_transfer("send"))
def socket_send(descriptor: int, address: int, size_bytes: int) -> int:
    """Hand bytes to the kernel: how many of them it took, or -errno."""
    flags = _DONT_WAIT | _NO_SIGNAL
    returned = _libc.send(descriptor, ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), flags)
    return with_errno(int(returned))


def _emit_send_many(builder: Any, descriptor: Any, headers_address: Any, count: Any) -> Any:
    call = emit_call_with_errno("sendmmsg", INT32, (INT32, INT64, INT32, INT32))
    return call(builder, descriptor, headers_address, count, INT64(_DONT_WAIT | _NO_SIGNAL))


@lowers_to(_THREE_WORDS, _emit_send_many)
def socket_send_many(descriptor: int, headers_address: int, count: int) -> int:
    """Hand ``count`` datagrams to the kernel with one call: how many of them it took, or -errno if it took none.

    ``headers_address``: as many ``struct mmsghdr``, one behind the other, each with its receiver; see sendmmsg(2).
    """
    flags = _DONT_WAIT | _NO_SIGNAL
    return with_errno(int(_libc.sendmmsg(descriptor, ctypes.c_void_p(headers_address), count, flags)))


def _emit_receive_many(builder: Any, descriptor: Any, headers_address: Any, count: Any) -> Any:
    call = emit_call_with_errno("recvmmsg", INT32, (INT32, INT64, INT32, INT32, INT64))
    return call(builder, descriptor, headers_address, count, INT64(_DONT_WAIT), INT64(0))


@lowers_to(_THREE_WORDS, _emit_receive_many)
def socket_receive_many(descriptor: int, headers_address: int, count: int) -> int:
    """Up to ``count`` datagrams that have arrived, with one call: how many, or -errno if there is none.

    ``headers_address``: as many ``struct mmsghdr``, one behind the other. Their last word says how many bytes a
    datagram had, and where there is room for a sender's address, the kernel writes it; see recvmmsg(2).
    """
    return with_errno(
        int(_libc.recvmmsg(descriptor, ctypes.c_void_p(headers_address), count, _DONT_WAIT, None))
    )


@lowers_to(_FOUR_WORDS, emit_call_with_errno("epoll_ctl", INT32, (INT32, INT32, INT32, INT64)))
def epoll_control(epoll: int, operation: int, descriptor: int, event_address: int) -> int:
    """Add a descriptor to an epoll, or delete it; 0 or -errno. The event is made by :func:`write_epoll_event`."""
    return with_errno(int(_libc.epoll_ctl(epoll, operation, descriptor, ctypes.c_void_p(event_address))))


_emit_wait: Final = emit_call_with_errno("epoll_wait", INT32, (INT32, INT64, INT32, INT32))


def _emit_poll(builder: Any, epoll: Any, events_address: Any, limit: Any) -> Any:
    return _emit_wait(builder, epoll, events_address, limit, INT64(0))


@lowers_to(_THREE_WORDS, _emit_poll)
def epoll_poll(epoll: int, events_address: int, limit: int) -> int:
    """Which descriptors are ready now, as up to ``limit`` events: how many, or -errno. Never waits."""
    return with_errno(int(_libc.epoll_wait(epoll, ctypes.c_void_p(events_address), limit, 0)))


@lowers_to(_FOUR_WORDS, _emit_wait)
def epoll_wait(epoll: int, events_address: int, limit: int, timeout_ms: int) -> int:
    """As :func:`epoll_poll`, but sleep in the kernel until a descriptor is ready, ``timeout_ms`` at most.

    The one call here that waits. For threads that have nothing else to do.
    """
    return with_errno(int(_libc.epoll_wait(epoll, ctypes.c_void_p(events_address), limit, timeout_ms)))


@inlined
def write_epoll_event(address: int, events: int, data: int) -> None:
    """Make the :data:`EPOLL_EVENT_BYTES` at ``address`` an event that carries ``data``, a number of 32 bits."""
    store_uint32(address, events)
    store_uint32(address + EPOLL_EVENT_DATA, data)
    store_uint32(address + EPOLL_EVENT_DATA + 4, 0)


@inlined
def epoll_event_data(address: int) -> int:
    """What an event carries."""
    return load_uint32(address + EPOLL_EVENT_DATA)
