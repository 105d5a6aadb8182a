"""A cable between two network namespaces of their own: what takes the place of two machines and a wire.

A *namespace* is a network stack of its own in the kernel, with its own interfaces. A *veth pair* is a cable: what is
sent into the interface at one end comes out of the other one. Each namespace is held by a process that waits for the
end of its input, and has no name. So nothing has to be removed: when the holders end, and they do when we do, however
that happens, the kernel takes namespaces and cable away.

Rules: needs root, or an administrator's rights over the network, and the programs unshare(1), nsenter(1) and ip(8).
Sources: network_namespaces(7), veth(4).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from exchange.errors import UserError

LEFT: Final = "left"
RIGHT: Final = "right"
_PROGRAMS: Final = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2"}
_PREFIX_BITS: Final = 24
_STOP_SECONDS: Final = 2.0


class Cable(NamedTuple):
    """How a command is run at either end: what stands before it."""

    at_left: tuple[str, ...]
    at_right: tuple[str, ...]


def why_no_cable() -> str | None:
    """Why there can be none here and what helps, or None if there can."""
    lacking = [program for program in _PROGRAMS if shutil.which(program) is None]
    if lacking:
        packages = " ".join(dict.fromkeys(_PROGRAMS[program] for program in lacking))
        return f"no {', '.join(lacking)} here; apt install {packages}"
    tried = subprocess.run(("unshare", "--net", "true"), capture_output=True, check=False)
    if tried.returncode != 0:
        return "network namespaces are not allowed to us; run it as root, as with sudo"
    return None


@contextmanager
def cable(addresses: tuple[str, str] | None) -> Iterator[Cable]:
    """A cable between the interfaces ``left`` and ``right``, both up.

    Args:
        addresses: the IPv4 addresses that the kernel has at the two ends; None leaves it without any.

    Raises:
        UserError: the kernel refuses.
    """
    with ExitStack() as stack:
        left, right = (stack.enter_context(_holder()) for _ in range(2))
        ends = Cable(_inside(left), _inside(right))
        _run(
            *ends.at_left,
            "ip",
            "link",
            "add",
            LEFT,
            "type",
            "veth",
            "peer",
            "name",
            RIGHT,
            "netns",
            str(right),
        )
        for index, (prefix, end) in enumerate(((ends.at_left, LEFT), (ends.at_right, RIGHT))):
            if addresses is not None:
                _run(*prefix, "ip", "address", "add", f"{addresses[index]}/{_PREFIX_BITS}", "dev", end)
            _run(*prefix, "ip", "link", "set", end, "up")
        yield ends


def _inside(process_id: int) -> tuple[str, ...]:
    return ("nsenter", f"--net=/proc/{process_id}/ns/net", "--")


@contextmanager
def _holder() -> Iterator[int]:
    """A process in a new namespace, which ends with its input."""
    holder = subprocess.Popen(
        ("unshare", "--net", "--", "sh", "-c", "echo here; exec cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for us
    )
    try:
        assert holder.stdout is not None
        if not holder.stdout.readline():
            raise UserError("there is no network namespace to be had; see unshare(1)")
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate(timeout=_STOP_SECONDS)


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)}: {done.stderr.strip()}")
