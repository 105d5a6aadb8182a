"""There are never two primaries: the rules of the lease against clocks that run wrong, and a store that answers late or
not at all.

The same is done to rules that are broken on purpose, one at a time. Each is found out: what is left out is needed.
"""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exchange.replication import lease_rules
from exchange.replication.lease_rules import Holder, Observer, Write
from tests.lease_world import LEASE_NS, NAMES, RATES, Node, Store, World, walk

WALKS = 60
STEPS = 600
WALKS_MAX = 600
"""So many may pass until a broken rule is found out."""


class LeaseMachine(RuleBasedStateMachine):
    """A world of three nodes, and hypothesis as the one that decides what happens next."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(true_us=st.sampled_from((1, 100, 1000, 4000, 9090, 10_000, 12_223)))
    def time(self, true_us: int) -> None:
        self.world.pass_time(true_us)

    @rule(name=st.sampled_from(NAMES), rate=st.sampled_from(RATES))
    def bend(self, name: str, rate: int) -> None:
        self.world.bend(name, rate)

    @rule(name=st.sampled_from(NAMES), choice=st.integers(0, 5))
    def ask(self, name: str, choice: int) -> None:
        self.world.ask(name, choice)

    @rule(name=st.sampled_from(NAMES), choice=st.integers(0, 3))
    def ask_and_hear(self, name: str, choice: int) -> None:
        """What happens nearly always, in one step."""
        self.world.ask(name, choice)
        self.world.reach_store(-1)
        self.world.reach_node(-1)

    @rule(place=st.integers(0, 3), is_answered=st.booleans())
    def reach_store(self, place: int, is_answered: bool) -> None:
        self.world.reach_store(place, is_answered)

    @rule(place=st.integers(0, 3))
    def reach_node(self, place: int) -> None:
        self.world.reach_node(place)

    @rule(place=st.integers(0, 3))
    def lose(self, place: int) -> None:
        self.world.lose(place)

    @rule(name=st.sampled_from(NAMES))
    def give_up(self, name: str) -> None:
        self.world.give_up(name)

    @rule(name=st.sampled_from(NAMES))
    def kill(self, name: str) -> None:
        self.world.kill(name)

    @invariant()
    def never_two(self) -> None:
        self.world.check()


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_there_are_never_two_primaries() -> None:
    worlds = [walk(seed, STEPS) for seed in range(WALKS)]
    assert sum(world.takeovers for world in worlds) > WALKS // 2, (
        "the walks must come to where it could happen"
    )


def without_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_rules, "margin_ns", lambda _lease_ns: 0)


def from_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline counts from when the answer comes."""

    def accepted(holder: Holder, write: Write, revision: int) -> None:
        original(holder, write._replace(sent_ns=clocks[holder]()), revision)

    original, clocks = Holder.accepted, {}
    start = Node.granted

    def granted(node: Node, grant: lease_rules.Grant) -> None:
        start(node, grant)
        assert node.holder is not None
        clocks[node.holder] = lambda: node.clock_ns

    monkeypatch.setattr(Node, "granted", granted)
    monkeypatch.setattr(Holder, "accepted", accepted)


def lost_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal without an answer counts, for it was probably applied."""

    def give_up(node: Node) -> None:
        if node.holder is not None and node.asked is not None:
            node.holder.deadline_ns = max(node.holder.deadline_ns, node.clock_ns + LEASE_NS)
        original(node)

    original = Node.give_up
    monkeypatch.setattr(Node, "give_up", give_up)


def at_first_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer takes what it sees for as old as itself."""

    def found(observer: Observer, what: lease_rules.Found, now_ns: int) -> None:
        first = observer.record is None
        original(observer, what, now_ns - 2 * LEASE_NS if first else now_ns)

    original = Observer.found
    monkeypatch.setattr(Observer, "found", found)


def without_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store writes what it is given."""

    def get(store: Store, request: object) -> object:
        write = request.write  # type: ignore[attr-defined]
        if write is not None:
            request = request._replace(write=write._replace(expected=store.revision))  # type: ignore[attr-defined]
        return original(store, request)  # type: ignore[arg-type]

    original = Store.get
    monkeypatch.setattr(Store, "get", get)


def let_go_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hands over goes on until its lease has run out."""

    def let_go(_holder: Holder) -> None:
        pass

    monkeypatch.setattr(Holder, "let_go", let_go)


def takes_without_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody takes over who is named as the backup."""

    def may_take_over(observer: Observer) -> bool:
        record = observer.record
        return record is not None and observer.is_expired and record.backup == observer._node

    monkeypatch.setattr(Observer, "may_take_over", may_take_over)


BROKEN = (
    without_margin,
    from_the_answer,
    lost_is_applied,
    at_first_sight,
    without_compare,
    let_go_late,
    takes_without_sync,
)


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda one: one.__name__)
def test_each_rule_is_needed(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
) -> None:
    break_it(monkeypatch)

    def is_found_out(seed: int) -> bool:
        try:
            walk(seed, STEPS)
        except AssertionError:
            return True
        return False

    assert any(is_found_out(seed) for seed in range(WALKS_MAX))


def test_the_margin_covers_a_tenth_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the edge: the holder's clock a tenth slow, the observer's a tenth fast, no message takes any time."""

    def primaries(slow: int, fast: int) -> int:
        world = World()
        world.bend("a", 1000)
        for choice in (1, 1, 2):  # read, take, put b in sync
            world.ask("a", choice)
            world.reach_store(0)
            world.reach_node(0)
        world.bend("a", slow)
        world.bend("b", fast)
        most = 0
        for _ in range(1300):
            world.ask("b", 0)
            world.reach_store(0)
            world.reach_node(0)
            world.pass_time(10)
            most = max(most, sum(node.may_release for node in world.nodes.values()))
        assert world.nodes["b"].holder is not None
        return most

    assert primaries(900, 1100) == 1
    assert primaries(850, 1100) == 2
    monkeypatch.setattr(lease_rules, "margin_ns", lambda _lease_ns: LEASE_NS // 20)
    assert primaries(900, 1100) == 2
