"""How the exchange starts itself: a command of this package in a process of its own.

The child runs the very sources that run here, wherever it is started: its interpreter is ours, the folder in which this
package lies is the first that it imports from, and the folder that it is started in is none of those (``-P``).

Rules: who starts one says what becomes of its input and output, and ends it; with :func:`die_with_parent` the kernel
does, if nobody else comes to it. A command that logs is told how with :func:`exchange.logs.format_options`.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

import exchange

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)
"""Loaded here: a child that is not a program of its own yet had better load nothing."""


def child_command(*arguments: str) -> list[str]:
    """The program and its arguments that are ``exchange ARGUMENTS``."""
    return [sys.executable, "-P", "-m", "exchange", *arguments]


def child_environment() -> dict[str, str]:
    """The environment in which :func:`child_command` finds this package, and otherwise our own."""
    package = str(Path(exchange.__file__).resolve().parents[1])
    paths = (package, os.environ.get("PYTHONPATH", ""))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def die_with_parent() -> None:
    """In a child that is no program yet: let the kernel kill it when the *thread* that has started it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
