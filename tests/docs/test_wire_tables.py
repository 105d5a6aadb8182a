"""The tables of the wire pages are made from the classes: every message, field and code is on them."""

import re
import sys
from pathlib import Path

import pytest

from exchange.wire import (
    itch50,
    itch50_codes,
    ouch42,
    ouch50,
    ouch50_options,
    ouch_codes,
    soupbintcp,
    soupbinudp,
)
from exchange.wire.fields import Code, NumberCode
from exchange.wire.layout import MessageTable

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted((REPOSITORY / "docs" / "wire").glob("*.md"))
TABLES = {
    "soupbintcp.md": [soupbintcp.CLIENT_PACKETS, soupbintcp.SERVER_PACKETS],
    "soupbinudp.md": [soupbinudp.CLIENT_DATAGRAMS, soupbinudp.SERVER_DATAGRAMS],
    "ouch.md": [
        ouch50.INBOUND_MESSAGES,
        ouch50.OUTBOUND_MESSAGES,
        ouch42.INBOUND_MESSAGES,
        ouch42.OUTBOUND_MESSAGES,
    ],
    "itch.md": [itch50.MESSAGES],
}
CODES = {
    "soupbintcp.md": [soupbintcp],
    "ouch.md": [ouch50, ouch50_options, ouch42, ouch_codes],
    "itch.md": [itch50_codes],
}


@pytest.fixture(scope="module")
def hook():
    sys.path.insert(0, str(REPOSITORY / "docs" / "hooks"))
    try:
        import wire_tables
    finally:
        sys.path.pop(0)
    return wire_tables


def rendered(hook, name: str) -> str:
    return hook.on_page_markdown((REPOSITORY / "docs" / "wire" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TABLES)
def test_every_field_of_every_message_is_a_row(hook, name: str) -> None:
    text = rendered(hook, name)
    for table in TABLES[name]:
        sections = "\n".join(hook.message_sections(table))
        assert sections in text
        for letter, cls in table.items():
            layout = cls.layout
            (section,) = re.findall(
                rf"^#### {re.escape(letter)} {re.escape(layout.title)} · {layout.size_bytes} bytes.*?(?=^#### |\Z)",
                sections,
                re.MULTILINE | re.DOTALL,
            )
            rows = re.findall(r"^\| (\d+) \| (\w+) \| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
            assert rows == [
                (str(field.offset), str(field.size_bytes or "rest"), field.name, field.kind.label)
                for field in layout.fields
            ]


@pytest.mark.parametrize("name", CODES)
def test_every_code_is_a_row(hook, name: str) -> None:
    text = rendered(hook, name)
    for module in CODES[name]:
        lists = [
            cls
            for cls in vars(module).values()
            if isinstance(cls, type)
            and issubclass(cls, Code | NumberCode)
            and cls.__module__ == module.__name__
        ]
        assert lists
        for cls in lists:
            for code in cls:
                assert re.search(
                    rf"^\| .* \| {re.escape(code.meaning)} \| `{cls.__name__}\.{code.name}` \|$", text, re.M
                )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_a_page_leads_to_a_list_on_it(hook, page: Path) -> None:
    text = rendered(hook, page.name)
    assert "<!-- wire" not in text
    links = set(re.findall(r"\]\(#([\w-]+)\)", text))
    anchors = re.findall(r"\{ #([\w-]+) \}", text)
    assert links <= set(anchors)
    assert len(anchors) == len(set(anchors))


def test_every_option_is_a_row(hook) -> None:
    text = rendered(hook, "ouch.md")
    for tag, field in ouch50_options.OPTION_FIELDS.items():
        assert f"| {tag} | {field.size_bytes} | `{field.name}` | {field.kind.label} |" in text


def test_one_message_alone_is_a_table_without_a_heading(hook) -> None:
    text = hook.on_page_markdown("<!-- wire layout exchange.wire.ouch50.CancelOrder -->")
    assert text.startswith(
        "| offset | size | field | kind | notes |\n|---|---|---|---|---|\n| 0 | 1 | `message_type`"
    )
    assert "| 9 | 2 | `appendage_length` | u16 | bytes that follow it; may be absent |" in text


@pytest.mark.parametrize("marker", ["messages exchange.wire.ouch50.NO_SUCH", "codes exchange.wire.no_such"])
def test_a_name_that_is_gone_fails_the_build(hook, marker: str) -> None:
    with pytest.raises((AttributeError, ImportError)):
        hook.on_page_markdown(f"<!-- wire {marker} -->")


def test_the_heading_says_what_may_follow(hook) -> None:
    text = "\n".join(hook.message_sections(MessageTable("some", ouch50.EnterOrder, ouch50.CancelOrder)))
    assert "#### O Enter Order Request · 47 bytes + options\n" in text
    assert "#### X Cancel Order Request · 9 bytes and what may be absent\n" in text
