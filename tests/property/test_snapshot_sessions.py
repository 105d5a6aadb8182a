"""Sessions that were saved and put back: the same orders in the same places, the same log, the same tokens.

Random lives of sessions run up to a point; they are saved and put back into fresh memory; then both go on alike.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange.errors import UserError
from exchange.gateway import session_memory
from exchange.gateway.config import GatewayConfig
from exchange.gateway.order_table import (
    ANSWERED,
    FINISHED,
    NO_ORDER,
    NOT_YET,
    OPEN_LOTS,
    find_order,
    finish_order,
    order_at,
    take_order,
)
from exchange.gateway.session_log import HEADER_BYTES, begin_message, commit_message, position_of
from exchange.gateway.session_memory import (
    CANCEL_DUE,
    CANCEL_FIRM,
    CANCEL_PLACE,
    CONNECTION,
    DISABLED_FIRMS,
    INPUT,
    INPUT_BEGIN,
    LAST_USER_REFERENCE,
    LOG_END,
    LOG_MESSAGES,
    LOST_MESSAGES,
    REQUESTS,
    SENT,
    TOKENS,
    SessionMemory,
)
from exchange.gateway.token_index import NO_SLOT, TOKEN_CHARACTERS, TokenIndex, find_token, keep_token
from exchange.native import Arena, kernel, load_int64, load_uint32, store_int64, store_uint32, view_bytes
from exchange.snapshot.sections import BadSnapshot, SectionFile
from exchange.snapshot.sessions import (
    OF_THE_CONNECTION,
    OF_THE_USER,
    SAVED,
    SESSION_DTYPE,
    restore_sessions,
    save_sessions,
)
from tests.snapshot_driver import written

NAMES = ["ALICE", "BOB", "CARLA"]
CONFIG = GatewayConfig(capacity_orders=64, log_bytes=1 << 13)


@kernel
def take(sessions, session, number):  # type: ignore[no-untyped-def]
    return take_order(sessions, session, number)


@kernel
def look_up(sessions, session, number):  # type: ignore[no-untyped-def]
    return find_order(sessions, session, number)


class Gateway:
    """Sessions and what happens to them; the second one speaks OUCH 4.2."""

    def __init__(self, names: int = len(NAMES), config: GatewayConfig = CONFIG) -> None:
        self.memory = SessionMemory(config, names)
        self.sessions = self.memory.sessions
        self.tokens = TokenIndex(config.log_bytes)
        store_int64(self.memory.address(1) + TOKENS, self.tokens.address)
        self._arena = Arena.private(64)
        self._token = self._arena.allocate(TOKEN_CHARACTERS)

    def live(self, random: np.random.Generator, steps: int) -> list[Any]:
        """Random steps; everything that could be seen of them."""
        seen: list[Any] = []
        for _ in range(steps):
            session_id, step = int(random.integers(0, 3)), int(random.integers(0, 6))
            session = self.memory.address(session_id)
            if step < 2:
                number = load_int64(session + LAST_USER_REFERENCE) + int(random.integers(1, 4))
                order = take(self.sessions, session, number)
                seen.append(self.place(session, order))
                if order not in (NO_ORDER, NOT_YET):
                    store_int64(session + LAST_USER_REFERENCE, number)
                    self.fill(order, number, random)
            elif step == 2:
                number = int(random.integers(1, 1 + max(1, load_int64(session + LAST_USER_REFERENCE))))
                order = look_up(self.sessions, session, number)
                seen.append(self.place(session, order))
                if order != NO_ORDER and random.random() < 0.8:
                    finish_order(order, number)
            elif step == 3:
                seen.append(self.say(session, random.bytes(int(random.integers(10, 80)))))
            elif step == 4:
                self.change_words(session, random)
            else:
                seen.append(self.use_token(int(random.integers(0, 400)), session))
        return seen

    def place(self, session: int, order: int) -> int:
        """Which place of the table an order is in."""
        return order if order in (NO_ORDER, NOT_YET) else order - session

    def fill(self, order: int, number: int, random: np.random.Generator) -> None:
        """What an order says, both halves: all but what says whether it lives, and how often it was modified."""
        view_bytes(order, 52)[:] = random.bytes(52)
        store_int64(order + OPEN_LOTS, int(random.integers(0, 1 << 32)))
        if random.random() < 0.7:
            store_int64(order + ANSWERED, number)

    def say(self, session: int, message: bytes) -> int:
        """A message for the log; its length there, 0 if that is full."""
        address = begin_message(self.sessions, session, len(message))
        if address:
            view_bytes(address, len(message))[:] = message
            commit_message(self.sessions, session, len(message))
        return load_int64(session + LOG_END) if address else 0

    def change_words(self, session: int, random: np.random.Generator) -> None:
        """What requests change, and what a connection does."""
        store_int64(session + REQUESTS, load_int64(session + REQUESTS) + 1)
        store_uint32(
            session + DISABLED_FIRMS + 4 * int(random.integers(0, 8)), int(random.integers(0, 1 << 32))
        )
        store_int64(session + CANCEL_DUE, int(random.integers(0, 2)))
        store_uint32(session + CANCEL_PLACE, int(random.integers(0, 65)))
        store_uint32(session + CANCEL_FIRM, int(random.integers(0, 1 << 32)))
        for word in (CONNECTION, SENT, INPUT_BEGIN):
            store_int64(session + word, int(random.integers(1, 9)))

    def use_token(self, choice: int, session: int) -> tuple[int, int]:
        """The number of a token, which it gets if it is new; and its place in the index."""
        index = load_int64(session + TOKENS)
        if index == 0:
            return 0, 0
        view_bytes(self._token, TOKEN_CHARACTERS)[:] = f"token {choice}".ljust(TOKEN_CHARACTERS).encode()
        number, slot = find_token(index, self._token)
        if number == 0 and slot != NO_SLOT:
            keep_token(slot, self._token, choice + 1)
        return number, slot - index

    def picture(self, session_id: int) -> Any:
        """All that matters of a session."""
        session = self.memory.address(session_id)
        orders = [order_at(self.sessions, session, place) for place in range(64)]
        log = bytes(view_bytes(session + self.sessions.log_offset, max(1, load_int64(session + LOG_END))))
        return (
            [
                (number, bytes(view_bytes(order, FINISHED)), self.answered(order, number)) if number else None
                for number, order in orders
            ],
            [load_int64(session + word) for word in (LAST_USER_REFERENCE, REQUESTS, CANCEL_DUE, LOG_END)],
            [load_int64(session + word) for word in (LOG_MESSAGES, LOST_MESSAGES)],
            bytes(view_bytes(session + DISABLED_FIRMS, CANCEL_PLACE - DISABLED_FIRMS + 19)),
            log if load_int64(session + LOG_END) else b"",
            [
                position_of(self.sessions, session, wanted)
                for wanted in range(load_int64(session + LOG_MESSAGES) + 3)
            ],
        )

    def answered(self, order: int, number: int) -> int | None:
        """How much of an order is open; None as long as what stands there is of another order, one before it."""
        return load_int64(order + OPEN_LOTS) if load_int64(order + ANSWERED) == number else None

    def pictures(self) -> list[Any]:
        """Of the sessions that were saved."""
        return [self.picture(session_id) for session_id in range(3)]


def saved(path: Path, gateway: Gateway, names: list[str] | None = None) -> SectionFile:
    return written(path, lambda writer: save_sessions(writer, gateway.memory, names or NAMES))


@pytest.mark.parametrize("seed", range(12))
def test_what_follows_is_the_same(tmp_path: Path, seed: int) -> None:
    random, original = np.random.default_rng(seed), Gateway()
    original.live(random, int(random.integers(0, 900)))
    copy = Gateway(4)
    with saved(tmp_path / "snapshot", original) as file:
        restore_sessions(file, copy.memory, [*NAMES, "NEW"])
    assert copy.pictures() == original.pictures()
    session = copy.memory.address(3)
    assert not any(view_bytes(session, INPUT))
    assert not any(view_bytes(session + copy.sessions.log_offset, 100))
    for session_id in range(3):
        assert all(
            load_int64(copy.memory.address(session_id) + word) == 0
            for word in (CONNECTION, SENT, INPUT_BEGIN)
        )
    follow = [np.random.default_rng([seed, 1]) for _ in range(2)]
    assert copy.live(follow[0], 300) == original.live(follow[1], 300)
    assert copy.pictures() == original.pictures()
    saved(tmp_path / "one", original).close()
    with SectionFile(tmp_path / "one") as file:
        again = Gateway()
        restore_sessions(file, again.memory, NAMES)
    saved(tmp_path / "two", again).close()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_word_of_a_session_is_the_sessions_or_the_connections() -> None:
    """Who adds a word has to say whether it outlives the connection and the exchange."""
    spoken = {offset for offset, _ in SAVED.values()} | OF_THE_CONNECTION | OF_THE_USER
    words = {}
    for name, offset in vars(session_memory).items():
        if name == "INPUT":
            break
        if name.isupper() and isinstance(offset, int) and not name.endswith("_MAX"):
            words[name] = offset
    assert {name for name, offset in words.items() if offset not in spoken} == set()
    assert len(SAVED) + len(OF_THE_CONNECTION) + len(OF_THE_USER) == len(spoken) == len(words)


def test_what_cannot_go_on_is_refused(tmp_path: Path) -> None:
    original = Gateway()
    original.live(np.random.default_rng(3), 400)
    with saved(tmp_path / "snapshot", original) as file:
        for config, told in (
            ({"capacity_orders": 128}, r"gateway.capacity_orders = 128: .* was made with 64"),
            ({"log_bytes": 1 << 14}, r"gateway.log_bytes = 16384: .* was made with 8192"),
        ):
            shape = GatewayConfig(**({"capacity_orders": 64, "log_bytes": 1 << 13} | config))
            other = Gateway(config=shape)
            with pytest.raises(UserError, match=told):
                restore_sessions(file, other.memory, NAMES)
        other = Gateway()
        with pytest.raises(UserError, match="who must come first and in this order"):
            restore_sessions(file, other.memory, ["BOB", "ALICE", "CARLA"])
        strangers = Gateway()
        store_int64(strangers.memory.address(1) + TOKENS, 0)
        with pytest.raises(
            UserError, match=r"BOB spoke OUCH 4\.2 in this session and cannot go on with OUCH 5\.0"
        ):
            restore_sessions(file, strangers.memory, NAMES)


@pytest.mark.parametrize("damage", ["length", "type", "short", "count"])
def test_a_log_that_is_none_is_refused(tmp_path: Path, damage: str) -> None:
    original = Gateway()
    session = original.memory.address(2)
    original.say(session, b"a message of the log")
    log = session + original.sessions.log_offset
    if damage == "length":
        view_bytes(log, 2)[:] = b"\x00\xff"
    elif damage == "type":
        view_bytes(log + 2, 1)[:] = b"U"
    elif damage == "short":
        view_bytes(log, 2)[:] = b"\x00\x01"
    else:
        store_int64(session + LOG_MESSAGES, 2)
    copy = Gateway()
    with (
        saved(tmp_path / "snapshot", original) as file,
        pytest.raises(BadSnapshot, match="the log of session 2 is"),
    ):
        restore_sessions(file, copy.memory, NAMES)


def test_sections_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    original = Gateway()
    original.live(np.random.default_rng(5), 400)
    saved(tmp_path / "good", original).close()
    for change, told in (
        ({"orders": 1}, "'sessions/orders' has"),
        ({"tokens": -3}, "'sessions/tokens' has"),
        ({"log_end": 1 << 20}, "the log of session 0 has"),
        ({"log_end": -5}, "the log of session 0 is no packets"),
        ({"log_end": -(1 << 20)}, "the log of session 0 has"),
    ):
        with SectionFile(tmp_path / "good") as good:
            table = good.records("sessions/table", SESSION_DTYPE)
            for field, by in change.items():
                table[0][field] += by
            path = tmp_path / "forged"
            written(path, lambda writer, good=good, table=table: [  # type: ignore[misc]
                writer.write(name, table if name == "sessions/table" else good.records(name, np.uint8))
                for name in good.sections
            ]).close()  # fmt: skip
        copy = Gateway()
        with SectionFile(path) as file, pytest.raises(BadSnapshot, match=told):
            restore_sessions(file, copy.memory, NAMES)


def test_the_index_of_a_log_is_found_again(tmp_path: Path) -> None:
    original = Gateway()
    session = original.memory.address(0)
    sizes = [10, 77, 10, 2000]
    for size_bytes in sizes:
        original.say(session, b"x" * size_bytes)
    copy = Gateway()
    with saved(tmp_path / "snapshot", original) as file:
        restore_sessions(file, copy.memory, NAMES)
    entries = [load_uint32(copy.memory.address(0) + copy.sessions.index_offset + 4 * n) for n in range(5)]
    assert entries == [0, *np.cumsum([size_bytes + HEADER_BYTES for size_bytes in sizes]).tolist()]
