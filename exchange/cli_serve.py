"""``exchange serve`` and ``exchange user``: an exchange on the network, and who may log on to it.

The commands only parse, call :mod:`exchange.gateway` and print; everything is imported when they run. A mistake in the
input leaves as :class:`~exchange.errors.UserError`; Ctrl-C as KeyboardInterrupt, after the exchange has ended its
sessions: the command line makes exit codes of them."""

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from exchange.errors import UserError
from exchange.logs import LogFormat, start_logging

_USERS_FILE = "exchange-users"


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How each line of the log (standard error) is written.",
)


@click.command()
@click.argument("profile", default="serve")
@click.option("--port", type=int, metavar="PORT", help="The same as --set transport.port=PORT.")
@click.option(
    "--users", "users_file", metavar="FILE", help="Who may log on; the same as --set gateway.users_file=FILE."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a value of the profile, as in --set idle.kind=busy-spin. May be repeated.",
)
@click.option(
    "--backup-of",
    metavar="HOST:PORT",
    help="Follow the exchange whose pair listens there (its replication.port), and take over when it is lost.",
)
@click.option("--quiet", is_flag=True, help="Log warnings only, not each logon.")
@log_format_option
@click.option(
    "--page",
    "page_listen",
    is_flag=False,
    flag_value="127.0.0.1:8080",
    metavar="[HOST:PORT]",
    help="Show the exchange in the browser there as well; 127.0.0.1:8080 if no address follows.",
)
@click.option(
    "--page-certificate", default="", metavar="FILE", help="Serve the page over https, with this certificate."
)
@click.option("--page-key", default="", metavar="FILE", help="The certificate's private key.")
def serve(
    profile: str,
    port: int | None,
    users_file: str | None,
    overrides: tuple[str, ...],
    backup_of: str | None,
    quiet: bool,
    log_format: LogFormat,
    page_listen: str | None,
    page_certificate: str,
    page_key: str,
) -> None:
    """Run an exchange on the network for clients that speak SoupBinTCP and OUCH 5.0 or 4.2.

    PROFILE [default: serve] is a profile's name, or the path of a file; its transport must be tcp or udp. Users are
    made with 'exchange user add'. SIGTERM and Ctrl-C end it in order: every client is sent what is due to it and End of
    Session. An exchange of a pair (replication.kind) that finds that the other one has replaced it ends with status 3.
    """
    from exchange.cli_pair import serve_one_of_a_pair
    from exchange.gateway.credentials import read_users
    from exchange.gateway.server import Server
    from exchange.page.page_process import PageProcess, page_arguments
    from exchange.replication.config import NoneReplicationConfig
    from exchange.settings import load_profile

    said = [f"transport.port={port}"] if port is not None else []
    said += [f"gateway.users_file={users_file}"] if users_file is not None else []
    settings = load_profile(profile, [*overrides, *said])
    start_logging(log_format, quiet=quiet)
    users = read_users(Path(settings.gateway.users_file))
    if backup_of is not None or not isinstance(settings.replication, NoneReplicationConfig):
        if page_listen is not None:
            raise UserError("--page: a pair of exchanges has its page beside it: 'exchange page' shows one")
        serve_one_of_a_pair(settings, users, backup_of)
        return
    server = Server(settings, users)
    server.leave_cores_to_agents()
    page: AbstractContextManager[object] = nullcontext()
    if page_listen is not None:
        page = PageProcess(page_arguments(server, page_listen, page_certificate, page_key))
    with page:
        ended_by = server.run(
            progress=lambda text: click.echo(text, err=True),
            listening=lambda address, at: click.echo(f"listening on {address} port {at}"),
        )
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt


@click.group()
def user() -> None:
    """Manage who may log on to an exchange on the network."""


@user.command("add")
@click.argument("name")
@click.option(
    "--users", "users_file", default=_USERS_FILE, show_default=True, metavar="FILE", help="The users' file."
)
@click.option(
    "--password-env",
    metavar="VARIABLE",
    help="Take the password from this environment variable instead of asking for it.",
)
@click.option(
    "--cancel-on-disconnect",
    is_flag=True,
    help="Cancel all of the user's orders whenever its connection ends, for whatever reason.",
)
@click.option(
    "--protocol",
    type=click.Choice(("ouch50", "ouch42")),
    default="ouch50",
    show_default=True,
    help="The version of OUCH that the user speaks: 5.0 or 4.2.",
)
def add(
    name: str, users_file: str, password_env: str | None, cancel_on_disconnect: bool, protocol: str
) -> None:
    """Add a user, or give one another password.

    NAME has up to six letters and digits, the password up to ten, as SoupBinTCP has room for; case makes no difference.
    The file keeps a hash of the password and not the password.
    """
    from exchange.gateway.credentials import User, check_name, write_user

    check_name(name)
    if password_env is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    elif (password := os.environ.get(password_env, "")) == "":
        raise UserError(f"--password-env {password_env}: there is no such environment variable")
    made = User.create(name, password, cancels_on_disconnect=cancel_on_disconnect, protocol=protocol)
    is_new = write_user(Path(users_file), made)
    click.echo(f"{'added' if is_new else 'changed'} {name.upper()} in {users_file}")
