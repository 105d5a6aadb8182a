"""The parts of ``exchange failover-demo``: what is read of logs and requests, what is drawn, and who finds a loss."""

import io
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.bench.histogram import empty_counts
from exchange.errors import UserError
from exchange.failover.account import Replayed, Told, account_of, read_told
from exchange.failover.evidence import Evidence, failover_of
from exchange.failover.log_lines import LogLine, NodeLog, parse_line
from exchange.failover.moments import (
    STEPS_MAX,
    STEPS_NS,
    Requests,
    choose_steps,
    client_moments,
    clock_step_ns,
    in_order,
    log_moments,
    shown_range,
    steps_of,
)
from exchange.failover.narrator import Narrator, told_of
from exchange.failover.nodes import NodePlace, status_text
from exchange.failover.page import render_page
from exchange.failover.plan import FailoverPlan, check_plan
from exchange.failover.plot import failover_plot, marks_of, place_names
from exchange.failover.results import (
    ALL_BACK,
    CAUGHT_UP,
    FIRST_ACKNOWLEDGEMENT,
    FIRST_ANSWER,
    LAST_ANSWER,
    LEASE_OUT,
    LEASE_TAKEN,
    LET_IN,
    LINE_LOST,
    LISTENING,
    MOMENTS,
    PRIMARY_GONE,
    TOOK_OVER,
    Account,
    Failover,
    FailoverResult,
    Moment,
    Steps,
)
from exchange.failover.summary import ACCOUNT_HEADINGS, HEADINGS, account_row, findings, row
from exchange.load.logins import Endpoint
from exchange.load.losses import Loss
from exchange.load.measured import Measured
from exchange.load.requests import FIRST_NUMBER, NOBODY, SETTLED, session_requests
from exchange.load.timeline import RunClock, run_timeline
from exchange.wire.layout import Message
from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, OrderReplaced, SystemEvent
from tests.unit.test_bench_report import Page
from tests.wire_messages import random_message

MS = 1_000_000
STRIKE_NS = 1_800_000_000_000_000_000


def line(after_ms: float, event: str, **fields: Any) -> LogLine:
    return LogLine(STRIKE_NS + round(after_ms * MS), event, {"event": event, **fields})


KILLED = (
    line(-900, "backup", state="catching up"),
    line(-800, "login", user="OLD"),
    line(20.0, "backup", state="no primary: Connection reset by peer"),
    line(20.1, "backup", state="the primary's line has ended; waiting for the lease"),
    line(160.0, "backup", state="taking over"),
    line(170.0, "took over", epoch=2, seconds=0.0123),
    line(171.0, "listening", port=1),
    line(240.0, "login", user="USER1", sequence=5),
    line(300.0, "login", user="USER2", sequence=7),
)


# The logs.


@given(st.text())
def test_any_text_is_a_line_or_none(text: str) -> None:
    assert parse_line(text) is None or isinstance(parse_line(text), LogLine)


FIELDS = st.sampled_from(["time", "event", "x"])
VALUES = st.none() | st.booleans() | st.floats() | st.text()
JSON = st.recursive(VALUES, lambda part: st.lists(part) | st.dictionaries(FIELDS, part))


@settings(max_examples=40)
@given(JSON)
def test_any_json_is_a_line_or_none(value: object) -> None:
    text = msgspec.json.encode(value).decode()
    assert parse_line(text) is None or isinstance(parse_line(text), LogLine)


def test_a_line_has_its_time_in_nanoseconds() -> None:
    found = parse_line('{"time": 1800000000.123456, "level": "info", "event": "took over", "epoch": 2}')
    assert found is not None
    assert (found.time_ns, found.event, found.fields["epoch"]) == (1_800_000_000_123_456_000, "took over", 2)


def test_a_log_is_read_to_its_end_and_the_newest_line_counts() -> None:
    heard: list[str] = []
    text = '{"time": 1, "event": "ended", "digest": "a"}\ncompiling\n{"time": 2, "event": "ended", "digest": "b"}\n'
    log = NodeLog(io.StringIO(text), lambda one: heard.append(one.event))
    log.join(10)
    assert log.is_over
    found = log.wait("ended", 0)
    assert found is not None
    assert found.fields["digest"] == "b"
    assert log.wait("listening", 60) is None  # nothing comes any more, so nobody waits
    assert (heard, log.others) == (["ended", "ended"], ["compiling"])


def after_ms(moments: dict[str, Moment]) -> dict[str, float | None]:
    return {name: None if one.after_ns is None else one.after_ns / MS for name, one in moments.items()}


def test_the_new_primarys_log_tells_when_it_took_over() -> None:
    assert after_ms(log_moments(KILLED, "b", STRIKE_NS)) == {
        PRIMARY_GONE: 20.1, LEASE_OUT: pytest.approx(157.7), LEASE_TAKEN: 160.0, TOOK_OVER: 170.0, LISTENING: 171.0,
        LET_IN: 240.0,
    }  # fmt: skip


def test_what_a_log_does_not_tell_is_not_seen() -> None:
    handed_over = line(25.0, "backup", state="taking over from a primary that has ended")
    for lines in ((), KILLED[:2], (handed_over,), (line(170, "took over", seconds="?"),)):
        moments = log_moments(lines, "b", STRIKE_NS)
        assert (
            moments[LEASE_OUT].after_ns is moments[LEASE_TAKEN].after_ns is moments[LET_IN].after_ns is None
        )


def test_what_is_told_at_once_is_what_belongs_to_the_failover() -> None:
    told = [text for one in KILLED[2:] if (text := told_of("b", one)) is not None]
    assert told == [
        "b: the primary's line has ended; waiting for the lease",
        "b: taking over",
        "b is primary, in epoch 2",
        "b listens to clients",
        "b lets USER1 in, from message 5 on",
        "b lets USER2 in, from message 7 on",
    ]
    said: list[str] = []
    Narrator(said.append).tell_after(1_500_000, "so")
    assert said[0].split() == ["+1.5", "ms", "so"]


# The clients.


def requests_of(*pairs: tuple[float, float | None]) -> Requests:
    """Requests that were due and answered at some ms; None: they lapsed."""
    due, answered = ([0.0 if one is None else one for one in column] for column in zip(*pairs, strict=True))
    is_answered = np.array([one is not None for _, one in pairs])
    in_ns = (np.rint(np.array(column) * MS).astype(np.int64) for column in (due, answered))
    return Requests(*in_ns, is_answered, np.zeros(len(pairs), bool))


def loss(lost_ms: float, back_ms: float) -> Loss:
    here = Endpoint("127.0.0.1", 1)
    return Loss("USER1", 1, here, here, int(lost_ms * MS), int(back_ms * MS) if back_ms >= 0 else -1, 3, 0)


REQUESTS = requests_of((-20, -19), (-10, 0.5), (-1, 241), (5, 242), (100, 242.5), (150, None), (300, 300.2))


def test_the_clients_tell_how_long_the_outage_was() -> None:
    found = client_moments(REQUESTS, [loss(1018, 1240), loss(1020, 1250)], -1000 * MS)
    assert after_ms(found) == {
        LAST_ANSWER: 0.5, LINE_LOST: 18, FIRST_ANSWER: 241, FIRST_ACKNOWLEDGEMENT: 242, ALL_BACK: 250, CAUGHT_UP: 242.5,
    }  # fmt: skip


def test_an_outage_without_an_end_is_not_seen() -> None:
    for losses in ((), (loss(18, -1),)):
        found = client_moments(REQUESTS, losses, 0)
        assert (
            found[FIRST_ACKNOWLEDGEMENT].after_ns
            is found[ALL_BACK].after_ns
            is found[CAUGHT_UP].after_ns
            is None
        )
    is_open = REQUESTS.is_open.copy()
    is_open[3] = True
    found = client_moments(REQUESTS._replace(is_open=is_open), [loss(18, 240)], 0)
    assert found[CAUGHT_UP].after_ns is None
    assert found[ALL_BACK].after_ns == 240 * MS


def test_what_an_old_primary_still_answers_is_no_acknowledgement_of_the_new_one() -> None:
    """One that hands over goes on for a while."""
    found = client_moments(requests_of((1, 2), (3, 120)), [loss(30, 100)], 0)
    assert (found[LAST_ANSWER].after_ns, found[FIRST_ACKNOWLEDGEMENT].after_ns) == (2 * MS, 120 * MS)


def test_moments_are_in_order_and_those_not_seen_come_last() -> None:
    moments = log_moments(KILLED, "b", STRIKE_NS) | client_moments(REQUESTS, [loss(18, 240)], 0)
    moments[LISTENING] = Moment(LISTENING, None, "b")
    ordered = in_order(moments)
    assert set(moments) == set(MOMENTS)
    assert ordered[0].name == LAST_ANSWER
    assert ordered[-1].name == LISTENING
    seen = [one.after_ns for one in ordered[:-1] if one.after_ns is not None]
    assert seen == sorted(seen)
    assert len(seen) == len(MOMENTS) - 1


def test_a_timeline_counts_each_request_once_and_a_step_begins_with_the_strike() -> None:
    begin_ns, end_ns = shown_range(REQUESTS, 242 * MS, 242 * MS)
    assert (begin_ns, end_ns) == (-20 * MS, 300 * MS)  # there is nothing before and behind
    steps = steps_of(REQUESTS, begin_ns, end_ns + 1, 10 * MS)
    assert steps.begin_ns == -20 * MS
    assert sum(steps.due) == 7
    assert sum(steps.answered) == 6
    assert steps.due[:4] == [1, 2, 1, 0]
    assert steps.answered[:3] == [1, 0, 1]
    assert steps.latency_max_ns[0] == 1 * MS
    assert steps.latency_max_ns[1] == 242 * MS
    assert steps.latency_p50_ns[1] == round((10.5 + 242) / 2 * MS)
    assert (
        steps.latency_p50_ns[3] is steps.latency_max_ns[17] is None
    )  # nothing was due, and what was due lapsed


@given(st.integers(1, 10_000), st.integers(1, 100_000))
def test_steps_are_neither_too_many_nor_empty(length_ms: int, rate: int) -> None:
    step_ns = choose_steps(0, length_ms * MS, rate)
    assert step_ns in STEPS_NS
    assert length_ms * MS / step_ns <= STEPS_MAX


def test_a_clock_that_was_set_is_found_out() -> None:
    assert clock_step_ns((1000, 10), (1500, 510)) == 0
    assert clock_step_ns((1000, 10), (900, 510)) == -600


# The account.


def message(cls: type[Message], number: int) -> bytes:
    """A message of a session's log that names an order, with whatever else in it."""
    drawn: Any = random_message(random.Random(number), cls)
    return bytes(msgspec.structs.replace(drawn, user_reference_number=number).encode())


def measured_run() -> Measured:
    """A run of one session whose requests were all answered: enter, replace, cancel, enter ..."""
    requests = session_requests(np.arange(60, dtype=np.int64), FIRST_NUMBER, ("AAPL",), 1_000_000, 1, (1, 0))
    requests.records["answered_ns"] = 1_000
    requests.records["state"] = SETTLED
    counts = {"sent": 60, "unanswered": 0, "not sent": 0}
    return Measured(
        counts, 60, 1, 0, {}, empty_counts(), empty_counts(), 0, 0, losses=(loss(1, 2),), requests=(requests,)
    )


def whole_log(measured: Measured) -> list[bytes]:
    """What the session was told of all that, with a message that is nobody's answer."""
    records, told = measured.requests[0].records, [random_message(random.Random(1), SystemEvent).encode()]
    for record in records:
        if record["number"] == 0:
            told.append(message(OrderCanceled, int(records["number"][record["order"]])))
        else:
            told.append(
                message(OrderAccepted if record["order"] == NOBODY else OrderReplaced, int(record["number"]))
            )
    return told


def test_a_journal_that_has_everything_once_has_lost_nothing() -> None:
    measured = measured_run()
    replayed = Replayed((read_told(whole_log(measured)),), "d")
    assert account_of(measured, replayed) == Account(60, 60, 0, 0, 0, 3, 0)


@pytest.mark.parametrize("kind", [OrderAccepted, OrderReplaced, OrderCanceled])
def test_a_request_that_a_journal_lacks_or_has_twice_is_found(kind: type[Message]) -> None:
    measured = measured_run()
    log = whole_log(measured)
    place = next(index for index, one in enumerate(log) if one[:1] == kind.layout.message_type.encode())
    lacking = account_of(measured, Replayed((read_told(log[:place] + log[place + 1 :]),), "d"))
    doubled = account_of(measured, Replayed((read_told([*log, log[place]]),), "d"))
    assert (lacking.lost, lacking.twice) == (1, 0)
    assert (doubled.lost, doubled.twice) == (0, 1)


def test_nothing_is_asked_of_what_was_never_acknowledged() -> None:
    measured = measured_run()
    measured.requests[0].records["answered_ns"] = 0
    account = account_of(measured, Replayed((Told(Counter(), Counter()),), "d"))
    assert (account.acknowledged, account.lost, account.sent) == (0, 0, 60)


# All of it together.


def evidence(lines: tuple[LogLine, ...], *answered: bool, **strike: int) -> Evidence:
    """A run of 60 requests, one a millisecond, struck at the 20th; those that are answered took a millisecond."""
    measured = measured_run()
    (requests,) = measured.requests
    requests.records["intended_ns"] = np.arange(60) * MS
    requests.records["answered_ns"] = requests.records["intended_ns"] + MS
    for index, is_answered in enumerate(answered):
        if not is_answered:
            requests.records["answered_ns"][index] = 25 * MS
    struck_ns = STRIKE_NS + 20 * MS
    timeline = run_timeline(
        measured.requests, RunClock(5, STRIKE_NS), rate=1000.0, round_index=0, warmup_ns=0, bucket_ns=MS, sent_again=0,
        losses=(loss(21, 24),),
    )  # fmt: skip
    struck = {"unix_ns": struck_ns, "monotonic_ns": 5 + 20 * MS, **strike}
    old, new = (SimpleNamespace(name=name) for name in ("a", "b"))
    return Evidence(
        1, FailoverPlan(rate=1000.0), old, new, SimpleNamespace(**struck),  # type: ignore[arg-type]
        measured._replace(timeline=timeline, losses=(loss(21, 24),)), lines, -9, (),
    )  # fmt: skip


def test_a_failover_is_made_of_logs_and_requests() -> None:
    found = evidence(tuple(one._replace(time_ns=one.time_ns + 20 * MS) for one in KILLED))
    failover = failover_of(found, Replayed((read_told(whole_log(found.measured)),), "d"))
    assert (failover.epoch, failover.outage_ns, failover.due_meanwhile) == (2, 4 * MS, 4)
    assert failover.after_ns(LET_IN) == 240 * MS
    assert failover.after_ns(LAST_ANSWER) == 3 * MS  # the logs of this example are those of another one
    assert failover.waited_max_ns == MS
    assert (failover.account.lost, failover.account.acknowledged) == (0, 60)
    assert sum(failover.steps.due) <= 60
    assert found.warnings() == ()


def test_what_spoils_the_figures_is_warned_of() -> None:
    (set_back,) = evidence(KILLED, monotonic_ns=5 + 520 * MS).warnings()
    assert "the machine's clock was set by -500.0 ms" in set_back
    (silent,) = evidence(KILLED, *(False,) * 24).warnings()
    assert "a had answered nothing before" in silent
    lapsed = evidence(KILLED)._replace(old_lines=(line(-100, "lease lapsed"),))
    assert "the lease of a had run out for a moment" in lapsed.warnings()[0]


# What is settled before anything starts.


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (FailoverPlan("serve"), "profile serve: replication.kind = none: it is no pair"),
        (FailoverPlan(overrides=("transport.port=1",)), "--set transport.port=1: failover-demo chooses transport.port"),
        (FailoverPlan(overrides=("replication.node=x",)), "failover-demo chooses replication.node"),
        (FailoverPlan(overrides=("transport.kind=udp",)), "transport.kind must be tcp"),
        (FailoverPlan(rate=0), "--rate 0: allowed is 1 to"),
        (FailoverPlan(sessions=1000), "--sessions 1000: allowed is 1 to"),
        (FailoverPlan(kills=0), "--kills 0: allowed is 1 to"),
        (FailoverPlan("no-such-profile"), "no-such-profile"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(plan: FailoverPlan, told: str) -> None:
    with pytest.raises(UserError) as error:
        check_plan(plan)
    assert told in str(error.value)


def test_a_person_may_set_what_is_no_nodes_own() -> None:
    settings, config = check_plan(FailoverPlan(overrides=("replication.gate=applied", "idle.kind=busy-spin")))
    assert config.gate == "applied"
    assert type(settings.idle).__struct_config__.tag == "busy-spin"
    settings, _ = check_plan(FailoverPlan(overrides=("market_data.kind=none",)))
    assert type(settings.market_data).__struct_config__.tag == "none"


def test_two_nodes_of_a_machine_differ_in_all_that_is_their_own(tmp_path: Any) -> None:
    places = [NodePlace.choose(name, tmp_path, "pair") for name in ("a", "b")]
    first, second = (dict(one.split("=") for one in place.overrides()) for place in places)
    assert {key for key in first if first[key] == second[key]} == {
        "replication.group",
        "replication.secret_file",
    }
    assert (status_text(3), status_text(-9)) == ("status 3", "SIGKILL")


# The picture and the page.


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(1, 300)), min_size=1, max_size=8))
def test_names_of_marks_do_not_overlap(marks: list[tuple[float, float]]) -> None:
    positions, widths = zip(*marks, strict=True)
    end, gap = 1000.0, 4.0
    placed = place_names(positions, widths, end, gap)
    spans = [
        (at - gap - width, at) if one.is_left else (at, at + gap + width)
        for at, width, one in zip(positions, widths, placed, strict=True)
    ]
    for index, (begin, finish) in enumerate(spans):
        assert finish <= end or placed[index].is_left
        for other in range(index):
            if placed[other].row == placed[index].row:
                assert finish + gap <= spans[other][0] or spans[other][1] + gap <= begin
            # The line of a mark ends at its row, so it does not cross names in rows above.
            if not placed[index].is_left and not placed[other].is_left and begin < positions[other] < finish:
                assert placed[other].row < placed[index].row


def example(how: str = "kill", **changes: Any) -> Failover:
    moments = log_moments(KILLED, "b", STRIKE_NS) | client_moments(REQUESTS, [loss(18, 240)], 0)
    failover = Failover(
        1, how, "a", "b", 2, in_order(moments), 242 * MS, 240 * MS, 2, 180 * MS, 237 * MS, -9,
        Account(7, 6, 0, 0, 0, 3, 0), steps_of(REQUESTS, -20 * MS, 310 * MS, 10 * MS),
    )  # fmt: skip
    return msgspec.structs.replace(failover, **changes)


def result(*failovers: Failover, **changes: Any) -> FailoverResult:
    settings = {
        "replication.kind": "tcp", "replication.gate": "received", "replication.lease_ns": 150 * MS,
        "replication.renew_every_ns": 30 * MS, "idle.kind": "park",
    }  # fmt: skip
    host = {"cpu_model": "a <b> processor", "processing_units_allowed": 2, "governor": None,
            "not_measured": {"governor": "nobody tells"}}  # fmt: skip
    load = {"requests_per_second": 2000.0, "sessions": 4, "answer_timeout_s": 0.3}
    digests = {"log of b": "0123456789abcdef", "log of a": "0123456789abcdef"}
    found = FailoverResult(
        "2026-01-01T00:00:00", "exchange failover-demo", host, "replicated-tcp", settings, load,
        failovers or (example(),), digests, (),
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


def test_a_result_survives_its_file() -> None:
    assert msgspec.json.decode(msgspec.json.encode(result()), type=FailoverResult) == result()


@pytest.mark.parametrize(("how", "narrow"), [("kill", False), ("stop", True), ("promote", False)])
def test_the_picture_names_what_happened(how: str, narrow: bool) -> None:
    svg = failover_plot(example(how), narrow=narrow)
    for mark in marks_of(example(how), narrow=narrow):
        assert mark.name.replace("'", "&#39;") in svg
    assert "+242 ms" in svg
    assert "milliseconds from the" in svg


def test_a_picture_of_nothing_is_drawn_all_the_same() -> None:
    silent = Steps(0, 10 * MS, [0, 0], [0, 0], [None, None], [None, None])
    moments = tuple(Moment(name, None, "nobody") for name in MOMENTS)
    nothing = example(
        outage_ns=None, moments=moments, steps=silent, waited_p50_ns=None, waited_max_ns=None,
        account=Account(7, 6, 2, 0, 0, 3, 4),
    )  # fmt: skip
    assert [one.name for one in marks_of(nothing, narrow=False)] == ["SIGKILL to a"]
    page = render_page(result(nothing))
    assert page.count("not seen") > len(MOMENTS)
    assert "No acknowledgement by a new primary was seen." in page
    assert "none of them was seen to be answered" in page
    assert 'class="void"' in page  # for something was lost


def test_the_page_is_whole_and_asks_nobody_for_anything() -> None:
    second = example(number=2, old="b", new="a", outage_ns=300 * MS)
    page = Page(render_page(result(example(), second)))
    assert not {"script", "img", "iframe"} & set(page.tags)
    targets = [value for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert len(page.ids) == len(set(page.ids))
    shown = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for text in ("a <b> processor", "nobody tells", "0 lost", "✓ equal", "271 ms (median of 2, 242 to 300 ms)",
                 "processes on one machine", "Coordinated omission", "Failover 2: b was killed"):  # fmt: skip
        assert text in shown


def test_a_loss_is_said_first_and_loudly() -> None:
    lost = example(account=Account(7, 6, 2, 1, 0, 3, 4))
    found = result(lost, digests={"log of b": "1", "log of a": "2"})
    assert not found.is_whole
    assert findings(found)[0].endswith("2 are LOST and 1 were done TWICE.")
    assert "DIFFER" in findings(found)[-1]
    assert result().is_whole
    assert result(digests={"log of b": "1", "log of a": None}).is_whole
    assert not result(digests={"log of b": "1", "log of a": None}).digests_agree


def test_rows_are_as_long_as_their_headings() -> None:
    assert len(row(example())) == len(HEADINGS)
    assert len(account_row(example())) == len(ACCOUNT_HEADINGS)
    assert row(example())[1:6] == ("18", "158", "170", "171", "242")
