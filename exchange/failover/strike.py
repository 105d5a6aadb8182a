"""What is done to the primary while clients trade, and when: a :class:`Strike`.

=======  ==========================================================================================
kill     SIGKILL: the process is gone from one instruction to the next, and its memory with it.
stop     SIGSTOP, and SIGCONT when the other one serves: the old primary wakes up and has been replaced.
promote  what an operator does: ``exchange promote``. It hands over in order, and ends.
=======  ==========================================================================================

It comes at any moment between two renewals of the lease, on a thread of its own, for the main one has the load.

Rules: :meth:`Strike.begin` is called when the load begins, and behind it :meth:`Strike.join`, or
:meth:`Strike.call_off` if the load has failed.
"""

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from exchange.errors import UserError
from exchange.failover.nodes import Node
from exchange.failover.plan import WARM_SECONDS, How
from exchange.replication.asking import ask_to_promote
from exchange.replication.config import ActiveReplicationConfig

JOIN_SECONDS: Final = 20.0
DONE: Final = {"kill": "SIGKILL to", "stop": "SIGSTOP to", "promote": "asking for a handover of"}
"""What is done, in words that the primary's name follows."""


class Strike:
    """A blow to a primary.

    Args:
        node: the primary.
        config: of its replication.
        how: what is to be done.
        chance: draws the moment.
        struck: is told, on another thread, as soon as it was done.

    Attributes:
        unix_ns: when it was done, as time of day; 0: it was not.
        monotonic_ns: the same moment on the monotonic clock.
        error: what went wrong.
    """

    def __init__(
        self,
        node: Node,
        config: ActiveReplicationConfig,
        how: How,
        chance: random.Random,
        struck: Callable[["Strike"], object],
    ) -> None:
        self.node: Final = node
        self.unix_ns = 0
        self.monotonic_ns = 0
        self.error: UserError | None = None
        self._config: Final = config
        self._how: Final = how
        self._struck: Final = struck
        self._delay_s: Final = WARM_SECONDS + chance.uniform(0, config.renew_every_ns / 1e9)
        self._is_called_off: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="strike", daemon=True)

    def begin(self) -> None:
        """From now on it comes. Only the first call counts."""
        if self._thread.ident is None:
            self._thread.start()

    def call_off(self) -> None:
        """It is not to come, if it has not."""
        self._is_called_off.set()

    def join(self) -> None:
        """Wait until it has been done."""
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        if self._is_called_off.wait(self._delay_s):
            return
        self.monotonic_ns, self.unix_ns = time.monotonic_ns(), time.time_ns()
        if self._how == "promote":
            self._struck(self)
            try:
                ask_to_promote(self._config, [self.node.place.pair_address])
            except UserError as error:
                self.error = error
        else:
            self.node.signal(signal.SIGKILL if self._how == "kill" else signal.SIGSTOP)
            self._struck(self)
