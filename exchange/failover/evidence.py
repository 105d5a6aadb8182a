"""What a failover has left behind: the strike, the clients' requests, the logs; and what is made of them.

Rules: :meth:`Evidence.moments` may be asked as soon as the clients have ended; a :class:`Failover` can be made when the
survivor's journal was replayed, after the end of everything.
"""

from typing import Final, NamedTuple

import numpy as np

from exchange.bench.wording import duration
from exchange.failover.account import Replayed, account_of
from exchange.failover.log_lines import LogLine
from exchange.failover.moments import (
    Requests,
    choose_steps,
    client_moments,
    clock_step_ns,
    in_order,
    log_moments,
    shown_range,
    steps_of,
)
from exchange.failover.nodes import Node
from exchange.failover.plan import FailoverPlan
from exchange.failover.results import (
    CAUGHT_UP,
    FIRST_ACKNOWLEDGEMENT,
    LAST_ANSWER,
    TOOK_OVER,
    Failover,
    Moment,
)
from exchange.failover.strike import Strike
from exchange.load.measured import Measured

CLOCK_STEP_NS_MAX: Final = 1_000_000
"""More than that no clock is slewed in some seconds."""
PAUSE_NS_MAX: Final = 50_000_000
"""A primary that has answered nothing for so long was held up already when it was struck."""


class Evidence(NamedTuple):
    """A failover that has happened.

    Attributes:
        number: from 1.
        plan: of the demonstration.
        old: who was primary.
        new: who is.
        strike: what was done, and when.
        measured: what the clients measured; it kept timeline and requests.
        lines: the new primary's log.
        old_status: the exit status of the old one.
        old_lines: its log.
    """

    number: int
    plan: FailoverPlan
    old: Node
    new: Node
    strike: Strike
    measured: Measured
    lines: tuple[LogLine, ...]
    old_status: int
    old_lines: tuple[LogLine, ...]

    def requests(self) -> Requests:
        """What the clients asked for, on the strike's clock."""
        return Requests.of(self.measured, self.strike.unix_ns)

    def moments(self) -> dict[str, Moment]:
        """What happened when."""
        timeline = self.measured.timeline
        assert timeline is not None
        shift_ns = timeline.start_unix_ns - self.strike.unix_ns
        told = log_moments(self.lines, self.new.name, self.strike.unix_ns)
        return told | client_moments(self.requests(), self.measured.losses, shift_ns)

    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        timeline, strike, found = self.measured.timeline, self.strike, []
        assert timeline is not None
        step_ns = clock_step_ns(
            (timeline.start_unix_ns, timeline.start_monotonic_ns), (strike.unix_ns, strike.monotonic_ns)
        )
        if abs(step_ns) > CLOCK_STEP_NS_MAX:
            found.append(
                f"failover {self.number}: the machine's clock was set by {step_ns / 1e6:.1f} ms meanwhile; times of the"
                " logs and of the clients do not belong together"
            )
        if any(line.event == "lease lapsed" and line.time_ns < strike.unix_ns for line in self.old_lines):
            found.append(
                f"failover {self.number}: the lease of {self.old.name} had run out for a moment before anything was"
                " done to it: the machine is busy"
            )
        last_ns = self.moments()[LAST_ANSWER].after_ns
        if last_ns is None or last_ns < -PAUSE_NS_MAX:
            since = "" if last_ns is None else f" for {duration(-last_ns)}"
            found.append(
                f"failover {self.number}: {self.old.name} had answered nothing{since} before anything was done to it:"
                " the machine or its disk was busy, and the figures are of that too"
            )
        return tuple(found)


def failover_of(found: Evidence, replayed: Replayed) -> Failover:
    """What a failover came to."""
    moments, requests = found.moments(), found.requests()
    outage_ns = moments[FIRST_ACKNOWLEDGEMENT].after_ns
    waited = requests.latencies_ns(0, outage_ns or 0)
    took_over = next((line for line in found.lines if line.event == TOOK_OVER), None)
    begin_ns, end_ns = shown_range(requests, outage_ns, moments[CAUGHT_UP].after_ns)
    step_ns = choose_steps(begin_ns, end_ns, found.plan.rate)
    return Failover(
        number=found.number,
        how=found.plan.how,
        old=found.old.name,
        new=found.new.name,
        epoch=None if took_over is None else took_over.fields.get("epoch"),
        moments=in_order(moments),
        outage_ns=outage_ns,
        silence_ns=found.measured.silence.length_ns,
        due_meanwhile=int(requests.is_due(0, outage_ns or 0).sum()),
        waited_p50_ns=int(np.median(waited)) if len(waited) else None,
        waited_max_ns=int(waited.max()) if len(waited) else None,
        old_status=found.old_status,
        account=account_of(found.measured, replayed),
        steps=steps_of(requests, begin_ns, end_ns, step_ns),
    )
