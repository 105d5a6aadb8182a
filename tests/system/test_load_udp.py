"""``exchange load --transport udp`` against a served exchange, straight and through a bad relay."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from exchange.bench.results import from_json, read_result, to_json
from exchange.bench.runner import Progress
from exchange.errors import UserError
from exchange.load import generator
from exchange.load.generator import compile_loop, run_load_plan
from exchange.load.logins import Endpoint, Login
from exchange.load.plan import LoadPlan
from tests.system.test_load import NAMES, plan, start, unused_port
from tests.system.test_serve_command import PASSWORD, served, write_cheap_user
from tests.udp_driver import relaying

SETTINGS = ("--quiet", "--set", "transport.kind=udp", "--set", "gateway.log_bytes=1GiB")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Where an exchange over UDP with six users listens, with logs for all that a quick machine can do here."""
    users = tmp_path_factory.mktemp("load") / "users"
    for name in NAMES:
        write_cheap_user(users, name)
    compile_loop("udp")
    with served(users, *SETTINGS) as (_process, port):
        yield Endpoint("127.0.0.1", port)


@pytest.mark.parametrize("sessions", [1, 6])
def test_every_request_is_accounted_for(endpoint: Endpoint, sessions: int) -> None:
    asked = plan(endpoint, sessions, 2000.0, orders=4, rounds=2, transport="udp")
    result = from_json(to_json(run_load_plan(asked, "exchange load", Progress())), "a smoke run")
    assert result.warnings == ()
    (profile,) = result.profiles
    assert profile.description == f"{sessions} sessions over UDP, one thread"
    assert profile.settings["load"]["transport"] == "udp"
    for point in profile.load_points:
        counts = point.counts
        assert counts["sent"] == 1000
        assert counts["answered"] + counts["lapsed"] == counts["sent"]
        assert counts["rejected"] == counts["unanswered"] == counts["not sent"] == 0
        assert counts["executions"] >= 2
        assert 0 < point.sample_count <= point.commands
        assert set(point.back_pressure) == {"line", "sent again", "asked again", "strange datagrams"}


def test_a_closed_loop_finds_what_is_answered_at_most(endpoint: Endpoint) -> None:
    result = run_load_plan(plan(endpoint, 2, None, window=8, transport="udp"), "exchange load", Progress())
    (one,) = result.profiles[0].saturation_rounds
    assert one.counts["answered"] + one.counts["lapsed"] == one.counts["sent"] > 100


def test_orders_do_not_outlive_the_run(endpoint: Endpoint) -> None:
    """A second run would trade with what the first had left behind: one session's makers never trade by themselves."""
    for _ in range(2):
        asked = plan(endpoint, 1, 500.0, middle_ticks=55_0000, transport="udp")
        counts = run_load_plan(asked, "exchange load", Progress()).profiles[0].load_points[0].counts
        assert counts["answered"] + counts["lapsed"] == counts["sent"] == 250


def test_through_a_relay_that_loses_datagrams_every_request_is_answered(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seventh of all datagrams lost, as many doubled and delayed, both ways, from logging on to logging out."""
    monkeypatch.setattr(generator, "DRAIN_NS", 20_000_000_000)  # a busy machine may take its time

    async def scenario() -> None:
        async with relaying(endpoint, seed=3, trouble=0.15) as (relay, address):
            asked = plan(Endpoint(*address), 3, 1500.0, None, window=4, transport="udp")
            result = await asyncio.to_thread(run_load_plan, asked, "exchange load", Progress())
            assert min(relay.counts.values()) > 20
        assert result.warnings == ()
        (profile,) = result.profiles
        for one in (*profile.load_points, *profile.saturation_rounds):
            assert one.counts["answered"] + one.counts["lapsed"] == one.counts["sent"] > 100
            assert one.counts["rejected"] == one.counts["unanswered"] == 0
            assert one.back_pressure["sent again"] > 0
            assert one.back_pressure["asked again"] > 0

    asyncio.run(scenario())


def test_the_command_says_what_was_sent_again(endpoint: Endpoint, tmp_path: Path) -> None:
    figures, page = tmp_path / "load.json", tmp_path / "load.html"
    process = start(
        str(endpoint), "--transport", "udp", "--users", "alice,bob", "--password-env", "SECRET", "--rate", "1000",
        "--seconds", "0.2", "--warm-up", "0.1", "--json", str(figures), "--html", str(page),
    )  # fmt: skip
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "sent again" in printed
    assert "sent again" in page.read_text()
    assert "over UDP" in read_result(figures).profiles[0].description


def test_ctrl_c_ends_it_in_order(endpoint: Endpoint, tmp_path: Path) -> None:
    process = start(
        str(endpoint), "--transport", "udp", "--users", "alice", "--password-env", "SECRET", "--rate", "100",
        "--seconds", "60", "--json", str(tmp_path / "none.json"),
    )  # fmt: skip
    time.sleep(4)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told.strip()) == (130, "exchange: stopped")


@pytest.mark.parametrize(
    ("place", "password", "told"),
    [
        (None, "WRONG", "login of ALICE refused by 127.0.0.1:"),
        pytest.param(f"127.0.0.1:{unused_port()}", "SECRET", "Connection refused", id="nobody"),
        ("[::1]:9005", "SECRET", "cannot connect to [::1]:9005"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    endpoint: Endpoint, place: str | None, password: str, told: str
) -> None:
    process = start(
        place or str(endpoint), "--transport", "udp", "--users", "alice", "--password-env", password
    )
    printed, errors = process.communicate(timeout=60)
    (line,) = errors.splitlines()
    assert told in line
    assert PASSWORD not in line
    assert (process.returncode, printed) == (2, "")


def test_an_exchange_that_hangs_up_is_named(tmp_path: Path) -> None:
    """The log of a session is 4 MiB here, some sixty thousand answers; then the exchange ends the connection."""
    users = tmp_path / "users"
    write_cheap_user(users, "frank")
    with served(users, *SETTINGS[:3]) as (_process, port):
        asked = LoadPlan(
            Endpoint("127.0.0.1", port), (Login("FRANK", PASSWORD),), (None,), seconds=20.0, window=500, transport="udp"
        )  # fmt: skip
        with pytest.raises(UserError, match=r"session of FRANK, after [\d,]+ answers: the exchange closed"):
            run_load_plan(asked, "exchange load", Progress())


def wait_for_socket(process: subprocess.Popen[str]) -> None:
    """Until it has opened one: its start takes as long as the machine is busy."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        with suppress(FileNotFoundError):  # a file was closed while we looked
            if any("socket:" in os.readlink(one) for one in Path(f"/proc/{process.pid}/fd").iterdir()):
                return
        time.sleep(0.05)
    pytest.fail("the load opened no socket")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_exchange_that_ends_is_told(tmp_path: Path, number: signal.Signals) -> None:
    users = tmp_path / "users"
    write_cheap_user(users, "frank")
    with served(users, *SETTINGS) as (process, port):
        load = start(
            f"127.0.0.1:{port}", "--transport", "udp", "--users", "frank", "--password-env", "SECRET", "--rate", "1000",
            "--seconds", "30", "--json", str(tmp_path / "none.json"),
        )  # fmt: skip
        wait_for_socket(load)
        time.sleep(2)  # to log on and send some orders
        assert load.poll() is None, load.communicate()
        process.send_signal(number)
        _, told = load.communicate(timeout=60)
    ended = "the exchange ended the session" if number == signal.SIGTERM else "nobody listens there any more"
    assert load.returncode == 2
    assert ended in told
