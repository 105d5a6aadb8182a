"""What the doctor says: findings, and how they are printed.

A finding's status is ``ok``; ``limited``: it runs, but slower or with less to see than it could;
``missing``: it does not run here.

Rules: a check is a function of the folder in which ``proc``, ``sys`` and ``dev`` are, so that a test can describe
another machine; it changes nothing.
"""

import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec

type Status = Literal["ok", "limited", "missing"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the diagnosis. ``remedy`` is a command or a setting, None where there is nothing to do."""

    layer: str
    variant: str
    status: Status
    detail: str
    remedy: str | None = None


type Check = Callable[[Path], Iterable[Finding]]


def render(findings: Sequence[Finding], width: int = 100) -> str:
    """The findings as plain text, layer by layer, with a count at the end."""
    lines: list[str] = []
    for layer, group in groupby(findings, key=lambda finding: finding.layer):
        lines.append(layer)
        for finding in group:
            lead = f"  {finding.status:<8} {finding.variant:<20} "
            lines.extend(_wrap(finding.detail, width, lead, " " * len(lead)))
            if finding.remedy:
                lines.extend(_wrap(finding.remedy, width, " " * len(lead) + "-> ", " " * (len(lead) + 3)))
        lines.append("")
    counts = [
        f"{sum(one.status == status for one in findings)} {status}" for status in ("ok", "limited", "missing")
    ]
    return "\n".join([*lines, ", ".join(counts)]) + "\n"


def _wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(rest) + 30),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def package_version(name: str) -> str | None:
    """The version of a C library that pkg-config finds; None where it finds none, or is not there itself."""
    if shutil.which("pkg-config") is None:
        return None
    try:
        done = subprocess.run(
            ["pkg-config", "--modversion", name], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
