"""A load over a card whose exchange was killed and has come back: its sessions go on behind the last message they have.

While a run's loop polls the card, a thread looks at the link (:meth:`Link.watched`). When it is down the loop ends, and
:class:`Resuming` waits until somebody is at the other end again, asks by ARP who that is, logs every session on with
the number of the first message that it has not got, and has the line send again from the first request that has no
answer. An exchange with a journal knows what it had taken before: it ignores those requests, and their answers are
among the messages that come. The clock of the run goes on meanwhile, so what became due counts all the time that it had
to wait.

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
from exchange.load.requests import SessionRequests, first_unanswered
from exchange.load.udp_line import UdpLineMemory
from exchange.load.udp_session import UdpSession
from exchange.load.words import FAILED, LOST, NEXT, NO_LINK, SETTLED, STOP, fail
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
        endpoint: the exchange's.
    """

    def __init__(self, card: "AfxdpCard | OpenedCard", endpoint: Endpoint) -> None:
        self._card: Final = card
        self._endpoint: Final = endpoint

    @contextmanager
    def watched(self, words: int) -> Iterator[None]:
        """Within the block the word LOST of the load's words says that the link was down."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(LOOK_SECONDS):
                if not self._card.is_link_up:
                    store_release(words + LOST, 1)

        thread = threading.Thread(target=watch, name="link", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def find_exchange(self) -> bytes | None:
        """A step to where the exchange is now, 16 bytes; None if that is not known yet."""
        if not self._card.mend():
            time.sleep(LOOK_SECONDS)
            return None
        try:
            return self._card.find_peer(*self._endpoint, timeout_s=ASK_SECONDS)
        except UserError:
            return None


class Resuming:
    """The sessions of a run, as they resume.

    Args:
        link: the card's.
        line: the memory of their line.
        sessions: with their requests, and the addresses of their words.
    """

    def __init__(
        self,
        link: Link,
        line: UdpLineMemory,
        sessions: Sequence[tuple[UdpSession, SessionRequests, int]],
    ) -> None:
        self._link: Final = link
        self._line: Final = line
        self._sessions: Final = sessions

    def run(self, load: Load) -> None:
        """Let the loop run to its end, through every loss of the link.

        Raises:
            UserError: the exchange that has come back does not know a session.
        """
        run_load(load)
        while load_acquire(load.words + LOST) != 0 and not _has_ended(load):
            if self._resume(load):
                run_load(load)
        if load_acquire(load.words + LOST) != 0 and load_acquire(load.words + STOP) == 0:
            for _, _, address in self._sessions:
                fail(load.words, address, NO_LINK)

    def _resume(self, load: Load) -> bool:
        """Try once to have all sessions back."""
        peer = self._link.find_exchange()
        if peer is None:
            return False
        # From here on a link that goes down again is noticed again.
        store_release(load.words + LOST, 0)
        try:
            for session, requests, address in self._sessions:
                session.resume(peer, self._line.next_wanted(address), LOGON_SECONDS)
                sent = load_int64(address + NEXT)
                first = first_unanswered(requests, sent, sent - load_int64(address + SETTLED))
                self._line.resume(address, session, first, time.monotonic_ns() - load.start_ns)
        except TimeoutError:
            store_release(load.words + LOST, 1)
            return False
        return True


def _has_ended(load: Load) -> bool:
    is_late = time.monotonic_ns() - load.start_ns > load.deadline_ns
    return is_late or load_acquire(load.words + STOP) != 0 or load_int64(load.words + FAILED) != 0
