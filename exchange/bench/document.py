"""The frame of an HTML report: what all reports of this project have in common, whatever they tell.

One file that refers to nothing outside itself: a title and what was found, sections, the machine, the words that a
student needs, and the raw result as a download. Frame and style are in ``report.html``.

Arguments that are named ``..._html`` are markup already; every other string is escaped here.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from exchange.bench.markup import facts
from exchange.bench.summary import flatten
from exchange.bench.wording import binary_size, setting


def render_document(
    *,
    title: str,
    subtitle: str,
    banner_html: str,
    cards_html: str,
    sections_html: Sequence[tuple[str, str, str]],
    words_html: str,
    download: bytes,
    download_name: str,
) -> str:
    """Return the report as one HTML document.

    Args:
        title: of the page.
        subtitle: when it was made, and of what.
        banner_html: what was found.
        cards_html: a few large figures; empty for none.
        sections_html: for each section its id, its title and its markup.
        words_html: the glossary, a ``<div>`` with ``<dt>`` and ``<dd>`` for each word.
        download: the raw result, as JSON.
        download_name: what a browser calls it.
    """
    titles = [
        *((name, heading) for name, heading, _ in sections_html),
        ("words", "The words a student needs"),
    ]
    template = Template(files("exchange.bench").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        banner=banner_html,
        cards=cards_html,
        navigation=" ".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading in titles),
        sections="\n".join(
            f'<section id="{name}"><h2>{escape(heading)}</h2>{body}</section>'
            for name, heading, body in sections_html
        ),
        words=words_html,
        download=base64.b64encode(download).decode("ascii"),
        download_name=escape(download_name),
    )


def host_facts(host: Mapping[str, Any], absent: Callable[[str], str]) -> str:
    """Return everything that is known of a machine, as a list.

    Args:
        host: as :func:`exchange.bench.host.describe_host` has it.
        absent: says why a fact is not known.
    """
    known = {key: value for key, value in host.items() if key != "not_measured"}
    return facts((_fact_name(key), _fact(key, value, absent)) for key, value in flatten(known))


def repeated_by(command_line: str) -> str:
    """Return how to have a result again."""
    return f"<h3>To repeat it</h3><p><code>{escape(command_line)}</code></p>"


def _fact_name(key: str) -> str:
    return key.replace("_bytes", "").replace("_", " ").replace(".", ": ")


def _fact(key: str, value: Any, absent: Callable[[str], str]) -> str:
    if value is None:
        return f'<span class="absent">{escape(absent(key))}</span>'
    if "_bytes" in key and isinstance(value, int):
        return escape(binary_size(value))
    return escape(", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else setting(value))
