"""What the doctor says about a second machine: by which ways frames can get there.

Rules: as in :mod:`exchange.findings`. Nothing is opened or compiled here.
"""

import resource
from collections.abc import Iterator
from pathlib import Path

from exchange.errors import UserError
from exchange.export.linking import find_c_compiler
from exchange.findings import Finding, package_version
from exchange.placement.drawing import format_bytes
from exchange.replication.config import FABRIC_PACKAGES, RING_BYTES_DEFAULT


def check_links(root: Path) -> Iterator[Finding]:
    """The kinds of replication, and what an RDMA device needs beside itself."""
    yield Finding("replication", "tcp", "ok", "needs nothing but the kernel's sockets")
    version = package_version("libfabric")
    try:
        find_c_compiler()
        has_compiler = True
    except UserError:
        has_compiler = False
    folder = root / "sys/class/infiniband"
    devices = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    ways = f"RDMA devices {', '.join(devices)}" if devices else "no RDMA device: shared memory and tcp"
    if version is None or not has_compiler:
        lacking = (
            "no libfabric" if version is None else f"libfabric {version}, and no C compiler for the shim"
        )
        remedy = f"sudo apt-get install {FABRIC_PACKAGES}"
        yield Finding("replication", "rdma", "missing", f"this machine has {lacking}", remedy)
        return
    yield Finding("replication", "rdma", "ok", f"libfabric {version}, and a C compiler for the shim; {ways}")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if devices and limit != resource.RLIM_INFINITY and limit < 2 * RING_BYTES_DEFAULT:
        detail = f"a device locks the rings in memory, and this process may lock {format_bytes(limit)}"
        remedy = "ulimit -l unlimited, or LimitMEMLOCK=infinity in a systemd unit"
        yield Finding("replication", "rdma, locked memory", "limited", detail, remedy)
