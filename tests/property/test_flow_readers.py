"""Whatever bytes a file holds, a reader answers with a flow or a UserError; and what it reads, a twin reads too."""

import gzip
import re
from pathlib import Path
from struct import iter_unpack, pack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.flow import Flow, RecordedConfig
from exchange.flow.itch import MESSAGE_BYTES, read_itch
from exchange.flow.lobster import parse_rows
from exchange.flow.recorded import Source, flow_of, read_recording, unpack_gzip

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

LINES = b"".join(
    b"342%02d.%d,%d,%d,%d,%d,%d\n" % (k, 10**k % 997, kind, order, size, 5_850_000 + order, side)
    for k, (kind, order, size, side) in enumerate(
        [
            (1, 5, 100, 1),
            (1, 6, 50, -1),
            (2, 5, 10, 1),
            (4, 5, 20, 1),
            (3, 4, 70, -1),
            (5, 0, 9, 1),
            (4, 6, 50, -1),
            (7, 0, 0, -1),
        ]
    )
)


def message(letter: str, time_ns: int, body: bytes, locate: int = 1) -> bytes:
    whole = letter.encode() + pack(">HH", locate, 0) + time_ns.to_bytes(6, "big") + body
    return pack(">H", MESSAGE_BYTES[letter]) + whole.ljust(MESSAGE_BYTES[letter], b" ")


BLOCKS = b"".join(
    [
        message("R", 1, b"AAPL    "),
        message("A", 2, pack(">QcI8sI", 5, b"B", 100, b"AAPL    ", 5_850_000)),
        message("F", 3, pack(">QcI8sI4s", 6, b"S", 50, b"AAPL    ", 5_851_000, b"GSCO")),
        message("X", 4, pack(">QI", 5, 10)),
        message("E", 5, pack(">QIQ", 5, 20, 1)),
        message("P", 6, pack(">QcI8sIQ", 0, b"B", 9, b"AAPL    ", 5_850_500, 2)),
        message("U", 7, pack(">QQII", 5, 7, 60, 5_850_100)),
        message("C", 8, pack(">QIQcI", 6, 50, 3, b"Y", 5_850_900)),
        message("D", 9, pack(">Q", 7)),
        message("S", 9, b"C"),
    ]
)


@st.composite
def mutations(draw, original: bytes) -> bytes:
    """The original with some bytes changed, put in or taken out."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 6))):
        where = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["change", "insert", "remove", "cut", "repeat"])):
            case "change" if data:
                data[where] = draw(st.sampled_from([*range(0, 256, 5), *b"0123456789,.-\n\r"]))
            case "insert":
                data[where:where] = draw(st.binary(min_size=1, max_size=20))
            case "remove":
                del data[where : where + draw(st.integers(1, 40))]
            case "cut":
                del data[where:]
            case "repeat":
                data += data[where : where + draw(st.integers(1, 80))]
    return bytes(data) or b"\0"


def read_or_refuse(data: bytes, reading: str, *, allow_truncated: bool) -> Flow | None:
    """The flow; or None if the bytes are refused, in one line that names the file and a byte of it."""
    config = RecordedConfig("some.file", reading, None, allow_truncated)
    array = np.frombuffer(data, np.uint8)
    try:
        return flow_of(read_recording(Source("some.file", array), config), config)
    except UserError as error:
        refusal = str(error)
    place = re.match(r"some\.file: byte (\d+): \S", refusal)
    assert place, refusal
    assert int(place[1]) <= len(data)
    assert "\n" not in refusal
    return None


def check(flow: Flow | None) -> None:
    """What holds for any flow."""
    if flow is None:
        return
    commands = flow.commands
    assert len(commands) == len(flow.expected_maker)
    assert (np.diff(commands["timestamp_ns"]) >= 0).all()
    assert (commands["kind"] >= 1).all()
    assert (commands["symbol_id"] < max(1, len(flow.symbols))).all()
    assert ((flow.expected_maker != 0) <= (commands["order_id"] < 0)).all()


@pytest.mark.parametrize("reading", ["flow", "feed"])
@pytest.mark.parametrize("original", [LINES, BLOCKS], ids=["lobster", "itch"])
def test_mutated_files_are_read_or_refused(original, reading):
    check(flow := read_or_refuse(original, reading, allow_truncated=False))
    assert flow is not None

    @quick
    @given(mutations(original), st.booleans())
    def hold(data: bytes, allow_truncated: bool) -> None:
        check(read_or_refuse(data, reading, allow_truncated=allow_truncated))

    hold()


@quick
@given(st.binary(min_size=1, max_size=200), st.sampled_from([b"", b"\0", b"1"]))
def test_any_bytes_are_read_or_refused(data, start):
    check(read_or_refuse(start + data, "flow", allow_truncated=False))


@quick
@given(mutations(gzip.compress(LINES * 20)))
def test_mutated_gzip_files_are_unpacked_or_refused(data):
    refusal = "some.file: byte"
    try:
        unpack_gzip("some.file", data, allow_truncated=False)
    except UserError as error:
        refusal = str(error)
    assert "some.file: byte" in refusal


@quick
@given(st.integers(0, len(BLOCKS) - 1))
def test_a_file_that_is_cut_anywhere_gives_its_whole_messages(length):
    whole = 0
    while whole + 2 <= length and whole + 2 + int.from_bytes(BLOCKS[whole : whole + 2], "big") <= length:
        whole += 2 + int.from_bytes(BLOCKS[whole : whole + 2], "big")
    if whole == 0:
        return
    cut = read_or_refuse(BLOCKS[:length], "feed", allow_truncated=True)
    clean = read_or_refuse(BLOCKS[:whole], "feed", allow_truncated=False)
    assert cut is not None
    assert clean is not None
    assert cut.commands.tobytes() == clean.commands.tobytes()
    assert (read_or_refuse(BLOCKS[:length], "feed", allow_truncated=False) is None) == (length != whole)


def time_text(nanoseconds: int) -> str:
    """As LOBSTER writes it: without the trailing zeros."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09}".rstrip("0").rstrip(".")


rows = st.lists(
    st.tuples(
        st.integers(0, 86_400 * 10**9),
        st.integers(1, 7),
        st.integers(-4, 2**59),
        st.integers(-1, 2**32 - 1),
        st.integers(-1, 2**32 - 1),
        st.sampled_from([-1, 1]),
    ),
    max_size=20,
)


@quick
@given(rows, st.sampled_from(["\n", "\r\n"]))
def test_lobster_lines_are_parsed_to_the_last_digit(rows, line_end):
    rows = sorted(rows)
    text = "".join(",".join([time_text(row[0]), *map(str, row[1:])]) + line_end for row in rows)
    parsed, offsets = parse_rows(Source("x", np.frombuffer(text.encode(), np.uint8)))
    assert [tuple(row) for row in parsed.tolist()] == rows
    assert [text[offset:].split(",")[0] for offset in offsets] == [time_text(row[0]) for row in rows]


@quick
@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**63 - 1),
            st.sampled_from([b"B", b"S"]),
            st.integers(1, 2**32 - 1),
            st.integers(1, 2**32 - 1),
            st.integers(0, 2**48 - 1),
        ),
        max_size=20,
    )
)
def test_itch_adds_are_decoded_as_struct_decodes_them(orders):
    orders.sort(key=lambda order: order[4])
    blocks = [
        message("A", time_ns, pack(">QcI8sI", order_id, side, shares, b"X", price))
        for order_id, side, shares, price, time_ns in orders
    ]
    records = read_itch(Source("x", np.frombuffer(b"".join(blocks), np.uint8))).records
    twin = [
        (time_ns, order_id, price, shares, int(side == b"S"))
        for block in blocks
        for _, _, _, high, low, order_id, side, shares, _, price in iter_unpack(">H1sIHIQ1sI8sI", block)
        for time_ns in [high << 32 | low]
    ]
    names = ["timestamp_ns", "order_id", "price_ticks", "quantity_lots", "side"]
    assert [tuple(int(record[name]) for name in names) for record in records] == twin


def test_the_lobster_symbol_is_the_beginning_of_the_file_name(tmp_path: Path):
    config = RecordedConfig(str(tmp_path / "_message.csv"))
    source = Source(config.path, np.frombuffer(LINES, np.uint8))
    assert flow_of(read_recording(source, config), config).symbols == ("UNNAMED",)
