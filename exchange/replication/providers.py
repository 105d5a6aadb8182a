"""Which of libfabric's providers is right for a pair of machines.

``replication.provider = "auto"`` takes, in this order: shared memory if both are on one machine and may see each
other's memory there; verbs if both have a device for RDMA; TCP. The backup chooses, as it makes the memory that is
written to; so both tell each other first what they have (:func:`host_facts`).
"""

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.errors import UserError
from exchange.replication.config import RdmaReplicationConfig

LIBFABRIC_NAMES: Final = {"shm": "shm", "tcp": "tcp;ofi_rxm", "verbs": "verbs;ofi_rxm"}
"""What libfabric calls the providers: over connections, the reliable endpoints without connections are its own."""

_DEVICES: Final = Path("/sys/class/infiniband")
_SHARED_MEMORY: Final = Path("/dev/shm")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class HostFacts(NamedTuple):
    """What a side has to know of the other.

    ``shared_memory`` names what shared memory it sees, and as whom: two that name the same can share some.
    """

    shared_memory: str
    rdma_devices: tuple[str, ...]


def host_facts() -> HostFacts:
    """Those of this machine, for this user."""
    try:
        folder = _SHARED_MEMORY.stat()
        namespace = os.readlink("/proc/self/ns/pid")
        shared = f"{_BOOT.read_text().strip()} {folder.st_dev} {folder.st_ino} {namespace} {os.getuid()}"
    except OSError:
        shared = ""
    devices = sorted(path.name for path in _DEVICES.iterdir()) if _DEVICES.is_dir() else []
    return HostFacts(shared, tuple(devices))


def read_facts(told: Any) -> HostFacts:
    """What the other side has told, as JSON gives it.

    Raises:
        UserError: that is not what facts look like.
    """
    if isinstance(told, dict) and isinstance(told.get("shared_memory"), str):
        devices = told.get("rdma_devices")
        if isinstance(devices, list) and all(isinstance(one, str) for one in devices):
            return HostFacts(told["shared_memory"], tuple(devices))
    raise UserError("replication: the other side does not say what its machine has")


def choose_provider(config: RdmaReplicationConfig, ours: HostFacts, theirs: HostFacts) -> tuple[str, str]:
    """The provider, and why it."""
    if config.provider != "auto":
        return config.provider, "the profile says so"
    if ours.shared_memory and ours.shared_memory == theirs.shared_memory:
        return "shm", "both are on one machine and see the same shared memory"
    if ours.rdma_devices and theirs.rdma_devices:
        return (
            "verbs",
            f"both have a device for RDMA ({ours.rdma_devices[0]} here, {theirs.rdma_devices[0]} there)",
        )
    lacking = "neither" if not ours.rdma_devices and not theirs.rdma_devices else "only one of them"
    return "tcp", f"they do not share memory, and {lacking} has a device for RDMA"
