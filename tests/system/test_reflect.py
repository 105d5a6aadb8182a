"""``exchange reflect`` as a person starts it: what is sent comes back, and how it ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 120.0


@contextmanager
def reflecting(*options: str) -> Iterator[tuple["subprocess.Popen[str]", tuple[str, int]]]:
    """A reflector on a free port, and where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange", "reflect", "--port", "0", *options],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:4] == ["reflecting", "at", "127.0.0.1", "port"], process.communicate()
        yield process, (words[2], int(words[4]))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("transport", ["udp", "udp-blocking"])
def test_every_datagram_comes_back_until_ctrl_c(transport: str) -> None:
    with reflecting("--transport", transport) as (process, where), _socket() as client:
        for number in range(20):
            client.sendto(b"datagram %d" % number, where)
            assert client.recvfrom(2000) == (b"datagram %d" % number, where)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, out, err.strip()) == (
            130,
            "reflected 20 datagrams\n",
            "exchange: stopped",
        )


def test_an_empty_datagram_comes_back_and_the_core_may_be_chosen() -> None:
    with reflecting("--core", "0") as (_, where), _socket() as client:
        client.sendto(b"", where)
        assert client.recvfrom(2000) == (b"", where)


def test_it_ends_in_order_when_it_is_terminated() -> None:
    with reflecting() as (process, _):
        process.terminate()
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, out, err) == (0, "reflected 0 datagrams\n", "")


def test_it_ends_with_its_parent_if_it_is_told_to() -> None:
    with reflecting("--with-parent") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert process.wait(TIMEOUT_SECONDS) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--transport", "pigeons"), "--transport pigeons: allowed are udp, udp-blocking, afxdp, dpdk"),
        (("--core", "4096"), "--core 4096: allowed are 0"),
        (("--address", "192.0.2.77"), "cannot listen on 192.0.2.77, port 9005: "),
        (("--transport", "dpdk", "--device", "pigeons0"), "--transport dpdk.device = 'pigeons0': "),
        (("--transport", "dpdk", "--port", "0"), "--transport dpdk.port = 0: "),
    ],
)
def test_a_mistake_is_told_in_one_line(options: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "exchange", "reflect", *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"exchange: {said}")
    assert done.stderr.count("\n") == 1


def _socket() -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("127.0.0.1", 0))
    client.settimeout(TIMEOUT_SECONDS)
    return client
