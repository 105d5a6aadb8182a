"""A load over a card whose exchange was killed and has come back: its sessions go on behind the last message they have.

While a run's loop polls the card, a thread looks at the link (:meth:`Link.watched`), and, if the exchange may be at
several addresses, whether lines are silent. When something is wrong the loop ends, and :class:`Resuming` waits until
somebody is at the other end again, asks by ARP who that is, at one address after the other, logs every session on with
the number of the first message that it has not got, and has the line send again from the first request that has no
answer. An exchange with a journal knows what it had taken before: it ignores those requests, and their answers are
among the messages that come. The clock of the run goes on meanwhile, so what became due counts all the time that it had
to wait.

Sessions with sockets move each by itself (:mod:`exchange.load.moving`); those that share a port move together.

Rules: :meth:`Resuming.run` is on the thread that has the port. An exchange that does not come back before the run's
deadline, or has forgotten the sessions, fails them.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from exchange.errors import UserError
from exchange.load.logins import Endpoint
from exchange.load.loops import Load, run_load
from exchange.load.losses import Loss
from exchange.load.requests import SessionRequests, first_unanswered
from exchange.load.sessions import NotReached
from exchange.load.udp_line import UdpLineMemory
from exchange.load.udp_session import UdpSession
from exchange.load.watching import LineWatch
from exchange.load.words import FAILED, LOST, NEXT, NO_LINK, SETTLED, SILENT, STOP, fail
from exchange.native import load_acquire, load_int64, store_release

if TYPE_CHECKING:
    from exchange.afxdp.card import AfxdpCard
    from exchange.dpdk.opened import OpenedCard

LOOK_SECONDS: Final = 0.02
ASK_SECONDS: Final = 0.3
"""How long an answer is waited for before it is looked again whether the run is to end."""
LOGON_SECONDS: Final = 2.0
"""The same for an answer to a logon: an exchange takes its time to look at a password."""


class Link:
    """A card's link to an exchange.

    Args:
        card: is open.
        endpoints: where the exchange may be.
    """

    def __init__(self, card: "AfxdpCard | OpenedCard", endpoints: Sequence[Endpoint]) -> None:
        self._card: Final = card
        self.endpoints: Final = endpoints

    @property
    def is_up(self) -> bool:
        """Whether somebody is at the other end."""
        return bool(self._card.is_link_up)

    @contextmanager
    def watched(self, words: int, start_ns: int, watch: LineWatch | None) -> Iterator[None]:
        """Within the block the word LOST of the load's words says that the link was down, or a line silent.

        Args:
            words: the address of the load's words.
            start_ns: when the run starts.
            watch: of the lines; None if silence is no reason.
        """
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(LOOK_SECONDS):
                if not self._card.is_link_up or (watch is not None and watch.silent(start_ns)):
                    store_release(words + LOST, 1)

        thread = threading.Thread(target=look, name="link", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def find_exchange(self, place: int) -> bytes | None:
        """A step to where the exchange may be now, 16 bytes; None if nobody is known there yet."""
        if not self._card.mend():
            time.sleep(LOOK_SECONDS)
            return None
        try:
            return self._card.find_peer(*self.endpoints[place], timeout_s=ASK_SECONDS)
        except UserError:
            return None


class Resuming:
    """The sessions of a run, as they resume.

    Args:
        link: the card's.
        place: at which of the link's endpoints the exchange is.
        line: the memory of their line.
        sessions: with their requests, and the addresses of their words.
        limits: how many seconds a line may be silent, and how many while a request is unanswered; if there is only one
            endpoint, silence is waited out.

    Attributes:
        losses: the lines that were lost, in the order in which that was noticed.
    """

    def __init__(
        self,
        link: Link,
        place: int,
        line: UdpLineMemory,
        sessions: Sequence[tuple[UdpSession, SessionRequests, int]],
        limits: tuple[float, float],
    ) -> None:
        self._link: Final = link
        self._place = place
        self._line: Final = line
        self._sessions: Final = sessions
        self._limits: Final = limits
        self.losses: Final[list[Loss]] = []

    @contextmanager
    def watching(self, load: Load) -> Iterator[None]:
        """Within the block a thread looks whether the link is down, or lines are silent."""
        watch = None
        if len(self._link.endpoints) > 1:
            watch = LineWatch([address for _, _, address in self._sessions], self._limits)
        with self._link.watched(load.words, load.start_ns, watch):
            yield

    def run(self, load: Load) -> None:
        """Let the loop run to its end, through every loss of the link.

        Raises:
            UserError: the exchange that has come back does not know a session.
        """
        run_load(load)
        while load_acquire(load.words + LOST) != 0 and not _has_ended(load):
            self._note_losses(load)
            while not self._resume(load):
                if _has_ended(load):
                    break
                self._place = (self._place + 1) % len(self._link.endpoints)
            else:
                run_load(load)
        if load_acquire(load.words + LOST) != 0 and load_acquire(load.words + STOP) == 0:
            for _, _, address in self._sessions:
                fail(load.words, address, NO_LINK)

    def _note_losses(self, load: Load) -> None:
        reason = SILENT if self._link.is_up else NO_LINK
        left, now_ns = self._link.endpoints[self._place], time.monotonic_ns() - load.start_ns
        self.losses.extend(Loss(session.name, reason, left, left, now_ns) for session, _, _ in self._sessions)

    def _resume(self, load: Load) -> bool:
        """Try once to have all sessions back."""
        peer = self._link.find_exchange(self._place)
        if peer is None:
            return False
        # From here on a link that goes down again is noticed again.
        store_release(load.words + LOST, 0)
        begin = len(self.losses) - len(self._sessions)
        try:
            for index, (session, requests, address) in enumerate(self._sessions):
                wanted, sent = self._line.next_wanted(address), load_int64(address + NEXT)
                session.resume(peer, wanted, LOGON_SECONDS)
                first = first_unanswered(requests, sent, sent - load_int64(address + SETTLED))
                now_ns = time.monotonic_ns() - load.start_ns
                self._line.resume(address, session, first, now_ns)
                self.losses[begin + index] = self.losses[begin + index]._replace(
                    found=self._link.endpoints[self._place],
                    back_ns=now_ns,
                    sent_again=sent - first,
                    taken_back=max(wanted - self._line.next_wanted(address), 0),
                )
        except (TimeoutError, NotReached) as error:
            if isinstance(error, NotReached) and len(self._link.endpoints) == 1:
                raise
            store_release(load.words + LOST, 1)
            return False
        return True


def _has_ended(load: Load) -> bool:
    is_late = time.monotonic_ns() - load.start_ns > load.deadline_ns
    return is_late or load_acquire(load.words + STOP) != 0 or load_int64(load.words + FAILED) != 0
