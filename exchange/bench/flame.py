"""A flame graph of a running exchange: py-spy samples its threads from outside.

py-spy reads the stacks of another process without stopping it for long and without any change to it. It sees
Python frames: for the textbook profile that is the whole truth; a compiled loop is one frame, however much
goes on in it.

The process that is sampled is ``python -m exchange.bench.flame PROFILE``, this module's other half: it plays
the synthetic flow once, so that everything is compiled, says that it is ready, and then plays it at saturation
again and again until it is ended. Only then is it sampled: compiling is not what the graph is to show.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exchange.errors import UserError

_FLOW_COMMANDS: Final = 200_000
_SAMPLES_PER_SECOND: Final = 200
_READY: Final = "ready"
_PR_SET_PTRACER: Final = 0x59616D61
_ANY_PROCESS: Final = (1 << 64) - 1


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
    played = [sys.executable, "-m", "exchange.bench.flame", profile, *overrides]
    with subprocess.Popen(played, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != _READY:
                raise RuntimeError(f"profile {profile} could not be played; see the error above")
            _sample(sampler, process.pid, output, seconds, native=native)
        finally:
            process.kill()


def _sample(sampler: str, process_id: int, output: Path, seconds: int, *, native: bool) -> None:
    command = [sampler, "record", "--format", "flamegraph", "--output", str(output)]
    command += ["--rate", str(_SAMPLES_PER_SECOND), "--duration", str(seconds), "--pid", str(process_id)]
    done = subprocess.run(
        command + ["--native"] * native, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0 or not output.exists():
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise UserError(
            f"py-spy could not sample (exit {done.returncode}): {reason}; where ptrace is forbidden run it as root, "
            "or allow it with 'sysctl kernel.yama.ptrace_scope=0' (in a container: --cap-add SYS_PTRACE)"
        )


def _play_until_ended(profile: str, overrides: Sequence[str]) -> None:
    """The process that is sampled."""
    import ctypes

    import numpy as np

    from exchange.bench.player import play
    from exchange.flow import load_flow
    from exchange.flow.config import SyntheticConfig
    from exchange.settings import load_profile

    # Where the kernel lets only parents look into a process (yama), let any process of this user look into this one.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY_PROCESS), 0, 0, 0)
    settings = load_profile(profile, overrides)
    flow = load_flow("synthetic", synthetic=SyntheticConfig(commands=_FLOW_COMMANDS))
    at_once = np.zeros(len(flow.commands), np.int64)
    is_ready = False
    while True:
        play(settings, flow.commands, at_once, len(flow.symbols), 0, lambda text: None)
        if not is_ready:
            print(_READY, flush=True)
            is_ready = True


if __name__ == "__main__":
    _play_until_ended(sys.argv[1], sys.argv[2:])
