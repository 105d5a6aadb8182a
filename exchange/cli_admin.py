"""``exchange admin``: look into a served exchange and steer it, from another terminal of the same machine.

Each command asks the admin interface once (:mod:`exchange.admin.client`) and prints a table, or with ``--json`` what it
was answered. A mistake leaves as :class:`~exchange.errors.UserError`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from exchange.admin.client import AdminClient

_URL = "http://127.0.0.1:9010"
_TOKEN_FILE = "exchange-admin-token"


class _Asking:
    """Where to ask, and how to print."""

    def __init__(self, url: str, token_file: str, ca: str, as_json: bool) -> None:
        self._url, self._token_file, self._ca, self.is_json = url, token_file, ca, as_json

    def client(self) -> "AdminClient":
        from exchange.admin.access import read_token
        from exchange.admin.client import AdminClient
        from exchange.tls import client_context

        trusted = client_context(self._ca, "--ca") if self._ca else None
        return AdminClient(self._url, read_token(Path(self._token_file)), trusted=trusted)

    def show(self, document: Any, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """The document as JSON, or these rows as a table."""
        if self.is_json:
            click.echo(json.dumps(document, indent=2))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in columns:
            is_number = bool(rows) and isinstance(rows[0][columns.index(name)], int | float)
            table.add_column(name, justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            table.add_row(*("" if one is None else str(one) for one in row))
        Console(soft_wrap=True).print(table)


@click.group()
@click.option("--url", default=_URL, show_default=True, help="Where the admin interface is.")
@click.option(
    "--token-file",
    default=_TOKEN_FILE,
    show_default=True,
    metavar="FILE",
    help="The token; the environment variable EXCHANGE_ADMIN_TOKEN goes before it.",
)
@click.option(
    "--ca",
    default="",
    metavar="FILE",
    help="For an https URL: the certificates to trust (PEM), instead of those that this machine trusts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.pass_context
def admin(context: click.Context, url: str, token_file: str, ca: str, as_json: bool) -> None:
    """Look into an exchange that 'exchange serve' runs, halt a symbol, disconnect a user.

    The exchange's profile must have admin.kind = http, as the profile serve has. Run it in the folder where the
    exchange was started, or say where the token's file is.
    """
    context.obj = _Asking(url, token_file, ca, as_json)


@admin.command()
@click.pass_obj
def sessions(asking: _Asking) -> None:
    """Who is connected, and what each session has used up."""
    found = asking.client().get("sessions")
    columns = (
        "user",
        "connected",
        "address",
        "requests",
        "sequence",
        "orders",
        "log bytes",
        "last closed by",
    )
    rows = [
        (
            one["user"],
            ("yes" if one["is_connected"] else "no") + (", killed" if one["is_killed"] else ""),
            one["address"],
            one["requests"],
            one["last_sequence"],
            one["orders_alive"],
            one["log_used_bytes"],
            one["last_close_reason"],
        )
        for one in found
    ]
    asking.show(found, columns, rows)


@admin.command()
@click.argument("user")
@click.pass_obj
def disconnect(asking: _Asking, user: str) -> None:
    """End the connection of USER, who may come back."""
    _show_done(asking, asking.client().post("sessions", user, "disconnect"))


@admin.command("cancel-all")
@click.argument("user")
@click.pass_obj
def cancel_all(asking: _Asking, user: str) -> None:
    """Cancel all orders of USER."""
    _show_done(asking, asking.client().post("sessions", user, "cancel-all"))


@admin.command()
@click.argument("user")
@click.pass_obj
def kill(asking: _Asking, user: str) -> None:
    """Take no new orders and no replaces of USER any more, and cancel all that there are."""
    _show_done(asking, asking.client().post("sessions", user, "kill"))


@admin.command()
@click.argument("user")
@click.pass_obj
def revive(asking: _Asking, user: str) -> None:
    """Take orders of USER again, who was killed."""
    _show_done(asking, asking.client().post("sessions", user, "revive"))


@admin.command()
@click.pass_obj
def risk(asking: _Asking) -> None:
    """What each session and each symbol may, and what is used up of it."""
    _show_risk(asking, asking.client().get("risk"))


@admin.command("limit-session")
@click.argument("user")
@click.argument("limit")
@click.argument("value", type=int)
@click.pass_obj
def limit_session(asking: _Asking, user: str, limit: str, value: int) -> None:
    """Change the limit LIMIT of USER, as 'risk' names it, to VALUE until the exchange ends; 0 is no limit."""
    found = asking.client().put("sessions", user, "limits", limit=limit, value=value)
    _show_risk(asking, found)


@admin.command("limit-symbol")
@click.argument("symbol")
@click.argument("limit")
@click.argument("value", type=int)
@click.pass_obj
def limit_symbol(asking: _Asking, symbol: str, limit: str, value: int) -> None:
    """Change the limit LIMIT of SYMBOL, as 'risk' names it, to VALUE until the exchange ends; 0 is no limit."""
    found = asking.client().put("symbols", symbol, "limits", limit=limit, value=value)
    _show_risk(asking, found)


@admin.command("reference-price")
@click.argument("symbol")
@click.argument("price_ticks", type=int)
@click.pass_obj
def reference_price(asking: _Asking, symbol: str, price_ticks: int) -> None:
    """Lay the collar of SYMBOL around PRICE_TICKS until its next trade."""
    found = asking.client().put("symbols", symbol, "reference-price", price_ticks=price_ticks)
    _show_risk(asking, found)


@admin.command()
@click.pass_obj
def symbols(asking: _Asking) -> None:
    """Which symbols trade, and which shard each is on."""
    _show_symbols(asking, asking.client().get("symbols"))


@admin.command()
@click.argument("symbol")
@click.option("--reason", default="", metavar="CODE", help="As the feed tells it, such as T1 (news pending).")
@click.pass_obj
def halt(asking: _Asking, symbol: str, reason: str) -> None:
    """Halt SYMBOL: no new orders and no replaces; cancels go on."""
    _show_symbols(asking, asking.client().post("symbols", symbol, "halt", reason=reason))


@admin.command()
@click.argument("symbol")
@click.option("--reason", default="", metavar="CODE", help="As the feed tells it, such as T3 (news is out).")
@click.pass_obj
def resume(asking: _Asking, symbol: str, reason: str) -> None:
    """Let SYMBOL trade again."""
    _show_symbols(asking, asking.client().post("symbols", symbol, "resume", reason=reason))


@admin.command()
@click.pass_obj
def limits(asking: _Asking) -> None:
    """What has an end, and how full it is."""
    _show_limits(asking, asking.client().get("limits"))


@admin.command("set-limit")
@click.argument("name")
@click.argument("value", type=int)
@click.pass_obj
def set_limit(asking: _Asking, name: str, value: int) -> None:
    """Change the limit NAME, as 'limits' names it, to VALUE (nanoseconds) until the exchange ends."""
    _show_limits(asking, asking.client().put("limits", name=name, value=value))


@admin.command()
@click.pass_obj
def statistics(asking: _Asking) -> None:
    """Counts, queues and latency, as they are now."""
    found = asking.client().get("statistics")
    rows = [(name, value) for name, value in _flat("", found) if value is not None]
    asking.show(found, ("what", "value"), rows)


def _show_risk(asking: _Asking, found: dict[str, Any]) -> None:
    """Sessions, then symbols; as JSON in one document."""
    if asking.is_json:
        asking.show(found, (), ())
        return
    _show_session_risks(asking, found["sessions"])
    columns = ("symbol", "reference price", "limits")
    rows = [(one["symbol"], one["reference_price_ticks"], _joined(one["limits"])) for one in found["symbols"]]
    asking.show(found, columns, rows)


def _show_session_risks(asking: _Asking, found: Any) -> None:
    rows = found if isinstance(found, list) else [found]
    columns = ("user", "open orders", "exposure", "limits", "refused")
    asking.show(
        found,
        columns,
        [
            (
                one["user"],
                one["open_orders"],
                one["exposure"],
                _joined(one["limits"]),
                _joined(one["refused"]),
            )
            for one in rows
        ],
    )


def _joined(numbers: dict[str, int]) -> str:
    """Names and numbers on a line, without those that are 0."""
    return " ".join(f"{name}={value}" for name, value in numbers.items() if value)


def _flat(name: str, document: Any) -> list[tuple[str, Any]]:
    """A document as a list of dotted names and values."""
    if isinstance(document, dict):
        items = [(f"{name}.{key}" if name else key, value) for key, value in document.items()]
    elif isinstance(document, list):
        items = [(f"{name}.{index}", value) for index, value in enumerate(document)]
    else:
        return [(name, document)]
    return [pair for key, value in items for pair in _flat(key, value)]


def _show_done(asking: _Asking, done: dict[str, Any]) -> None:
    asking.show(done, ("user", "session", "action"), [(done["user"], done["session"], done["action"])])


def _show_symbols(asking: _Asking, found: Any) -> None:
    rows = found if isinstance(found, list) else [found]
    asking.show(
        found,
        ("symbol", "state", "reason", "shard"),
        [(one["symbol"], one["state"], one["reason"], one["shard"]) for one in rows],
    )


def _show_limits(asking: _Asking, found: list[dict[str, Any]]) -> None:
    rows = [
        (one["name"], one["used"], one["capacity"], "yes" if one["is_changeable"] else "") for one in found
    ]
    asking.show(found, ("limit", "used", "capacity", "changeable"), rows)
