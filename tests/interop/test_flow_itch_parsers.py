"""Our ITCH reader beside two independent ones: itchfeed (messages) and itch-book (order books)."""

import datetime
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from exchange.flow import load_flow
from exchange.flow.itch import read_itch
from exchange.flow.recorded import RecordKind, open_source

itch_parser = pytest.importorskip("itch.parser")
itch_book = pytest.importorskip("itch_book")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "EXCHANGE_DATA" not in os.environ, reason="EXCHANGE_DATA names no folder of market data"
    ),
]

DATA = Path(os.environ.get("EXCHANGE_DATA", "."))
ITCH = str(DATA / "AAPL_2012-06-21_0930-1030.lobster.itch50.gz")
ITCH_HEAD = DATA / "real_nasdaq_itch50_head_4096bytes.itch"
KIND_OF = {
    b"A": RecordKind.ADD,
    b"F": RecordKind.ADD,
    b"X": RecordKind.CANCEL,
    b"D": RecordKind.DELETE,
    b"E": RecordKind.EXECUTE,
    b"C": RecordKind.EXECUTE,
    b"U": RecordKind.REPLACE,
}


def test_itchfeed_reads_the_same_messages():
    records = read_itch(open_source(ITCH)).records
    messages = list(itch_parser.MessageParser().parse_stream(gzip.decompress(Path(ITCH).read_bytes())))
    notes = load_flow(ITCH).notes
    for letter, count in Counter(message.message_type.decode() for message in messages).items():
        assert notes[f"itch_messages_{letter}"] == count
    theirs = [message for message in messages if message.message_type in KIND_OF]
    assert records["kind"].tolist() == [KIND_OF[message.message_type] for message in theirs]
    assert records["timestamp_ns"].tolist() == [message.timestamp for message in theirs]
    assert records["order_id"].tolist() == [message.order_reference_number for message in theirs]
    added = records[records["kind"] == RecordKind.ADD]
    adds = [message for message in theirs if message.message_type == b"A"]
    assert added["quantity_lots"].tolist() == [message.shares for message in adds]
    assert added["price_ticks"].tolist() == [message.price for message in adds]
    assert added["side"].tolist() == [int(message.buy_sell_indicator == b"S") for message in adds]


def test_itchfeed_counts_the_head_of_a_real_day_file_as_we_do():
    counts = Counter(
        message.message_type.decode()
        for message in itch_parser.MessageParser().parse_stream(ITCH_HEAD.read_bytes())
    )
    notes = load_flow(str(ITCH_HEAD), allow_truncated=True).notes
    assert {key: value for key, value in notes.items() if key.startswith("itch_messages")} == {
        f"itch_messages_{letter}": count for letter, count in counts.items()
    }


def test_itch_book_finds_nothing_wrong_with_the_records_that_we_read():
    with itch_book.open(ITCH, price_type="fixed", date=datetime.date(2012, 6, 21)) as feed:
        executions = np.concatenate(
            [batch.trades["size"][batch.trades["kind"] == b"E"] for batch in feed.batches(("trades",))]
        )
        stats = feed.stats
    records = read_itch(open_source(ITCH)).records
    assert stats["messages"] == 92_085
    assert stats["unknown"] == stats["missing_ref"] == stats["dup_ref"] == stats["crossed_books"] == 0
    assert stats["adds"] == (records["kind"] == RecordKind.ADD).sum()
    assert executions.tolist() == records["quantity_lots"][records["kind"] == RecordKind.EXECUTE].tolist()
    assert load_flow(ITCH).notes["records_at_odds"] == 0
