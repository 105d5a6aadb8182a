"""The two processes of each transport that is measured: a reflector, and a prober that asks it.

Both wait while it is not their turn: the reflector is stopped by a signal, for it would poll otherwise, and the prober
sleeps until its next order. The reflector is ``exchange reflect``, as a person starts it.

Rules: whatever ends the block of :func:`connected`, Ctrl-C included, both processes are gone when it has ended, well
within a second. If this process is killed, they see the end of their input and end by themselves.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import msgspec

from exchange.bench.cable import Cable, cable
from exchange.bench.micro import Cores
from exchange.bench.transport_prober import Found, Order, ProberPlan
from exchange.bench.transport_variants import Variant
from exchange.child_command import child_command, child_environment
from exchange.datagrams.opening import choose
from exchange.errors import UserError

LINK_SECONDS: Final = 30.0
STOP_SECONDS: Final = 0.5
"""For the reflector to say goodbye to its card. It is ended by force then."""
_NOWHERE: Final = Cable((), ())


class Pair:
    """A reflector and its prober, ready, and the reflector stopped."""

    def __init__(self, reflector: "subprocess.Popen[str]", prober: "subprocess.Popen[str]") -> None:
        self._reflector: Final = reflector
        self._prober: Final = prober

    @property
    def prober_id(self) -> int:
        """The prober's process; its first thread measures."""
        return self._prober.pid

    def ask_to_end(self) -> None:
        """Let both begin to end; who has several pairs asks all of them first, and waits then."""
        for process in (self._reflector, self._prober):
            _ask_to_end(process)

    def measure(self, order: Order) -> Found:
        """Have something measured; the reflector runs meanwhile.

        Raises:
            UserError: the prober has ended.
        """
        self._reflector.send_signal(signal.SIGCONT)
        try:
            assert self._prober.stdin is not None
            with suppress(BrokenPipeError):
                self._prober.stdin.write(msgspec.json.encode(order).decode() + "\n")
                self._prober.stdin.flush()
            return msgspec.json.decode(_line_of(self._prober, "prober"), type=Found)
        finally:
            self._reflector.send_signal(signal.SIGSTOP)


@contextmanager
def connected(name: str, variant: Variant, cores: Cores, payload_bytes: int, window: int) -> Iterator[Pair]:
    """Both processes of a variant, until the block ends.

    Args:
        name: of the variant.
        variant: it.
        cores: the first is the reflector's, the second the prober's.
        payload_bytes: of each datagram.
        window: how many datagrams are on their way when echoes are counted.

    Raises:
        UserError: one of them did not start.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="exchange-bench-"))
        names = {"folder": folder, "name": f"exchange-bench-{os.getpid()}-{name}"}
        devices = tuple(device.format(**names) for device in variant.devices)
        ends = stack.enter_context(cable(variant.kernel_addresses)) if variant.has_cable else _NOWHERE
        options = ["--transport", variant.transport, "--address", variant.addresses[0]]
        options += ["--port", str(variant.ports[0]), "--core", str(cores.first), "--with-parent"]
        options += ["--device", devices[0]] if devices[0] else []
        reflector = stack.enter_context(_child((*ends.at_left, *child_command("reflect", *options))))
        where = _line_of(reflector, f"{name}: the reflector").split()
        port = choose(
            variant.transport, variant.addresses[1], variant.ports[1], devices[1], core=cores.second,
            link_timeout_s=LINK_SECONDS,
        )  # fmt: skip
        plan = ProberPlan(port, variant.addresses[0], int(where[-1]), payload_bytes, window, cores.second)
        module = (sys.executable, "-P", "-m", "exchange.bench.transport_prober")
        prober = stack.enter_context(_child((*ends.at_right, *module)))
        assert prober.stdin is not None
        with suppress(BrokenPipeError):
            prober.stdin.write(msgspec.json.encode(plan).decode() + "\n")
            prober.stdin.flush()
        _line_of(prober, f"{name}: the prober")
        reflector.send_signal(signal.SIGSTOP)
        yield Pair(reflector, prober)


@contextmanager
def _child(command: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for us
        env=child_environment(),
    )
    try:
        yield process
    finally:
        _end(process)


def _ask_to_end(process: "subprocess.Popen[Any]") -> None:
    process.terminate()
    process.send_signal(signal.SIGCONT)


def _end(process: "subprocess.Popen[Any]") -> None:
    _ask_to_end(process)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=STOP_SECONDS)
    process.kill()
    process.communicate()


def _line_of(process: "subprocess.Popen[str]", what: str) -> str:
    """The next line that a child says."""
    assert process.stdout is not None
    line = process.stdout.readline()  # the end of the process is the end of the line
    if not line:
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read().strip().splitlines() or ["it has ended"]
        raise UserError(f"{what} did not go on: {told[-1].removeprefix('exchange: ')}")
    return line
