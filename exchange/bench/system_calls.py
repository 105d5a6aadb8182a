"""How many system calls a process makes while something is done: strace(1) counts them.

strace stops the process at each call, which costs many times what the call does. So counting is a run of its own, whose
times mean nothing.

Rules: one thread is watched, the one whose number is the process's: its first.
Source: strace(1), ``-c``.
"""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError

STRACE: Final = "strace"
_ATTACH_SECONDS: Final = 10.0
_LOOK_AGAIN_SECONDS: Final = 0.01


class CallCount(NamedTuple):
    """Calls that did something, and those that failed; looking and finding nothing is among these."""

    done: int
    failed: int


def why_not_counted() -> str | None:
    """Why there is no counting here and what helps, or None if there is."""
    if shutil.which(STRACE) is None:
        return "no strace here; apt install strace"
    with tempfile.NamedTemporaryFile() as output:
        command = (STRACE, "-c", "-o", output.name, "true")
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return "strace may not trace here; run it as root, or allow the capability SYS_PTRACE"
    return None


def count_system_calls(process_id: int, doing: Callable[[], None]) -> CallCount:
    """Count a process's system calls while ``doing`` is done.

    Raises:
        UserError: strace could not attach to it.
    """
    with tempfile.TemporaryDirectory(prefix="exchange-strace-") as folder:
        output = Path(folder) / "counts"
        command = (STRACE, "-c", "-U", "calls,errors,name", "-o", str(output), "-p", str(process_id))
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)
        try:
            _wait_until_attached(process_id, tracer)
            doing()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        return parse_counts(output.read_text())


def parse_counts(text: str) -> CallCount:
    """What ``strace -c -U calls,errors,name`` has written."""
    calls = failed = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or not words[0].isdigit() or words[-1] == "total":
            continue
        calls += int(words[0])
        failed += int(words[1]) if len(words) > 2 else 0
    return CallCount(calls - failed, failed)


def _wait_until_attached(process_id: int, tracer: "subprocess.Popen[str]") -> None:
    status, deadline = Path(f"/proc/{process_id}/status"), time.monotonic() + _ATTACH_SECONDS
    while f"TracerPid:\t{tracer.pid}\n" not in status.read_text():
        if tracer.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"strace could not attach to process {process_id}")
        time.sleep(_LOOK_AGAIN_SECONDS)
