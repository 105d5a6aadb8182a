"""The parts of operation that need no running exchange: the token, the lines of the log, the window of latencies."""

import json
import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from exchange.admin.access import TOKEN_VARIABLE, is_right, make_token, read_token
from exchange.admin.client import AdminClient
from exchange.bench.histogram import bucket_top_ns
from exchange.clock import now_ns, start_system_clock
from exchange.errors import UserError
from exchange.gateway.latency import RUNS_MAX, LatencyMemory, count_latencies, note_events
from exchange.logs import JsonFormatter, TextFormatter, log_event
from exchange.messages import EVENT_DTYPE
from exchange.native import address_of

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def test_a_token_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert make_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    token = read_token(path)
    assert len(token) >= 43
    assert not make_token(path)
    assert read_token(path) == token
    other = tmp_path / "other"
    assert make_token(other)
    assert read_token(other) != token


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert not make_token(tmp_path / "token")
    assert read_token(tmp_path / "token") == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(UserError, match="EXCHANGE_ADMIN_TOKEN: no token; allowed are 16 to 1024") as caught:
        read_token(tmp_path / "token")
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (TOKEN, 0o644, "others can read it; 'chmod 600"),
        (TOKEN, 0o660, "others can read it"),
        ("", 0o600, "no token; allowed are 16 to 1024 printable ASCII characters"),
        ("two words in it, long", 0o600, "no token"),
        ("x" * 1025, 0o600, "no token"),
        ("caf\u00e9" * 8, 0o600, "no token"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: str, mode: int, told: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UserError, match=told):
        read_token(path)


def test_a_file_that_is_not_there_or_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory; 'exchange serve' makes it"):
        read_token(tmp_path / "token")
    with pytest.raises(UserError, match=r"admin.token_file = .*: cannot write it"):
        make_token(tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    ("header", "is_it"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer", False),
        ("Bearer \u20ac\udcff", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_token_is_right(header: str | None, is_it: bool) -> None:
    assert is_right(header, TOKEN) is is_it


def test_a_line_is_text_or_json_and_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "exchange"):
        log_event("login", user="al\nice", session=0, peer="::1", reason="end of stream", none=None, empty="")
        log_event("odd", level=logging.WARNING, equals="a=b", quote='say "no"', path=Path("/tmp"))
    first, second = caplog.records
    text = TextFormatter().format(first)
    assert text.endswith(
        'INFO login user="al\\nice" session=0 peer=::1 reason="end of stream" none=None empty=""'
    )
    assert "\n" not in text
    assert TextFormatter().format(second).endswith('equals="a=b" quote="say \\"no\\"" path=/tmp')
    line = json.loads(JsonFormatter().format(first))
    assert line.pop("time") == pytest.approx(first.created, abs=1e-5)
    assert line == {
        "level": "info", "event": "login", "user": "al\nice", "session": 0, "peer": "::1",
        "reason": "end of stream", "none": None, "empty": "",
    }  # fmt: skip
    assert json.loads(JsonFormatter().format(second))["path"] == "/tmp"


def test_a_line_of_somebody_else_is_a_line_too() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "%s happened", ("it",), sys.exc_info())
    assert "it happened" in TextFormatter().format(record)
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["level"]) == ("it happened", "error")
    assert "ValueError: why" in line["trace"]


CLOCK = start_system_clock()


def noted(memory: LatencyMemory, ages_ns: list[int]) -> None:
    """Count events that are so old now."""
    events = np.zeros(len(ages_ns), EVENT_DTYPE)
    events["timestamp_ns"] = now_ns(CLOCK) - np.array(ages_ns)
    note_events(memory.state, address_of(events), len(events))
    count_latencies(memory.state, CLOCK)


def test_every_event_is_counted_with_its_age() -> None:
    memory = LatencyMemory()
    count_latencies(memory.state, CLOCK)
    assert memory.counts().sum() == 0
    second = 1_000_000_000
    noted(memory, [10 * second] * 3 + [20 * second] * 5 + [10 * second])
    counts = memory.counts()
    found = np.flatnonzero(counts)
    assert counts[found].tolist() == [4, 5]
    # the clock went on between the two looks
    assert all(bucket_top_ns(int(b)) >= age * second for b, age in zip(found, (10, 20), strict=True))
    noted(memory, list(range(second, second + 2 * RUNS_MAX)))
    assert memory.counts().sum() == 9 + 2 * RUNS_MAX


def test_the_window_is_of_the_last_seconds_however_many_look() -> None:
    memory = LatencyMemory()
    began = memory.latest().window_seconds
    assert began < 10
    now = memory._copies[0][0]
    noted(memory, [5_000_000_000] * 10)
    first = memory.latest(now + 0.5)
    assert (first.window_seconds, first.count) == (0.5, 10)
    assert first.p50 is not None
    assert first.p50 >= 5_000_000_000
    assert first.p50 <= first.p99 <= first.max  # type: ignore[operator]
    assert memory.latest(now + 1.5).count == 10
    assert memory.latest(now + 2.4).count == 10, "what is two seconds old is still the nearest"
    noted(memory, [1_000_000_000] * 4)
    later = memory.latest(now + 2.6)
    assert (later.count, later.window_seconds) == (4, pytest.approx(1.1))
    quiet = memory.latest(now + 60)
    assert (quiet.count, quiet.p50, quiet.max) == (0, None, None)
    assert quiet.window_seconds == pytest.approx(57.4), "since the look before this one"


@pytest.mark.parametrize("url", ["127.0.0.1:9010", "file:///etc/passwd", "http://", ""])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(UserError, match=re.escape("must be like http://127.0.0.1:9010")):
        AdminClient(url, TOKEN)


def test_nobody_there_is_told_in_one_line() -> None:
    with pytest.raises(
        UserError, match=r"no admin interface at http://127.0.0.1:1 .*does 'exchange serve' run"
    ):
        AdminClient("http://127.0.0.1:1/", TOKEN).get("health")
    assert os.environ.get(TOKEN_VARIABLE) is None
