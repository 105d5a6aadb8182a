"""How the exchange starts itself: a command of this package in a process of its own.

The child runs the very sources that run here, wherever it is started: its interpreter is ours, the folder in which this
package lies is the first that it imports from, and the folder that it is started in is none of those (``-P``).

Rules: who starts one says what becomes of its input and output, and ends it. A command that logs is told how with
:func:`exchange.logs.format_options`.
"""

import os
import sys
from pathlib import Path

import exchange


def child_command(*arguments: str) -> list[str]:
    """The program and its arguments that are ``exchange ARGUMENTS``."""
    return [sys.executable, "-P", "-m", "exchange", *arguments]


def child_environment() -> dict[str, str]:
    """The environment in which :func:`child_command` finds this package, and otherwise our own."""
    package = str(Path(exchange.__file__).resolve().parents[1])
    paths = (package, os.environ.get("PYTHONPATH", ""))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
