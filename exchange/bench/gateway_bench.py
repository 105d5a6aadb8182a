"""How long an order takes through an exchange on the network, beside a C program that only sends the bytes back.

Two processes on two cores of this machine, over the loopback or past it. One is a server that polls, the other sends to
it. What is measured in turns:

=================  =====================================================================================
variant            what it is
=================  =====================================================================================
sockperf           Debian's ``sockperf``, server and client: no decoding, no book, no log. What the kernel takes.
sockperf-udp       the same with datagrams
serve              ``exchange serve``
serve-no-feed      the same without market data: what publishing costs the order path
serve-udp          as ``serve``, with orders and answers in datagrams, acknowledged and sent again when lost
serve-udp-no-feed  the same without market data
bypass-no-feed     as that, with the datagrams in frames that DPDK polls, through memif: memory, and no wire
=================  =====================================================================================

*Round trip*: one session sends an order and waits for its answer before it sends the next. For the exchange the time is
from handing an Enter Order to the socket until its Order Accepted has been received; replaces and cancels are between
the orders and not counted. sockperf sends messages of the size of an Enter Order packet. Both sides poll in both cases.

*Rate*: eight sessions, each with as many requests under way as the window says. Beside it stands what a request takes
of either side's core, in the kernel and outside it. Both sides poll when there is nothing to do, so that the figures of
a side add up to its whole core: they say where the time goes, not who waits for whom.

Rules: rounds are interleaved, and the server whose turn it is not is stopped (SIGSTOP), so that the cores are its who
is measured. Without sockperf its rows say how to get it."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.bench.histogram import latency_percentiles
from exchange.bench.micro import Cores, Table, choose_cores, finish, in_turns, on_core
from exchange.bench.results import BenchResult
from exchange.child_command import die_with_parent
from exchange.dpdk.building import PACKAGES, is_installed
from exchange.errors import UserError
from exchange.gateway.credentials import User, write_user
from exchange.load.carriage import CARRIAGES, Carriage, LoadCarrier, card_carriage
from exchange.load.generator import LEAVING, SENDING, compile_loop, run_once
from exchange.load.logins import Endpoint, Login
from exchange.load.measured import Measured
from exchange.load.plan import LoadPlan
from exchange.market_data.feed_sink import feed_sink
from exchange.wire.ouch50 import EnterOrder
from exchange.wire.soupbintcp import UnsequencedData

if TYPE_CHECKING:
    from exchange.bench.runner import Progress

SOCKPERF: Final = "sockperf"
SOCKPERF_UDP: Final = "sockperf-udp"
SOCKPERF_OPTIONS: Final[dict[str, tuple[str, ...]]] = {SOCKPERF: ("--tcp",), SOCKPERF_UDP: ()}
"""The variants that are sockperf, with what it is told."""
PROFILE: Final = "serve"
ALONE: Final = ("--set", "admin.kind=none")
"""Nobody looks in, and no second exchange wants the same port."""
NO_FEED: Final = "-no-feed"
BYPASS: Final = f"bypass{NO_FEED}"
UDP: Final = f"{PROFILE}-udp"
SESSIONS: Final = 8
ORDER_BYTES: Final = UnsequencedData.layout.size_bytes + EnterOrder.layout.size_bytes
"""An Enter Order without options, in its packet."""

_WITHOUT_FEED: Final = ("market_data.kind=none",)
_MEMIF: Final = f"socket=exchange-bench-{os.getpid()}"

EXCHANGES: Final[dict[str, tuple[str, ...]]] = {
    PROFILE: (),
    f"{PROFILE}{NO_FEED}": _WITHOUT_FEED,
    UDP: ("transport.kind=udp",),
    f"{UDP}{NO_FEED}": ("transport.kind=udp", *_WITHOUT_FEED),
    BYPASS: ("transport.kind=dpdk", f"transport.device=net_memif0,role=server,{_MEMIF}", *_WITHOUT_FEED),
}
"""The variants that are exchanges, with what is set in the profile for each."""
OUR_DEVICE: Final = f"net_memif0,role=client,{_MEMIF}"
OUR_ADDRESS: Final = "10.0.0.2"
SETTINGS: Final = ("idle.kind=busy-spin", "gateway.log_bytes=1GiB")
"""What is set in all of them."""

START_SECONDS: Final = 300.0
"""A cold cache of compiled code is filled first."""

RATE_SHARE: Final = 0.4
"""How long all sessions together are measured, of the time for one alone: for a second, all requests can be made
before it."""

STOP_SECONDS: Final = 5.0
_COST: Final = 2
"""Of the passwords' hashes: nobody else can reach this exchange's file of users."""

_PERCENTILE: Final = re.compile(r"percentile (50|99)\.000 =\s+([0-9.]+)")


class GatewayBenchPlan(NamedTuple):
    """How much to measure: seconds of each measurement in a round, and how many requests of a session are under way."""

    seconds: float = 2.0
    warmup_seconds: float = 0.5
    window: int = 64
    rounds: int = 7


def run_gateway_bench(plan: GatewayBenchPlan, command_line: str, progress: "Progress") -> BenchResult:
    """Measure all variants.

    Raises:
        UserError: a server did not start.
    """
    cores, variants = choose_cores(), (*SOCKPERF_OPTIONS, *EXCHANGES)
    table = Table(variants, cores)
    progress.total(len(variants) + plan.rounds)
    for carriage in CARRIAGES.values():
        compile_loop(carriage)
    with ExitStack() as stack:
        runs: dict[str, Callable[[], None]] = {}
        for name in SOCKPERF_OPTIONS:
            if shutil.which(SOCKPERF) is None:
                table.skip(name, "not measured on this machine: no sockperf; apt install sockperf")
                continue
            progress.step(f"starting {name}")
            server = stack.enter_context(_sockperf_server(name, cores.first))
            runs[name] = partial(_measure_sockperf, table, name, server, cores.second, plan)
        feed = (
            "market_data.request_port=0",
            f"market_data.port={stack.enter_context(feed_sink())}",
            "market_data.address=127.0.0.1",
            "market_data.glimpse=none",
        )
        for name, own in EXCHANGES.items():
            if (reason := why_not(name)) is not None:
                table.skip(name, reason)
                continue
            progress.step(f"starting exchange {name}")
            settings = (*SETTINGS, *own, *(() if name.endswith(NO_FEED) else feed))
            exchange = stack.enter_context(served_exchange(name, settings, cores.first))
            if exchange.transport == "dpdk":
                exchange = stack.enter_context(_with_card(exchange))
            runs[name] = partial(measure_exchange, table, name, exchange, plan)
        for round_index in range(plan.rounds):
            progress.step(f"round {round_index + 1} of {plan.rounds}")
            for name in in_turns(table.remaining(), round_index):
                runs[name]()
    return finish("gateway", table, warnings_about(cores), command_line)


def _transport(name: str) -> LoadCarrier:
    return "dpdk" if name == BYPASS else "udp" if name.startswith(UDP) else "tcp"


def why_not(name: str) -> str | None:
    """Why an exchange cannot be measured on this machine, or None if it can."""
    if name == BYPASS and not is_installed():
        return f"not measured on this machine: no DPDK; apt install {PACKAGES}"
    return None


class Served(NamedTuple):
    """A process that is stopped while it is not its turn; and what carries a load to it, if that has to be opened."""

    process: "subprocess.Popen[str]"
    endpoint: Endpoint
    logins: tuple[Login, ...] = ()
    transport: LoadCarrier = "tcp"
    carriage: Carriage | None = None

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run inside the block."""
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def processor_ns(self) -> tuple[int, int]:
        """What it has taken of processors so far, outside the kernel and in it; see proc(5), ``stat``."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return int(fields[11]) * tick_ns, int(fields[12]) * tick_ns


@contextmanager
def _started(arguments: Sequence[str], core: int) -> Iterator["subprocess.Popen[str]"]:
    """A child on a core, which is gone when the block ends, and also when we are killed: it may be a stopped one."""
    with on_core(core):
        process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=STOP_SECONDS)
        process.kill()
        process.communicate()


@contextmanager
def served_exchange(name: str, settings: Sequence[str], core: int) -> Iterator[Served]:
    """An exchange with users of its own on a port that was free, stopped."""
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as folder:
        users, password = Path(folder) / "users", secrets.token_hex(5)
        logins = tuple(Login(f"USER{index}", password) for index in range(SESSIONS))
        for login in logins:
            write_user(users, User.create(login.name, password, _COST))
        sets = (part for one in settings for part in ("--set", one))
        command = (
            sys.executable,
            "-m",
            "exchange",
            "serve",
            PROFILE,
            "--quiet",
            "--users",
            str(users),
            *ALONE,
        )
        port = () if _transport(name) == "dpdk" else ("--port", "0")  # on a card nobody hands out ports
        with _started((*command, *port, *sets), core) as process:
            server = Served(process, _listening_at(process, name), logins, _transport(name))
            process.send_signal(signal.SIGSTOP)
            yield server


@contextmanager
def _with_card(server: Served) -> Iterator[Served]:
    """A server, with our card on its wire."""
    with ExitStack() as stack:
        with server.awake():
            card = card_carriage("dpdk", OUR_DEVICE, OUR_ADDRESS, [server.endpoint])
            carriage = stack.enter_context(card)
            compile_loop(carriage)
        yield server._replace(carriage=carriage)


def _listening_at(process: "subprocess.Popen[str]", name: str) -> Endpoint:
    """The address and port that a server prints when it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()  # the end of the process is the end of the line
    if not line:
        raise UserError(f"{name} did not start: {process.communicate()[1].strip()}")
    address, _, port = line.split()[-3:]
    return Endpoint(address, int(port))


def measure_exchange(table: Table, name: str, server: Served, plan: GatewayBenchPlan) -> None:
    """One round of an exchange: a round trip, then the rate of all sessions, into the table's rows."""
    alone = LoadPlan(
        server.endpoint, server.logins[:1], (None,), plan.seconds, plan.warmup_seconds, window=1, orders=4,
        transport=server.transport,
    )  # fmt: skip
    everybody = alone._replace(
        logins=server.logins, window=plan.window, orders=16,
        seconds=RATE_SHARE * plan.seconds, warmup_seconds=RATE_SHARE * plan.warmup_seconds,
    )  # fmt: skip
    with server.awake():
        measured = run_once(alone, None, 0, lambda text: None, server.carriage)
        percentiles = latency_percentiles(measured.order_latencies)
        if percentiles is None:
            table.skip(
                name, f"no order was answered in {plan.seconds:g} s; the machine has other things to do"
            )
            return
        _add_round_trip(table, name, percentiles.p50_ns / 1000, percentiles.p99_ns / 1000)
        spent: dict[str, tuple[int, int]] = {}
        measured = run_once(
            everybody, None, 0, lambda doing: spent.update({doing: server.processor_ns()}), server.carriage
        )
        server_ns = [after - before for before, after in zip(spent[SENDING], spent[LEAVING], strict=True)]
        if measured.measured == 0:
            table.skip(name, f"{measured.counts['sent']:,} requests did not last until the warm-up was over")
            return
    _add_rate(table, name, measured, server_ns)


def _add_round_trip(table: Table, variant: str, median_us: float, p99_us: float) -> None:
    parameters = {"bytes": ORDER_BYTES}
    table.add("round trip, median", variant, median_us, "us", "lower", parameters)
    table.add("round trip, p99", variant, p99_us, "us", "lower", parameters)


def _add_rate(table: Table, name: str, measured: Measured, server_ns: Sequence[int]) -> None:
    parameters = {"sessions": SESSIONS}
    rate = measured.measured / measured.elapsed_ns * 1e9
    table.add("requests answered", name, rate, "1/s", "higher", parameters)
    requests = sum(measured.counts[key] for key in ("answered", "rejected", "lapsed"))
    for what, spent_ns in (
        ("server's core for a request, outside the kernel", server_ns[0]),
        ("server's core for a request, in the kernel", server_ns[1]),
        ("clients' core for a request, outside the kernel", measured.user_ns),
        ("clients' core for a request, in the kernel", measured.system_ns),
    ):
        table.add(what, name, spent_ns / requests, "ns", "lower", parameters)


@contextmanager
def _sockperf_server(name: str, core: int) -> Iterator[Served]:
    """sockperf's server, polling, stopped."""
    port = _free_port()
    command = (
        *(SOCKPERF, "server", *SOCKPERF_OPTIONS[name]),
        *("-i", "127.0.0.1", "-p", str(port), "--nonblocked"),
    )
    with _started(command, core) as process:
        _wait_for_listener(name, process, port)
        process.send_signal(signal.SIGSTOP)
        yield Served(process, Endpoint("127.0.0.1", port))


def _wait_for_listener(name: str, process: "subprocess.Popen[str]", port: int) -> None:
    """Until somebody has the port, as proc(5) says: nobody can connect to a socket for datagrams."""
    table = Path("/proc/net/tcp" if SOCKPERF_OPTIONS[name] else "/proc/net/udp")
    deadline = time.monotonic() + STOP_SECONDS
    while f" 0100007F:{port:04X} 00000000:0000 " not in table.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the server of {name} did not start")
        time.sleep(0.05)


def _measure_sockperf(table: Table, name: str, server: Served, core: int, plan: GatewayBenchPlan) -> None:
    command = (
        SOCKPERF, "ping-pong", *SOCKPERF_OPTIONS[name], "-i", "127.0.0.1", "-p", str(server.endpoint.port),
        "-m", str(ORDER_BYTES), "-t", str(max(1, round(plan.seconds))), "--full-rtt", "--nonblocked",
    )  # fmt: skip
    with server.awake(), on_core(core):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = dict(_PERCENTILE.findall(done.stdout))
    if len(found) < 2:
        table.skip(name, f"sockperf failed: {(done.stderr or done.stdout).strip()[-200:]}")
        return
    _add_round_trip(table, name, float(found["50"]), float(found["99"]))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def warnings_about(cores: Cores) -> tuple[str, ...]:
    """What a reader must know who sees the figures."""
    if cores.must_yield:
        return (
            "Only one core may be used: server and clients took turns on it, and the figures show what that costs.",
        )
    return ()
