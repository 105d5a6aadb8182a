"""The example of the page on market data does what the page says."""

import subprocess
import sys
from pathlib import Path

from exchange.market_data.feed_file import END_MARK
from exchange.wire.itch50 import AddOrder
from exchange.wire.moldudp64 import encode_blocks

REPOSITORY = Path(__file__).parents[2]


def test_the_example_prints_the_best_prices_of_a_file(tmp_path: Path) -> None:
    adds = [
        AddOrder(1, 0, 5, 1, "B", 100, "ABC", 150_000),
        AddOrder(1, 0, 6, 2, "S", 70, "ABC", 150_100),
        AddOrder(2, 0, 7, 3, "B", 9, "XYZ", 20_000),
    ]
    path = tmp_path / "day.itch"
    path.write_bytes(encode_blocks(one.encode() for one in adds) + END_MARK)
    command = [sys.executable, str(REPOSITORY / "docs" / "examples" / "read_a_feed.py"), str(path), "ABC"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    first, last = done.stdout.splitlines()
    assert first.split() == ["ABC", "100", "x", "15.0000", "15.0100", "x", "70"]
    assert last.startswith("FeedCounts(messages=3, missing_references=0,")
