"""A flame graph of a running exchange: py-spy samples its threads from outside.

py-spy reads the stacks of another process without stopping it for long and without any change to it. It sees
Python frames: for the textbook profile that is the whole truth; a compiled loop is one frame, however much
goes on in it. The process that is sampled is ``python -m exchange.bench.flame PROFILE SECONDS``, this
module's other half: it plays the synthetic flow at saturation again and again until its time is over."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exchange.errors import UserError

_FLOW_COMMANDS: Final = 200_000
_SAMPLES_PER_SECOND: Final = 200


def record_flame_graph(
    profile: str, overrides: Sequence[str], output: Path, seconds: int, *, native: bool
) -> None:
    """Play ``profile`` for ``seconds`` under py-spy and write the SVG.

    Raises:
        UserError: py-spy is missing or may not look into processes here.
    """
    from exchange.settings import load_profile

    load_profile(profile, overrides)  # a mistake in it is told before anything starts
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    sampler = shutil.which("py-spy", path=search_path)
    if sampler is None:
        raise UserError("py-spy is not installed; get it with 'pip install py-spy'")
    command = [sampler, "record", "--format", "flamegraph", "--threads", "--output", str(output)]
    command += ["--rate", str(_SAMPLES_PER_SECOND), *(["--native"] if native else []), "--"]
    command += [sys.executable, "-m", "exchange.bench.flame", profile, str(seconds), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not output.exists():
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise UserError(
            f"py-spy could not sample (exit {done.returncode}): {reason}; where ptrace is forbidden run it as root, "
            "or allow it with 'sysctl kernel.yama.ptrace_scope=0' (in a container: --cap-add SYS_PTRACE)"
        )


def play_for(profile: str, seconds: float, overrides: Sequence[str]) -> int:
    """Play the synthetic flow at saturation until the time is over; returns how many passes that were."""
    import numpy as np

    from exchange.bench.player import play
    from exchange.flow import load_flow
    from exchange.flow.config import SyntheticConfig
    from exchange.settings import load_profile

    settings = load_profile(profile, overrides)
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=_FLOW_COMMANDS))
    at_once = np.zeros(len(flow.commands), np.int64)
    passes = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        play(settings, flow.commands, at_once, len(flow.symbols), 0, lambda text: None)
        passes += 1
    return passes


if __name__ == "__main__":
    play_for(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
