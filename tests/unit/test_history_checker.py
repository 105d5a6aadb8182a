"""The history checker finds each thing that cannot be, in a history that is good but for it.

The good history is made up: two clients, two nodes, three epochs; a message that is sent again, a journal that was set
aside, one that began as a copy, an order that was lost before anybody acknowledged it. Each test spoils one thing."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from exchange.gateway.order_table import SESSION_SHIFT
from exchange.messages import COMMAND_STRUCT, Command, CommandKind
from exchange.wire.ouch50 import OrderAccepted, Rejected
from tests.history_checker import (
    Heard,
    History,
    Life,
    Logged,
    LoggedOn,
    Sent,
    Stream,
    Survivor,
    count_late,
    find_violations,
)

CLIENTS = ("alice", "bob")


def record(sequence: int, client: str, number: int, **changes: Any) -> bytes:
    """The record that enters an order."""
    session = CLIENTS.index(client)
    order = Command(
        CommandKind.NEW, session_id=session, sequence=sequence, order_id=session << SESSION_SHIFT | number,
        quantity_lots=100, price_ticks=10,
    )  # fmt: skip
    return COMMAND_STRUCT.pack(*order._replace(**changes))


def accepted(number: int, price: int = 10) -> bytes:
    """What a client is told of it."""
    return OrderAccepted(0, number, "B", 100, "AAPL", price, "0", "Y", 1, "A", "N", "N", "L", "").encode()


def rejected(number: int) -> bytes:
    return Rejected(0, number, 1, "").encode()


def primary(node: str, *epochs: int) -> Life:
    """A process that has been primary."""
    return Life(node, [Logged("listening", {}), *(Logged("primary", {"epoch": epoch}) for epoch in epochs)])


class Made(NamedTuple):
    """A history that can be spoiled: all of it may be changed in place."""

    clients: dict[str, list[Any]]
    lives: dict[str, Life]
    journals: dict[str, dict[str, Stream]]
    told: dict[str, list[bytes]]
    digests: dict[str, str]

    def history(self) -> History:
        return History(self.clients, self.lives, self.journals, Survivor("a", self.told, self.digests))


def stream(first_sequence: int, *records: tuple[bytes, int]) -> Stream:
    return Stream(first_sequence, [one for one, _ in records], [epoch for _, epoch in records])


@pytest.fixture
def made() -> Made:
    """Order 3 of alice was sequenced by the old primary, in epoch 1, and nobody else has it; she sends it again."""
    one, two = (record(1, "alice", 1), 1), (record(2, "bob", 1), 1)
    three = (record(3, "alice", 2, kind=CommandKind.CANCEL, order_id=1), 2)
    replaced = record(4, "alice", 3, kind=CommandKind.REPLACE, order_id=1, new_order_id=3)
    four, five = (replaced, 2), (record(5, "bob", 2), 3)
    lost = (record(3, "alice", 3, price_ticks=11), 1)
    return Made(
        {
            "alice": [
                LoggedOn(1, "a-1", "S", 1, 1), Sent(2, "a-1", 1), Heard(3, "a-1", accepted(1)), Sent(4, "a-1", 3),
                LoggedOn(10, "b-1", "S", 1, 1), Heard(11, "b-1", accepted(1)), Sent(12, "b-1", 3),
                Heard(13, "b-1", accepted(3)),
            ],
            "bob": [
                LoggedOn(1, "a-1", "S", 1, 1), Sent(2, "a-1", 1), Heard(12, "a-1", accepted(1)),
                LoggedOn(20, "a-2", "S", 2, 2), Sent(21, "a-2", 2), Heard(22, "a-2", accepted(2)), Sent(23, "a-2", 5),
            ],
        },
        {"a-1": primary("a", 1), "b-1": primary("b", 2), "a-2": primary("a", 3)},
        {
            "a": {"shard-0": stream(3, three, four, five)},
            "a.aside-1": {"shard-0": stream(1, one, two, lost)},
            "b": {"shard-0": stream(1, one, two, three, four)},
        },
        {"alice": [accepted(1), accepted(3)], "bob": [accepted(1), accepted(2)]},
        {"itself": "d1", "ladder": "d1", "naive": "d1"},
    )  # fmt: skip


def test_nothing_is_found_in_a_history_that_is_good(made: Made) -> None:
    assert find_violations(made.history()) == []


def test_a_message_behind_a_takeover_is_counted(made: Made) -> None:
    """Bob hears of his order from the old primary when alice has heard nothing new from the new one yet; or has."""
    assert count_late(made.history()) == 0
    made.clients["bob"][2] = Heard(14, "a-1", accepted(1))
    assert count_late(made.history()) == 1


def heard(made: Made, client: str, place: int, payload: bytes) -> None:
    made.clients[client][place] = made.clients[client][place]._replace(payload=payload)


def records(made: Made, journal: str, *records: tuple[bytes, int], first_sequence: int = 1) -> None:
    made.journals[journal]["shard-0"] = stream(first_sequence, *records)


def two_primaries_in_an_epoch(made: Made) -> None:
    made.lives["b-1"] = primary("b", 1)


def one_process_in_two_epochs(made: Made) -> None:
    made.lives["b-1"] = primary("b", 2, 4)


def a_backup_that_tells_something(made: Made) -> None:
    made.lives["b-1"] = primary("b")


def an_old_primary_that_tells_what_only_the_new_one_knows(made: Made) -> None:
    made.clients["bob"][-2] = Heard(22, "a-1", accepted(2))


def an_epoch_that_goes_back(made: Made) -> None:
    records(made, "b", (record(1, "alice", 1), 2), (record(2, "bob", 1), 1))


def an_epoch_that_nobody_led(made: Made) -> None:
    records(made, "a.aside-1", (record(1, "alice", 1), 1), (record(2, "bob", 1), 7))


def no_epoch_at_all(made: Made) -> None:
    records(made, "a.aside-1", (record(1, "alice", 1), 0))


def two_nodes_that_sequence_in_an_epoch(made: Made) -> None:
    records(made, "a.aside-1", (record(1, "alice", 1), 1), (record(2, "bob", 1, price_ticks=12), 1))


def an_order_that_is_lost(made: Made) -> None:
    records(made, "a", (record(3, "bob", 2), 3), first_sequence=3)
    records(made, "b", (record(1, "alice", 1), 1), (record(2, "bob", 1), 1), (record(3, "bob", 2), 3))


def an_order_that_is_there_twice(made: Made) -> None:
    again = (record(6, "alice", 1), 3)
    known = made.journals["a"]["shard-0"]
    records(made, "a", *zip(known.records, known.epochs, strict=True), again, first_sequence=3)


def a_gap_before_what_is_told(made: Made) -> None:
    made.clients["bob"][3] = LoggedOn(20, "a-2", "S", 2, 3)


def a_gap_that_was_asked_for(made: Made) -> None:
    made.clients["bob"][3] = LoggedOn(20, "a-2", "S", 3, 3)


def a_message_that_comes_again_as_another_one(made: Made) -> None:
    heard(made, "alice", 5, accepted(1, price=11))


def another_session(made: Made) -> None:
    made.clients["bob"][3] = LoggedOn(20, "a-2", "T", 2, 2)


def an_order_that_is_answered_twice(made: Made) -> None:
    heard(made, "alice", 7, accepted(1))
    made.told["alice"][1] = accepted(1)


def an_order_that_is_accepted_and_rejected(made: Made) -> None:
    made.clients["bob"].append(Heard(30, "a-2", rejected(1)))
    made.told["bob"].append(rejected(1))


def an_answer_that_nobody_asked_for(made: Made) -> None:
    made.clients["bob"].append(Heard(30, "a-2", rejected(9)))
    made.told["bob"].append(rejected(9))


def a_survivor_that_tells_it_otherwise(made: Made) -> None:
    made.told["bob"][0] = accepted(1, price=11)


def a_survivor_that_has_forgotten(made: Made) -> None:
    del made.told["bob"][1]


def another_state(made: Made) -> None:
    made.digests["naive"] = "d2"


SPOILED: dict[Callable[[Made], None], str] = {
    two_primaries_in_an_epoch: "epoch 1 has several primaries: a-1, b-1",
    one_process_in_two_epochs: r"b-1 was primary in several epochs: \[2, 4\]",
    a_backup_that_tells_something: "alice has heard message 2 from b-1, which was never primary",
    an_old_primary_that_tells_what_only_the_new_one_knows: "order 2 from a-1, primary in epoch 1.*in epoch 3",
    an_epoch_that_goes_back: "b, shard-0: record 2 is of epoch 1, and the one before of epoch 2",
    an_epoch_that_nobody_led: "a.aside-1, shard-0: record 2 is of epoch 7, which was nobody's",
    no_epoch_at_all: "record 1 is of epoch 0, which was nobody's",
    two_nodes_that_sequence_in_an_epoch: "record 2 of epoch 1 is one in a.aside-1 and another one in b",
    an_order_that_is_lost: "alice was told by message 2 that order 3 is accepted, and it is lost",
    an_order_that_is_there_twice: "order 1 of alice was entered 2 times",
    a_gap_before_what_is_told: "bob has asked a-2 for message 2 and was given 3",
    a_gap_that_was_asked_for: "bob: message 3 follows message 1",
    a_message_that_comes_again_as_another_one: "alice: message 1 has come again from b-1, as another one",
    another_session: "its session was called S, and a-2 calls it T",
    an_order_that_is_answered_twice: "alice: order 1 was answered 2 times",
    an_order_that_is_accepted_and_rejected: "bob: order 1 was answered 2 times",
    an_answer_that_nobody_asked_for: "bob: order 9 was answered, and never sent",
    a_survivor_that_tells_it_otherwise: "bob: the survivor has another message 1 than a-1 has told",
    a_survivor_that_has_forgotten: "bob has heard message 2, and the survivor has 1",
    another_state: "digests differ",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda one: one.__name__)
def test_what_cannot_be_is_found(made: Made, spoil: Callable[[Made], None]) -> None:
    spoil(made)
    found = find_violations(made.history())
    assert any(re.search(SPOILED[spoil], one) for one in found), found


def test_a_flood_of_violations_is_counted(made: Made) -> None:
    made.clients["bob"] += [Heard(30, "a-2", rejected(9)) for _ in range(20)]
    found = find_violations(made.history())
    assert any(re.fullmatch(r"... and 15 more that _check_against_survivor has found", one) for one in found)
