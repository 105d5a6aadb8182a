"""Opening an end of a link through libfabric: the names that endpoints have, and what killed processes have left.

Over shared memory an endpoint is called by a name of our own, and there is a file of that name in /dev/shm. A process
that is killed cannot remove it, so the next one does, by the number of the process in the name."""

import itertools
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from exchange.replication.fabric import FabricLink
from exchange.replication.providers import LIBFABRIC_NAMES

_SHARED_MEMORY: Final = Path("/dev/shm")
_NAME: Final = re.compile(r"exchange-link-([0-9]+)-")
_count = itertools.count()


def open_fabric(provider: str, address: str, source: tuple[int, int], target: tuple[int, int]) -> FabricLink:
    """An end of a link.

    Args:
        provider: ``shm``, ``tcp`` or ``verbs``.
        address: of this machine.
        source: address and size of what is written from.
        target: address and size of what the peer writes to.

    Raises:
        UserError: as :class:`~exchange.replication.fabric.FabricLink`.
    """
    node = address
    if provider == "shm":
        remove_stale_files()
        node = f"exchange-link-{os.getpid()}-{next(_count)}"
    return FabricLink(LIBFABRIC_NAMES[provider], node, source, target)


def remove_stale_files() -> None:
    """Remove the shared memory of links whose process is gone."""
    for path in _SHARED_MEMORY.glob("exchange-link-*"):
        found = _NAME.match(path.name)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            with suppress(OSError):  # somebody else's, or gone meanwhile
                path.unlink()
