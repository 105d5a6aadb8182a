"""Hosts that are network namespaces, and the wire between them, which can be cut, one direction at a time, and be slow
or lose packets.

::

    host a  ──┐
    host b  ──┤ wire        each host has one interface, to the wire, which is a namespace of its own and routes
    store   ──┤             between them: whatever one says to another goes through its FORWARD chain
    clients ──┘

A direction is cut by a rule of iptables that drops its packets, so nobody is told: no reset, no unreachable host. It is
slow or lossy by being routed through a TUN device, whose other end is a thread here: it holds each packet for a while,
or drops it. netem would do that in the kernel, and is not in each kernel.

Namespaces have no names: each is held by a descriptor of ours, so they are gone when we are, however that happens.

Rules: needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN), iproute2 and iptables; :func:`why_no_network` says what is
missing.
A thread is in one namespace at a time (:func:`inside`); processes and threads that it starts begin there."""

import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple, Self

_PROGRAMS: Final = {"ip": "iproute2", "iptables": "iptables"}
_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
_PACKET_BYTES_MAX: Final = 1 << 16


def why_no_network() -> str | None:
    """Why there can be no such network here, or None if there can."""
    lacking = [program for program in _PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"no {', '.join(lacking)} here; apt install {' '.join(_PROGRAMS[one] for one in lacking)}"
    try:
        with Namespace() as tried:
            tried.run("iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")
    except PermissionError:
        return "network namespaces are not allowed to us; run it as root"
    except subprocess.CalledProcessError as error:
        return f"iptables does not work here: {error.stderr.strip()}"
    return None


class Namespace:
    """A network stack of its own, until it is closed."""

    def __init__(self) -> None:
        """Make one.

        Raises:
            PermissionError: we may not.
        """
        found: list[int | OSError] = []

        def make() -> None:
            try:
                os.unshare(os.CLONE_NEWNET)
                found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                found.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(found[0], OSError):
            raise found[0]
        self.descriptor: Final = found[0]
        self.run("ip", "link", "set", "dev", "lo", "up")

    @property
    def path(self) -> str:
        """How other processes can name it as long as we run."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def run(self, *command: str) -> None:
        """Run a command in it. CalledProcessError if it fails."""
        with inside(self):
            subprocess.run(command, check=True, capture_output=True, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Have the calling thread, and what it starts, in a namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.setns(namespace.descriptor, os.CLONE_NEWNET)
        yield
    finally:
        os.setns(before, os.CLONE_NEWNET)
        os.close(before)


class Network:
    """Hosts and the wire between them. Make it with :func:`network`.

    Attributes:
        hosts: the namespace of each host.
        addresses: its address.
    """

    def __init__(self, names: Sequence[str], wire: Namespace, hosts: dict[str, Namespace]) -> None:
        self.hosts: Final = hosts
        self.addresses: Final = {name: f"10.77.{number}.2" for number, name in enumerate(names, 1)}
        self._wire: Final = wire
        self._slow: dict[tuple[str, str], SlowPath] = {}
        for number, name in enumerate(names, 1):
            self._connect(name, f"10.77.{number}.1")
        wire.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")

    def _connect(self, name: str, gateway: str) -> None:
        host, wire = self.hosts[name], self._wire
        host.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", name, "netns", wire.path)
        host.run("ip", "address", "add", f"{self.addresses[name]}/24", "dev", "wire")
        wire.run("ip", "address", "add", f"{gateway}/24", "dev", name)
        wire.run("ip", "link", "set", "dev", name, "up")
        host.run("ip", "link", "set", "dev", "wire", "up")
        host.run("ip", "route", "add", "default", "via", gateway)

    def cut(self, sender: str, receiver: str) -> None:
        """Drop what one host sends to another, from now on."""
        self._wire.run("iptables", "-A", "FORWARD", *self._direction(sender, receiver), "-j", "DROP")

    def slow_down(self, sender: str, receiver: str, weather: "Weather", seed: int) -> None:
        """Hold or lose what one host sends to another, from now on."""
        path = SlowPath(self._wire, f"slow{len(self._slow)}", weather, seed)
        table = str(100 + len(self._slow))
        self._slow[sender, receiver] = path
        self._wire.run("ip", "route", "add", "default", "dev", path.name, "table", table)
        source, target = self.addresses[sender], self.addresses[receiver]
        self._wire.run("ip", "rule", "add", "from", source, "to", target, "iif", sender, "lookup", table)

    def heal(self) -> None:
        """Have everything arrive again. What is held still comes late."""
        self._wire.run("iptables", "-F", "FORWARD")
        for number, ((sender, receiver), path) in enumerate(self._slow.items()):
            source, target = self.addresses[sender], self.addresses[receiver]
            table = str(100 + number)
            self._wire.run("ip", "rule", "del", "from", source, "to", target, "iif", sender, "lookup", table)
            path.close()
        self._slow = {}

    def _direction(self, sender: str, receiver: str) -> tuple[str, ...]:
        return "-s", self.addresses[sender], "-d", self.addresses[receiver]


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """A network of hosts with these names; it is gone behind the block."""
    with ExitStack() as stack:
        wire = stack.enter_context(Namespace())
        hosts = {name: stack.enter_context(Namespace()) for name in names}
        found = Network(names, wire, hosts)
        try:
            yield found
        finally:
            found.heal()


class Weather(NamedTuple):
    """How a direction is while it is not as it should be."""

    delay_seconds: float
    jitter_seconds: float
    loss: float


class SlowPath:
    """A TUN device in the wire, which gives back late what is sent into it, or not at all.

    Order is kept but for what the jitter changes, as with netem.
    """

    def __init__(self, wire: Namespace, name: str, weather: Weather, seed: int) -> None:
        self.name: Final = name
        self._weather: Final = weather
        self._chance: Final = random.Random(seed)
        self._held: list[tuple[float, int, bytes]] = []
        self._is_over: Final = threading.Event()
        with inside(wire):
            self._device = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.ioctl(self._device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
        wire.run("ip", "link", "set", "dev", name, "up")
        self._thread: Final = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        count = 0
        while not self._is_over.is_set():
            wait = max(0.0, self._held[0][0] - time.monotonic()) if self._held else 0.05
            readable, _, _ = select.select([self._device], [], [], min(wait, 0.05))
            if readable:
                packet = os.read(self._device, _PACKET_BYTES_MAX)
                count += 1
                if self._chance.random() >= self._weather.loss:
                    late = self._weather.delay_seconds + self._weather.jitter_seconds * self._chance.random()
                    heapq.heappush(self._held, (time.monotonic() + late, count, packet))
            while self._held and self._held[0][0] <= time.monotonic():
                os.write(self._device, heapq.heappop(self._held)[2])

    def close(self) -> None:
        """Take it away, with what it holds."""
        self._is_over.set()
        self._thread.join()
        os.close(self._device)
