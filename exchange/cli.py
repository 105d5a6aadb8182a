"""The command line: parse, call, print. Thin on purpose.

Commands are imported only when they are asked for, so that ``exchange --help`` answers at once. A
:class:`UserError` is printed on one line and exits with 2; Ctrl-C stops whatever runs and exits with 130, as
a shell expects; any other exception is our fault and keeps its traceback."""

import importlib
import os
import sys
from typing import Final

import click

from exchange import __version__
from exchange.ending import BROKEN_PIPE_STATUS, end_process, keep_ctrl_c, was_ctrl_c_lost
from exchange.errors import UserError

_COMMANDS: Final = {
    "demo": (
        "exchange.cli_bench:demo",
        "Compare the textbook exchange with each technique; a report in minutes.",
    ),
    "bench": (
        "exchange.cli_bench:bench",
        "Measure profiles, a layer (queue, book ...) or the matching core.",
    ),
    "replay": (
        "exchange.cli_replay:replay",
        "Play a recorded market (LOBSTER, ITCH 5.0) through the exchange.",
    ),
    "serve": (
        "exchange.cli_serve:serve",
        "Run an exchange on the network (SoupBinTCP, OUCH 5.0).",
    ),
    "load": (
        "exchange.cli_load:load",
        "Measure an exchange over the network, as its clients see it.",
    ),
    "reflect": (
        "exchange.cli_reflect:reflect",
        "Send every datagram back, to measure a transport by itself.",
    ),
    "send": (
        "exchange.cli_send:send",
        "Send a recorded market to an exchange on the network, and check its feed.",
    ),
    "lease-store": (
        "exchange.cli_replication:lease_store",
        "Run the store that says which of several exchanges is primary.",
    ),
    "status": ("exchange.cli_pair:status", "Show how a pair of exchanges is: who leads, who is in sync."),
    "promote": ("exchange.cli_pair:promote", "Have the backup of a pair of exchanges take over."),
    "failover-demo": (
        "exchange.cli_failover:failover_demo",
        "Kill a primary under load, and see what its clients felt.",
    ),
    "user": ("exchange.cli_serve:user", "Manage who may log on to an exchange on the network."),
    "admin": ("exchange.cli_admin:admin", "Look into a served exchange, halt a symbol, disconnect a user."),
    "journal": (
        "exchange.cli_journal:journal",
        "Look into an exchange's journal: inspect, verify, replay, compare.",
    ),
    "feed": ("exchange.cli_feed:feed", "Watch the best prices of an exchange's market data (MoldUDP64)."),
    "glimpse": (
        "exchange.cli_glimpse:glimpse",
        "Serve snapshots of a feed's books to those who join late (GLIMPSE 5.0).",
    ),
    "page": ("exchange.cli_page:page", "Show an exchange in the browser, and let people trade on it."),
    "simulate": (
        "exchange.cli_simulate:simulate",
        "Run the exchange through seeded faults, and check that it loses nothing.",
    ),
    "lab-vm": (
        "exchange.cli_lab_vm:lab_vm",
        "Run a command in an emulated machine with NUMA nodes and network cards.",
    ),
    "export": ("exchange.cli_export:export", "Write the order book as a C library that needs no Python."),
    "compare": ("exchange.cli_bench:compare", "Compare two result files."),
    "flame": ("exchange.cli_bench:flame", "Profile a running exchange and draw a flame graph."),
    "profile": ("exchange.cli_profile:profile", "List, show, compare and check profiles."),
    "topology": ("exchange.cli_machine:topology", "Show this machine and where threads would run, and why."),
    "doctor": ("exchange.cli_machine:doctor", "Say what this machine can run, and how to enable the rest."),
}
"""In the order of the help text: the main job first."""


class _LazyGroup(click.Group):
    """Knows its commands' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in _COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="exchange")
def cli() -> None:
    """A small stock exchange that shows what each technique of high-performance computing is worth on this machine.

    Begin with 'exchange demo'.
    """


def run_command() -> int:
    """Do what the command line says. The exit status: 0, 2 for a mistake in the input, or 130 after Ctrl-C."""
    try:
        return int(cli.main(standalone_mode=False) or 0)
    except UserError as error:
        click.echo(f"exchange: {error}", err=True)
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough, as in 'exchange profile list | head'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_STATUS
    except (KeyboardInterrupt, click.Abort):
        return _stopped()
    except SystemExit as ended:  # a command that has a status of its own
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:
        if was_ctrl_c_lost():
            return _stopped()
        raise


def _stopped() -> int:
    click.echo("exchange: stopped", err=True)
    return 130


def main() -> None:
    """The ``exchange`` command, and the end of its process."""
    keep_ctrl_c()
    end_process(run_command())
