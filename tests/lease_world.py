"""Nodes, clocks and a store for the rules of leases, without time and without a network: everything is a step.

Each node has a clock that runs at its own rate, up to a tenth too fast or too slow, and differs from the others' by
years. What it asks of the store is under way until the store gets it, and the answer until the node gets that; either
may be lost, late, or overtake another. A node gives up waiting when it likes. One that is never stepped is one that is
stopped. What is claimed is looked at after every step by *true* time, which no node knows.
"""

import random
from typing import Any, Final, NamedTuple

from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import Found, Grant, Holder, Observer, Write

LEASE_NS: Final = 10_000_000
NAMES: Final = ("a", "b", "c")
RATES: Final = (900, 930, 1000, 1070, 1100)
"""Nanoseconds of a clock in a microsecond of true time."""


class Request(NamedTuple):
    """A question under way: by whom, and a write, or None to read."""

    number: int
    name: str
    write: Write | None


class Answer(NamedTuple):
    """An answer under way: a revision for a write that was applied, a refusal, or what was found."""

    number: int
    name: str
    write: Write | None
    revision: int | None
    found: Found | None


class Store:
    """A register with compare-and-set."""

    def __init__(self) -> None:
        self.revision = 0
        self.record: LeaseRecord | None = None

    def get(self, request: Request) -> Answer:
        """Do what is asked."""
        write = request.write
        if write is None:
            return Answer(request.number, request.name, None, None, Found(self.revision, self.record))
        if write.expected != self.revision:
            return Answer(request.number, request.name, write, None, None)
        # what is read again by its owner must be what he wrote, by way of the bytes
        self.revision, self.record = self.revision + 1, LeaseRecord.decode(write.record.encode())
        return Answer(request.number, request.name, write, self.revision, None)


class Node:
    """A process of an exchange: it observes, or holds the lease."""

    def __init__(self, name: str, start_ns: int) -> None:
        self.name: Final = name
        self.clock_ns = start_ns
        self.rate = 1000
        self.lives = 0
        self.asked: int | None = None
        self.holder: Holder | None = None
        self.observer = Observer(name, "")
        self.start_again()

    def start_again(self) -> None:
        """Kill it and start it: nothing is remembered but the name."""
        self.lives += 1
        self.holder, self.asked = None, None
        self.observer = Observer(self.name, f"{self.name}{self.lives}")

    @property
    def may_release(self) -> bool:
        """Whether it would release events now."""
        return self.holder is not None and self.clock_ns < self.holder.deadline_ns

    def granted(self, grant: Grant) -> None:
        """It is the holder now."""
        self.holder = Holder(grant)

    def get(self, answer: Answer) -> None:
        """An answer has come."""
        if answer.number != self.asked:
            return  # it has given up waiting for it
        self.asked = None
        if self.holder is not None:
            if answer.found is not None:
                self.holder.found(answer.found)
            elif answer.revision is not None and answer.write is not None:
                self.holder.accepted(answer.write, answer.revision)
            else:
                self.holder.unsure()
        elif answer.found is not None:
            self.observer.found(answer.found, self.clock_ns)
            grant = self.observer.grant()
            if grant is not None:
                self.granted(grant)
        elif answer.revision is not None and answer.write is not None:
            self.granted(Grant(answer.revision, answer.write.record, answer.write.sent_ns))

    def give_up(self) -> None:
        """Wait no longer."""
        if self.asked is None:
            return
        self.asked = None
        if self.holder is not None:
            self.holder.unsure()
        else:
            self.observer.unanswered()


class World:
    """Three nodes and a store. Every method is a step that may happen at any time."""

    def __init__(self) -> None:
        self.true_us = 0
        self.store = Store()
        self.nodes = {name: Node(name, (1 + place) * 10**15) for place, name in enumerate(NAMES)}
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.grants: dict[int, str] = {}
        self.takeovers = 0
        self._number = 0

    def pass_time(self, true_us: int) -> None:
        """Let time pass."""
        self.true_us += true_us
        for node in self.nodes.values():
            node.clock_ns += true_us * node.rate

    def bend(self, name: str, rate: int) -> None:
        """Let a clock run faster or slower."""
        self.nodes[name].rate = rate

    def ask(self, name: str, choice: int) -> None:
        """Let a node do what it would do next: renew or change the record, take the lease, or read."""
        node = self.nodes[name]
        if node.asked is not None:
            return
        write = self._wish(node, choice)
        self._number += 1
        node.asked = self._number
        self.requests.append(Request(self._number, name, write))

    def _wish(self, node: Node, choice: int) -> Write | None:
        holder, observer = node.holder, node.observer
        if holder is not None:
            return self._wish_of_holder(node, holder, choice)
        if observer.may_take_over() or (choice % 2 and observer.may_acquire(node.clock_ns)):
            return observer.propose(node.clock_ns, "", LEASE_NS)
        return None

    def _wish_of_holder(self, node: Node, holder: Holder, choice: int) -> Write | None:
        if holder.is_replaced or not holder.is_certain:
            return None
        other = next(name for name in NAMES[choice % 2 :] if name != node.name)
        changes: dict[str, Any] = {}
        if holder.deadline_ns == 0:  # it has let go, and says so until that is written
            changes = {"handing_over": True} if holder.record.in_sync else {"ended": True}
        elif choice == 1:
            changes = {"backup": other, "in_sync": False}
        elif choice in (2, 3):
            changes = {"backup": other, "in_sync": True}
        elif choice == 4 and holder.record.in_sync:
            holder.let_go()
            changes = {"handing_over": True}
        elif choice == 5:
            holder.let_go()
            changes = {"ended": True}
        return holder.propose(node.clock_ns, **changes)

    def reach_store(self, place: int, is_answered: bool = True) -> None:
        """Let a question reach the store; its answer is under way, or lost."""
        if not self.requests:
            return
        before = self.store.record
        answer = self.store.get(self.requests.pop(place % len(self.requests)))
        self._check_change(before)
        if is_answered:
            self.answers.append(answer)

    def reach_node(self, place: int) -> None:
        """Let an answer reach who has asked."""
        if self.answers:
            answer = self.answers.pop(place % len(self.answers))
            self.nodes[answer.name].get(answer)

    def lose(self, place: int) -> None:
        """Lose a question."""
        if self.requests:
            self.requests.pop(place % len(self.requests))

    def give_up(self, name: str) -> None:
        """Let a node wait no longer."""
        self.nodes[name].give_up()

    def kill(self, name: str) -> None:
        """Kill a node and start it again. What it has sent may still be under way."""
        self.nodes[name].start_again()

    def _check_change(self, before: LeaseRecord | None) -> None:
        """Who may have become primary by what the store has just applied."""
        after = self.store.record
        if after is None or (before is not None and after.holder == before.holder):
            return
        assert after.epoch not in self.grants, "an epoch was granted twice"
        self.grants[after.epoch] = after.holder
        if before is not None:
            assert after.epoch == before.epoch + 1
            is_synced = before.in_sync and before.backup == after.primary
            assert is_synced or before.primary == after.primary, "it lacks what was acknowledged"
            self.takeovers += 1

    def check(self) -> None:
        """The claim: by true time there are never two that may release events."""
        may = [node.name for node in self.nodes.values() if node.may_release]
        assert len(may) <= 1, f"{may} at {self.true_us} us"


def walk(seed: int, steps: int) -> World:
    """Let everything happen at random, each node for a while likely and for a while unlikely to be stepped.

    Raises AssertionError where the claim does not hold.
    """
    chance, world = random.Random(seed), World()
    quickness = dict.fromkeys(NAMES, 1.0)
    for name in NAMES:
        world.bend(name, chance.choice(RATES))
    for _ in range(steps):
        name = chance.choice(NAMES)
        dice = chance.random()
        if dice < 0.03:
            quickness[name] = chance.choice((0.0, 0.1, 1.0, 1.0))
        elif dice < 0.05:
            world.bend(name, chance.choice(RATES))
        elif dice < 0.055:
            world.kill(name)
        elif dice < 0.57 and chance.random() < quickness[name]:
            world.give_up(name) if chance.random() < 0.05 else world.ask(name, _choice(chance))
        if chance.random() < 0.7:
            world.reach_store(_place(chance, len(world.requests)), chance.random() < 0.95)
            world.check()
        place = _place(chance, len(world.answers))
        if place < len(world.answers) and chance.random() < quickness[world.answers[place].name]:
            world.reach_node(place)
            world.check()
        if chance.random() < 0.03:
            world.lose(chance.randrange(8))
        world.pass_time(chance.choice((0, 1, 10, 100, 300, 1000)))
        world.check()
    return world


def _choice(chance: random.Random) -> int:
    return chance.choices(range(6), (10, 1, 4, 4, 0.2, 0.1))[0]


def _place(chance: random.Random, count: int) -> int:
    """Mostly the one that has waited longest, as on a wire."""
    return 0 if chance.random() < 0.8 else chance.randrange(count + 1)
