"""The primary of ``exchange bench lease``: the process that holds a lease while it is measured, and is killed then.

A process of its own, because a kill shall be one, and because what keeps a lease from being renewed is what else runs
in the process that holds it. The protocol is lines of JSON on the standard streams: a :class:`HolderPlan`, then a
:class:`Held` when the time is over. The lease is renewed, and the threads spin, until the process ends.

Rules: the end of the input is the end of the process. A mistake is one line on the error stream.
"""

import os
import sys
import threading
import time
from typing import Final

import msgspec
import numpy as np

from exchange.errors import UserError
from exchange.native import address_of, kernel, load_acquire
from exchange.replication.config import TcpReplicationConfig
from exchange.replication.lease import LeaseKeeper, lease_clock_ns
from exchange.replication.lease_rules import deadline_after, margin_ns

PRIMARY: Final = "primary"
BACKUP: Final = "backup"


class HolderPlan(msgspec.Struct, frozen=True):
    """The lease to hold, for how long it is measured, and how many threads spin meanwhile."""

    config: TcpReplicationConfig
    seconds: float
    spinning_threads: int


class Held(msgspec.Struct, frozen=True):
    """What became of it: how many renewals there were, how long they took from sending to answer, and how much of the
    time for which a renewal lets events leave had passed, at most, when the next one was known; above 1 none could
    leave for a while."""

    renewals: int
    p50_ns: float
    p99_ns: float
    used_part: float


@kernel
def spin(stop_address: int) -> int:
    """Never rest, until the word at ``stop_address`` is not 0."""
    turns = 0
    while load_acquire(stop_address) == 0:
        turns += 1
    return turns


class _Record:
    """Every deadline that was told, and when."""

    def __init__(self) -> None:
        self.deadlines_ns: Final[list[int]] = []
        self.told_ns: Final[list[int]] = []

    def renewed(self, deadline_ns: int) -> None:
        """Called by the keeper."""
        self.told_ns.append(lease_clock_ns())
        self.deadlines_ns.append(deadline_ns)

    def held(self, lease_ns: int) -> Held:
        """What it comes to. The first deadline is left out: it was told late, by whom the lease was acquired."""
        told, deadlines = np.array(self.told_ns[1:]), np.array(self.deadlines_ns[1:])
        if len(told) < 2:
            raise UserError("lease: it was not renewed; measure for longer")
        allowed_ns = lease_ns - margin_ns(lease_ns)
        sent = deadlines - deadline_after(0, lease_ns)
        p50_ns, p99_ns = np.percentile(told - sent, (50, 99))
        used_part = (told[1:] - sent[:-1]).max() / allowed_ns
        return Held(len(told), float(p50_ns), float(p99_ns), float(used_part))


def main() -> None:
    """Hold a lease until the input ends."""
    plan = msgspec.json.decode(sys.stdin.readline(), type=HolderPlan)
    stop = np.ones(1, np.int64)
    spin(address_of(stop))  # compiled before the lease runs
    stop[0] = 0
    record, config = _Record(), plan.config
    with LeaseKeeper(config, PRIMARY, "") as keeper:
        keeper.acquire()
        for _ in range(plan.spinning_threads):
            threading.Thread(target=spin, args=(address_of(stop),), daemon=True).start()
        keeper.start(record.renewed, lambda record: None)
        keeper.set_backup(BACKUP, True)
        time.sleep(plan.seconds)
        sys.stdout.write(msgspec.json.encode(record.held(config.lease_ns)).decode() + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    os._exit(0)  # threads that spin hold up every other way


if __name__ == "__main__":
    try:
        main()
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        os._exit(2)
