"""The HTML report of a demonstration: what was found, a picture and a table for each failover, and the machine.

The frame is that of all reports (:mod:`exchange.bench.document`). Rules: what was not seen is written as such; every
string passes :func:`html.escape`.
"""

import statistics
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from exchange.bench.document import host_facts, render_document, repeated_by
from exchange.bench.markup import card, facts, figure, figure_cell, prose, table
from exchange.bench.wording import duration, quantity, round_duration, setting, short_digest
from exchange.failover.plot import SHOWN_RATES, failover_plot
from exchange.failover.results import BEGINNINGS, MOMENTS, Failover, FailoverResult
from exchange.failover.summary import (
    ACCOUNT_HEADINGS,
    HEADINGS,
    NOT_SEEN,
    TABLE_NOTE,
    account_row,
    findings,
    outages,
    row,
    shown_ms,
    spread_of,
)
from exchange.placement.topology import count_noun

STRUCK: Final = {
    "kill": "was killed with SIGKILL",
    "stop": "was stopped with SIGSTOP, past its lease",
    "promote": "was told to hand over",
}


def render_page(result: FailoverResult) -> str:
    """Return the report as one HTML document."""
    sections = [
        (f"failover-{one.number}", _heading(one, result), _failover(one, result)) for one in result.failovers
    ]
    sections.append(("account", "Was anything lost?", _account(result)))
    sections.append(("machine", "Machine, settings and run", _machine(result)))
    created = result.created_utc.replace("T", " ")[:16]
    load = f"{quantity(float(result.load['requests_per_second']))} requests/s of {result.load['sessions']} clients"
    return render_document(
        title="A primary hands over" if result.failovers[0].how == "promote" else "A primary is lost",
        subtitle=f"{created} UTC · profile {result.profile} · {load}",
        banner_html=_banner(result),
        cards_html=_cards(result),
        sections_html=sections,
        words_html=files("exchange.failover").joinpath("words.html").read_text(encoding="utf-8"),
        download=msgspec.json.encode(result),
        download_name="exchange-failover.json",
    )


def write_page(result: FailoverResult, path: Path) -> None:
    """Write the report."""
    path.write_text(render_page(result), encoding="utf-8")


def _banner(result: FailoverResult) -> str:
    sentences = findings(result)
    kind = "verdict" if result.is_whole else "void"
    text = f'<div class="{kind}">' + "".join(f"<p>{prose(one)}</p>" for one in sentences) + "</div>"
    if result.warnings:
        items = "".join(f"<li>{escape(one)}</li>" for one in result.warnings)
        text += f'<ul class="warnings">{items}</ul>'
    return text


def _cards(result: FailoverResult) -> str:
    found = outages(result)
    cards = []
    if found:
        many = f", the median of {len(found)} ({spread_of(found)})" if len(found) > 1 else ""
        middle_ns, begin = round(statistics.median(found)), BEGINNINGS[result.failovers[0].how]
        cards.append((shown_ms(middle_ns), f"from the {begin} to the first acknowledgement{many}"))
    acknowledged = sum(one.account.acknowledged for one in result.failovers)
    cards.append((f"{result.lost:,} lost", f"of {acknowledged:,} requests that had been acknowledged"))
    cards.append((f"{result.twice:,} twice", "of the same"))
    told = [one for one in result.digests.values() if one is not None]
    cards.append(
        ("✓ equal" if result.digests_agree else "✗ different", f"{len(told)} digests of the books at the end")
    )
    return '<div class="cards">' + "".join(card(*one) for one in cards) + "</div>"


def _heading(one: Failover, result: FailoverResult) -> str:
    which = f"Failover {one.number}: " if len(result.failovers) > 1 else ""
    return f"{which}{one.old} {STRUCK[one.how]}, {one.new} goes on"


def _failover(one: Failover, result: FailoverResult) -> str:
    wide, narrow = (failover_plot(one, narrow=shape) for shape in (False, True))
    rows = [
        [
            f"<th>{escape(moment.name)}</th>",
            figure_cell(shown_ms(moment.after_ns)) if moment.after_ns is not None else _absent(),
            f"<td>{escape(MOMENTS[moment.name])}</td>",
            f'<td class="roomy">{escape(moment.told_by)}</td>',
        ]
        for moment in one.moments
    ]
    return (
        figure(wide, narrow, _caption(one, result))
        + table(("what", "after the strike", "which means", "told by"), rows, figures=(1,), roomy=(3,))
        + f"<p>{prose(_waited(one))}</p>"
    )


def _absent() -> str:
    return f'<td class="figure absent">{NOT_SEEN}</td>'


def _caption(one: Failover, result: FailoverResult) -> str:
    settings, host = result.settings, result.host
    cores = host["processing_units_allowed"]
    lease, renewal = (
        round_duration(settings[f"replication.{name}"]) for name in ("lease_ns", "renew_every_ns")
    )
    return (
        f"Steps of {round_duration(one.steps.step_ns)}. Requests are due at fixed times, and latency counts from then:"
        " what came due in the outage (shaded) has waited for its end. Bars that leave the upper panel, at"
        f" {SHOWN_RATES:g} times the usual rate, are the answers to what had piled up. A few requests have none, for"
        " their orders were filled before. Both exchanges, their lease store and the clients are processes on one"
        f" machine ({host.get('cpu_model') or 'processor not known'}, {count_noun(cores, 'core')} to run on); no"
        f" network lies between them. Replication {settings['replication.kind']}, gate"
        f" {settings['replication.gate']}, a lease of {lease} renewed every {renewal}, idle"
        f" threads {settings['idle.kind']}."
    )


def _waited(one: Failover) -> str:
    account = one.account
    if one.waited_max_ns is None or one.waited_p50_ns is None:
        text = f"{one.due_meanwhile:,} requests came due in the outage, and none of them was seen to be answered."
    else:
        text = (
            f"{one.due_meanwhile:,} requests came due in the outage. Half of them waited"
            f" {duration(one.waited_p50_ns)} or more for their answer, the longest {duration(one.waited_max_ns)}, from"
            " when they should have been sent."
        )
    return (
        f"{text} No client had any answer for {duration(one.silence_ns)}. {account.sent_again:,} requests were sent"
        f" again on the new line, because they had no answer; {account.unanswered:,} of {account.sent:,} were never"
        " answered."
    )


def _account(result: FailoverResult) -> str:
    rows = [
        [f"<th>{escape(first)}</th>", *map(figure_cell, (*others, *account_row(one)))]
        for one in result.failovers
        for first, *others in [row(one)]
    ]
    digests = facts(
        (name, f'<span class="mono">{escape(short_digest(one))}</span>' if one is not None else NOT_SEEN)
        for name, one in result.digests.items()
    )
    return (
        "<p>When both exchanges had ended, the journal of the survivor was replayed from its first record on, in the"
        " textbook's books. Every order, replacement and cancel that a client had been told to be done was looked for"
        " in it, by the number that the client had given it.</p>"
        + table((*HEADINGS, *ACCOUNT_HEADINGS), rows, figures=range(1, len(HEADINGS) + len(ACCOUNT_HEADINGS)))
        + f'<p class="note">{escape(TABLE_NOTE)} Taken back: messages that clients had got and the new primary did not'
        " know.</p>" + "<h3>Digests of the books at the end</h3>" + digests
    )


def _machine(result: FailoverResult) -> str:
    reasons = result.host.get("not_measured", {})
    text = host_facts(result.host, lambda key: str(reasons.get(key, "not known")))
    text += "<h3>Settings of both exchanges</h3>" + _list(result.settings.items())
    text += "<h3>The clients</h3>" + _list(
        (key.replace("_", " "), value) for key, value in result.load.items()
    )
    return text + repeated_by(result.command_line)


def _list(pairs: Iterable[tuple[str, object]]) -> str:
    return facts((name, escape(setting(value))) for name, value in pairs)
