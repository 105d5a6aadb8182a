"""What numba lacks: atomics, hints, raw memory, the C library, and generic functions.

Importing this package imports numba (a quarter of a second), so modules that a plain ``exchange --help``
needs do not import it at their top.

* :mod:`~exchange.native.cache` - ``kernel`` and ``inlined``, and where compiled code is kept
* :mod:`~exchange.native.generic` - one operation, an implementation for each variant
* :mod:`~exchange.native.atomics` - words that several threads share
* :mod:`~exchange.native.raw_memory` - words that one thread owns
* :mod:`~exchange.native.big_endian` - the same in network order, at any byte
* :mod:`~exchange.native.processor` - pause, prefetch, bit counts, the cycle counter
* :mod:`~exchange.native.system_calls` - the C library and the kernel
* :mod:`~exchange.native.sockets` - receive, send and epoll
* :mod:`~exchange.native.files` - write at an offset, make it durable
* :mod:`~exchange.native.checksum` - CRC32C
* :mod:`~exchange.native.datagram_headers` - the kernel's structures for many datagrams at once
* :mod:`~exchange.native.arena` - where the memory comes from
"""

from exchange.native.cache import inlined, kernel, use_cache_directory

use_cache_directory()  # before any kernel is declared

from exchange.native.arena import (  # noqa: E402
    CACHE_LINE_BYTES,
    FALSE_SHARING_BYTES,
    Arena,
    HugePages,
    shared_with_children,
    view_bytes,
)
from exchange.native.atomics import (  # noqa: E402
    compare_exchange,
    exchange_word,
    fence_acquire,
    fence_release,
    fence_sequential,
    fetch_add,
    load_acquire,
    load_acquire_uint32,
    load_relaxed,
    store_relaxed,
    store_release,
    store_release_uint32,
)
from exchange.native.big_endian import (  # noqa: E402
    load_big_endian_int64,
    load_big_endian_uint16,
    load_big_endian_uint32,
    load_big_endian_uint48,
    store_big_endian_int64,
    store_big_endian_uint16,
    store_big_endian_uint32,
    store_big_endian_uint48,
)
from exchange.native.checksum import copy_with_crc32c, crc32c, crc32c_of, crc32c_step, crc32c_words  # noqa: E402
from exchange.native.files import (  # noqa: E402
    DO_NOT_NEED,
    POPULATE_WRITE,
    VECTOR_BYTES,
    file_sync_data,
    file_write_vectors,
    memory_advise,
    memory_sync,
    write_vector,
)
from exchange.native.generic import body_for, generic, implements, is_compiled, is_implemented  # noqa: E402
from exchange.native.processor import (  # noqa: E402
    add_wrapping,
    choose,
    count_leading_zeros,
    count_trailing_zeros,
    cycle_counter,
    likely,
    multiply_wrapping,
    pause,
    prefetch_for_read,
    prefetch_for_write,
    shift_left_wrapping,
    shift_right_logical,
    unlikely,
)
from exchange.native.raw_memory import (  # noqa: E402
    address_of,
    copy_bytes,
    copy_record,
    load_int64,
    load_uint8,
    load_uint16,
    load_uint32,
    store_int64,
    store_uint8,
    store_uint16,
    store_uint32,
)
from exchange.native.sockets import (  # noqa: E402
    EPOLL_ADD,
    EPOLL_DELETE,
    EPOLL_EVENT_BYTES,
    READABLE,
    WOULD_BLOCK,
    epoll_control,
    epoll_event_data,
    epoll_poll,
    epoll_wait,
    socket_receive,
    socket_receive_many,
    socket_send,
    socket_send_many,
    write_epoll_event,
)
from exchange.native.system_calls import (  # noqa: E402
    MUTEX_BYTES,
    boottime_ns,
    initialise_mutex,
    monotonic_ns,
    mutex_lock,
    mutex_unlock,
    sleep_ns,
    system_call,
    thread_cpu_ns,
    yield_core,
)

__all__ = [
    "CACHE_LINE_BYTES",
    "DO_NOT_NEED",
    "EPOLL_ADD",
    "EPOLL_DELETE",
    "EPOLL_EVENT_BYTES",
    "FALSE_SHARING_BYTES",
    "MUTEX_BYTES",
    "POPULATE_WRITE",
    "READABLE",
    "VECTOR_BYTES",
    "WOULD_BLOCK",
    "Arena",
    "HugePages",
    "add_wrapping",
    "address_of",
    "body_for",
    "boottime_ns",
    "choose",
    "compare_exchange",
    "copy_bytes",
    "copy_record",
    "copy_with_crc32c",
    "count_leading_zeros",
    "count_trailing_zeros",
    "crc32c",
    "crc32c_of",
    "crc32c_step",
    "crc32c_words",
    "cycle_counter",
    "epoll_control",
    "epoll_event_data",
    "epoll_poll",
    "epoll_wait",
    "exchange_word",
    "fence_acquire",
    "fence_release",
    "fence_sequential",
    "fetch_add",
    "file_sync_data",
    "file_write_vectors",
    "generic",
    "implements",
    "initialise_mutex",
    "inlined",
    "is_compiled",
    "is_implemented",
    "kernel",
    "likely",
    "load_acquire",
    "load_acquire_uint32",
    "load_big_endian_int64",
    "load_big_endian_uint16",
    "load_big_endian_uint32",
    "load_big_endian_uint48",
    "load_int64",
    "load_relaxed",
    "load_uint8",
    "load_uint16",
    "load_uint32",
    "memory_advise",
    "memory_sync",
    "monotonic_ns",
    "multiply_wrapping",
    "mutex_lock",
    "mutex_unlock",
    "pause",
    "prefetch_for_read",
    "prefetch_for_write",
    "shared_with_children",
    "shift_left_wrapping",
    "shift_right_logical",
    "sleep_ns",
    "socket_receive",
    "socket_receive_many",
    "socket_send",
    "socket_send_many",
    "store_big_endian_int64",
    "store_big_endian_uint16",
    "store_big_endian_uint32",
    "store_big_endian_uint48",
    "store_int64",
    "store_relaxed",
    "store_release",
    "store_release_uint32",
    "store_uint8",
    "store_uint16",
    "store_uint32",
    "system_call",
    "thread_cpu_ns",
    "unlikely",
    "use_cache_directory",
    "view_bytes",
    "write_epoll_event",
    "write_vector",
    "yield_core",
]
