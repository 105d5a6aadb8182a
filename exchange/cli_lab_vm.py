"""``exchange lab-vm``: run a command or a shell in the emulated machine.

The commands only parse, call :mod:`exchange.lab_vm` and print. Their exit status is that of the command which ran in
the machine; a mistake in the input leaves as :class:`~exchange.errors.UserError`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from exchange.cache_folder import cache_root
from exchange.ending import ended_by_sigterm
from exchange.errors import UserError
from exchange.lab_vm.machine import CARD_KINDS, CARDS_MAX, Machine

_TERMINATED_STATUS = 143
"""As a shell has it: 128 and the number of SIGTERM."""
_TIMEOUT_SECONDS_MAX = 1_000_000.0


@click.group()
def lab_vm() -> None:
    """Run something in an emulated machine: two NUMA nodes, and network cards that can be taken from the kernel.

    The machine sees the files of this one, runs as root, and forgets what it wrote when it ends. Needs qemu; 'exchange
    doctor' says what is missing. Times that are measured in it mean nothing.
    """


def _machine_options[F: Callable[..., Any]](command: F) -> F:
    """The options that describe the machine, the same for each command."""
    options = (
        click.option(
            "--memory",
            "memory_mib",
            type=int,
            default=2048,
            show_default=True,
            metavar="MIB",
            help="Memory, half of it on each node.",
        ),
        click.option(
            "--cpus",
            type=int,
            default=4,
            show_default=True,
            metavar="N",
            help="Processors, half of them on each node.",
        ),
        click.option(
            "--card",
            "cards",
            type=click.Choice([*CARD_KINDS, "none"]),
            multiple=True,
            help=f"A network card; repeated, up to {CARDS_MAX}. The first is joined to the second, the third to"
            " the fourth. Two of each kind unless given.",
        ),
        click.option(
            "--writable",
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FOLDER",
            help="A folder of this machine in which what is written stays. May be repeated.",
        ),
        click.option(
            "--accelerator",
            type=click.Choice(["auto", "kvm", "tcg"]),
            default="auto",
            show_default=True,
            help="kvm uses the processor, tcg emulates it; auto uses kvm if it works.",
        ),
        click.option(
            "--verbose", is_flag=True, help="Show what the machine's kernel logs, on the error stream."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@lab_vm.command(context_settings={"allow_interspersed_args": False})
@_machine_options
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="End the machine after this time, with exit status 124.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    memory_mib: int,
    cpus: int,
    cards: tuple[str, ...],
    writable: tuple[Path, ...],
    accelerator: Literal["auto", "kvm", "tcg"],
    verbose: bool,
    timeout_s: float,
    command: tuple[str, ...],
) -> None:
    """Boot the machine, run COMMAND in this folder as root, and end with its exit status.

    What it prints comes as it is printed. It has no input. Ctrl-C ends the machine at once.
    """
    from exchange.lab_vm.running import TIMED_OUT_STATUS, Job, run_job

    if not 0 <= timeout_s <= _TIMEOUT_SECONDS_MAX:
        raise UserError(
            f"--timeout {timeout_s:g}: allowed are 0, for none, to {_TIMEOUT_SECONDS_MAX:,.0f} seconds"
        )
    job = Job(command, Path.cwd(), timeout_s)
    status = _TERMINATED_STATUS
    with ended_by_sigterm():
        status = run_job(
            job,
            _machine(memory_mib, cpus, cards, writable, verbose),
            cache_root() / "lab-vm",
            None if accelerator == "auto" else accelerator,
            _writer(sys.stdout),
            _writer(sys.stderr),
            _writer(sys.stderr) if verbose else None,
        )
    if status == TIMED_OUT_STATUS and timeout_s:
        click.echo(f"exchange: ended after --timeout {timeout_s:g} seconds", err=True)
    raise SystemExit(status)


@lab_vm.command()
@_machine_options
def shell(
    memory_mib: int,
    cpus: int,
    cards: tuple[str, ...],
    writable: tuple[Path, ...],
    accelerator: Literal["auto", "kvm", "tcg"],
    verbose: bool,
) -> None:
    """Boot the machine and work in it, in this folder, as root.

    'exit' or Ctrl-D ends it, with the shell's exit status. If it hangs, Ctrl-A X does; Ctrl-A Ctrl-A is Ctrl-A.
    """
    from exchange.lab_vm.running import Job, run_shell

    status = _TERMINATED_STATUS
    with ended_by_sigterm():
        status = run_shell(
            Job((), Path.cwd()),
            _machine(memory_mib, cpus, cards, writable, verbose),
            cache_root() / "lab-vm",
            None if accelerator == "auto" else accelerator,
            _writer(sys.stderr) if verbose else None,
        )
    raise SystemExit(status)


def _machine(
    memory_mib: int, cpus: int, cards: tuple[str, ...], writable: tuple[Path, ...], verbose: bool
) -> Machine:
    if "none" in cards and len(cards) > 1:
        raise UserError("--card none: allowed only by itself")
    kinds: Any = tuple(card for card in cards if card != "none") if cards else Machine().cards
    return Machine(memory_mib, cpus, kinds, tuple(folder.absolute() for folder in writable), verbose)


def _writer(stream: Any) -> Callable[[bytes], None]:
    def write(text: bytes) -> None:
        stream.buffer.write(text)
        stream.buffer.flush()

    return write
