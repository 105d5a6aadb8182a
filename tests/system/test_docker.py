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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from exchange.cli import cli
from exchange.load.logins import read_logins
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


@pytest.mark.parametrize("files", [PLAIN, DPDK], ids=["plain", "dpdk"])
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
    """An exchange, its load and its feed, in containers."""

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

    def compose(self, *words: str, timeout_s: float = 300.0) -> str:
        return self.docker.checked(*self._compose, *words, timeout_s=timeout_s)

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", "--all", service).split()[-1]

    def inspected(self, service: str, what: str) -> str:
        return self.docker.checked("docker", "inspect", "--format", what, self.container(service)).strip()

    def log(self, service: str) -> str:
        return self.docker.checked("docker", "logs", self.container(service))


def trade(composition: Composition) -> None:
    """Up, until the load has measured; then the exchange ends in order, and the feed with it."""
    composition.compose("up", "--detach", "--no-build", timeout_s=START_SECONDS)
    try:
        ended = composition.docker.checked("docker", "wait", composition.container("load"), timeout_s=600)
        said = composition.log("load")
        assert ended.split()[-1] == "0", said
        # Requests at this rate that were sent, answered, rejected, lapsed and unanswered, and executions.
        account = re.search(rf"^ +{RATE}" + r" +([\d,]+)" * 6 + " ", said, re.MULTILINE)
        assert account is not None, said
        sent, answered, rejected, _lapsed, unanswered, executions = account.groups()
        assert (rejected, unanswered) == ("0", "0"), said
        assert "0" not in (sent, answered, executions), said
        statuses = composition.docker.checked(
            "docker", "exec", composition.container("exchange"), "sh", "-c", "cat /proc/[0-9]*/status"
        )
        assert "Name:\texchange\n" in statuses
        assert set(re.findall(r"^CapBnd:\s(\w+)$", statuses, re.MULTILINE)) == {"0" * 16}
        assert set(re.findall(r"^Uid:\s(\d+)\s", statuses, re.MULTILINE)) == {"1000"}
        composition.compose("stop", "exchange", timeout_s=120)
        composition.docker.checked("docker", "wait", composition.container("feed"), timeout_s=60)
        for service in ("users", "exchange", "feed"):
            assert composition.inspected(service, "{{.State.ExitCode}}") == "0", composition.log(service)
        assert " AAPL " in composition.log("feed")
        assert "end of session" in composition.log("feed")
    finally:
        composition.compose("down", "--volumes", "--timeout", "20", timeout_s=300)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_images_are_built_and_an_exchange_is_traded_on_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIRE", WIRE)
    monkeypatch.setenv("SECONDS_EACH", "2")
    monkeypatch.setenv("RATE", RATE)
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
        assert re.search(r"this\s+machine\s+has\s+libfabric\s+\d", diagnosis)
        trade(Composition(docker, DPDK, every | {"exchange": dpdk, "load": dpdk}, tmp_path))
