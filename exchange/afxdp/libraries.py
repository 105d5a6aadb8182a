"""libbpf and libxdp, called by ``ctypes``: they make sockets, maps and programs, and are not on the way of a frame.

Nothing has to be compiled: all that is called once is a function in one of the two libraries, and all that is done for
each frame is done in the rings (:mod:`exchange.afxdp.rings`), without a library.

Rules: a function that fails returns -errno (libbpf since 1.0). Structures are those of the headers ``xdp/xsk.h`` and
``bpf/bpf.h``, whose layout the libraries keep within the version that is in their file's name.
"""

import ctypes
import errno
import os
import socket
from functools import cache
from typing import Any, Final, NamedTuple

from exchange.errors import UserError

ADDRESS_FAMILY: Final = 44
"""AF_XDP."""
PACKAGES: Final = "libxdp1 libbpf1"
_FILES: Final = ("libbpf.so.1", "libxdp.so.1")
PRIVILEGES: Final = "root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK"
_WORDED: Final = {
    errno.EPERM: f"it takes {PRIVILEGES}",
    errno.EACCES: f"it takes {PRIVILEGES}",
    errno.EAFNOSUPPORT: "this kernel has no AF_XDP",
    errno.ENOSYS: "this kernel has no BPF",
    errno.ENOBUFS: "not enough memory may be locked; see 'ulimit -l'",
    errno.ENETDOWN: "it is down; 'ip link set INTERFACE up' brings it up",
}


class Libraries(NamedTuple):
    """Both of them, loaded."""

    bpf: Any
    xdp: Any


class ProducerOrConsumer(ctypes.Structure):
    """``struct xsk_ring_prod`` and ``xsk_ring_cons``: where the parts of a ring have been mapped."""

    _fields_ = (
        ("cached_producer", ctypes.c_uint32),
        ("cached_consumer", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("producer", ctypes.c_uint64),
        ("consumer", ctypes.c_uint64),
        ("entries", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class FrameMemoryConfig(ctypes.Structure):
    """``struct xsk_umem_config``."""

    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in ("fill_size", "completion_size", "frame_size", "frame_headroom", "flags")
    )


class SocketConfig(ctypes.Structure):
    """``struct xsk_socket_config``."""

    _fields_ = (
        ("receiving_size", ctypes.c_uint32),
        ("sending_size", ctypes.c_uint32),
        ("libxdp_flags", ctypes.c_uint32),
        ("xdp_flags", ctypes.c_uint32),
        ("bind_flags", ctypes.c_uint16),
    )


class LinkOptions(ctypes.Structure):
    """The beginning of ``struct bpf_link_create_opts``; its first word says how much of it there is."""

    _fields_ = (("size", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("unused", ctypes.c_uint32))


@cache
def load_libraries() -> Libraries:
    """Both libraries; from now on they say nothing by themselves.

    Raises:
        UserError: one of them is missing, naming the packages.
    """
    loaded = []
    for name in _FILES:
        try:
            loaded.append(ctypes.CDLL(name, use_errno=True))
        except OSError as error:
            raise UserError(
                f"AF_XDP: {name} was not found; install it: sudo apt-get install {PACKAGES}"
            ) from error
    libraries = Libraries(*loaded)
    # Both print warnings to standard error, and errors are ours to word.
    libraries.bpf.libbpf_set_print(None)
    libraries.xdp.libxdp_set_print(None)
    return libraries


def find_obstacle() -> str | None:
    """Why this process has no AF_XDP, as far as can be told without taking an interface; None if it has."""
    try:
        load_libraries()
        socket.socket(ADDRESS_FAMILY, socket.SOCK_RAW).close()
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"AF_XDP: no socket of it can be had ({worded(-(error.errno or 0))})"
    return None


def worded(failure: int) -> str:
    """What -errno of a call into the kernel means to who started us."""
    return _WORDED.get(-failure, os.strerror(-failure))
