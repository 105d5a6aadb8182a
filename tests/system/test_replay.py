"""Recorded markets through the whole exchange: small files made here, both formats, both readings, several profiles."""

import json
import os
import pty
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from click.testing import CliRunner

from exchange.cli_replay import replay as replay_command
from exchange.errors import UserError
from exchange.flow import Flow, load_flow
from exchange.flow.itch import MESSAGE_BYTES
from exchange.messages import EVENT_DTYPE, EventKind
from exchange.replay import ExecutionReport, Level, ReplayReport, in_flow_order, play, run_replay
from exchange.settings import load_profile

ROOT = Path(__file__).parents[2]
COMPILED = ("queue.kind=locked", "book.kind=ladder")
ADD, CANCEL, DELETE, EXECUTE, HIDDEN = 1, 2, 3, 4, 5  # as LOBSTER numbers them


@dataclass(frozen=True)
class Record:
    """One line of a LOBSTER file, or one ITCH message."""

    kind: int
    order_id: int
    shares: int
    price: int
    side: int
    microsecond: int
    locate: int = 1


HAND_MADE = (
    Record(ADD, 1, 100, 99_0000, 1, 1),
    Record(ADD, 2, 50, 101_0000, -1, 2),
    Record(ADD, 3, 40, 99_0000, 1, 3),
    Record(ADD, 4, 30, 98_5000, 1, 4),
    Record(EXECUTE, 1, 60, 99_0000, 1, 5),
    Record(HIDDEN, 0, 70, 100_0000, 1, 6),
    Record(CANCEL, 1, 10, 99_0000, 1, 7),
    Record(EXECUTE, 3, 15, 99_0000, 1, 8),  # order 1 stands before it: the engine trades with that one
    Record(DELETE, 2, 50, 101_0000, -1, 9),
    Record(ADD, 5, 20, 100_0100, -1, 10),
)
HAND_MADE_LEVEL_ONE = (
    (101_0000, 50, 99_0000, 100),  # ask, size, bid, size: after order 2
    (101_0000, 50, 99_0000, 140),
    (101_0000, 50, 99_0000, 80),
    (101_0000, 50, 99_0000, 70),
    (101_0000, 50, 99_0000, 55),
    (100_0100, 20, 99_0000, 55),
)
LEVEL_ONE_FILE = "".join(",".join(map(str, row)) + "\n" for row in HAND_MADE_LEVEL_ONE).encode()


def random_market(count: int, symbols: int = 1, seed: int = 1) -> list[Record]:
    """A market that never crosses; executions name an order at the best price, now and then not the first of it."""
    chance = random.Random(seed)
    live: list[dict[int, Record]] = [{} for _ in range(symbols)]
    records = []
    for number in range(1, count + 1):
        locate = chance.randrange(symbols)
        orders = live[locate]
        kind = chance.choices((ADD, CANCEL, DELETE, EXECUTE, HIDDEN), (5, 1, 2, 2, 1))[0]
        if kind == HIDDEN:
            records.append(Record(HIDDEN, 0, 10, 100_0000, 1, number, locate + 1))
            continue
        if kind == ADD or not orders:
            side = chance.choice((1, -1))
            price = 100_0000 - side * 100 * chance.randint(1, 6)
            record = Record(ADD, number, chance.randint(1, 300), price, side, number, locate + 1)
            orders[number] = record
            records.append(record)
            continue
        order = chance.choice(list(orders.values()))
        if kind == EXECUTE:
            best = max(other.side * other.price for other in orders.values() if other.side == order.side)
            queue = [
                other
                for other in orders.values()
                if other.side == order.side and other.price == order.side * best
            ]
            order = chance.choice(queue) if chance.random() < 0.2 else queue[0]
        shares = order.shares if kind == DELETE else chance.randint(1, order.shares)
        if kind == CANCEL and shares == order.shares:
            kind = DELETE
        records.append(replace(order, kind=kind, shares=shares, microsecond=number))
        del orders[order.order_id]
        if shares < order.shares:
            # it keeps its place: the queue is in the order of ids
            orders[order.order_id] = replace(order, shares=order.shares - shares)
            live[locate] = dict(sorted(orders.items()))
    return records


def lobster(records: list[Record] | tuple[Record, ...]) -> bytes:
    lines = [
        f"34200.{one.microsecond:06d},{one.kind},{one.order_id},{one.shares},{one.price},{one.side}"
        for one in records
    ]
    return "\n".join(lines).encode() + b"\n"


def itch(records: list[Record] | tuple[Record, ...]) -> bytes:
    return b"".join(map(itch_block, records))


def itch_block(one: Record) -> bytes:
    side, stock = (b"B" if one.side == 1 else b"S"), b"STOCK%-3d" % one.locate
    letter, body = {
        ADD: (b"A", pack(">QcI8sI", one.order_id, side, one.shares, stock, one.price)),
        CANCEL: (b"X", pack(">QI", one.order_id, one.shares)),
        DELETE: (b"D", pack(">Q", one.order_id)),
        EXECUTE: (b"E", pack(">QIQ", one.order_id, one.shares, 1)),
        HIDDEN: (b"P", pack(">QcI8sIQ", 0, side, one.shares, stock, one.price, 1)),
    }[one.kind]
    time_ns = 34_200_000_000_000 + 1_000 * one.microsecond
    message = letter + pack(">HH", one.locate, 0) + time_ns.to_bytes(6, "big") + body
    assert len(message) == MESSAGE_BYTES[letter.decode()]
    return pack(">H", len(message)) + message


@pytest.fixture
def write(tmp_path: Path):
    def writer(content: bytes, name: str = "STOCK1_message_5.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return writer


def report_of(flow: Flow, *overrides: str, **options) -> ReplayReport:
    return run_replay(flow, load_profile("textbook", overrides), reading="flow", **options)


def digests_of(report: ReplayReport) -> tuple[str, str]:
    return report.state_digest, report.event_digest


def test_the_report_of_a_market_that_can_be_checked_by_hand(write):
    report = report_of(load_flow(write(lobster(HAND_MADE))), *COMPILED)
    assert report.commands_by_kind == {"new": 7, "cancel": 2}
    assert report.events_by_kind == {"accepted": 7, "executed": 2, "canceled": 2}
    assert report.rejects_by_reason == {}
    assert (report.trades, report.volume_lots, report.traded_ticks) == (2, 75, 75 * 99_0000)
    assert report.executions == ExecutionReport(
        recorded=2, sent=2, met_another_order=1, not_filled=0, hidden_left_out=1, hidden_lots_left_out=70
    )
    (symbol,) = report.symbols
    assert (symbol.name, symbol.live_orders, symbol.commands, symbol.trades) == ("STOCK1", 4, 9, 2)
    assert symbol.bids == (Level(99_0000, 55, 2), Level(98_5000, 30, 1))
    assert symbol.asks == (Level(100_0100, 20, 1),)
    assert report.warnings == ()


def test_a_feed_reduces_the_orders_that_it_names_and_trades_nothing(write):
    flow_report = report_of(load_flow(write(lobster(HAND_MADE))))
    feed_report = report_of(load_flow(write(lobster(HAND_MADE)), reading="feed"))
    assert feed_report.trades == feed_report.executions.sent == 0
    assert feed_report.executions.recorded == 2
    assert feed_report.symbols[0].bids == flow_report.symbols[0].bids
    assert feed_report.state_digest != flow_report.state_digest, "whom order 5 met is still in the book"


@pytest.mark.parametrize("reading", ["flow", "feed"])
def test_the_best_prices_agree_with_a_level_one_file(write, reading: str):
    level_one = write(LEVEL_ONE_FILE, "orderbook_1.csv")
    found = report_of(load_flow(write(lobster(HAND_MADE)), reading=reading), level_one=level_one).level_one
    assert found is not None
    assert (found.aligned, found.equal, found.aligned_prices, found.equal_prices) == (6, 6, 2, 2)
    assert found.share == found.share_prices == 1.0


@pytest.mark.parametrize("reading", ["flow", "feed"])
def test_both_formats_of_one_market_are_replayed_alike(write, reading: str):
    records = random_market(1_500)
    from_lobster = report_of(load_flow(write(lobster(records)), reading=reading), *COMPILED)
    from_itch = report_of(load_flow(write(itch(records), "day.itch50"), reading=reading), *COMPILED)
    assert digests_of(from_lobster) == digests_of(from_itch)
    assert from_lobster.symbols == from_itch.symbols
    assert from_lobster.rejects_by_reason == {}


def test_what_executions_met_is_what_the_translation_foresaw(write):
    flow = load_flow(write(lobster(random_market(3_000, seed=5))))
    report = report_of(flow, *COMPILED)
    assert report.executions.met_another_order == flow.notes["executions_of_another_order"] > 10
    assert report.executions.not_filled == 0
    assert report.executions.sent == report.executions.recorded > 100


@pytest.mark.parametrize("reading", ["flow", "feed"])
def test_naive_and_ladder_give_byte_identical_events(write, reading: str):
    flow = load_flow(write(itch(random_market(2_000, symbols=3, seed=2)), "day.itch50"), reading=reading)
    events = [
        play(flow, load_profile("textbook", [f"book.kind={kind}"])).events.tobytes()
        for kind in ("naive", "ladder")
    ]
    assert len(events[0]) >= 64 * len(flow.commands)
    assert events[0] == events[1]


@pytest.mark.parametrize(
    "overrides",
    [
        ("queue.kind=python", "book.kind=ladder"),
        COMPILED,
        ("queue.kind=mpsc", "book.kind=ladder", "queue.capacity_slots=4", "shards.count=2"),
        ("queue.kind=spsc", "book.kind=ladder", "shards.count=3", "transport.ingress_lanes=2"),
    ],
)
def test_both_digests_are_the_same_on_every_profile(write, overrides: tuple[str, ...]):
    flow = load_flow(write(itch(random_market(2_000, symbols=5, seed=3)), "day.itch50"))
    expected, report = report_of(flow), report_of(flow, *overrides)
    assert digests_of(report) == digests_of(expected)
    assert report.symbols == expected.symbols
    assert report.executions == expected.executions


def test_the_event_digest_tells_what_the_state_digest_cannot(write):
    gone = (Record(DELETE, 4, 30, 98_5000, 1, 11),)
    other = tuple(replace(one, shares=31) if one.order_id == 4 else one for one in HAND_MADE + gone)
    first, second = (report_of(load_flow(write(lobster(records)))) for records in (HAND_MADE + gone, other))
    assert first.state_digest == second.state_digest
    assert first.event_digest != second.event_digest


def test_events_are_put_in_the_order_of_the_flow_as_one_shard_numbers_them(write):
    flow = load_flow(write(itch(random_market(1_000, symbols=4)), "day.itch50"))
    replayed = play(flow, load_profile("textbook", ["shards.count=2"]))
    events = replayed.events
    assert (events["command_sequence"] == replayed.command_index + 1).all()
    assert (np.diff(events["command_sequence"]) >= 0).all()
    assert (events["timestamp_ns"] == flow.commands["timestamp_ns"][replayed.command_index]).all()
    assert (events["symbol_id"] == flow.commands["symbol_id"][replayed.command_index]).all()
    numbers = events["match_number"][events["kind"] == EventKind.EXECUTED]
    assert numbers.tolist() == list(range(1, len(numbers) + 1))


def test_a_lost_event_is_noticed(write):
    flow = load_flow(write(lobster(HAND_MADE)))
    events = np.zeros(len(flow.commands) - 1, EVENT_DTYPE)
    events["command_sequence"] = np.arange(len(events))
    with pytest.raises(ValueError, match="8 commands, where 9"):
        in_flow_order(events, flow.commands)


@pytest.mark.parametrize("book", ["naive", "ladder"])
def test_a_full_book_is_a_warning_that_names_the_setting(write, book: str):
    flow = load_flow(write(lobster(HAND_MADE)))
    report = report_of(flow, f"book.kind={book}", "book.capacity_orders=2")
    assert report.rejects_by_reason["book_full"] > 0
    (warning,) = report.warnings
    assert "book.capacity_orders = 2 is too small" in warning


def test_other_rejects_are_a_warning_too(write):
    report = report_of(load_flow(write(lobster(HAND_MADE))), "book.price_max_ticks=1000000")
    assert report.rejects_by_reason == {"unknown_order": 1, "price_out_of_band": 2}
    assert "3 commands were refused" in report.warnings[0]


def test_a_paced_replay_takes_as_long_as_the_market_did_and_comes_to_the_same_end(write):
    records = [replace(one, microsecond=10_000 * number) for number, one in enumerate(HAND_MADE)]
    flow = load_flow(write(lobster(records)))
    at_once, paced = report_of(flow, *COMPILED), report_of(flow, *COMPILED, speed_factor=0.5)
    assert digests_of(paced) == digests_of(at_once)
    assert (at_once.speed_factor, paced.speed_factor) == (None, 0.5)
    assert paced.elapsed_ns >= 2 * flow.duration_ns > 0, "a command was sent before its time"


def test_a_file_without_orders_is_a_replay_of_nothing(write):
    directory = pack(">HcHH6s8s", 39, b"R", 1, 0, b"\0" * 6, b"STOCK1  ").ljust(41, b" ")
    report = report_of(load_flow(write(directory, "day.itch50")), *COMPILED)
    assert (report.commands, report.events, report.symbols) == (0, 0, ())
    assert report.recording["itch_messages_R"] == 1


def test_a_level_one_file_is_of_one_symbol(write):
    flow = load_flow(write(itch(random_market(50, symbols=2)), "day.itch50"))
    with pytest.raises(UserError, match="orders of 2; choose one with --symbol"):
        report_of(flow, level_one="orderbook_1.csv")


# The command.


def run(*arguments: str):
    return CliRunner().invoke(replay_command, arguments)


def test_the_command_prints_the_book_the_counts_and_the_digests(write, tmp_path: Path):
    path, json_path = write(lobster(HAND_MADE)), tmp_path / "report.json"
    level_one = write(LEVEL_ONE_FILE, "orderbook_1.csv")
    done = run(path, "--profile", "textbook", "--level-one", level_one, "--json", str(json_path))
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    for part in (
        "Replay of STOCK1_message_5.csv as flow, profile textbook",
        "The book of STOCK1 at the end: 4 live orders",
        "2 55 99.00 100.01 20 1",
        "1 30 98.50",
        "Trades: 2; volume 75 shares at 99.00 dollars on average.",
        "2 recorded, 2 sent as orders; 1 met another order than the record names, 0 were not filled.",
        "Hidden executions: 1 left out (70 shares)",
        "6 of 6 states as in LOBSTER's level-1 file (100.00 %)",
        "Recorded: 09:30:00.000 to 09:30:00.000.",
    ):
        assert part in text
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    written = json.loads(json_path.read_text())
    assert written["schema_version"] == 1
    assert written["profile"]["book"]["kind"] == "naive"
    assert written["state_digest"] in done.stdout
    assert written["event_digest"] in done.stdout
    assert written["symbols"][0]["bids"][0] == {"price_ticks": 99_0000, "quantity_lots": 55, "orders": 2}


def test_the_page_shows_what_its_example_prints(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    example = Path("docs/examples/XYZ_message_5.csv")
    assert example.read_bytes() == lobster(HAND_MADE)
    done = run(str(example), "--level-one", "docs/examples/XYZ_orderbook_1.csv")
    page = Path("docs/replay.md").read_text()
    shown = page.partition("<!-- replay: begin -->\n```text\n")[2].partition("\n```\n<!-- replay: end -->")[0]
    assert without_times(shown) == without_times(done.stdout)


def without_times(text: str) -> list[str]:
    """The lines, less those that may differ from run to run."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return [line for line in lines if not line.startswith(("Replayed:", "Pushes that found"))]


def test_the_command_reads_as_it_is_told(write):
    path = write(itch(random_market(300, symbols=30)), "day.itch50")
    done = run(path, "--as", "feed", "--profile", "textbook", "--set", "shards.count=2")
    assert done.exit_code == 0
    assert "as feed" in done.stdout
    assert "Trades: none." in done.stdout
    assert "and 10 more; all of them with --json" in done.stdout
    one = run(path, "--profile", "textbook", "--symbol", "STOCK7")
    assert "The book of STOCK7 at the end" in one.stdout


def test_the_command_replays_what_is_whole_of_a_file_that_is_cut(write):
    path = write(itch(HAND_MADE)[:-5], "day.itch50")
    assert "the file ends within a message" in str(run(path, "--profile", "textbook").exception)
    done = run(path, "--profile", "textbook", "--allow-truncated")
    assert done.exit_code == 0
    assert "STOCK1 at the end: 3 live orders" in done.stdout
    assert "2 55 99.00 1 30 98.50 What happened" in " ".join(done.stdout.replace("─", "").split())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--speed", "-1"), "--speed -1"),
        (("--speed", "nan"), "--speed nan"),
        (("--json", "/no/such/folder/report.json"), "/no/such/folder"),
        (("--profile", "nonsense"), "nonsense"),
        (("--set", "queue.capacity_slots=3"), "capacity_slots"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(write, options: tuple[str, ...], named: str):
    done = run(write(lobster(HAND_MADE)), *options)
    assert isinstance(done.exception, UserError)
    assert named in str(done.exception)


def test_ctrl_c_ends_a_paced_replay_at_once(write):
    records = [replace(HAND_MADE[0], microsecond=1), replace(HAND_MADE[1], microsecond=999_999)]
    path = write(lobster(records))
    # A progress bar is shown to a terminal only; it tells when the run has begun.
    terminal, far_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange", "replay", path, "--profile", "compiled", "--speed", "0.0001"],
        stdout=subprocess.PIPE, stderr=far_end, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(far_end)
    shown = b""
    try:
        while b"1 of 2 commands" not in shown:
            shown += os.read(terminal, 1_000)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                shown += os.read(terminal, 1_000)
            except OSError:  # how a terminal says that its other end was closed
                break
        assert process.wait(20) == 130
    finally:
        process.kill()
        os.close(terminal)
    assert b"Traceback" not in shown
