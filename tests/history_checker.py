"""Decides whether what a pair of exchanges did, while the network between them was cut and their processes were stopped
and killed, is what one exchange could have done.

It reads what was written down by those who were there: what each client sent and was told, over which connection, and
when (:mod:`tests.recording_client`); the lines that each process logged; and the records of every journal that is left,
those included that a node has set aside. It is told which journal is the survivor's, and what came of replaying it.
:func:`find_violations` answers with a sentence for each thing that cannot be:

* **one primary in an epoch**: two processes that were primary in one epoch; a message that came first from a process
  that was not primary, or that was caused by a record of an epoch behind the process's own;
* **epochs of a journal**: they only grow along a stream, each was some primary's, and two journals that have a record
  of the same stream, sequence and epoch have the same record, so in one epoch one node has sequenced;
* **nothing lost**: each order that a client was told to be accepted is in the survivor's journal, exactly once;
* **one history for each client**: its messages are numbered without a gap, a message that is sent again is the same,
  no order is answered twice, and the survivor's log of the session has the same messages at the same places;
* **the state**: the replay of the survivor's journal in the textbook's books, and the exchange itself, have one digest.

Messages that were new to a client, and came from a primary that had been replaced by then, are counted and not
forbidden: bytes take their time, and a turn that was begun before its deadline may be stopped in its middle. What
matters is that the new primary says the same, which the third and fourth of these decide.

Everything here is plain data and plain Python, so a history can be made up, and one thing in it spoiled: that is how
the checker is tested."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from exchange.gateway.order_table import USER_REFERENCE_MASK
from exchange.journal.layout import MERGE_STREAM
from exchange.messages import COMMAND_DTYPE, CommandKind
from exchange.simulation.dialects import Ouch50, Told

ACCEPTED: Final = ("A", "U")
"""Letters of the answers that acknowledge an order: accepted, and replaced by another one."""
ANSWERS: Final = (*ACCEPTED, "J")
SHOWN_MAX: Final = 5
"""So many violations of a kind are told; the others are counted."""


class LoggedOn(NamedTuple):
    """A client was let in: it asked for the message ``asked``, and was told that ``begin`` comes next."""

    at_ns: int
    process: str
    session: str
    asked: int
    begin: int


class Sent(NamedTuple):
    """A client entered an order, or replaced one by it; once more if it was not answered before."""

    at_ns: int
    process: str
    number: int


class Heard(NamedTuple):
    """A client got the next message of its session, by the connection to this process."""

    at_ns: int
    process: str
    payload: bytes


Noted = LoggedOn | Sent | Heard


class Logged(NamedTuple):
    """A line that a process has logged: the event's name and its fields."""

    event: str
    fields: Mapping[str, Any]


class Life(NamedTuple):
    """A process of a node, and what it has logged."""

    node: str
    lines: Sequence[Logged]


class Stream(NamedTuple):
    """What is left of a journal's stream: the sequence of its first record, the records, and the epoch of each."""

    first_sequence: int
    records: Sequence[bytes]
    epochs: Sequence[int]


Journal = Mapping[str, Stream]
"""A journal that was found when everything was over, by the names of its streams."""


class Survivor(NamedTuple):
    """What the exchange that went on had at the end.

    ``told`` are the messages of each client's session, as the journal's replay comes to them; ``digests`` those of the
    books, by the name of whoever found them.
    """

    journal: str
    told: Mapping[str, Sequence[bytes]]
    digests: Mapping[str, str]


class Entry(NamedTuple):
    """A record that enters an order, or replaces one by it."""

    client: str
    number: int
    epoch: int


class History(NamedTuple):
    """Everything that was written down: by client, by process, and by journal. ``clients`` are in the order of their
    sessions."""

    clients: Mapping[str, Sequence[Noted]]
    lives: Mapping[str, Life]
    journals: Mapping[str, Journal]
    survivor: Survivor


def find_violations(history: History) -> list[str]:
    """What cannot be, in sentences; none if the history is good."""
    found: list[str] = []
    for check in (
        _check_primaries, _check_releases, _check_streams, _check_journals_agree, _check_acknowledged,
        _check_views, _check_against_survivor, _check_digests,
    ):  # fmt: skip
        several = list(check(history))
        found += several[:SHOWN_MAX]
        if len(several) > SHOWN_MAX:
            found.append(f"... and {len(several) - SHOWN_MAX} more that {check.__name__} has found")
    return found


def count_late(history: History) -> int:
    """How many messages were new to their client, and came from a primary after somebody had heard its successor."""
    epochs = {name: epoch for name, epoch in _epochs_of(history).items() if epoch}
    first_ns: dict[int, int] = {}
    for _, one, _sequence in _new_messages(history):
        epoch = epochs.get(one.process, 0)
        first_ns[epoch] = min(first_ns.get(epoch, one.at_ns), one.at_ns)
    late = 0
    for _, one, _sequence in _new_messages(history):
        epoch = epochs.get(one.process, 0)
        late += any(later > epoch and one.at_ns > at_ns for later, at_ns in first_ns.items())
    return late


def _epochs_of(history: History) -> dict[str, int]:
    """The epoch in which each process was primary; 0 if it never was."""
    return {
        name: max((int(line.fields["epoch"]) for line in life.lines if line.event == "primary"), default=0)
        for name, life in history.lives.items()
    }


def _new_messages(history: History) -> Iterator[tuple[str, Heard, int]]:
    """Each message when its client got it for the first time, with its number."""
    for client, noted in history.clients.items():
        known, following = 0, 1
        for one in noted:
            if isinstance(one, LoggedOn):
                following = one.begin
            elif isinstance(one, Heard):
                if following > known:
                    known = following
                    yield client, one, following
                following += 1


def _told(payload: bytes) -> Told:
    return Ouch50().told(payload)


def _check_primaries(history: History) -> Iterator[str]:
    """In one epoch one process is primary, and a process is so in one epoch."""
    claims: dict[int, list[str]] = {}
    for name, life in history.lives.items():
        epochs = [int(line.fields["epoch"]) for line in life.lines if line.event == "primary"]
        if len(set(epochs)) > 1:
            yield f"{name} was primary in several epochs: {epochs}"
        for epoch in set(epochs):
            claims.setdefault(epoch, []).append(name)
    for epoch, names in sorted(claims.items()):
        if len(names) > 1:
            yield f"epoch {epoch} has several primaries: {', '.join(names)}"


def _check_releases(history: History) -> Iterator[str]:
    """Whoever releases a message is primary, in no epoch before that of the record which has caused it."""
    epochs = _epochs_of(history)
    caused = {(one.client, one.number): one.epoch for one in _entries(history)}
    for client, one, sequence in _new_messages(history):
        epoch = epochs.get(one.process, 0)
        if epoch == 0:
            yield f"{client} has heard message {sequence} from {one.process}, which was never primary"
            continue
        told = _told(one.payload)
        by = caused.get((client, told.number), 0) if told.letter in ACCEPTED else 0
        if by > epoch:
            yield (
                f"{client} has heard of order {told.number} from {one.process}, primary in epoch {epoch}:"
                f" it was sequenced in epoch {by}"
            )


def _entries(history: History) -> list[Entry]:
    """The orders that the survivor's history has entered."""
    names, found = list(history.clients), []
    for stream in history.journals[history.survivor.journal]:
        if stream == MERGE_STREAM:
            continue
        records, epochs = _whole_stream(history, stream)
        for record, epoch in zip(np.frombuffer(b"".join(records), COMMAND_DTYPE), epochs, strict=True):
            is_replacement = record["kind"] == CommandKind.REPLACE
            if record["kind"] != CommandKind.NEW and not is_replacement:
                continue
            order_id = int(record["new_order_id" if is_replacement else "order_id"])
            if not is_replacement or order_id != record["order_id"]:  # else it is modified
                found.append(Entry(names[record["session_id"]], order_id & USER_REFERENCE_MASK, epoch))
    return found


def _whole_stream(history: History, name: str) -> tuple[list[bytes], list[int]]:
    """A stream of the survivor's from its first record on. What a journal that began as a copy lacks is in another one:
    two that have a record of one sequence and epoch have the same before it."""
    found = history.journals[history.survivor.journal][name]
    first, records, epochs = found.first_sequence, list(found.records), list(found.epochs)
    while first > 1 and records:
        for other in (journal[name] for journal in history.journals.values() if name in journal):
            place = first - other.first_sequence
            if place > 0 and other.epochs[place : place + 1] == epochs[:1]:
                first = other.first_sequence
                records[:0], epochs[:0] = other.records[:place], other.epochs[:place]
                break
        else:
            break
    return records, epochs


def _check_streams(history: History) -> Iterator[str]:
    """Epochs only grow along a stream, and each was some primary's."""
    known = {epoch for epoch in _epochs_of(history).values() if epoch}
    for journal, name, stream in _all_streams(history):
        previous = -1
        for place, epoch in enumerate(stream.epochs):
            if epoch < previous:
                yield (
                    f"{journal}, {name}: record {stream.first_sequence + place} is of epoch {epoch}, and the one before"
                    f" of epoch {previous}"
                )
            if epoch != previous and epoch not in known:
                sequence = stream.first_sequence + place
                yield f"{journal}, {name}: record {sequence} is of epoch {epoch}, which was nobody's"
            previous = epoch


def _all_streams(history: History) -> Iterator[tuple[str, str, Stream]]:
    for journal, found in history.journals.items():
        for name, stream in found.items():
            yield journal, name, stream


def _check_journals_agree(history: History) -> Iterator[str]:
    """What two journals have of one stream, sequence and epoch is the same record."""
    known: dict[tuple[str, int, int], tuple[str, bytes]] = {}
    for journal, name, stream in _all_streams(history):
        for place, (record, epoch) in enumerate(zip(stream.records, stream.epochs, strict=True)):
            sequence = stream.first_sequence + place
            other, same = known.setdefault((name, sequence, epoch), (journal, record))
            if same != record:
                yield (
                    f"{name}: record {sequence} of epoch {epoch} is one in {other} and another one in {journal}:"
                    " two nodes have sequenced in one epoch"
                )


def _check_acknowledged(history: History) -> Iterator[str]:
    """No order that a client was told to be accepted is missing, or there twice."""
    entered = Counter((one.client, one.number) for one in _entries(history))
    for (client, number), count in entered.items():
        if count > 1:
            yield f"order {number} of {client} was entered {count} times"
    for client, one, sequence in _new_messages(history):
        told = _told(one.payload)
        if told.letter in ACCEPTED and entered[client, told.number] == 0:
            yield f"{client} was told by message {sequence} that order {told.number} is accepted, and it is lost"


def _check_views(history: History) -> Iterator[str]:
    """A client's messages have no gap, none comes again as another one, and no order is answered twice or unasked."""
    for client, noted in history.clients.items():
        messages: list[bytes] = []
        session, following = "", 1
        for one in noted:
            if isinstance(one, LoggedOn):
                if one.begin != one.asked:
                    yield f"{client} has asked {one.process} for message {one.asked} and was given {one.begin}"
                if session not in ("", one.session):
                    yield f"{client}: its session was called {session}, and {one.process} calls it {one.session}"
                session, following = one.session, one.begin
            elif isinstance(one, Heard):
                if following > len(messages) + 1:
                    yield f"{client}: message {following} follows message {len(messages)}"
                elif following == len(messages) + 1:
                    messages.append(one.payload)
                elif messages[following - 1] != one.payload:
                    yield f"{client}: message {following} has come again from {one.process}, as another one"
                following += 1
        yield from _check_answers(client, noted, messages)


def _check_answers(client: str, noted: Sequence[Noted], messages: Sequence[bytes]) -> Iterator[str]:
    asked = {one.number for one in noted if isinstance(one, Sent)}
    answered = Counter(told.number for told in map(_told, messages) if told.letter in ANSWERS)
    for number, count in answered.items():
        if count > 1:
            yield f"{client}: order {number} was answered {count} times"
        if number not in asked:
            yield f"{client}: order {number} was answered, and never sent"


def _check_against_survivor(history: History) -> Iterator[str]:
    """What clients have heard is what the exchange that goes on would tell them again."""
    for client, one, sequence in _new_messages(history):
        told = history.survivor.told[client]
        if sequence > len(told):
            yield f"{client} has heard message {sequence}, and the survivor has {len(told)}"
        elif told[sequence - 1] != one.payload:
            yield f"{client}: the survivor has another message {sequence} than {one.process} has told"


def _check_digests(history: History) -> Iterator[str]:
    """Whoever replays the survivor's journal comes to the survivor's state."""
    digests = history.survivor.digests
    if len(set(digests.values())) != 1:
        yield f"digests differ: {', '.join(f'{name} {digest}' for name, digest in digests.items())}"
