"""Each case of a card's runs in a process of its own: EAL can be started once, and a namespace is a process's.

``run_case("name", ...)`` runs the function of that name in :mod:`tests.dpdk_cases`, or in another such module, and
returns what it returned. A case that stays (a server) is a :class:`Case`, which ends when it is told to by a line.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exchange.afxdp.libraries import ADDRESS_FAMILY, find_obstacle
from exchange.dpdk.building import PACKAGES, is_installed

REPOSITORY = Path(__file__).parents[1]
TIMEOUT_SECONDS = 240
READY = "ready"

needs_dpdk = pytest.mark.skipif(not is_installed(), reason=f"no DPDK here; install {PACKAGES}")


def _can_make_namespaces() -> bool:
    if os.geteuid() != 0:
        return False
    made = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, check=False)
    return made.returncode == 0


needs_namespaces = pytest.mark.skipif(
    not _can_make_namespaces(), reason="network namespaces need root, unshare(1) and ip(8)"
)

needs_tap = pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun here")


def _has_xdp() -> bool:
    try:
        socket.socket(ADDRESS_FAMILY, socket.SOCK_RAW).close()
    except OSError:
        return False
    return True


needs_xdp = pytest.mark.skipif(not _has_xdp(), reason="this kernel has no AF_XDP, or we may not use it")

needs_afxdp = pytest.mark.skipif(
    (obstacle := find_obstacle()) is not None or not _can_make_namespaces(),
    reason=obstacle or "taking an interface needs root, and network namespaces unshare(1) and ip(8)",
)

_WIRE = "ip link add left type veth peer name right; ip link set left up; ip link set right up; "


class Case:
    """A case that is running."""

    def __init__(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        in_namespace: bool = False,
        prefix: tuple[str, ...] = (),
        module: str = "tests.dpdk_cases",
    ) -> None:
        command = [*prefix, sys.executable, "-m", module, name, *arguments]
        if in_namespace:
            command = ["unshare", "--net", "sh", "-ec", f'{_WIRE} exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | (environment or {}), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Until the case says that it is."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == READY:
                return
        raise AssertionError(f"the case ended with {self.process.wait()}")

    def end(self) -> Any:
        """Tell it to end if it stays, and what it returned."""
        out, _ = self.process.communicate("\n", timeout=TIMEOUT_SECONDS)
        assert self.process.returncode == 0, out
        return json.loads(out.splitlines()[-1])

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(name: str, *arguments: str, **options: Any) -> Iterator[Case]:
    """A case that stays, ready; ended or killed with the block."""
    case = Case(name, *arguments, **options)
    try:
        case.wait_until_ready()
        yield case
    finally:
        if case.process.poll() is None:
            case.kill()


def run_case(name: str, *arguments: str, **options: Any) -> Any:
    """Run a case to its end; what it returned. ``{process}`` in an argument becomes our process's number."""
    worded = [argument.replace("{process}", str(os.getpid())) for argument in arguments]
    case = Case(name, *worded, **options)
    try:
        return case.end()
    finally:
        if case.process.poll() is None:
            case.kill()
