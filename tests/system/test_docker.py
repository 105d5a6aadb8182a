"""The images and compose files: what they say is checked everywhere, and where Docker runs they are built and run.

Without Docker: every file that is copied is there, every command line is one that the exchange takes, nobody is given
more than docs/privileges.md allows, and the script that makes users makes them.
"""

import json
import os
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import click
import msgspec
import pytest

from exchange.cli import cli
from exchange.load.logins import read_logins
from exchange.replication.config import TcpReplicationConfig
from exchange.settings import load_profile
from tests.docker_driver import (
    COMPILED_CODE,
    DOCKERFILE,
    REPOSITORY,
    Docker,
    base_image,
    build,
    docker_daemon,
)

FOLDER = REPOSITORY / "docker"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
PLAIN = ("compose.yaml",)
DPDK = ("compose.yaml", "compose.dpdk.yaml")
PAIR = ("compose.replicated.yaml",)
WIRE = "10.98.61"
RATE = "200"
"""Requests a second: few, so that whoever is slow keeps up and none is left without an answer."""

START_SECONDS = 1200
"""All is compiled in the container: a minute where there is nothing else to do, and tests have company."""


def services(*files: str) -> dict[str, dict[str, Any]]:
    """The services of compose files laid over each other, variables at their defaults."""
    yaml = pytest.importorskip("yaml", reason="no PyYAML here; the extra 'docs' has it")
    merged: dict[str, dict[str, Any]] = {}
    for name in files:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (FOLDER / name).read_text(encoding="utf-8"))
        for service, said in yaml.safe_load(text)["services"].items():
            merged.setdefault(service, {}).update(said)
    return merged


def parsed(words: list[str]) -> dict[str, Any]:
    """A command line of ours as the command line takes it; nothing is run."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, words[0]
    return command.make_context(words[0], list(words[1:])).params


def test_every_file_that_an_image_copies_is_there_and_reaches_the_builder() -> None:
    let_in = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sources = [word for copy in copies for word in copy.split()[:-1]]
    assert "exchange" in sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert f"!{source}" in let_in


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nobody_gets_every_privilege_and_no_secret_is_written_down(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"privileged: *true|docker run[^\n]*--privileged|seccomp[=:]unconfined", text)
    if path.suffix != ".md":
        assert not re.search(r"https?://(?!127\.0\.0\.1)|password *[=:] *[\w'\"]", text, re.IGNORECASE)


@pytest.mark.parametrize("files", [PLAIN, DPDK, PAIR], ids=["plain", "dpdk", "pair"])
def test_every_service_gives_up_all_capabilities(files: tuple[str, ...]) -> None:
    for service in services(*files).values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"cap_add", "devices", "privileged", "user"} & set(service)


@pytest.mark.parametrize("files", [PLAIN, DPDK], ids=["plain", "dpdk"])
def test_every_command_line_is_one_that_the_exchange_takes(files: tuple[str, ...]) -> None:
    found = services(*files)
    serve = parsed(found["exchange"]["command"])
    settings = load_profile(serve["profile"], serve["overrides"])
    load, feed = parsed(found["load"]["command"]), parsed(found["feed"]["command"])
    assert load["transport"] == msgspec.to_builtins(settings.transport)["kind"]
    assert load["endpoint"].endswith(f":{settings.transport.port}")
    assert feed["source"] == f"{settings.market_data.address}:{settings.market_data.port}"
    assert settings.market_data.source_address == found["exchange"]["networks"]["wire"]["ipv4_address"]
    assert feed["interface"] == found["feed"]["networks"]["wire"]["ipv4_address"]


def test_both_sides_of_memif_name_one_socket_in_a_volume_that_both_have() -> None:
    found = services(*DPDK)
    device = parsed(found["exchange"]["command"])["overrides"][0].partition("=")[2]
    assert device == parsed(found["load"]["command"])["device"].replace("role=client", "role=server")
    (folder,) = re.findall(r"socket=(/.*)/[^/,]*,socket-abstract=no", device)
    for name in ("exchange", "load"):
        assert f"state:{folder}" in found[name]["volumes"]


def test_each_of_a_pair_names_itself_the_other_one_and_the_store_of_their_lease() -> None:
    found = services(*PAIR)
    store, load = parsed(found["store"]["command"]), parsed(found["load"]["command"])
    addresses = {
        name: service["networks"]["wire"]["ipv4_address"]
        for name, service in found.items()
        if "networks" in service
    }
    assert addresses["store"] == store["address"]
    nodes = {}
    for name in ("first", "second", "first-again"):
        serve = parsed(found[name]["command"])
        settings = nodes[name] = load_profile(serve["profile"], serve["overrides"])
        assert isinstance(settings.replication, TcpReplicationConfig)
        assert settings.replication.lease_store == f"nats://{store['address']}:{store['port']}"
        assert {addresses[name]} == {
            settings.replication.address, settings.transport.address, settings.market_data.source_address
        }  # fmt: skip
        other = {"second": "first", "first-again": "second"}.get(name)
        assert serve["backup_of"] == (other and f"{addresses[other]}:{settings.replication.port}")
    assert nodes["first"] == nodes["first-again"]
    assert nodes["first"].replication.node != nodes["second"].replication.node
    assert nodes["first"].journal.directory != nodes["second"].journal.directory
    assert load["endpoint"] == ",".join(
        f"{addresses[name]}:{nodes[name].transport.port}" for name in ("first", "second")
    )


@pytest.fixture
def users_made(tmp_path: Path) -> tuple[Path, str]:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "exchange").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m exchange "$@"\n')
    (programs / "exchange").chmod(0o755)
    folder = tmp_path / "state"
    folder.mkdir()
    more = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    said = [
        subprocess.run(
            [FOLDER / "make-users.sh"], cwd=folder, env=os.environ | more, text=True, check=True,
            capture_output=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert "there already" in said[1]
    return folder, said[0]


def test_users_are_made_once_with_a_password_that_nobody_is_shown(users_made: tuple[Path, str]) -> None:
    folder, said = users_made
    logins = read_logins(str(folder / "logins"), None)
    assert [login.name for login in logins] == ["LOAD1", "LOAD2"]
    for name in ("logins", "exchange-users"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert logins[0].password not in said + (folder / "exchange-users").read_text()


class Composition:
    """What a compose file starts, with images of the test's; taken down at the end."""

    def __init__(self, docker: Docker, files: tuple[str, ...], images: dict[str, str], folder: Path) -> None:
        self.docker = docker
        self._name = f"exchange-test-{os.getpid()}-{len(files)}"
        said = {
            "services": {service: {"image": image} for service, image in images.items()},
            "volumes": {"cache": {"external": True, "name": COMPILED_CODE}},
        }
        override = folder / f"{self._name}.json"
        override.write_text(json.dumps(said))
        options = [
            word for name in (*(FOLDER / file for file in files), override) for word in ("-f", str(name))
        ]
        self._compose = (*docker.compose, "-p", self._name, *options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def compose(self, *words: str, timeout_s: float = 300.0) -> str:
        return self.docker.checked(*self._compose, *words, timeout_s=timeout_s)

    def start(self, *services: str) -> None:
        self.compose("up", "--detach", "--no-build", *services, timeout_s=START_SECONDS)

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", "--all", service).split()[-1]

    def wait(self, service: str, timeout_s: float) -> int:
        """Its exit status, when it has ended."""
        return int(self.docker.checked("docker", "wait", self.container(service), timeout_s=timeout_s))

    def log(self, service: str) -> str:
        return self.docker.checked("docker", "logs", self.container(service))

    def wait_for(self, service: str, said: str) -> None:
        """Until it has said that."""
        deadline = time.monotonic() + START_SECONDS
        while said not in (log := self.log(service)):
            assert time.monotonic() < deadline, log
            time.sleep(0.5)


def check_load(said: str) -> None:
    """All requests of the load have been answered, and there have been trades."""
    # At this rate: sent, answered, rejected, lapsed, unanswered, executions.
    account = re.search(rf"^ +{RATE}" + r" +([\d,]+)" * 6 + " ", said, re.MULTILINE)
    assert account is not None, said
    sent, answered, rejected, _lapsed, unanswered, executions = account.groups()
    assert (rejected, unanswered) == ("0", "0"), said
    assert "0" not in (sent, answered, executions), said


def check_privileges(composition: Composition, service: str) -> None:
    """Every process of it is an ordinary user's, without a capability, and with none to be had."""
    command = ("docker", "exec", composition.container(service), "sh", "-c", "cat /proc/[0-9]*/status")
    found = composition.docker.checked(*command)
    assert "Name:\texchange\n" in found
    assert set(re.findall(r"^CapBnd:\s(\w+)$", found, re.MULTILINE)) == {"0" * 16}
    assert set(re.findall(r"^Uid:\s(\d+)\s", found, re.MULTILINE)) == {"1000"}


def check_end(composition: Composition, exchange: str, *others: str) -> None:
    """The exchange ends in order when it is stopped, and the feed with it."""
    composition.compose("stop", exchange, timeout_s=120)
    for service in ("users", exchange, "feed", *others):
        assert composition.wait(service, 60) == 0, composition.log(service)
    assert " AAPL " in composition.log("feed")
    assert "end of session" in composition.log("feed")


def trade(composition: Composition) -> None:
    """Up, until the load has measured."""
    with composition:
        composition.start()
        status, said = composition.wait("load", 600), composition.log("load")
        assert status == 0, said
        check_load(said)
        check_privileges(composition, "exchange")
        check_end(composition, "exchange")


@pytest.fixture
def short_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE", WIRE)
    monkeypatch.setenv("SECONDS_EACH", "2")
    monkeypatch.setenv("RATE", RATE)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("short_load")
def test_images_are_built_and_an_exchange_is_traded_on_in_them(tmp_path: Path) -> None:
    with docker_daemon() as docker:
        base = base_image(docker, tmp_path)
        plain = build(docker, base, "plain")
        docker.checked("docker", "volume", "create", COMPILED_CODE)
        every = dict.fromkeys(("users", "exchange", "feed", "load"), plain)
        # The exchange compiles for a minute, on one core: time to install in the other images.
        with ThreadPoolExecutor(max_workers=1) as meanwhile:
            others = [meanwhile.submit(build, docker, base, target) for target in ("dpdk", "rdma")]
            trade(Composition(docker, PLAIN, every, tmp_path))
            dpdk, rdma = (other.result() for other in others)
        diagnosis = docker.checked("docker", "run", "--rm", "--network=none", rdma, "doctor")
        assert re.search(r"libfabric\s+\d", diagnosis)
        diagnosis = docker.checked("docker", "run", "--rm", "--network=none", dpdk, "doctor")
        assert re.search(r"DPDK\s+\d+\.\d+", diagnosis), diagnosis
        trade(Composition(docker, DPDK, every | {"exchange": dpdk, "load": dpdk}, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    "EXCHANGE_TEST_DOCKER" not in os.environ,
    reason="some minutes more, to compile for a pair: EXCHANGE_TEST_DOCKER=1 runs it",
)
@pytest.mark.usefixtures("short_load")
@pytest.mark.parametrize(("kind", "target"), [("tcp", "plain"), ("rdma", "rdma")])
def test_the_second_of_a_pair_goes_on_when_the_first_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, target: str
) -> None:
    monkeypatch.setenv("KIND", kind)
    monkeypatch.setenv("SECONDS_EACH", "60")
    with docker_daemon() as docker:
        image = build(docker, base_image(docker, tmp_path), target)
        docker.checked("docker", "volume", "create", COMPILED_CODE)
        every = dict.fromkeys(("users", "store", "first", "second", "first-again", "feed", "load"), image)
        with Composition(docker, PAIR, every, tmp_path) as pair:
            pair.start("second", "feed")
            pair.wait_for("second", 'state="in sync"')
            pair.start("load")
            pair.wait_for("first", "login user=LOAD2")
            time.sleep(5)
            pair.compose("kill", "first")
            pair.start("first-again")
            status, said = pair.wait("load", 600), pair.log("load")
            assert status == 0, said
            check_load(said)
            assert f"went on at {WIRE}.6:9005" in said
            assert "took over node=second" in pair.log("second")
            pair.wait_for("first-again", 'state="in sync"')
            check_privileges(pair, "second")
            check_end(pair, "second", "first-again")
