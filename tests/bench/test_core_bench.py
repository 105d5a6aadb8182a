"""``exchange bench core`` at a tiny size: every row is there, and a book that gives wrong events is named."""

from typing import Any

import pytest

from exchange.bench import core_bench, core_loops
from exchange.bench.core_bench import (
    COST,
    HAND_OFF,
    KEPT,
    ONE_CORE,
    THROUGHPUT,
    TIME,
    VARIANTS,
    CoreBenchPlan,
    run_core_bench,
)
from exchange.bench.micro import Cores, choose_cores
from exchange.bench.null_book import NullBook
from exchange.bench.results import BenchResult, MicroResult, from_json, to_json
from exchange.bench.runner import Progress
from exchange.bench.wording import verdict
from exchange.book import build_book
from exchange.book.config import LadderBookConfig
from exchange.book.protocol import apply_commands
from exchange.cli_micro import MICRO_BENCHMARKS, MicroChoice
from exchange.errors import UserError
from exchange.flow.config import SCENARIOS
from exchange.flow.scenario import orders_for
from exchange.messages import (
    COMMAND_STRUCT,
    EVENT_STRUCT,
    RECORD_BYTES,
    Command,
    CommandKind,
    Event,
    EventKind,
    OrderType,
    Reason,
    TimeInForce,
)
from exchange.native import Arena, load_int64, store_int64, view_bytes

TINY = CoreBenchPlan(orders=2_000, rounds=2, ring_slots=64, batch_commands=64)

two_cores = pytest.mark.skipif(choose_cores().must_yield, reason="only one core may be used")


def run(plan: CoreBenchPlan = TINY) -> BenchResult:
    return run_core_bench(plan, "exchange bench core", Progress())


def by_variant(result: BenchResult, name: str) -> dict[str, MicroResult]:
    return {row.variant: row for row in result.micro if row.name == name}


@two_cores
def test_every_book_has_a_time_and_a_rate_on_every_way() -> None:
    result = from_json(to_json(run()), "a smoke run")
    assert result.kind == "core"
    assert result.flow is not None
    assert (result.flow.name, result.flow.symbols, result.flow.seed) == ("normal", 1, 24)
    times, rates, costs = (by_variant(result, name) for name in (TIME, THROUGHPUT, COST))
    assert set(times) == set(rates) == set(VARIANTS) == {
        f"{book}{way}" for book in ("null book", "ladder") for way in ("", KEPT, HAND_OFF)
    }  # fmt: skip
    for variant in VARIANTS:
        assert (times[variant].unit, times[variant].better) == ("ns", "lower")
        assert (rates[variant].unit, rates[variant].better) == ("commands/s", "higher")
        assert times[variant].parameters["scenario"] == "normal"
        assert times[variant].parameters["ids"] == "shuffled"
        assert len(times[variant].values) == TINY.rounds
        for time_ns, rate in zip(times[variant].values, rates[variant].values, strict=True):
            assert time_ns * rate == pytest.approx(1e9)
    for way in ("", KEPT, HAND_OFF):
        pairs = zip(times[f"ladder{way}"].values, times[f"null book{way}"].values, strict=True)
        assert costs[f"ladder{way}"].values == pytest.approx([ladder / null for ladder, null in pairs])
    sentences = verdict(result)
    assert len(sentences) == 2
    assert all(": ladder " in one and "; with the hand-off " in one for one in sentences)
    assert sentences[1].endswith(" times.")


@two_cores
def test_each_scenario_and_each_kind_of_ids_has_its_rows_and_the_worst_is_named() -> None:
    steps: list[str] = []
    totals: list[int] = []
    plan = TINY._replace(scenarios=("static", "flash-crash"), order_ids=("arrival", "arbitrary"))
    result = run_core_bench(plan, "exchange bench core", Progress(totals.append, steps.append))
    assert totals == [len(steps)]
    rows = [row for row in result.micro if row.name == THROUGHPUT and row.variant == "ladder" + HAND_OFF]
    cells = [(row.parameters["scenario"], row.parameters["ids"]) for row in rows]
    assert cells == [
        ("static", "arrival"), ("static", "arbitrary"), ("flash-crash", "arrival"), ("flash-crash", "arbitrary"),
    ]  # fmt: skip
    assert all(len(row.values) == plan.rounds for row in rows)
    worst = [row for row in result.micro if row.name == "throughput in the worst flow"]
    assert [row.variant.partition(":")[0] for row in worst] == [
        "ladder",
        "ladder" + KEPT,
        "ladder" + HAND_OFF,
    ]
    assert worst[2].values in [row.values for row in rows]
    assert min(map(sum, (row.values for row in rows))) == sum(worst[2].values)
    assert result.flow is not None
    assert result.flow.name == "static, flash-crash"
    assert len(result.flow.notes) == 4


def test_on_one_core_there_is_no_hand_off_and_the_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    core = choose_cores().first
    monkeypatch.setattr(core_bench, "choose_cores", lambda: Cores(core, core))
    result = run()
    for row in result.micro:
        if row.variant.endswith(HAND_OFF):
            assert (row.values, row.skipped) == ((), ONE_CORE)
        else:
            assert len(row.values) == TINY.rounds
    assert ONE_CORE.startswith("not measured on this machine")


def build_wrong(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build = core_bench._build
    monkeypatch.setattr(
        core_bench, "_build", lambda book, plan: wrong(plan) if book == "ladder" else build(book, plan)
    )


def test_a_book_that_follows_other_rules_is_left_out_on_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    build_wrong(lambda plan: build_book(LadderBookConfig(capacity_orders=1), symbol_count=1), monkeypatch)
    result = run()
    rows = [row for row in result.micro if row.variant.startswith("ladder")]
    reasons = {row.skipped or "" for row in rows if not row.variant.endswith(HAND_OFF)}
    assert len(reasons) == 1
    assert reasons.pop().startswith("its events differ from the naive book's within the first ")
    assert all(row.values == () for row in rows)
    assert len(by_variant(result, TIME)["null book"].values) == TINY.rounds


def test_a_book_that_drops_an_event_in_a_later_pass_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def play_and_drop(
        book: Any, commands: int, count: int, batch: int, events: int, keep: bool
    ) -> tuple[int, int]:
        elapsed_ns, made = core_loops.play_into_memory(book, commands, count, batch, events, keep)
        return elapsed_ns, made if keep or isinstance(book, NullBook) else made - 1

    monkeypatch.setattr(core_bench, "play_into_memory", play_and_drop)
    rows = by_variant(run(), TIME)
    assert "events instead of" in (rows["ladder"].skipped or "")
    assert rows["ladder"].values == ()
    assert len(rows["ladder" + KEPT].values) == len(rows["null book"].values) == TINY.rounds


@two_cores
def test_a_book_that_gives_other_events_the_second_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first book is right, and the one that is measured has less room."""
    built: list[int] = []

    def wrong(plan: CoreBenchPlan) -> Any:
        built.append(len(built))
        room = plan.capacity_orders if len(built) != 2 else 1
        return build_book(LadderBookConfig(capacity_orders=room), symbol_count=1)

    build_wrong(wrong, monkeypatch)
    rows = by_variant(run(), TIME)
    assert (
        rows["ladder" + HAND_OFF].skipped
        == "its events differ from those that the same book writes to memory"
    )
    assert len(rows["ladder"].values) == len(rows["ladder" + KEPT].values) == TINY.rounds
    assert len(built) == 3


@two_cores
@pytest.mark.parametrize(
    ("way", "word", "reason"),
    [
        (KEPT, core_loops.SUM, "its events differ from those of the first pass"),
        (HAND_OFF, core_loops.SUM, "its events differ from those of the first pass"),
        (HAND_OFF, core_loops.EVENT_COUNT, "its events differ from those of the first pass"),
    ],
)
def test_a_later_pass_with_another_tally_is_named(
    way: str, word: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = core_bench._Bench._pass

    def disturbed(self: Any, case: Any, book: str, this_way: str) -> int:
        read = self._read_tally

        def read_wrong() -> bytes:
            store_int64(self._tally + word, load_int64(self._tally + word) + 1)
            return read()

        if book == "ladder" and this_way == way:
            self._read_tally = read_wrong
        try:
            return original(self, case, book, this_way)
        finally:
            self._read_tally = read

    monkeypatch.setattr(core_bench._Bench, "_pass", disturbed)
    rows = by_variant(run(), TIME)
    assert rows["ladder" + way].skipped == reason
    assert len(rows["ladder"].values) == TINY.rounds


def answers_of_null(*commands: Command) -> list[Event]:
    """What the null book answers, as one batch."""
    arena = Arena.private(1 << 16)
    size_bytes = len(commands) * RECORD_BYTES
    source, out = arena.allocate(size_bytes), arena.allocate(size_bytes)
    view_bytes(source, size_bytes)[:] = b"".join(COMMAND_STRUCT.pack(*command) for command in commands)
    assert apply_commands(NullBook(1), source, len(commands), out) == len(commands)
    return [Event(*fields) for fields in EVENT_STRUCT.iter_unpack(bytes(view_bytes(out, size_bytes)))]


def test_the_null_book_decodes_every_field_and_answers_as_an_exchange_would() -> None:
    command = Command(
        CommandKind.NEW, 1, TimeInForce.IMMEDIATE_OR_CANCEL, OrderType.LIMIT, 0, 65_535, 7, -5, 6, 33_000, 2**32 - 1,
        0, 99, 1_234,
    )  # fmt: skip
    answer = Event(
        EventKind.ACCEPTED,
        1,
        Reason.NONE,
        1,
        0,
        65_535,
        7,
        -5,
        0,
        33_000,
        2**32 - 1,
        0,
        CommandKind.NEW,
        0,
        1_234,
    )
    cancel, replace, mass_cancel = CommandKind.CANCEL, CommandKind.REPLACE, CommandKind.MASS_CANCEL
    pairs = [
        (command, answer),
        (command._replace(order_type=OrderType.MARKET), answer._replace(price_ticks=0)),
        (
            command._replace(kind=cancel),
            answer._replace(kind=EventKind.CANCELED, reason=Reason.BY_CLIENT, command_kind=cancel),
        ),
        (
            command._replace(kind=replace),
            answer._replace(kind=EventKind.REPLACED, other_order_id=6, command_kind=replace),
        ),
        (
            command._replace(kind=mass_cancel, symbol_id=65_535),
            answer._replace(kind=EventKind.MASS_CANCELED, symbol_id=65_535, command_kind=mass_cancel),
        ),
        *(
            (
                command._replace(kind=kind),
                answer._replace(kind=EventKind.REJECTED, reason=Reason.UNKNOWN_COMMAND, command_kind=kind),
            )
            for kind in (0, 5, 9, 255)
        ),
        (
            command._replace(symbol_id=1),
            answer._replace(kind=EventKind.REJECTED, reason=Reason.UNKNOWN_SYMBOL, symbol_id=1),
        ),
    ]
    assert answers_of_null(*(asked for asked, _ in pairs)) == [said for _, said in pairs]


def test_the_reader_counts_kinds_and_sums_what_identifies_an_event() -> None:
    events = [Event(1, order_id=5, price_ticks=7, quantity_lots=2), Event(2, other_order_id=-3), Event(2)]
    arena = Arena.private(1 << 16)
    at, tally = arena.allocate(len(events) * RECORD_BYTES), arena.allocate(core_loops.TALLY_BYTES)
    view_bytes(at, len(events) * RECORD_BYTES)[:] = b"".join(EVENT_STRUCT.pack(*event) for event in events)
    for _ in range(2):
        core_loops.tally_events(at, len(events), tally)
        assert [load_int64(tally + 8 * word) for word in range(2 + core_loops.KINDS)] == [
            3,
            11,
            0,
            1,
            2,
            0,
            0,
            0,
            0,
            0,
        ]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (TINY._replace(rounds=0), "rounds = 0: must be at least 1"),
        (TINY._replace(batch_commands=0), "batch_commands = 0: must be 1 to 4096"),
        (TINY._replace(ring_slots=3), "capacity_slots = 3: must be a power of two, 2 or more"),
        (TINY._replace(order_ids=()), "order_ids = : name at least one, and none twice"),
        (
            TINY._replace(scenarios=("static", "static")),
            "scenarios = static, static: name at least one, and none twice",
        ),
        (TINY._replace(orders=10), "scenario flow: .*orders.*"),
        (
            TINY._replace(capacity_orders=3),
            r"capacity_orders = 3: in scenario normal \d+ orders rest at once",
        ),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(plan: CoreBenchPlan, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run(plan)


CHOICE = MicroChoice((), None, False, None, False, (), None, None, "exchange bench")


@pytest.mark.parametrize(
    ("choice", "plan"),
    [
        (CHOICE, CoreBenchPlan()),
        (CHOICE._replace(quick=True), CoreBenchPlan(orders=200_000, rounds=3)),
        (CHOICE._replace(quick=True, rounds=5), CoreBenchPlan(orders=200_000, rounds=5)),
        (CHOICE._replace(all_scenarios=True), CoreBenchPlan(scenarios=SCENARIOS)),
        (CHOICE._replace(scenario="static", seed=3), CoreBenchPlan(scenarios=("static",), seed=3)),
        (CHOICE._replace(commands=50_000), CoreBenchPlan(orders=orders_for(50_000))),
        (
            CHOICE._replace(ids=("arbitrary", "arrival", "arbitrary")),
            CoreBenchPlan(order_ids=("arbitrary", "arrival")),
        ),
    ],
)
def test_the_command_line_makes_the_plan(
    choice: MicroChoice, plan: CoreBenchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        core_bench, "run_core_bench", lambda plan, command_line, progress: (plan, command_line)
    )
    assert MICRO_BENCHMARKS["core"].run(choice, Progress()) == (plan, "exchange bench")
