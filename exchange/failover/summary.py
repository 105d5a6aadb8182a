"""What a demonstration comes to, in sentences and in one line for each failover: the same on the terminal and the page.

Rules: a figure that is not there is "not seen". A finding claims what the run has shown, and no more."""

import statistics
from collections.abc import Sequence
from typing import Final

from exchange.bench.wording import duration
from exchange.failover.results import (
    BEGINNINGS,
    FIRST_ACKNOWLEDGEMENT,
    LEASE_OUT,
    LINE_LOST,
    LISTENING,
    TOOK_OVER,
    Failover,
    FailoverResult,
)

NOT_SEEN: Final = "not seen"
COLUMNS: Final = {
    LINE_LOST: "line lost",
    LEASE_OUT: "lease out",
    TOOK_OVER: "took over",
    LISTENING: "listens",
    FIRST_ACKNOWLEDGEMENT: "first ack",
}
HEADINGS: Final = ("", *COLUMNS.values(), "due then", "waited", "lost", "twice")
ACCOUNT_HEADINGS: Final = ("acknowledged", "sent again", "taken back")
TABLE_NOTE: Final = (
    "Times in ms, from the strike. Due then: requests that came due until the first acknowledgement; waited: the"
    " longest of them. Lost: acknowledged, and not in the journal. Twice: in it more than once."
)


def shown_ms(after_ns: int | None) -> str:
    """A time after a strike."""
    return NOT_SEEN if after_ns is None else f"{after_ns / 1e6:.1f} ms"


def row(one: Failover) -> tuple[str, ...]:
    """The line of a failover, as long as :data:`HEADINGS`; times are milliseconds."""
    times = (one.after_ns(name) for name in COLUMNS)
    account = one.account
    return (
        f"{one.number} {one.how} {one.old}",
        *(NOT_SEEN if after_ns is None else f"{after_ns / 1e6:.0f}" for after_ns in times),
        f"{one.due_meanwhile:,}",
        NOT_SEEN if one.waited_max_ns is None else f"{one.waited_max_ns / 1e6:.0f}",
        f"{account.lost:,}",
        f"{account.twice:,}",
    )


def account_row(one: Failover) -> tuple[str, ...]:
    """More of a failover's account, as long as :data:`ACCOUNT_HEADINGS`."""
    account = one.account
    return (f"{account.acknowledged:,}", f"{account.sent_again:,}", f"{account.taken_back:,}")


def outages(result: FailoverResult) -> list[int]:
    """The outages that were seen, in nanoseconds."""
    return [one.outage_ns for one in result.failovers if one.outage_ns is not None]


def spread_of(values_ns: Sequence[int]) -> str:
    """From the shortest to the longest."""
    return f"{min(values_ns) / 1e6:.0f} to {max(values_ns) / 1e6:.0f} ms"


def findings(result: FailoverResult) -> list[str]:
    """What was found, as sentences; the most important first."""
    return [_loss(result), *_outage(result), _digest_text(result)]


def _loss(result: FailoverResult) -> str:
    acknowledged = sum(one.account.acknowledged for one in result.failovers)
    gate = result.settings["replication.gate"]
    what = f"Of {acknowledged:,} requests that clients were told to be done,"
    if result.lost == 0 and result.twice == 0:
        return f"{what} none is lost and none was done twice."
    text = f"{what} {result.lost:,} are LOST and {result.twice:,} were done TWICE."
    if gate == "async" and result.twice == 0:
        text += " With the gate async that can be: an answer leaves before the backup has its request."
    return text


def _outage(result: FailoverResult) -> list[str]:
    found = outages(result)
    if not found:
        return ["No acknowledgement by a new primary was seen."]
    middle = duration(statistics.median(found))
    beginning = BEGINNINGS[result.failovers[0].how]
    text = f"From the {beginning} to the first acknowledgement by the new primary it took {middle}."
    if len(found) > 1:
        text = f"{text[:-1]} (median of {len(found)}, {spread_of(found)})."
    parts = []
    is_asked = all(one.how == "promote" for one in result.failovers)
    for begin, end, what in (
        (
            None,
            LEASE_OUT,
            "until the lease was handed over" if is_asked else "to see that the lease had run out",
        ),
        (LEASE_OUT, LISTENING, "to take over and listen"),
        (LISTENING, FIRST_ACKNOWLEDGEMENT, "for a client to come, log on and be answered"),
    ):
        times = [_between(one, begin, end) for one in result.failovers]
        known = [one for one in times if one is not None]
        if known:
            parts.append(f"{duration(statistics.median(known))} {what}")
    sentences = [text, *([f"Of that, {', '.join(parts)}."] if parts else [])]
    if any(one.how == "stop" for one in result.failovers):
        patience = duration(1e9 * result.load["answer_timeout_s"])
        sentences.append(
            f"A primary that is stopped breaks no line: its clients went away after {patience} without an answer."
        )
    return sentences


def _between(one: Failover, begin: str | None, end: str) -> int | None:
    first, last = 0 if begin is None else one.after_ns(begin), one.after_ns(end)
    return None if first is None or last is None else max(last - first, 0)


def _digest_text(result: FailoverResult) -> str:
    told = [name for name, one in result.digests.items() if one is not None]
    if result.digests_agree:
        return f"The books at the end are the same by {len(told)} digests: {', '.join(told)}."
    if len(told) < 2:
        return "The digests of the books were not told."
    different = ", ".join(f"{name} {one}" for name, one in result.digests.items())
    return f"The digests of the books DIFFER: {different}."
