"""Who of a group is the primary: :class:`LeaseKeeper` holds the lease of it, :class:`LeaseWatcher` awaits it.

Each is a thread with an event loop of its own, which asks the store (:mod:`exchange.replication.lease_store`) and steps
the rules (:mod:`exchange.replication.lease_rules`, which say why there are never two primaries) with the answers.
Compiled loops that never rest run beside it without the interpreter's lock, so it gets its turn.

The store is *asked* again and again, by the watcher too, which could have itself told instead: an answer says what
the record is and that the store is there, while silence does not say which of the two is missing.

**The clock** is CLOCK_BOOTTIME (:func:`lease_clock_ns`, and ``boottime_ns`` in compiled code). CLOCK_MONOTONIC stands
still while a machine is suspended; a primary that wakes up would think that its lease has just begun, an hour after it
was replaced. CLOCK_REALTIME is set by hand and by NTP. CLOCK_MONOTONIC_RAW nobody bends, but it stands still too.

Rules: any thread may call the methods, but not from within a callback; callbacks come on the keeper's thread and are to
be short. What is released must be released before the deadline that was told last, by that clock, and none of it
if that is 0. :meth:`close` in any case; it gives nothing up: who is closed and gone is replaced when its lease has
run out.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Self

from exchange.errors import UserError
from exchange.logs import log_event
from exchange.replication.config import ActiveReplicationConfig
from exchange.replication.embedded_store import StoreAccess
from exchange.replication.lease_record import LeaseRecord
from exchange.replication.lease_rules import Grant, Holder, Observer, margin_ns, wait_ns
from exchange.replication.lease_store import (
    LeaseStore,
    StoreTrouble,
    WrongRevision,
    check_installed,
)

PATIENCE_SECONDS: Final = 5.0
"""How long the store may take to answer for the first time, and a request of ours to be written."""

QUESTION_SECONDS_MIN: Final = 0.02
RETRY_SECONDS: Final = 0.01
POLLS_PER_RENEWAL: Final = 2
"""A watcher asks so many times as often as a holder renews: by half a renewal it learns of the last one too late."""


def lease_clock_ns() -> int:
    """The clock of leases, CLOCK_BOOTTIME: it never stands still while the machine may act."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class _StoreThread:
    """A thread with an event loop, and the store that it asks."""

    def __init__(self, config: ActiveReplicationConfig, name: str) -> None:
        check_installed()
        self.group: Final = config.group
        self.access: Final = StoreAccess(config.lease_store)
        question_s = (
            config.lease_ns - margin_ns(config.lease_ns)
        ) / 2e9  # so that there is time for another one
        self.store: Final = LeaseStore(
            self.access.find_urls, config.group, max(QUESTION_SECONDS_MIN, question_s)
        )
        self.loop: Final = asyncio.new_event_loop()
        self._thread: Final = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def call[T](self, work: Coroutine[Any, Any, T]) -> T:
        """What some work on the loop comes to; its exceptions are raised here."""
        if self.loop.is_closed():
            work.close()
            raise RuntimeError("the lease is closed")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C, for instance
            future.cancel()
            raise

    async def first[T](self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question, of a store that may only just be starting. Raises UserError if there is none."""
        give_up_at = self.loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await question()
            except StoreTrouble as trouble:
                if self.loop.time() > give_up_at:
                    raise UserError(f"lease store {self.access.name}: {trouble}") from trouble
            await asyncio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """End the loop and the thread."""
        if self.loop.is_closed():
            return
        with suppress(RuntimeError):
            self.call(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.access.close()

    async def _end(self) -> None:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await self.store.close()


class LeaseKeeper:
    """The primary's lease: obtained, renewed, and given up.

    Args:
        config: the settings of replication.
        node: our name in the group.
        clients_address: where clients reach us, for the record.

    Raises:
        UserError: the settings are wrong, or a package is missing.
    """

    def __init__(self, config: ActiveReplicationConfig, node: str, clients_address: str) -> None:
        self._node: Final = node
        self._address: Final = clients_address
        self._lease_ns: Final = config.lease_ns
        self._renew_every_s: Final = config.renew_every_ns / 1e9
        self._holder: Holder | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._on_renewed: Callable[[int], None] = _ignore
        self._on_replaced: Callable[[LeaseRecord | None], None] = _ignore
        self._told_ns = 0
        self._turn: Final = asyncio.Lock()
        self._thread: Final = _StoreThread(config, "lease-keeper")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def record(self) -> LeaseRecord:
        """What we have written last, as far as is known."""
        assert self._holder is not None, "acquire or take first"
        return self._holder.record

    def acquire(self, after_epoch: int = 0) -> Grant:
        """Become primary, as a node that is started as one. It waits while the lease of one that is gone still lasts.

        Args:
            after_epoch: the last epoch that the node's journal knows: ours is greater, even if the store has
                forgotten all.

        Raises:
            UserError: another one is primary, or the node lacks what was acknowledged, or the store does not answer.
        """
        grant = self._thread.call(self._acquire(after_epoch))
        self._holder = Holder(grant)
        return grant

    def take(self, grant: Grant) -> None:
        """Go on with what a :class:`LeaseWatcher` has taken over."""
        self._holder = Holder(grant)

    def start(
        self, on_renewed: Callable[[int], None], on_replaced: Callable[[LeaseRecord | None], None]
    ) -> None:
        """Renew the lease from now on.

        Args:
            on_renewed: is told the deadline, whenever there is another one: the first one before this returns.
            on_replaced: is told, once, that we are primary no more, and the record of who is (None: it was deleted).
        """
        assert self._holder is not None, "acquire or take first"
        self._on_renewed, self._on_replaced = on_renewed, on_replaced
        self._thread.call(self._start())

    def set_backup(
        self, node: str, in_sync: bool, link: str = "", timeout_s: float = PATIENCE_SECONDS
    ) -> bool:
        """Write down who the backup is, and whether it has all that we may have released, and by what.

        Returns:
            Whether it is in the store. False: nobody knows, or we are replaced. To release what ``in_sync=False``
            allows takes a True; after a False for ``in_sync=True`` it may be there all the same.

        Raises:
            ValueError: the node's name is none.
        """
        return self._thread.call(self._change(timeout_s, backup=node, in_sync=in_sync, link=link))

    def hand_over(self, timeout_s: float = PATIENCE_SECONDS) -> bool:
        """Let the backup that is in sync take over at once. We are primary no more, whatever this returns.

        Returns:
            Whether it is in the store. False: nobody knows; the backup takes over when the lease has run out.
        """
        assert self.record.in_sync, "nobody is in sync"
        return self._thread.call(self._let_go(timeout_s, handing_over=True))

    def end(self, timeout_s: float = PATIENCE_SECONDS) -> bool:
        """Write down that the exchange has ended in order: nobody shall take over. We are primary no more.

        Returns:
            Whether it is in the store.
        """
        return self._thread.call(self._let_go(timeout_s, ended=True))

    def close(self) -> None:
        """Stop renewing, and end the thread."""
        self._thread.close()

    async def _acquire(self, after_epoch: int) -> Grant:
        store, observer = self._thread.store, Observer(self._node, secrets.token_hex(8))
        has_waited = False
        while True:
            found = await self._thread.first(store.read)
            observer.found(found, lease_clock_ns())
            grant = observer.grant()
            if grant is not None:
                return grant
            self._refuse(observer)
            if observer.may_acquire(lease_clock_ns()):
                write = observer.propose(lease_clock_ns(), self._address, self._lease_ns, after_epoch)
                try:
                    revision = await store.write(write.record, write.expected)
                except (StoreTrouble, WrongRevision):
                    continue  # it may have been applied: the next answer says so
                return Grant(revision, write.record, write.sent_ns)
            if not has_waited and observer.record is not None:
                log_event("lease awaited", primary=observer.record.primary, epoch=observer.record.epoch)
                has_waited = True
            await asyncio.sleep(RETRY_SECONDS)

    def _refuse(self, observer: Observer) -> None:
        """Raises UserError if we cannot become primary, or not now."""
        record = observer.record
        obstacle = observer.obstacle()
        group = f"replication.group = {self._thread.group!r}"
        if record is not None and observer.changes and not (record.handing_over or record.ended):
            is_same = record.primary == self._node
            same = " (another process of this name)" if is_same else ""
            renamed = ", with a replication.node of its own" if is_same else ""
            raise UserError(
                f"{group}: {record.primary!r}{same} is primary, in epoch {record.epoch}, for clients at"
                f" {record.primary_address}; end it first, or start this one as its backup{renamed}"
            )
        if record is not None and obstacle is not None and (observer.is_expired or record.ended):
            raise UserError(
                f"{group}: {obstacle}; start {record.primary!r} first, or name another group to begin anew"
            )

    async def _start(self) -> None:
        self._tell()
        self._renewing = asyncio.get_running_loop().create_task(self._renew())
        self._renewing.add_done_callback(_log_failure)

    async def _renew(self) -> None:
        """Renew until we are replaced."""
        holder, loop = self._holder, asyncio.get_running_loop()
        assert holder is not None
        has_lapsed = False
        while not holder.is_replaced:
            due_at = loop.time() + self._renew_every_s
            is_written = await self._write()
            if is_written and has_lapsed:
                log_event("lease renewed", epoch=holder.record.epoch)
                has_lapsed = False
            elif not is_written and not has_lapsed and lease_clock_ns() > holder.deadline_ns:
                log_event("lease lapsed", level=logging.WARNING, epoch=holder.record.epoch)
                has_lapsed = True
            await asyncio.sleep(max(0.0 if is_written else RETRY_SECONDS, due_at - loop.time()))

    async def _write(self, **changes: object) -> bool:
        """Renew once, with changes; whether that is in the store."""
        holder, store = self._holder, self._thread.store
        assert holder is not None
        async with self._turn:
            if not holder.is_certain:
                await self._find_out()
            if not holder.is_certain:
                return False
            write = holder.propose(lease_clock_ns(), **changes)
            try:
                holder.accepted(write, await store.write(write.record, write.expected))
            except (StoreTrouble, WrongRevision, UserError):
                holder.unsure()
                await self._find_out()
            self._tell()
            return not holder.is_replaced and holder.record == write.record

    async def _find_out(self) -> None:
        """Ask for the record, after a write of which nobody knows what became."""
        assert self._holder is not None
        with suppress(StoreTrouble, UserError):  # then the next turn asks
            self._holder.found(await self._thread.store.read())
        self._tell()

    def _tell(self) -> None:
        """Tell our owner what has changed."""
        holder = self._holder
        assert holder is not None
        if holder.is_replaced:
            told, self._on_replaced = self._on_replaced, _ignore
            told(holder.replaced_by)
        elif holder.deadline_ns != self._told_ns:
            self._told_ns = holder.deadline_ns
            self._on_renewed(holder.deadline_ns)

    async def _change(self, timeout_s: float, **changes: object) -> bool:
        """Write changes, and try again until they are written, or time is up, or we are replaced."""
        holder, loop = self._holder, asyncio.get_running_loop()
        assert holder is not None, "acquire or take first"
        give_up_at = loop.time() + timeout_s
        while not await self._write(**changes):
            if holder.is_replaced or loop.time() > give_up_at:
                return False
            await asyncio.sleep(RETRY_SECONDS)
        return True

    async def _let_go(self, timeout_s: float, **changes: object) -> bool:
        """Stop being primary, then say so."""
        assert self._holder is not None, "acquire or take first"
        self._holder.let_go()
        self._tell()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait((self._renewing,))
        return await self._change(timeout_s, **changes)


class LeaseWatcher:
    """A lease that somebody else has: seen, and taken over when it has run out.

    Args:
        config: the settings of replication.
        node: our name in the group; empty: only to look.
        clients_address: where clients will reach us, for the record.

    Raises:
        UserError: the settings are wrong, a package is missing, or the store does not answer.
    """

    def __init__(self, config: ActiveReplicationConfig, node: str = "", clients_address: str = "") -> None:
        self._address: Final = clients_address
        self._lease_ns: Final = config.lease_ns
        self._poll_every_s: Final = config.renew_every_ns / POLLS_PER_RENEWAL / 1e9
        self._observer: Final = Observer(node, secrets.token_hex(8))
        self._may_take_over: Final = threading.Event()
        self._turn: Final = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._thread: Final = _StoreThread(config, "lease-watcher")
        try:
            self._thread.call(self._start())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def record(self) -> LeaseRecord | None:
        """The record, as the store had it when it answered last; None: nobody was ever primary."""
        return self._observer.record

    def answers(self) -> int:
        """How often the store has said what the record is. The next answer may have been asked for before this call,
        the one behind it was not."""
        return self._observer.answers

    def stand_by_with(self, link: str) -> None:
        """From now on this node may take over only if it is in sync by that link. For the thread that takes over."""
        self._observer.link = link

    def expired(self) -> bool:
        """Whether the lease has run out."""
        return self._observer.is_expired

    def obstacle(self) -> str | None:
        """Why this node may not take over, however long the lease has run out; None if it may."""
        return self._observer.obstacle()

    def wait(self, timeout_s: float) -> bool:
        """Wait until this node may take over (in sync, and the lease has run out or is handed over), or has done so and
        did not know; whether it may."""
        return self._may_take_over.wait(timeout_s)

    def try_take_over(self) -> Grant | None:
        """Become primary, if this node may; None if it may not, another one was faster, or the store does not answer.

        After a grant nothing is watched any more: go on with :meth:`LeaseKeeper.take` at once, for the lease runs.
        """
        return self._thread.call(self._try_take_over())

    def close(self) -> None:
        """Stop watching, and end the thread."""
        self._thread.close()

    async def _start(self) -> None:
        found = await self._thread.first(self._thread.store.read)
        self._observer.found(found, lease_clock_ns())
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        self._watching.add_done_callback(_log_failure)

    async def _watch(self) -> None:
        """Ask for the record again and again, at the latest when the lease may have run out."""
        observer = self._observer
        while observer.grant() is None:
            async with self._turn:
                await self._look()
            rest_s = self._poll_every_s
            if observer.record is not None:
                until_ns = wait_ns(observer.record) - observer.waited_ns(lease_clock_ns())
                rest_s = min(rest_s, until_ns / 1e9) if until_ns > 0 else rest_s
            await asyncio.sleep(rest_s)

    async def _look(self) -> None:
        observer = self._observer
        try:
            observer.found(await self._thread.store.read(), lease_clock_ns())
        except (StoreTrouble, UserError):
            observer.unanswered()
        if observer.may_take_over() or observer.grant() is not None:
            self._may_take_over.set()
        else:
            self._may_take_over.clear()

    async def _try_take_over(self) -> Grant | None:
        observer = self._observer
        async with self._turn:
            if not observer.may_take_over():
                return observer.grant()
            write = observer.propose(lease_clock_ns(), self._address, self._lease_ns)
            try:
                revision = await self._thread.store.write(write.record, write.expected)
            except WrongRevision:
                await self._look()
            except (StoreTrouble, UserError):
                observer.unanswered()
                await self._look()
            else:
                if self._watching is not None:
                    self._watching.cancel()
                return Grant(revision, write.record, write.sent_ns)
            return observer.grant()


def _log_failure(task: "asyncio.Task[None]") -> None:
    """A callback of the owner's has failed, or we have: the lease is not renewed any more, and runs out."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log_event("lease failed", level=logging.ERROR, error=f"{type(error).__name__}: {error}")


def _ignore(_told: object) -> None:
    """Nobody has asked to be told."""
