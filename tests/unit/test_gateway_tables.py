"""The gateway's small tables: symbols, orders, options of a request, users."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.gateway.config import GatewayConfig
from exchange.gateway.credentials import User, Users, read_users, write_user
from exchange.gateway.options import GARBAGE_OPTION, NO_FLAW, NO_GROUP, ReadOptions, read_options
from exchange.gateway.order_table import ANSWERED, NO_ORDER, NOT_YET, find_order, finish_order, take_order
from exchange.gateway.session_memory import WAYS, SessionMemory
from exchange.gateway.symbol_table import UNKNOWN, SymbolTable, find_symbol, symbol_word
from exchange.gateway.token_index import (
    NO_SLOT,
    TOKEN_CHARACTERS,
    TokenIndex,
    find_token,
    keep_token,
)
from exchange.native import Arena, kernel, store_int64, view_bytes
from exchange.wire.fields import WireError
from exchange.wire.ouch50 import EnterOrder, RejectReason
from exchange.wire.ouch50_options import Appendage, Option, OptionTag

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=60, unique=True), st.lists(NAMES, max_size=20))
@settings(deadline=None, max_examples=50)
def test_every_symbol_is_found_and_no_other(names: list[str], others: list[str]) -> None:
    table = SymbolTable(names)
    for number, name in enumerate(names):
        assert find_symbol(table.symbols, symbol_word(name)) == number
    for other in set(others) - set(names):
        assert find_symbol(table.symbols, symbol_word(other)) == UNKNOWN
    assert find_symbol(table.symbols, symbol_word("")) == UNKNOWN
    assert find_symbol(table.symbols, 0) == UNKNOWN


@pytest.mark.parametrize("names", [[""], ["NINELONGX"], ["A B"], ["Ä"], ["A", "A"]])
def test_symbols_that_cannot_be_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match=r"gateway\.symbols: "):
        SymbolTable(names)


@kernel
def look_up(sessions, session, number):  # type: ignore[no-untyped-def]
    return find_order(sessions, session, number)


@kernel
def take(sessions, session, number):  # type: ignore[no-untyped-def]
    return take_order(sessions, session, number)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 10**6)), max_size=200))
@settings(deadline=None, max_examples=60)
def test_the_order_table_against_a_dictionary(steps: list[tuple[int, bool, int]]) -> None:
    memory = SessionMemory(GatewayConfig(capacity_orders=32, log_bytes=4096), 2)
    session, sets, alive, number = memory.address(1), 32 // WAYS, dict[int, int](), 0
    answered = set[int]()
    for step, ends, choice in steps:
        if ends and alive:
            ended = sorted(alive)[choice % len(alive)]
            finish_order(alive.pop(ended), ended)
            assert look_up(memory.sessions, session, ended) == NO_ORDER
        number += step
        same_set = [other for other in alive if other % sets == number % sets]
        order = take(memory.sessions, session, number)
        if len(same_set) == WAYS:
            assert order == (NO_ORDER if set(same_set) <= answered else NOT_YET)
        else:
            assert order not in (NO_ORDER, NOT_YET)
            assert order not in alive.values()
            alive[number] = order
            if choice % 3 > 0:
                store_int64(order + ANSWERED, number)
                answered.add(number)
        assert all(look_up(memory.sessions, session, one) == address for one, address in alive.items())
        assert look_up(memory.sessions, memory.address(0), number) == NO_ORDER


def options_at(raw: bytes) -> ReadOptions:
    arena = Arena.private(max(len(raw), 1))
    address = arena.allocate(max(len(raw), 1))
    view_bytes(address, max(len(raw), 1))[: len(raw)] = raw
    return read_options(address, len(raw))


KNOWN = Appendage(tuple(int(tag) for tag in OptionTag))


@given(st.binary(max_size=60) | st.lists(st.binary(max_size=9), max_size=6).map(lambda values: b"".join(
    bytes([len(value) + 1, 1 + index * 3 % 31]) + value for index, value in enumerate(values)
)))  # fmt: skip
@settings(deadline=None, max_examples=500)
def test_options_are_garbage_where_the_plain_reader_says_so(raw: bytes) -> None:
    """Text that is not printable is the one thing that the plain reader refuses and the gateway does not look at."""
    flaw = options_at(raw).flaw
    try:
        KNOWN.read(raw)
    except WireError as error:
        if "printable" not in str(error):
            unknown_twin = "twice" in str(error)
            assert flaw == GARBAGE_OPTION or unknown_twin
    else:
        assert flaw != GARBAGE_OPTION


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (Option(OptionTag.FIRM, "LIME"), None),
        (Option(OptionTag.CUSTOMER_TYPE, "R"), None),
        (Option(OptionTag.PRICE_TYPE, "L"), None),
        (Option(OptionTag.PRICE_TYPE, "M"), RejectReason.INVALID_PEG_TYPE),
        (Option(OptionTag.PEG_OFFSET, 5), RejectReason.PEGGING_NOT_ALLOWED),
        (Option(OptionTag.MINIMUM_QUANTITY, 0), None),
        (Option(OptionTag.MINIMUM_QUANTITY, 100), RejectReason.INVALID_MINIMUM_QUANTITY),
        (Option(OptionTag.MAXIMUM_FLOOR, 100), RejectReason.INVALID_MAXIMUM_FLOOR),
        (Option(OptionTag.POST_ONLY, "N"), None),
        (Option(OptionTag.POST_ONLY, "P"), RejectReason.OTHER),
        (Option(OptionTag.ROUTE, "SCAN"), RejectReason.ROUTING_NOT_ALLOWED),
        (Option(OptionTag.USER_REFERENCE_INDEX, 0), None),
        (Option(OptionTag.USER_REFERENCE_INDEX, 1), RejectReason.OTHER),
        (Option(OptionTag.AIQ_STRATEGY, "O"), RejectReason.INVALID_AIQ),
        (Option(200, b"new"), RejectReason.OTHER),
    ],
)
def test_an_option_that_cannot_be_kept_is_a_reason_to_reject(
    option: Option, reason: RejectReason | None
) -> None:
    raw = KNOWN.write((option,))
    flaw, firm, *_others = options_at(raw)
    assert flaw == (NO_FLAW if reason is None else int(reason))
    assert firm == (int.from_bytes(b"LIME", "big") if option.tag == OptionTag.FIRM else 0)


def test_what_options_say_is_handed_on() -> None:
    said = (
        Option(OptionTag.GROUP_ID, 7),
        Option(OptionTag.SIDE, "T"),
        Option(OptionTag.FIRM, "LIME"),
        Option(OptionTag.USER_REFERENCE_INDEX, 3),
    )
    lime = int.from_bytes(b"LIME", "big")
    assert options_at(KNOWN.write(said)) == ReadOptions(int(RejectReason.OTHER), lime, 7, ord("T"), 3)
    assert options_at(KNOWN.write(said[:3])) == ReadOptions(NO_FLAW, lime, 7, ord("T"), 0)
    assert options_at(KNOWN.write((Option(OptionTag.FIRM, ""),))) == ReadOptions(NO_FLAW, 0, NO_GROUP, 0, 0)


TOKENS = st.text("abAB 09", max_size=TOKEN_CHARACTERS).map(lambda text: text.ljust(TOKEN_CHARACTERS).encode())


@given(st.lists(TOKENS, max_size=120))
@settings(deadline=None, max_examples=100)
def test_the_token_index_against_a_dictionary(tokens: list[bytes]) -> None:
    index, numbers = TokenIndex(log_bytes=4096), dict[bytes, int]()
    arena = Arena.private(TOKEN_CHARACTERS)
    address = arena.allocate(TOKEN_CHARACTERS)
    for token in tokens:
        view_bytes(address, TOKEN_CHARACTERS)[:] = token
        number, slot = find_token(index.address, address)
        assert number == numbers.get(token, 0)
        if number == 0:
            numbers[token] = len(numbers) + 1
            keep_token(slot, address, numbers[token])
        assert find_token(index.address, address) == (numbers[token], slot)


def test_a_full_token_index_knows_what_it_has_and_takes_nothing_more() -> None:
    index = TokenIndex(log_bytes=4096)
    arena = Arena.private(TOKEN_CHARACTERS)
    address = arena.allocate(TOKEN_CHARACTERS)
    for number in range(1, 301):
        view_bytes(address, TOKEN_CHARACTERS)[:] = str(number).zfill(TOKEN_CHARACTERS).encode()
        known, slot = find_token(index.address, address)
        assert known == 0
        assert (slot == NO_SLOT) == (number > 256)
        if slot != NO_SLOT:
            keep_token(slot, address, number)


def test_the_first_flaw_counts() -> None:
    assert EnterOrder.layout.has_tail
    raw = KNOWN.write((Option(OptionTag.ROUTE, "SCAN"), Option(OptionTag.PEG_OFFSET, 5)))
    assert options_at(raw).flaw == int(RejectReason.ROUTING_NOT_ALLOWED)


def test_users_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    made = [
        User.create(name, "pass", cost=2, cancels_on_disconnect=cancels, protocol=protocol)
        for name, cancels, protocol in (
            ("A", False, "ouch50"),
            ("b", True, "ouch50"),
            ("C3", False, "ouch42"),
            ("d", True, "ouch42"),
        )
    ]
    for user in made:
        assert write_user(path, user)
    assert read_users(path).users == tuple(made)
    path.write_text("# people\n\n" + path.read_text())
    assert read_users(path).users == tuple(made)
    assert made[0].digest != User.create("A", "pass", cost=2).digest, "salted"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "A:scrypt:2:8:1:AAAA",
        "A:md5:2:8:1:AAAA:" + "A" * 43 + "=",
        "A:scrypt:3:8:1:AAAA:" + "A" * 43 + "=",
        "A:scrypt:1073741824:8:1:AAAA:" + "A" * 43 + "=",
        "A:scrypt:2:0:1:AAAA:" + "A" * 43 + "=",
        "A:scrypt:2:8:1:AAAA:AAAA",
        "A:scrypt:2:8:1:AAAA:" + "A" * 43 + "=:keep",
        "A:scrypt:2:8:1:AAAA:" + "A" * 43 + "=:cancel:cancel",
        "A:scrypt:2:8:1:AAAA:" + "A" * 43 + "=:ouch42:ouch50",
        "A:scrypt:2:8:1:AAAA:" + "A" * 43 + "=:",
        "SEVENXX:scrypt:2:8:1:AAAA:" + "A" * 43 + "=",
        "A:scrypt:2:8:1:!:" + "A" * 43 + "=",
        "Ä:scrypt:2:8:1:AAAA:" + "A" * 43 + "=",
    ],
)
def test_a_line_that_is_no_user_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "users"
    path.write_text(line)
    with pytest.raises(UserError) as caught:
        read_users(path)
    assert str(caught.value).startswith(str(path))


def test_the_same_user_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("".join(User.create(name, "x", cost=2).line() + "\n" for name in ("A", "a")))
    with pytest.raises(UserError, match="the user A is there twice"):
        read_users(path)


@pytest.mark.parametrize("password", ["", "elevenchars", "sp ace", "naïve"])
def test_a_password_that_soupbintcp_cannot_carry_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(UserError) as caught:
        User.create("A", password)
    assert not password or password not in str(caught.value)


def test_nobody_is_no_user() -> None:
    assert Users([User.create("A", "pass", cost=2)]).authenticate("NOBODY", "x") is None
