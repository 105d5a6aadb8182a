"""Who may knock, and how often: the limits that keep a client that comes too often to its own share.

Everything here is counted for an *address*: a client's address of IPv4, or the first 64 bits of one of IPv6, of which
whoever has one has them all. Three things are limited:

* **Connections.** A bucket of tokens: an address may open so many in a second on average, and so many at once after a
  while of silence. One that is too many is closed before it is read from.
* **Places.** So many connections of an address may be logging on at a time (:class:`Places`). All addresses together
  have a bound, too. When that is reached, a newcomer takes the place of the oldest connection of whoever has most, so
  that nobody keeps others out by being there first and saying nothing.
* **Guesses.** When the same name has failed from an address a few times, it has to wait there: a second, then two, four
  and so on up to a bound; as long as it waits, nothing that it says is looked at. The name is free from every other
  address. Of names an address has a bound; beyond it all others are one name.

An address from which somebody has logged on is *known*. The known are remembered apart from strangers, so that no
number of strangers makes the exchange forget them, and their passwords are checked in turns with those of strangers
(:mod:`exchange.gateway.password_checks`).

Rules: one thread; the clock is an argument. Memory is bounded by :data:`ADDRESSES_MAX` and :data:`NAMES_MAX`. The
oldest is forgotten first, and whoever has thousands of addresses can have its failures forgotten, which gains it
nothing that the addresses had not."""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from exchange import limits
from exchange.gateway.config import GatewayConfig

ADDRESSES_MAX: Final = 4096
"""Addresses that are remembered, of the known and of strangers each: less than two megabytes."""

NAMES_MAX: Final = 64
"""Names whose failures are counted for an address."""

WAIT_SECONDS: Final = 1.0
"""The first wait after too many failures."""

FORGET_SECONDS: Final = 900.0
"""Failures are forgotten after so long without another; it is more than any wait has to be."""

_ANY_NAME: Final = ""


class ControlLimit(Struct, frozen=True):
    """What an operator may change of the control plane: the values allowed, and their unit."""

    least: int
    most: int
    unit: str


CONTROL_LIMITS: Final = {
    "logons_per_address": ControlLimit(1, limits.LOGONS_MAX, "connections"),
    "connections_per_second": ControlLimit(1, limits.CONNECTIONS_PER_SECOND_MAX, "connections"),
    "connections_burst": ControlLimit(1, limits.CONNECTIONS_PER_SECOND_MAX, "connections"),
    "logon_failures": ControlLimit(1, limits.LOGON_FAILURES_MAX, "failures"),
    "logon_lockout_ns": ControlLimit(limits.LOCKOUT_NS_MIN, limits.LOCKOUT_NS_MAX, "nanoseconds"),
    "logon_timeout_ns": ControlLimit(limits.SILENCE_NS_MIN, limits.SILENCE_NS_MAX, "nanoseconds"),
}
"""Keys of the table [gateway] that the control plane reads, each time that it needs them."""


@dataclass(slots=True)
class AdmissionLimits:
    """The limits as they hold now; see the settings of the same names (:mod:`exchange.gateway.config`)."""

    logons_per_address: int
    connections_per_second: int
    connections_burst: int
    logon_failures: int
    logon_lockout_ns: int
    logon_timeout_ns: int

    @classmethod
    def of(cls, config: GatewayConfig) -> "AdmissionLimits":
        """The limits of a profile."""
        return cls(**{name: getattr(config, name) for name in CONTROL_LIMITS})


def network_of(peer: str) -> str:
    """What an address counts as: itself, or of IPv6 its first 64 bits."""
    if ":" not in peer:
        return peer
    address = ipaddress.IPv6Address(peer.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0
    locked_until: float = 0.0


@dataclass(slots=True)
class _Address:
    """What is remembered of an address."""

    tokens: float
    filled: float
    failures: dict[str, _Failures] = field(default_factory=dict)


class Doorkeeper:
    """Says whether an address may connect, and a name be tried from there.

    Args:
        limits_now: read at each question, so they may change.
        clock: seconds that only go on.
    """

    def __init__(self, limits_now: AdmissionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits: Final = limits_now
        self._clock: Final = clock
        self._strangers: Final[OrderedDict[str, _Address]] = OrderedDict()
        self._known: Final[OrderedDict[str, _Address]] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._strangers) + len(self._known)

    def is_known(self, network: str) -> bool:
        """Whether somebody has logged on from there, not too long ago."""
        return network in self._known

    def may_connect(self, network: str) -> bool:
        """Whether one more connection of an address is not too many; it is counted if so."""
        one, now = self._remember(network), self._clock()
        filled = one.tokens + (now - one.filled) * self.limits.connections_per_second
        one.tokens, one.filled = min(filled, self.limits.connections_burst), now
        if one.tokens < 1:
            return False
        one.tokens -= 1
        return True

    def must_wait(self, network: str, name: str) -> bool:
        """Whether the name has failed too often from there, so that it is not tried now."""
        found = self._failures_of(network, name)
        return found is not None and self._clock() < found.locked_until

    def failed(self, network: str, name: str) -> None:
        """The name was tried from there with a wrong password, or does not exist."""
        one, now = self._remember(network), self._clock()
        key = name.upper()
        if key not in one.failures and len(one.failures) >= NAMES_MAX:
            self._forget_old(one, now)
            if len(one.failures) >= NAMES_MAX:
                key = _ANY_NAME
        found = one.failures.setdefault(key, _Failures())
        if now - found.last > FORGET_SECONDS:
            found.count = 0
        found.count, found.last = found.count + 1, now
        over = found.count - self.limits.logon_failures
        if over >= 0:
            wait = WAIT_SECONDS * 2 ** min(over, 32)
            found.locked_until = now + min(wait, self.limits.logon_lockout_ns / 1e9)

    def succeeded(self, network: str, name: str) -> None:
        """Somebody has logged on from there: its failures are forgotten, and the address is known."""
        one = self._remember(network)
        one.failures.pop(name.upper(), None)
        self._strangers.pop(network, None)
        self._known[network] = one
        self._known.move_to_end(network)
        if len(self._known) > ADDRESSES_MAX:
            self._known.popitem(last=False)

    def _remember(self, network: str) -> _Address:
        """What is known of an address, which is the newest from now on."""
        for table in (self._known, self._strangers):
            if network in table:
                table.move_to_end(network)
                return table[network]
        fresh = _Address(float(self.limits.connections_burst), self._clock())
        self._strangers[network] = fresh
        if len(self._strangers) > ADDRESSES_MAX:
            self._strangers.popitem(last=False)
        return fresh

    def _failures_of(self, network: str, name: str) -> _Failures | None:
        one = self._known.get(network) or self._strangers.get(network)
        if one is None:
            return None
        key = name.upper()
        return one.failures.get(key if key in one.failures or len(one.failures) < NAMES_MAX else _ANY_NAME)

    @staticmethod
    def _forget_old(one: _Address, now: float) -> None:
        for name in [name for name, found in one.failures.items() if now - found.last > FORGET_SECONDS]:
            del one.failures[name]


class Places:
    """Who is being logged on: tasks, by address, the oldest first.

    Args:
        at_a_time: how many there may be of all addresses together.
    """

    def __init__(self, at_a_time: int) -> None:
        self.at_a_time: Final = at_a_time
        self._tasks: Final[dict[str, dict[asyncio.Task[None], None]]] = {}
        self._all: Final[set[asyncio.Task[None]]] = set()
        self._freed: Final = asyncio.Event()

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """All that have not ended, also those that have been put out."""
        return tuple(self._all)

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return sum(len(mine) for mine in self._tasks.values())

    def taken_by(self, network: str) -> int:
        """How many of them by an address."""
        return len(self._tasks.get(network, ()))

    def add(self, network: str, task: asyncio.Task[None]) -> None:
        """A task takes a place until it ends."""
        self._tasks.setdefault(network, {})[task] = None
        self._all.add(task)
        task.add_done_callback(lambda done: self._remove(network, done))

    def put_out(self, network: str) -> str | None:
        """Make room for somebody from an address; who lost a place for it, None if nobody has two more than it has."""
        fullest = max(self._tasks, key=lambda one: len(self._tasks[one]), default=None)
        if fullest is None or len(self._tasks[fullest]) < self.taken_by(network) + 2:
            return None
        oldest = next(iter(self._tasks[fullest]))
        self._give_back(fullest, oldest)
        oldest.cancel()
        return fullest

    async def wait(self) -> None:
        """Until there is a place."""
        while self.taken >= self.at_a_time:
            self._freed.clear()
            await self._freed.wait()

    def _remove(self, network: str, task: asyncio.Task[None]) -> None:
        self._all.discard(task)
        self._give_back(network, task)

    def _give_back(self, network: str, task: asyncio.Task[None]) -> None:
        mine = self._tasks.get(network, {})
        mine.pop(task, None)
        if not mine:
            self._tasks.pop(network, None)
        self._freed.set()
