"""Boot the emulated machine, run a command or a shell in it, pass on what it says and how it ended.

qemu is a child of this process and dies with it, however that ends: Ctrl-C and SIGTERM end it at once, and the kernel
does if this process is killed. Nothing is written to a disk. The guest's output comes over lines of its own, apart
from what its kernel logs; at their end stands a word that nobody could guess, so that the machine can be ended
without shutting it down and yet nothing is lost.

Where KVM was chosen because a small guest ran by it, and the real one does not start, the machine is started again with
emulation: no command has run until then.

Rules: call from the main thread, since a child that dies with its parent dies with the thread that made it. The command
gets this process's environment, but for what names sockets of this machine, and no input.
"""

import math
import os
import secrets
import selectors
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from exchange.child_command import child_environment
from exchange.errors import UserError
from exchange.lab_vm.guest_kernel import DRIVERS, INITIAL_DRIVERS, GuestKernel, find_kernel, modules_for
from exchange.lab_vm.initial_files import initial_files
from exchange.lab_vm.machine import (
    COMPILER_VARIABLES,
    EMULATED_VARIABLE,
    Accelerator,
    Channels,
    Machine,
    check_machine,
    qemu_arguments,
)
from exchange.lab_vm.requirements import Programs, choose_accelerator, find_programs

TIMED_OUT_STATUS: Final = 124
"""As timeout(1) has it."""

_START_SECONDS: Final = {"kvm": 30, "tcg": 300}
"""A machine that has not started by then never will."""
_CONSOLE_TAIL_BYTES: Final = 4096
_CHUNK_BYTES: Final = 1 << 16
_OTHER_FILES: Final = ("/dev", "/proc", "/run", "/sys")
"""Folders of this machine that the guest has its own of."""
_LEFT_OUT: Final = (
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "SSH_AUTH_SOCK",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
)

type Write = Callable[[bytes], object]


class Job(NamedTuple):
    """What runs in the guest: a command (empty for a shell) in a folder of this machine, for at most ``timeout_s``.

    The time counts from the start of the machine; 0 is for ever.
    """

    command: tuple[str, ...]
    folder: Path
    timeout_s: float = 0.0


class _NotStarted(Exception):
    """The guest has not come as far as to say that it is up."""


def run_job(
    job: Job,
    machine: Machine,
    cache: Path,
    accelerator: Accelerator | None,
    output: Write,
    errors: Write,
    console: Write | None = None,
) -> int:
    """Boot, run the command, end the machine. The command's exit status, or :data:`TIMED_OUT_STATUS`.

    ``cache`` is where a kernel is kept; ``accelerator`` is tried out if it is None. What the command writes goes to
    ``output`` and ``errors`` as it comes, and what the guest's kernel logs to ``console``.

    Raises:
        UserError: This machine lacks something, or the guest ended before the command.
    """
    return _run(job, machine, cache, accelerator, _Writers(output, errors, console), has_terminal=False)


def run_shell(
    job: Job, machine: Machine, cache: Path, accelerator: Accelerator | None, console: Write | None = None
) -> int:
    """As :func:`run_job`, with the terminal of this process as the command's; the command is a shell unless it says."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("shell needs a terminal; exchange lab-vm run -- COMMAND needs none")
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    job = job._replace(command=job.command or (shell, "-i"))
    before = termios.tcgetattr(0)

    def write(text: bytes) -> None:
        os.write(2, text)

    try:
        return _run(job, machine, cache, accelerator, _Writers(write, write, console), has_terminal=True)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def check_folder(folder: Path) -> None:
    """Raise :class:`UserError` if the guest does not see what this machine has in a folder."""
    for other in _OTHER_FILES:
        if folder.is_relative_to(other):
            raise UserError(f"the guest has a {other} of its own: start from a folder that is not {folder}")


def job_script(job: Job, environment: Mapping[str, str]) -> str:
    """The shell script that is the job: its environment, its folder, its command."""
    names = (name for name in environment if name.isidentifier() and name.isascii())
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in names]
    lines.append(f"cd -- {shlex.quote(str(job.folder))} || exit 125")
    lines.append(f"exec {shlex.join(job.command)}")
    return "\n".join(lines) + "\n"


def job_environment(accelerator: Accelerator) -> dict[str, str]:
    """The environment of the command: ours, with this interpreter and this package found first, and the mark."""
    environment = {name: value for name, value in child_environment().items() if name not in _LEFT_OUT}
    folders = (
        str(Path(sys.executable).parent),
        environment.get("PATH", ""),
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    )
    environment["PATH"] = os.pathsep.join(filter(None, folders))
    environment[EMULATED_VARIABLE] = accelerator
    if not COMPILER_VARIABLES.keys() & environment.keys():
        environment |= COMPILER_VARIABLES
    return environment


def split_at_end(text: bytes, end: bytes) -> tuple[bytes, bytes, bool]:
    """What of a line's text may be passed on, what may be the beginning of its end, and whether the end was there."""
    before, found, _ = text.partition(end)
    if found:
        return before, b"", True
    for kept in range(min(len(end) - 1, len(text)), 0, -1):
        if end.startswith(text[-kept:]):
            return text[:-kept], text[-kept:], False
    return text, b"", False


class _Writers(NamedTuple):
    """Where it goes what the command writes, and what the guest's kernel logs (nowhere if it is None)."""

    output: Write
    errors: Write
    console: Write | None


class _Conversation:
    """What has come over the lines: text is passed on as it comes, up to the end of each line."""

    def __init__(self, end: bytes, writers: _Writers) -> None:
        self.is_up = False
        self.status: int | None = None
        self._writers = writers
        self._end = end
        self._kept = {"output": b"", "errors": b""}
        self._open = {"output", "errors"}
        self._console_tail = b""
        self._status_text = b""

    @property
    def has_ended(self) -> bool:
        return self.status is not None and not self._open

    def take(self, line: str, text: bytes) -> None:
        if line == "console":
            self._console_tail = (self._console_tail + text)[-_CONSOLE_TAIL_BYTES:]
            if self._writers.console is not None:
                self._writers.console(text)
        elif line == "status":
            self._status_text += text
            words = self._status_text.split()
            self.is_up = b"up" in words
            if self._status_text.endswith(b"\n") and b"ended" in words:
                self.status = int(words[-1])
        elif line in self._open:
            passed, self._kept[line], is_end = split_at_end(self._kept[line] + text, self._end)
            if is_end:
                self._open.remove(line)
            if passed:
                (self._writers.output if line == "output" else self._writers.errors)(passed)

    def last_words(self) -> str:
        """The last thing that qemu or the guest's kernel said, on one line."""
        text = self._console_tail.decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


class _Start(NamedTuple):
    """All that a start of the machine needs."""

    job: Job
    machine: Machine
    programs: Programs
    kernel: GuestKernel
    has_terminal: bool


def _run(
    job: Job,
    machine: Machine,
    cache: Path,
    accelerator: Accelerator | None,
    writers: _Writers,
    *,
    has_terminal: bool,
) -> int:
    """Run with the accelerator that is asked for or works, and once more if KVM only seemed to work."""
    check_machine(machine)
    check_folder(job.folder)
    programs = find_programs()
    start = _Start(job, machine, programs, find_kernel(cache), has_terminal)
    if (accelerator or choose_accelerator(programs.qemu)) == "kvm":
        try:
            return _run_once(start, "kvm", writers)
        except _NotStarted as failure:
            if accelerator is not None:
                raise UserError(f"the emulated machine did not start with KVM: {failure}") from failure
        writers.errors(b"exchange: the machine does not start with KVM; it is started again, emulated\n")
    try:
        return _run_once(start, "tcg", writers)
    except _NotStarted as failure:
        raise UserError(f"the emulated machine did not start: {failure}") from failure


def _run_once(start: _Start, accelerator: Accelerator, writers: _Writers) -> int:
    end = secrets.token_hex(16).encode()
    talk = _Conversation(end, writers)
    archive = _archive(start, accelerator, end)
    began_s = time.monotonic()
    deadline_s = began_s + start.job.timeout_s if start.job.timeout_s else math.inf
    start_deadline_s = began_s + _START_SECONDS[accelerator]
    with _qemu(start, accelerator, archive) as lines, selectors.DefaultSelector() as ready:
        for name, descriptor in lines.items():
            ready.register(descriptor, selectors.EVENT_READ, name)
        while ready.get_map() and not talk.has_ended:
            now_s = time.monotonic()
            if now_s >= deadline_s:
                return TIMED_OUT_STATUS
            if not talk.is_up and now_s >= start_deadline_s:
                raise _NotStarted(f"{_START_SECONDS[accelerator]} s have passed; {talk.last_words()}")
            until_s = deadline_s if talk.is_up else min(deadline_s, start_deadline_s)
            for key, _ in ready.select(None if until_s == math.inf else until_s - now_s):
                text = os.read(key.fd, _CHUNK_BYTES)
                talk.take(key.data, text)
                if not text:
                    ready.unregister(key.fd)
    if talk.status is not None:
        return talk.status
    if not talk.is_up:
        raise _NotStarted(talk.last_words())
    raise UserError(f"the emulated machine ended before its command did: {talk.last_words()}")


def _archive(start: _Start, accelerator: Accelerator, end: bytes) -> bytes:
    """The initial files, with the job as enter.sh expects it."""
    writable = enumerate(start.machine.writable)
    files = {
        "job": job_script(start.job, job_environment(accelerator)),
        "end": end.decode(),
        "drivers": " ".join(DRIVERS),
        "writable": "".join(f"writable{index} {path.resolve()}\n" for index, path in writable),
    }
    if start.has_terminal:
        columns, rows = os.get_terminal_size(1)
        files["terminal"] = ""
        files["job"] = f"/run/lab-vm/busybox stty rows {rows or 24} cols {columns or 80}\n" + files["job"]
    return initial_files(start.programs.busybox, modules_for(start.kernel, INITIAL_DRIVERS), files)


@contextmanager
def _qemu(start: _Start, accelerator: Accelerator, archive: bytes) -> Iterator[Mapping[str, int]]:
    """qemu, started, and our ends of its lines by name; it is dead when the block ends."""
    files = os.memfd_create("initial-files")
    with open(files, "wb", closefd=False) as stream:
        stream.write(archive)
    ours, theirs = {}, {}
    for name in ("console", "output", "errors", "status"):
        ours[name], theirs[name] = os.pipe()
    kernel = start.kernel
    channels = Channels(**theirs, has_terminal=start.has_terminal)
    arguments = qemu_arguments(
        start.machine, accelerator, kernel.image, kernel.modules, f"/dev/fd/{files}", channels
    )
    inherited = (*theirs.values(), files)
    child: subprocess.Popen[bytes] | None = None
    try:
        child = subprocess.Popen(
            [start.programs.setpriv, "--pdeathsig", "KILL", start.programs.qemu, *arguments],
            stdin=None if start.has_terminal else subprocess.DEVNULL,
            stdout=None if start.has_terminal else theirs["console"],
            stderr=theirs["console"],
            pass_fds=inherited,
            start_new_session=not start.has_terminal,
        )
        for descriptor in inherited:
            os.close(descriptor)
        inherited = ()
        yield ours
    finally:
        if child is not None:
            child.kill()
            child.wait()
        for descriptor in (*inherited, *ours.values()):
            os.close(descriptor)
