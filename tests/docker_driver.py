"""A Docker daemon for a test, and an image to build from: found, or made by hand where this machine lets us.

A daemon that answers is used as it is. Without one, root starts ``dockerd`` with folders of its own, without iptables
and without its default bridge, so that nothing outside them changes; it ends with the block and its folders with it.
The base image is the one that the ``Dockerfile`` names if it is there or can be fetched; else root makes one from the
mirror that this machine's apt knows, with debootstrap, and gives it this machine's certificates and pip's settings.

Rules: what cannot be had skips the test and says why. Images have names of the test's own, and so has the volume of
compiled code; a daemon that was there before keeps both, so that the next run builds and compiles little.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[1]
DOCKERFILE: Final = REPOSITORY / "docker" / "Dockerfile"
BUILD_SECONDS: Final = 1800
BASE: Final = "exchange-test-base"
COMPILED_CODE: Final = "exchange-test-cache"
"""The name of the volume that all containers of the test keep compiled code in."""
_READY_SECONDS: Final = 60.0
_AS_IN_SLIM_IMAGES: Final = {
    "etc/apt/apt.conf.d/docker-clean": 'APT::Keep-Downloaded-Packages "false";\n',
    "etc/dpkg/dpkg.cfg.d/docker": "force-unsafe-io\n"
    + "".join(f"path-exclude=/usr/share/{folder}/*\n" for folder in ("doc", "locale", "man")),
}
"""What Debian's images for Docker have and debootstrap does not make: packages that are installed take less."""


class Docker:
    """Commands to one daemon."""

    def __init__(self, environment: dict[str, str], compose: Sequence[str]) -> None:
        self.environment = environment
        self.compose = tuple(compose)

    def run(self, *command: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """The command to its end, output and errors together; the caller looks at the status."""
        return subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, text=True, check=False, timeout=timeout_s,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def checked(self, *command: str, timeout_s: float = 300.0) -> str:
        """What a command says that has to succeed."""
        done = self.run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-4000:]}"
        return done.stdout


@contextmanager
def docker_daemon() -> Iterator[Docker]:
    """A daemon that answers. Skips where there can be none."""
    if shutil.which("docker") is None:
        pytest.skip("no docker here: sudo apt-get install docker.io")
    compose = _compose_command()
    if _answers(os.environ.copy()):
        yield Docker(os.environ.copy(), compose)
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("no Docker daemon answers, and only root can start one (dockerd, of Debian's docker.io)")
    # The names of sockets in it have to be shorter than 108 characters, which pytest's folders leave no room for.
    folder = Path(tempfile.mkdtemp(prefix="exchange-dockerd-"))
    environment = os.environ | {"DOCKER_HOST": f"unix://{folder}/socket"}
    options = [f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--pidfile={folder}/pid"]
    options += ["--bridge=none", "--iptables=false", "--ip6tables=false", "-H", environment["DOCKER_HOST"]]
    with open(folder / "log", "w", encoding="utf-8") as log:
        daemon = subprocess.Popen(["dockerd", *options], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(environment):
            if daemon.poll() is not None or time.monotonic() > deadline:
                said = (folder / "log").read_text(encoding="utf-8").splitlines()[-1:]
                pytest.skip(f"dockerd does not run here: {' '.join(said)}")
            time.sleep(0.2)
        yield Docker(environment, compose)
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        # What a daemon may leave mounted: the host's network namespace on a file, and, if it could not start, its data
        # on themselves.
        for mounted in ("run/netns/default", "data"):
            subprocess.run(["umount", folder / mounted], capture_output=True, check=False)
        shutil.rmtree(folder)


def _answers(environment: dict[str, str]) -> bool:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def _compose_command() -> list[str]:
    plugin = ["docker", "compose"]
    if subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
        return plugin
    if shutil.which("docker-compose") is None:
        pytest.skip("neither docker compose nor docker-compose here: sudo apt-get install docker-compose")
    return ["docker-compose"]


def base_image(docker: Docker, folder: Path) -> str:
    """The name of an image to build from. Skips where there is none and none can be made."""
    (line,) = [one for one in DOCKERFILE.read_text("utf-8").splitlines() if one.startswith("ARG BASE_IMAGE=")]
    named = line.partition("=")[2]
    for command in (("image", "inspect", named), ("pull", named), ("image", "inspect", BASE)):
        if docker.run("docker", *command).returncode == 0:
            return command[-1]
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip(f"{named} cannot be fetched, and only root with debootstrap can make the like of it")
    root = folder / "base"
    suite = named.partition(":")[2].removesuffix("-slim")
    made = docker.run("debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(root))
    if made.returncode != 0:
        pytest.skip(f"{named} cannot be fetched nor made: {made.stdout.splitlines()[-1:]}")
    for path in ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):
        if Path("/", path).exists():
            shutil.copyfile(Path("/", path), root / path)
    for path, text in _AS_IN_SLIM_IMAGES.items():
        (root / path).write_text(text, encoding="utf-8")
    for path in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / path)
    docker.checked("sh", "-ec", f'tar -C "{root}" -c . | docker import - {BASE}')
    shutil.rmtree(root)
    return BASE


def build(docker: Docker, base: str, target: str) -> str:
    """Build one of the images; its name."""
    name = f"exchange-test-{target}"
    command = ["docker", "build", "--network=host", f"--build-arg=BASE_IMAGE={base}", f"--target={target}"]
    docker.checked(*command, f"--tag={name}", "-f", str(DOCKERFILE), ".", timeout_s=BUILD_SECONDS)
    return name
