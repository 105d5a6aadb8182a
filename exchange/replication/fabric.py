"""libfabric, as loops call it: open a link to memory on another machine, write there, ask what is done.

Everything that C has to do stands in ``fabric.c``; which provider is right for a pair of machines is told in
:mod:`exchange.replication.providers`.

Rules: the shim is loaded (:func:`load_fabric`) before a kernel is compiled that calls it. One thread at a time uses a
link. Nothing here waits.
"""

import ctypes
from pathlib import Path
from typing import Final

from numba import types

from exchange.c_shims import Shim, kept_signal_handlers
from exchange.errors import UserError
from exchange.native.lowering import lowers_to
from exchange.replication.config import FABRIC_PACKAGES

SHIM: Final = Shim(
    title="libfabric",
    name="fabric",
    library="libfabric",
    packages=FABRIC_PACKAGES,
    source=Path(__file__).with_name("fabric.c"),
    variables=(
        # How many peers a provider makes room for: a link has one. Soft-RoCE cannot give what the default asks for.
        ("FI_UNIVERSE_SIZE", "8"),
        # A library that it brings along, for cards of Intel's, writes a file about whatever interrupts the process.
        ("IPATH_NO_BACKTRACE", "1"),
    ),
)
COMPLETIONS: Final = 32
"""How many copies :func:`fabric_reap` reports at once; as in ``fabric.c``."""
NAME_BYTES_MAX: Final = 512

_TWO = types.int64(types.int64, types.int64)
_FIVE = types.int64(*[types.int64] * 5)


@lowers_to(_FIVE, SHIM.emit("write"))
def fabric_write(link: int, source: int, size_bytes: int, offset: int, slot: int) -> int:
    """Begin to copy bytes of the source to ``offset`` of the peer's target: 1, 0 if not now, or -errno.

    The bytes stay as they are until :func:`fabric_reap` gives ``slot``, a number below 8,192.
    """
    return SHIM.call("write", link, source, size_bytes, offset, slot)


@lowers_to(_TWO, SHIM.emit("reap"))
def fabric_reap(link: int, slots: int) -> int:
    """Let the link go on, in both directions; the slots of what is done, as words to ``slots``: how many, or -errno."""
    return SHIM.call("reap", link, slots)


class FabricLink:
    """An endpoint with its memory, before and after it has a peer.

    Args:
        provider: libfabric's name of it.
        node: what the endpoint is called: an address of this machine, or a name where the provider wants one.
        source: address and size of the memory that is written from.
        target: address and size of the memory that the peer writes to.

    Attributes:
        handle: what the functions for kernels take.
        description: what the peer's :meth:`connect` takes.
        delivers: whether the provider says of a copy that is done that it is in the peer's memory; otherwise it says
            what its transport says, which for verbs is that the peer's card has taken it on.

    Raises:
        UserError: libfabric is not installed, or cannot give what is asked for.
    """

    def __init__(self, provider: str, node: str, source: tuple[int, int], target: tuple[int, int]) -> None:
        texts = [ctypes.create_string_buffer(text.encode()) for text in (provider, node)]
        SHIM.load()
        # libfabric's provider for shared memory takes signals that are Python's business.
        with kept_signal_handlers():
            handle = SHIM.call("open", *map(ctypes.addressof, texts), *source, *target)
        if -4096 < handle <= 0:
            raise UserError(f"replication.provider = {provider}, at {node}: {last_error()}")
        self.handle = handle
        room = ctypes.create_string_buffer(NAME_BYTES_MAX)
        size = SHIM.call("describe", handle, ctypes.addressof(room), NAME_BYTES_MAX)
        if size < 0:
            self.close()
            raise UserError(f"replication.provider = {provider}, at {node}: {last_error()}")
        self.description: Final = room.raw[:size]
        self.delivers: Final = bool(SHIM.call("delivers", handle))

    def connect(self, description: bytes) -> None:
        """Write to the link that has this description from now on.

        Raises:
            UserError: it is no description.
        """
        if not 16 < len(description) <= NAME_BYTES_MAX:
            raise UserError(f"replication: a peer described itself with {len(description)} bytes")
        # A name is read as far as its kind says, so there must be something to read.
        room = ctypes.create_string_buffer(description, NAME_BYTES_MAX)
        if SHIM.call("connect", self.handle, ctypes.addressof(room)) < 0:
            raise UserError(f"replication: {last_error()}")

    def close(self) -> None:
        """From now on nobody writes into the target. No thread uses the link any more. May be called again."""
        handle, self.handle = self.handle, 0
        if handle != 0:
            SHIM.call("close", handle)


def load_fabric() -> None:
    """Make libfabric known to kernels.

    Raises:
        UserError: it, pkg-config or a C compiler is missing, naming the packages.
    """
    SHIM.load()


def last_error() -> str:
    """What the last call of this thread failed with."""
    return ctypes.string_at(SHIM.call("error")).decode(errors="replace")
