"""The adapter that puts our books before ``tracebook-conformance``: conversations held in this process, malformed ones
among them, and the options and exits of the real process. The tester itself is not needed here.
"""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.conformance.server import serve
from exchange.conformance.units import Units
from exchange.conformance.wire import LINE_BYTES_MAX, Message, ProtocolError, read_message
from exchange.limits import PRICE_TICKS_MAX, QUANTITY_LOTS_MAX

REPOSITORY = Path(__file__).parents[2]
BOOKS = ["naive", "ladder"]
HELLO = {"type": "hello", "protocol": "tracebook.conformance", "protocol_version": 1}
COMMAND = [sys.executable, "-m", "exchange.conformance", "--book"]
START_SECONDS = 250.0
"""Long enough for a compiler, and within the time limit of a test."""

on_each_book = pytest.mark.parametrize("book", BOOKS)


def event(op: str, order_id: int | None = 1, **fields: Any) -> dict[str, Any]:
    """An event of the tester; a limit order to buy 2 at 100 unless ``fields`` say otherwise."""
    event = {"op": op, "symbol": "TEST", "order_id": order_id, **fields}
    if op == "new":
        event = {"side": "BUY", "order_type": "LIMIT", "price": 100.0, "quantity": 2.0, "owner": 7} | event
    return event


def converse(book: str, messages: list[Any], **options: Any) -> tuple[list[dict[str, Any]], int]:
    """Send messages (bytes as they are) to an adapter in this process; its answers and its exit status."""
    lines = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in messages]
    sink = io.BytesIO()
    status = serve(book, io.BytesIO(b"\n".join(lines) + b"\n"), sink, **options)
    return [json.loads(line) for line in sink.getvalue().splitlines()], status


def play(book: str, events: list[dict[str, Any]], **config: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """Play events as one run; its observations and the books at the end."""
    messages = [{**HELLO, "config": config}]
    messages += [{"type": "event", "index": index, "event": one} for index, one in enumerate(events, 1)]
    messages += [{"type": "snapshot", "index": len(events)}, {"type": "finish", "event_count": len(events)}]
    answers, status = converse(book, messages)
    assert status == 0, answers[-1]
    assert answers[0]["type"] == "ready"
    assert answers[-1] == {"type": "complete", "event_count": len(events)}
    assert [answer["index"] for answer in answers[1:-2]] == list(range(1, len(events) + 1))
    return answers[1:-2], answers[-2]["state"]["books"]


def reasons(observations: list[dict[str, Any]]) -> list[str | None]:
    """Why each event was rejected; None where it was applied."""
    return [observation["outcome"]["reason"] for observation in observations]


def queue(orders: list[dict[str, Any]]) -> list[tuple[int, str, str, int]]:
    """Id, price, quantity, owner of resting orders, in their order."""
    return [
        (order["order_id"], order["price"], order["remaining_quantity"], order["owner"]) for order in orders
    ]


@on_each_book
def test_the_example_of_the_protocol_s_own_documentation_gives_its_hash(book: str) -> None:
    order = event("new", 10, timestamp_ns=1)
    (seen,), books = play(book, [order], tick_size="0.01")
    assert seen == {
        "type": "observation",
        "index": 1,
        "outcome": {"status": "applied", "reason": None, "message": None},
        "trades": [],
        "state_hash": "18de97d9cb98a7ca4dbc2215a748f7fded7607f05782a33338fcc6f6f0b91c62",
        "resting_order_count": 1,
    }
    resting = {
        "order_id": 10,
        "order_type": "LIMIT",
        "owner": 7,
        "price": "100",
        "remaining_quantity": "2",
    }
    assert books == [{"symbol": "TEST", "bids": [resting], "asks": []}]


@on_each_book
def test_trades_are_told_with_buyer_seller_price_and_quantity(book: str) -> None:
    seen, books = play(
        book,
        [
            event("new", 1, side="SELL", price=100.5, quantity=0.5),
            event("new", 2, side="SELL", price=101),
            event("new", 3, side="BUY", order_type="MARKET", price=0.0, quantity=1),
            event("new", 4, side="BUY", order_type="IOC", price=100.99, quantity=1),
            event("new", 5, side="BUY", price=101, quantity=4),
            event("new", 6, side="SELL", price=99, quantity=1),
        ],
    )
    assert reasons(seen) == [None] * 6
    told = [[tuple(trade.values()) for trade in one["trades"]] for one in seen]
    assert told[2:] == [
        [("TEST", 3, 1, "100.5", "0.5"), ("TEST", 3, 2, "101", "0.5")],
        [],
        [("TEST", 5, 2, "101", "1.5")],
        [("TEST", 5, 6, "101", "1")],
    ]
    assert queue(books[0]["bids"]) == [(5, "101", "1.5", 7)]
    assert [one["resting_order_count"] for one in seen] == [1, 2, 1, 1, 1, 1]


@on_each_book
def test_a_replace_always_goes_to_the_end_of_the_queue_and_a_reduction_stays(book: str) -> None:
    orders = [event("new", order_id, quantity=4) for order_id in (1, 2, 3, 4)]
    for change in ({"quantity": 4.0}, {"quantity": 1.0}, {"price": 100.0}, {"quantity": 9}):
        seen, books = play(book, [*orders, event("reduce", 2, quantity=3), event("replace", 1, **change)])
        assert reasons(seen) == [None] * 6
        left = str(int(change.get("quantity", 4)))
        assert queue(books[0]["bids"])[0] == (2, "100", "1", 7)
        assert queue(books[0]["bids"])[-1] == (1, "100", left, 7)


@on_each_book
def test_clear_takes_every_owner_s_orders_of_one_symbol_and_the_symbol_stays(book: str) -> None:
    owners = [5, -1, 2**63 - 1, 5]
    orders = [event("new", order_id, owner=owner) for order_id, owner in enumerate(owners, 1)]
    seen, books = play(book, [*orders, event("new", 1, symbol="A B", owner=5), event("clear", None)])
    assert reasons(seen) == [None] * 6
    assert [(one["symbol"], queue(one["bids"])) for one in books] == [
        ("A B", [(1, "100", "2", 5)]),
        ("TEST", []),
    ]
    assert [one["resting_order_count"] for one in seen] == [1, 2, 3, 4, 5, 1]


@on_each_book
def test_reasons_of_rejects(book: str) -> None:
    cases: list[tuple[dict[str, Any], str | None]] = [
        (event("cancel", 9), "ORDER_NOT_ACTIVE"),
        (event("clear", None, symbol="seen"), None),
        (event("reduce", 9, quantity=1), "ORDER_NOT_ACTIVE"),
        (event("new"), None),
        (event("new"), "DUPLICATE_ORDER_ID"),
        (event("new", quantity=-1), "DUPLICATE_ORDER_ID"),
        (event("new", 2, quantity=0), "INVALID_ORDER"),
        (event("new", 2, price=-5), "INVALID_ORDER"),
        (event("new", 2, price=0.005), "INVALID_ORDER"),
        (event("new", 2, price=1e300), "INVALID_ORDER"),
        (event("new", 2, quantity=0.1), "UNSUPPORTED_QUANTITY"),
        (event("new", 2, quantity=1e300), "UNSUPPORTED_QUANTITY"),
        (event("new", 2, order_type="FOK"), "UNSUPPORTED_ORDER_TYPE"),
        (event("reduce", quantity=2.5), "INVALID_ORDER"),
        (event("reduce", quantity=0.1), "UNSUPPORTED_QUANTITY"),
        (event("replace", quantity=0), "INVALID_REPLACEMENT"),
        (event("replace", price=0.001), "INVALID_REPLACEMENT"),
        (event("replace", quantity=0.1), "UNSUPPORTED_QUANTITY"),
        (event("replace", 3, quantity=0.1), "ORDER_NOT_ACTIVE"),
        (event("cancel", symbol="never seen"), "ORDER_NOT_ACTIVE"),
    ]
    seen, books = play(book, [one for one, _ in cases])
    assert reasons(seen) == [reason for _, reason in cases]
    assert [(one["symbol"], queue(one["bids"])) for one in books] == [
        ("TEST", [(1, "100", "2", 7)]),
        ("seen", []),
    ]


@on_each_book
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"matching_algorithm": "pro_rata"}, "UNSUPPORTED_MATCHING_ALGORITHM"),
        ({"self_trade_policy": "CANCEL_RESTING"}, "UNSUPPORTED_SELF_TRADE_POLICY"),
    ],
)
def test_rules_that_we_do_not_have_are_never_taken_for_ours(
    book: str, config: dict[str, str], reason: str
) -> None:
    seen, books = play(book, [event("new"), event("clear", None)], **config)
    assert reasons(seen) == [reason, reason]
    assert books == [{"symbol": "TEST", "bids": [], "asks": []}]


@on_each_book
def test_each_run_of_an_open_process_begins_with_an_empty_book(book: str) -> None:
    run = [HELLO, {"type": "event", "index": 1, "event": event("new")}, {"type": "finish", "event_count": 1}]
    answers, status = converse(book, run * 3, keep_open=True)
    assert status == 0
    assert [answer["type"] for answer in answers] == ["ready", "observation", "complete"] * 3
    assert [answer["outcome"]["reason"] for answer in answers[1::3]] == [None] * 3
    assert converse(book, run * 3)[0] == answers[:3], "without the option one run is all"


def test_prices_are_rounded_as_the_protocol_lays_down() -> None:
    units = Units("0.01", 12)
    assert [units.ticks(price) for price in (1.015, 100.004, 100.006, 0.005, 0.0051, -3.0, 1e308)] == [
        *(101, 10_000, 10_001, 0, 1, 0, PRICE_TICKS_MAX + 1)
    ]
    assert [units.price_text(ticks) for ticks in (1, 10, 100, 10_001, 1_000_000)] == [
        *("0.01", "0.1", "1", "100.01", "10000")
    ]
    assert Units("0.25", 12).price_text(3) == "0.75"
    assert Units("10", 12).price_text(7) == "70"


def test_a_quantity_is_a_whole_number_of_lots_or_none() -> None:
    binary, decimal = Units("0.01", 12), Units("0.01", 12, 1_000_000)
    assert binary.lots(0.5**20) == 1
    assert binary.lots(0.5**21) is None
    assert binary.lots(1e-300) is None
    assert binary.lots(0.1) is None
    assert decimal.lots(0.1) == 100_000
    assert decimal.lots(0.3) == 300_000
    assert binary.lots(QUANTITY_LOTS_MAX / 2**20) == QUANTITY_LOTS_MAX
    assert binary.lots(4096.0) is None
    assert [binary.lots(quantity) for quantity in (0.0, -1.0)] == [0, 0]
    assert binary.quantity_text(1) == "0.000000953674"
    assert decimal.quantity_text(1_200_000) == "1.2"
    assert Units("0.01", 0).quantity_text(5 << 19) == "2", "ties to even"


@given(lots=st.integers(1, QUANTITY_LOTS_MAX), per_unit=st.integers(1, QUANTITY_LOTS_MAX))
def test_lots_survive_the_way_out_and_back(lots: int, per_unit: int) -> None:
    units = Units("0.01", 18, per_unit)
    assert units.lots(lots / per_unit) == lots


MALFORMED = {
    "nothing": [b""],
    "no JSON": [b"{"],
    "no UTF-8": [b"\xff"],
    "no message": [b"[1, 2]"],
    "unknown message": [{"type": "greeting"}],
    "event before hello": [{"type": "event", "index": 1, "event": event("new")}],
    "hello of another": [HELLO | {"protocol": "fix"}],
    "another version": [HELLO | {"protocol_version": 2}],
    "no protocol": [{"type": "hello"}],
    "tick size zero": [{**HELLO, "config": {"tick_size": "0"}}],
    "tick size text": [{**HELLO, "config": {"tick_size": "1e-2\n"}}],
    "places": [{**HELLO, "config": {"quantity_decimal_places": 19}}],
    "two hellos": [HELLO, HELLO],
    "no finish": [HELLO],
    "gap": [HELLO, {"type": "event", "index": 2, "event": event("new")}],
    "snapshot of the past": [HELLO, {"type": "snapshot", "index": 1}],
    "wrong count": [HELLO, {"type": "finish", "event_count": 1}],
    "long line": [b'{"type": "' + b"x" * LINE_BYTES_MAX],
    "deep": [b'{"x": ' + b"[" * 100_000],
}
BAD_EVENTS = {
    "unknown operation": event("amend"),
    "no symbol": event("new", symbol="  "),
    "symbol half a character": event("new", symbol="\ud800"),
    "no order id": event("cancel", None),
    "order id zero": event("cancel", 0),
    "order id 64 bits": event("cancel", 2**63),
    "order id of 5,000 digits": json.dumps(event("cancel", 5)).replace("5", "9" * 5000).encode(),
    "owner 64 bits": event("new", owner=2**63),
    "time before": event("new", timestamp_ns=-1),
    "order id text": event("cancel", order_id="1"),
    "side": event("new", side="LONG"),
    "no side": event("new", side=None),
    "no quantity": event("new", quantity=None),
    "no price": event("new", price=None),
    "infinite price": json.dumps(event("new")).replace("100.0", "1e999").encode(),
    "not a number": json.dumps(event("new")).replace("100.0", "NaN").encode(),
    "reduce by nothing": event("reduce", quantity=0),
    "replace by nothing": event("replace"),
    "order type": event("new", order_type="ICEBERG"),
}


def event_line(sent: dict[str, Any] | bytes) -> bytes:
    text = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    return b'{"type": "event", "index": 1, "event": ' + text + b"}"


@pytest.mark.parametrize(
    "messages",
    [*MALFORMED.values(), *([HELLO, event_line(sent)] for sent in BAD_EVENTS.values())],
    ids=[*MALFORMED, *BAD_EVENTS],
)
def test_what_breaks_the_protocol_is_answered_by_one_error_and_ends_it(messages: list[Any]) -> None:
    answers, status = converse("naive", messages)
    assert status == 2
    assert (answers[-1]["type"], answers[-1]["code"]) == ("error", "PROTOCOL_ERROR")
    assert answers[-1]["message"].strip()
    assert "\n" not in answers[-1]["message"]
    assert len(answers[-1]["message"]) < 300
    assert [answer["type"] for answer in answers[:-1]] == ["ready"] * (messages[0] == HELLO)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
some_values = json_values | st.sampled_from(
    ["new", "cancel", "reduce", "replace", "clear", "BUY", "LIMIT", "IOC", "FOK", 0, 1, -1, 2**63, 1e300, 0.1]
)
WHOLE_MESSAGES = [
    {**HELLO, "config": {"matching_algorithm": "fifo", "tick_size": "0.01", "quantity_decimal_places": 12}},
    {"type": "event", "index": 1, "event": event("new", timestamp_ns=1)},
    {"type": "event", "index": 1, "event": event("replace", price=1.0, quantity=1.0)},
    {"type": "snapshot", "index": 0},
    {"type": "finish", "event_count": 0},
]


@st.composite
def spoilt_messages(draw: st.DrawFn) -> bytes:
    """A proper message with a field exchanged, its bytes perhaps cut or overwritten."""
    message = json.loads(json.dumps(draw(st.sampled_from(WHOLE_MESSAGES))))
    inner = next((value for value in message.values() if isinstance(value, dict)), message)
    target = draw(st.sampled_from([message, inner]))
    target[draw(st.sampled_from(sorted(target)) | st.text(max_size=5))] = draw(some_values)
    line = bytearray(json.dumps(message).encode())
    if draw(st.booleans()):
        at = draw(st.integers(0, len(line) - 1))
        line[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=4))
    return bytes(line)


def message_or_refusal(line: bytes) -> Message | str:
    try:
        return read_message(line)
    except ProtocolError as error:
        return str(error)


@settings(max_examples=200, deadline=None)
@given(spoilt_messages() | st.binary(max_size=60))
def test_any_line_is_a_message_or_one_clear_line(line: bytes) -> None:
    told = message_or_refusal(line)
    assert isinstance(told, Message) or (told.strip() and len(told.splitlines()) == 1)


prices = st.sampled_from([99.0, 99.99, 100.0, 100.01, 101.0]) | st.floats(
    allow_nan=False, allow_infinity=False
)
quantities = st.sampled_from([0.25, 0.5, 1.0, 2.0, 5.0]) | st.floats(-1, 1e10)
any_event = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["new", "new", "new", "cancel", "reduce", "replace", "clear"]),
        "symbol": st.sampled_from(["A", "B", " A ", '"\x00\x7f', "\u00e9"]),
        "order_id": st.integers(1, 6) | st.just(2**63 - 1),
        "side": st.sampled_from(["BUY", "SELL"]),
        "order_type": st.sampled_from(["LIMIT", "LIMIT", "IOC", "MARKET", "FOK"]),
        "price": prices,
        "quantity": quantities,
        "owner": st.integers(1, 3) | st.sampled_from([-1, -(2**63)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(any_event, min_size=1, max_size=25))
def test_any_events_are_answered_alike_by_both_books(events: list[dict[str, Any]]) -> None:
    proper = [one for one in events if one["op"] != "reduce" or one["quantity"] > 0]
    observations, books = play("naive", proper)
    assert (observations, books) == play("ladder", proper)
    resting = [order for one in books for order in one["bids"] + one["asks"]]
    assert len(resting) == (observations[-1]["resting_order_count"] if observations else 0)


def run_process(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, cwd=REPOSITORY, check=False, timeout=250
    )


def test_a_process_exits_with_a_status_and_no_traceback() -> None:
    broken = run_process("naive", stdin=b"{broken\n")
    assert (broken.returncode, broken.stderr) == (2, b"")
    assert json.loads(broken.stdout)["code"] == "PROTOCOL_ERROR"
    unknown = run_process("glass")
    assert unknown.returncode == 2
    assert b"'glass' is not one of 'naive', 'ladder'" in unknown.stderr
    assert b"Traceback" not in unknown.stderr


def test_a_process_that_is_interrupted_or_left_alone_ends_without_a_word() -> None:
    with subprocess.Popen(
        [*COMMAND, "naive"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["type"] == "ready"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""
    with subprocess.Popen(
        [*COMMAND, "naive"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
