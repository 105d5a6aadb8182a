"""The lease's record, and its rules one by one; that they keep two primaries apart is in tests/property."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given, settings

from exchange import limits
from exchange.replication.lease_record import RECORD_BYTES_MAX, LeaseRecord
from exchange.replication.lease_rules import (
    PRECEDENCE_PERIODS,
    Found,
    Grant,
    Holder,
    Observer,
    deadline_after,
    margin_ns,
    wait_ns,
)

LEASE_NS = 100_000_000
MARGIN_NS = 10_000_000
RECORD = LeaseRecord(3, "a", "10.0.0.1:9000", "a1", LEASE_NS)
SYNCED = msgspec.structs.replace(RECORD, backup="b", in_sync=True)

names = st.text(max_size=limits.NODE_CHARACTERS_MAX)
records = st.builds(
    LeaseRecord,
    epoch=st.integers(1, limits.EPOCH_MAX),
    primary=names.filter(bool),
    primary_address=st.text(max_size=100),
    holder=names.filter(bool),
    lease_ns=st.integers(limits.LEASE_NS_MIN, limits.LEASE_NS_MAX),
    renewal=st.integers(0, 1 << 62),
    backup=names.filter(bool),
    in_sync=st.just(True),
    handing_over=st.booleans(),
    ended=st.booleans(),
)


@given(record=records)
def test_a_record_comes_back_as_it_was(record: LeaseRecord) -> None:
    assert LeaseRecord.decode(record.encode()) == record


@given(content=st.binary(max_size=300) | records.map(lambda one: one.encode()[:-3]))
@example(b"")
@example(b"[" * RECORD_BYTES_MAX)
@example(b" " * (RECORD_BYTES_MAX + 1))
@example(RECORD.encode().replace(b'"epoch":3', b'"epoch":0'))
@example(RECORD.encode().replace(b'"epoch":3', b'"epoch":3,"more":1'))
@example(RECORD.encode().replace(b'"backup":"",', b"").replace(b'"in_sync":false', b'"in_sync":true'))
@example(RECORD.encode().replace(b'"primary":"a"', b'"primary":"\xff"'))
@example(RECORD.encode().replace(b'"handing_over":false', b'"handing_over":true'))
def test_what_no_exchange_has_written_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"lease|bytes"):
        LeaseRecord.decode(content)


@given(
    lease_ns=st.integers(limits.LEASE_NS_MIN, limits.LEASE_NS_MAX),
    rates=st.tuples(*[st.integers(-100, 100)] * 2),
)
def test_what_a_holder_may_and_what_an_observer_waits_never_cross(
    lease_ns: int, rates: tuple[int, int]
) -> None:
    """With clocks up to a tenth wrong: shown time is true time by so many thousandths more or less."""
    holder, observer = rates
    ends_after = deadline_after(0, lease_ns) * 1000 / (1000 + holder)
    waits = wait_ns(msgspec.structs.replace(RECORD, lease_ns=lease_ns)) * 1000 / (1000 + observer)
    assert ends_after <= waits
    assert 0 < margin_ns(lease_ns) < lease_ns


class TestHolder:
    """The primary's side."""

    def held(self) -> Holder:
        return Holder(Grant(7, RECORD, 1_000))

    def test_the_deadline_counts_from_the_sending(self) -> None:
        holder = self.held()
        assert holder.deadline_ns == 1_000 + LEASE_NS - MARGIN_NS
        write = holder.propose(5_000)
        assert (write.expected, write.record.renewal) == (7, 1)
        assert holder.deadline_ns == 1_000 + LEASE_NS - MARGIN_NS, "nothing has been applied"
        holder.accepted(write, 8)
        assert holder.deadline_ns == 5_000 + LEASE_NS - MARGIN_NS
        assert holder.propose(6_000).expected == 8

    def test_a_lost_answer_is_found_out_by_reading(self) -> None:
        holder = self.held()
        lost = holder.propose(5_000, backup="b", in_sync=True)
        holder.unsure()
        assert not holder.is_certain
        holder.found(Found(8, lost.record))
        assert holder.is_certain
        assert holder.record == lost.record
        assert holder.deadline_ns == 5_000 + LEASE_NS - MARGIN_NS

    def test_of_two_lost_writes_the_one_that_was_applied_counts(self) -> None:
        holder = self.held()
        first = holder.propose(5_000)
        holder.unsure()
        holder.found(Found(7, RECORD))  # not yet
        holder.propose(9_000)
        holder.unsure()
        holder.found(Found(8, first.record))
        assert holder.deadline_ns == 5_000 + LEASE_NS - MARGIN_NS

    def test_a_member_of_the_store_that_is_behind_says_nothing(self) -> None:
        holder = self.held()
        holder.propose(5_000)
        holder.unsure()
        holder.found(Found(6, msgspec.structs.replace(RECORD, holder="x", epoch=2)))
        assert not holder.is_certain
        assert not holder.is_replaced

    @pytest.mark.parametrize(
        "found",
        [
            Found(9, msgspec.structs.replace(RECORD, epoch=4, primary="b", holder="b1")),
            Found(9, msgspec.structs.replace(RECORD, holder="a2", epoch=4)),
            Found(9, None),
            Found(0, None),
        ],
        ids=["another node", "the same node, started again", "deleted", "the store has forgotten"],
    )
    def test_who_is_replaced_stays_so(self, found: Found) -> None:
        holder = self.held()
        late = holder.propose(5_000)
        holder.unsure()
        holder.found(found)
        assert (holder.is_replaced, holder.replaced_by, holder.deadline_ns) == (True, found.record, 0)
        holder.accepted(late, 8)
        holder.found(Found(8, late.record))
        assert (holder.is_replaced, holder.is_certain, holder.deadline_ns) == (True, False, 0)

    def test_who_has_let_go_gets_no_deadline_any_more(self) -> None:
        holder = Holder(Grant(7, SYNCED, 1_000))
        holder.let_go()
        assert holder.deadline_ns == 0
        write = holder.propose(5_000, handing_over=True)
        holder.accepted(write, 8)
        assert (holder.deadline_ns, holder.record.handing_over) == (0, True)


class TestObserver:
    """The side of everybody else."""

    def seen(self, node: str, record: LeaseRecord | None) -> Observer:
        observer = Observer(node, f"{node}1")
        observer.found(Found(7, record), 1_000)
        return observer

    def test_the_lease_runs_from_the_first_sight_of_a_revision(self) -> None:
        observer = self.seen("b", SYNCED)
        observer.found(Found(7, SYNCED), 1_000 + LEASE_NS + MARGIN_NS - 1)
        assert not observer.is_expired
        observer.found(Found(8, SYNCED), 1_000 + LEASE_NS + MARGIN_NS)
        assert not observer.is_expired
        observer.found(Found(8, SYNCED), 1_000 + 2 * (LEASE_NS + MARGIN_NS))
        assert observer.is_expired
        assert observer.may_take_over()

    def test_what_is_older_than_what_was_seen_is_no_change(self) -> None:
        observer = self.seen("b", SYNCED)
        observer.found(Found(6, SYNCED), 50_000)
        observer.found(Found(7, SYNCED), 1_000 + LEASE_NS + MARGIN_NS)
        assert observer.is_expired

    def test_without_an_answer_the_wait_begins_anew(self) -> None:
        observer = self.seen("b", SYNCED)
        observer.found(Found(7, SYNCED), 1_000 + LEASE_NS + MARGIN_NS)
        observer.unanswered()
        assert not observer.may_take_over()
        observer.found(Found(7, SYNCED), 10 * LEASE_NS)
        assert not observer.is_expired
        observer.found(Found(7, SYNCED), 11 * LEASE_NS + MARGIN_NS)
        assert observer.is_expired

    def test_only_who_is_in_sync_may_take_over(self) -> None:
        late_ns = 1_000 + LEASE_NS + MARGIN_NS
        for node, record in (("c", SYNCED), ("b", msgspec.structs.replace(SYNCED, in_sync=False))):
            observer = self.seen(node, record)
            observer.found(Found(7, record), late_ns)
            assert not observer.may_take_over()
            assert not observer.may_acquire(100 * late_ns)
            assert "'a' was primary in epoch 3" in str(observer.obstacle())

    def test_who_is_in_sync_by_a_link_that_is_no_more_does_not_take_over(self) -> None:
        for ours, may in (("ring-1", True), ("ring-2", False), ("", False)):
            observer = self.seen("b", msgspec.structs.replace(SYNCED, link="ring-1", handing_over=True))
            observer.link = ours
            assert observer.may_take_over() is may

    def test_a_lease_that_is_handed_over_is_taken_at_once(self) -> None:
        record = msgspec.structs.replace(SYNCED, handing_over=True)
        assert self.seen("b", record).may_take_over()
        assert not self.seen("a", record).may_acquire(2_000)

    def test_after_an_orderly_end_nobody_takes_over_but_anybody_who_has_all_may_start(self) -> None:
        record = msgspec.structs.replace(SYNCED, ended=True)
        for node, may in (("a", True), ("b", True), ("c", False)):
            observer = self.seen(node, record)
            assert not observer.may_take_over()
            assert observer.may_acquire(2_000) is may

    def test_a_primary_that_comes_again_leaves_its_backup_the_first_turn(self) -> None:
        wait = LEASE_NS + MARGIN_NS
        for record, periods in ((SYNCED, PRECEDENCE_PERIODS), (RECORD, 1)):
            observer = self.seen("a", record)
            for now_ns, may in ((1_000 + periods * wait - 1, False), (1_000 + periods * wait, True)):
                observer.found(Found(7, record), now_ns)
                assert observer.may_acquire(now_ns) is may

    def test_an_epoch_is_after_the_stores_and_after_the_journals(self) -> None:
        observer = self.seen("a", RECORD)
        assert observer.propose(9, "", LEASE_NS).record.epoch == 4
        assert observer.propose(9, "", LEASE_NS, after_epoch=8).record.epoch == 9
        nobody = Observer("a", "a1")
        nobody.found(Found(0, None), 1)
        assert nobody.may_acquire(2)
        first = nobody.propose(9, "", LEASE_NS)
        assert (first.expected, first.record.epoch) == (0, 1)

    def test_a_takeover_whose_answer_was_lost_is_found(self) -> None:
        observer = self.seen("b", SYNCED)
        write = observer.propose(5_000, "", LEASE_NS)
        assert observer.grant() is None
        observer.unanswered()
        observer.found(Found(8, write.record), 90_000)
        assert observer.grant() == Grant(8, write.record, 5_000)


@settings(max_examples=20)
@given(
    times=st.lists(st.integers(1, LEASE_NS), min_size=1, max_size=50),
)
def test_unknown_writes_are_not_kept_for_ever(times: list[int]) -> None:
    holder, now_ns = Holder(Grant(7, RECORD, 0)), 0
    for elapsed_ns in times:
        now_ns += elapsed_ns
        holder.propose(now_ns)
        holder.unsure()
        holder.found(Found(7, RECORD))
    sent = holder._attempts._sent
    assert all(now_ns - one.sent_ns < LEASE_NS for one in sent.values())
