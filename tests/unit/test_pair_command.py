"""``exchange serve --backup-of``, ``status`` and ``promote``: mistakes are told in a line, before anything starts."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from exchange.cli_pair import promote, status
from exchange.cli_serve import serve
from exchange.errors import UserError
from exchange.gateway.credentials import User, write_user
from exchange.replication import control_line
from exchange.replication.config import TcpReplicationConfig, check_name_of_primary, node_name

PAIR = ("--set", "replication.kind=tcp")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    write_user(tmp_path / "users", User.create("alice", "secret", 2))
    return tmp_path / "users"


def mistake_of_serve(users: Path, *arguments: str) -> str:
    """What the command says of what it was told."""
    result = CliRunner().invoke(serve, ["journaled", "--users", str(users), *arguments])
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_a_backup_takes_replication(users: Path) -> None:
    told = mistake_of_serve(users, "--backup-of", "10.0.0.1:9010")
    assert told.startswith("--backup-of 10.0.0.1:9010: profile journaled has replication.kind = none")


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:", ":9010", "10.0.0.1:99999"])
def test_the_primary_has_an_address(users: Path, address: str) -> None:
    told = mistake_of_serve(users, *PAIR, "--backup-of", address)
    assert told == f"--backup-of {address}: must be HOST:PORT, such as 10.0.0.1:9020"


def test_a_pair_has_its_page_beside_it(users: Path) -> None:
    assert mistake_of_serve(users, *PAIR, "--page").startswith(
        "--page: a pair of exchanges has its page beside it"
    )


def test_a_backup_needs_the_secret(users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_line, "SECRET_SECONDS", 0.1)
    secret = tmp_path / "secret"
    arguments = (*PAIR, "--set", f"replication.secret_file={secret}", "--backup-of", "127.0.0.1:1")
    arguments += ("--set", f"journal.directory={tmp_path / 'journal'}")
    told = mistake_of_serve(users, *arguments)
    assert (
        told
        == f"secret file {secret}: No such file or directory; 'exchange serve' of the primary makes it: copy it here"
    )
    secret.write_text("known to everybody")
    secret.chmod(0o644)
    assert "others can read it" in mistake_of_serve(users, *arguments)


@pytest.mark.parametrize("command", [status, promote])
def test_only_a_pair_has_a_status(command: object) -> None:
    result = CliRunner().invoke(command, ["journaled"])  # type: ignore[arg-type]
    assert str(result.exception) == (
        "profile journaled: replication.kind = none: it is no pair; allowed are tcp and rdma"
    )


def test_a_node_is_called_as_its_machine_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_name(TcpReplicationConfig(node="east-1")) == "east-1"
    monkeypatch.setattr("socket.gethostname", lambda: "host.example.org")
    assert node_name(TcpReplicationConfig()) == "host-example-org"


def test_a_backup_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    check_name_of_primary(TcpReplicationConfig(node="b"), "host", ("10.0.0.1", 9010))
    with pytest.raises(UserError) as told:
        check_name_of_primary(TcpReplicationConfig(), "host", ("10.0.0.1", 9010))
    assert str(told.value) == (
        "replication.node = '', for which the machine's name 'host' stands: the primary at 10.0.0.1:9010 is called"
        " 'host' too; the two of a pair need names of their own, such as --set replication.node=host-b"
    )
    longest = "x" * 64
    with pytest.raises(
        UserError, match=f"replication.node = '{longest}'.* --set replication.node=x{{62}}-b$"
    ):
        check_name_of_primary(TcpReplicationConfig(node=longest), longest, ("10.0.0.1", 9010))
