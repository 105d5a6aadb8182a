"""The process that measures one transport: it asks a reflector, when it is told to, and tells what it found.

It is a process of its own because DPDK can be started once in a process, and because the end of a cable is seen only
from its own network namespace. The protocol is lines of JSON on the standard streams: a :class:`ProberPlan`, to which
the answer is an empty line when all is compiled and warm; then an :class:`Order` and its :class:`Found`, as often as
wanted. While it waits for a line it takes no time of any core.

Rules: the end of the input is the end of the process. A mistake in the plan is one line on the error stream.
"""

import os
import sys
import time
from typing import Final, Literal

import msgspec
import numpy as np

from exchange.datagrams.batch import BatchMemory
from exchange.datagrams.opening import PortChoice, open_port
from exchange.datagrams.port import Port
from exchange.datagrams.reflector import (
    BURST_DATAGRAMS,
    STAMP_BYTES,
    discard,
    measure_echoes,
    measure_round_trips,
)
from exchange.errors import UserError
from exchange.native import address_of

CHUNK_ROUND_TRIPS: Final = 200
"""After so many it is looked whether anybody answers at all."""
LOST_MAX: Final = 3
"""Nobody does, if so many of them are lost."""
QUIET_NS: Final = 2_000_000
WARMUP_ROUND_TRIPS: Final = 2_000
WARMUP_NS: Final = 20_000_000
START_SECONDS: Final = 60.0
_ROOM_BYTES: Final = 2048


class ProberPlan(msgspec.Struct, frozen=True):
    """Our port, where the reflector is, how many bytes a datagram has, and which core to run on."""

    port: PortChoice
    peer_address: str
    peer_port: int
    payload_bytes: int
    window: int
    core: int


class Order(msgspec.Struct, frozen=True):
    """What to measure: so many round trips one after the other, or echoes for so long."""

    what: Literal["round trips", "echoes"]
    round_trips: int = 0
    duration_ns: int = 0


class Found(msgspec.Struct, frozen=True):
    """What was measured. Of round trips: percentiles, and how many were lost; of echoes: how many came back."""

    messages: int
    lost: int
    p50_ns: float = 0.0
    p99_ns: float = 0.0
    p99_9_ns: float = 0.0
    elapsed_ns: int = 0


class Prober:
    """Measures through one port.

    Raises:
        UserError: the port cannot be had, or nobody has the peer's address.
    """

    def __init__(self, plan: ProberPlan, port: Port) -> None:
        if plan.payload_bytes < STAMP_BYTES:
            raise UserError(f"payload_bytes = {plan.payload_bytes}: allowed are {STAMP_BYTES} and more")
        self._window: Final = plan.window
        self._port: Final = port
        self._outgoing: Final = BatchMemory(BURST_DATAGRAMS, _ROOM_BYTES)
        self._incoming: Final = BatchMemory(BURST_DATAGRAMS, _ROOM_BYTES)
        peer = port.find_peer(plan.peer_address, plan.peer_port)
        for index in range(BURST_DATAGRAMS):
            self._outgoing.put(index, bytes(plan.payload_bytes), peer)

    def warm_up(self) -> None:
        """Compile everything, and wait for the reflector's first answers.

        Raises:
            UserError: there are none.
        """
        deadline = time.monotonic() + START_SECONDS
        while self.do(Order("round trips", round_trips=CHUNK_ROUND_TRIPS)).lost > LOST_MAX:
            if time.monotonic() > deadline:
                raise UserError(f"nobody has sent anything back within {START_SECONDS:g} s")
        self.do(Order("round trips", round_trips=WARMUP_ROUND_TRIPS))
        self.do(Order("echoes", duration_ns=WARMUP_NS))

    def do(self, order: Order) -> Found:
        """Measure."""
        found = self._echoes(order) if order.what == "echoes" else self._round_trips(order)
        if order.duration_ns > 0:
            discard(self._port.state, self._incoming.batch, QUIET_NS)
        return found

    def _round_trips(self, order: Order) -> Found:
        latencies_ns, lost, done = np.zeros(order.round_trips, np.int64), 0, 0
        while done < order.round_trips and lost <= LOST_MAX:
            chunk = latencies_ns[done : done + CHUNK_ROUND_TRIPS]
            lost += measure_round_trips(
                self._port.state, self._outgoing.batch, self._incoming.batch, address_of(chunk), len(chunk)
            )
            done += len(chunk)
        if done == 0:
            return Found(0, 0)
        p50_ns, p99_ns, p99_9_ns = np.percentile(latencies_ns[:done], (50, 99, 99.9), method="higher")
        return Found(done, lost, float(p50_ns), float(p99_ns), float(p99_9_ns))

    def _echoes(self, order: Order) -> Found:
        back, lost, elapsed_ns = measure_echoes(
            self._port.state, self._outgoing.batch, self._incoming.batch, self._window, order.duration_ns
        )
        return Found(back, lost, elapsed_ns=elapsed_ns)


def _serve() -> None:
    """The process: see the top."""
    plan = msgspec.json.decode(sys.stdin.readline(), type=ProberPlan)
    port = open_port(plan.port)
    os.sched_setaffinity(0, {plan.core})
    prober = Prober(plan, port)
    prober.warm_up()
    answer = b""
    while True:
        os.write(sys.stdout.fileno(), answer + b"\n")
        if not (line := sys.stdin.readline()):
            break
        answer = msgspec.json.encode(prober.do(msgspec.json.decode(line, type=Order)))
    port.close()


if __name__ == "__main__":
    try:
        _serve()
    except UserError as error:
        sys.exit(str(error))
