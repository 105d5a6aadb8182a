"""EAL, DPDK's environment in this process: its memory, its devices and its own threads.

EAL is given a command line, which :func:`eal_arguments` makes from an :class:`EalConfig` and from nothing else. What we
ask for differs from what DPDK does by itself:

* It takes memory without huge pages, unless told otherwise: they are faster and need an administrator.
* It takes it on the NUMA node of the first card on the PCI bus: from that node's huge pages, or, without, by asking the
  kernel for memory there, which DPDK alone does not.
* It shares nothing through files (``--in-memory``, which without huge pages is ``--no-shconf``), and has a prefix of
  its own: two exchanges on one machine, or one that was killed, are not in each other's way.
* It looks at no card on the PCI bus, unless the device is one.
* Its own threads, which serve memif's and vhost's sockets, stay on ``control_cores``. A poll loop never lets go of its
  core, so on the core of one of them they would starve, and nothing would ever connect.

EAL changes the affinity of the thread that starts it, and handlers of signals; both are put back. Its threads take no
signals, which are Python's business.

Rules: EAL is started once in a process and cannot be started again. :meth:`Eal.close` comes after all devices are
closed and no thread polls any more; what is still up when the process ends in order is closed then.
Source: "EAL parameters" in the guides of DPDK 22.11.
"""

import atexit
import ctypes
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from exchange.c_shims import kept_signal_handlers
from exchange.dpdk.building import load_shim
from exchange.dpdk.calls import call_shim
from exchange.dpdk.cards import card_node, check_card, check_locked_memory
from exchange.dpdk.devices import Device, check_interfaces, parse_device
from exchange.errors import UserError

LOG_LEVELS: Final = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
MEMORY_MIB_MIN: Final = 64
MEMORY_MIB_MAX: Final = 65_536
DEVICES_MAX: Final = 32

_SIGNALS_OF_FAULTS: Final = {signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL}


class EalConfig(Struct, frozen=True):
    """What EAL is started with.

    Attributes:
        devices: as :mod:`exchange.dpdk.devices` has them.
        memory_mib: memory for packet buffers and everything else of DPDK's.
        huge_pages: take it from the huge pages that the administrator has set aside.
        numa_node: on which node; -1 is that of the first card on the PCI bus, and without one it is left to DPDK.
        log_level: what DPDK writes to the standard error stream, from this on.
        file_prefix: the name under which DPDK knows this process; empty for one that no other process has.
        control_cores: processing units (as the kernel counts them) for EAL's threads; empty for all that we may use.
        force: take the interface that carries the default route, too.
    """

    devices: tuple[str, ...]
    memory_mib: int = 128
    huge_pages: bool = False
    numa_node: int = -1
    log_level: str = "error"
    file_prefix: str = ""
    control_cores: tuple[int, ...] = ()
    force: bool = False


def parse_devices(config: EalConfig, table: str = "dpdk") -> tuple[Device, ...]:
    """The devices of a configuration.

    Raises:
        UserError: one is none, two have the same name, or there are none or too many.
    """
    key = f"{table}.device"
    if not 1 <= len(config.devices) <= DEVICES_MAX:
        raise UserError(f"{key}: {len(config.devices)} devices; allowed are 1 to {DEVICES_MAX}")
    devices = tuple(parse_device(text, key) for text in config.devices)
    names = [device.name for device in devices]
    for device in devices:
        if names.count(device.name) > 1:
            raise UserError(f"{key} = {device.text!r}: {device.name} is there twice; allowed is once")
    return devices


def eal_arguments(
    config: EalConfig, process_id: int, usable_cores: frozenset[int], table: str = "dpdk"
) -> list[str]:
    """EAL's command line.

    Args:
        config: what is wanted.
        process_id: of this process, which is in its prefix.
        usable_cores: the processing units that this process may run on.
        table: the table of the profile that the configuration is from, for errors.

    Raises:
        UserError: a value is not allowed.
    """
    devices = parse_devices(config, table)
    if not MEMORY_MIB_MIN <= config.memory_mib <= MEMORY_MIB_MAX:
        raise UserError(
            f"{table}.memory_mib = {config.memory_mib}: allowed are {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX}"
        )
    if config.log_level not in LOG_LEVELS:
        raise UserError(f"{table}.log_level = {config.log_level!r}: allowed are {', '.join(LOG_LEVELS)}")
    prefix = config.file_prefix or f"exchange-{process_id}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", prefix):
        raise UserError(
            f"{table}.file_prefix = {prefix!r}: allowed are up to 64 letters, digits, '-', '_' and '.'"
        )
    cores = sorted(set(config.control_cores) or usable_cores)
    if not set(cores) <= usable_cores:
        listed = ", ".join(map(str, sorted(usable_cores)))
        raise UserError(f"{table}.control_cores = {list(config.control_cores)}: allowed are {listed}")
    # One thread of EAL's, ours, which may be on any of these processing units; EAL's others go where it may go.
    arguments = [f"--lcores=0@({','.join(map(str, cores))})", f"--file-prefix={prefix}", "--no-telemetry"]
    arguments.append(f"--log-level={config.log_level}")
    arguments.extend(_memory_arguments(config, table))
    if any(device.parameters.get("zero-copy") == "yes" for device in devices):
        # memif then shows its peer the packet buffers themselves, and hands over the file that they are in.
        arguments.append("--single-file-segments")
    on_pci = [device for device in devices if device.driver == "pci"]
    arguments.extend(f"--allow={device.text}" for device in on_pci)
    arguments.extend(f"--vdev={device.text}" for device in devices if device.driver != "pci")
    return arguments if on_pci else [*arguments, "--no-pci", "--iova-mode=va"]


def _memory_arguments(config: EalConfig, table: str) -> list[str]:
    if config.numa_node < -1 or config.numa_node > 63:
        raise UserError(f"{table}.numa_node = {config.numa_node}: allowed are -1 (any) to 63")
    if not config.huge_pages:
        return ["--no-huge", "--no-shconf", "-m", str(config.memory_mib)]
    if config.numa_node < 0:
        return ["--in-memory", "-m", str(config.memory_mib)]
    return ["--in-memory", "--socket-mem=" + ",".join([*["0"] * config.numa_node, str(config.memory_mib)])]


class Eal:
    """EAL, up in this process. Made by :func:`start_eal`.

    Attributes:
        config: what it was started with, on the node that was chosen.
        wanted: what was asked for.
    """

    def __init__(
        self, config: EalConfig, devices: tuple[Device, ...], arguments: list[str], wanted: EalConfig
    ) -> None:
        self.config: Final = config
        self.wanted: Final = wanted
        self.devices: Final = devices
        self.arguments: Final = arguments
        # DPDK keeps pointers into its command line.
        self._words = [ctypes.create_string_buffer(word.encode()) for word in ("exchange", *arguments)]
        self._vector = (ctypes.c_void_p * (len(self._words) + 1))(*map(ctypes.addressof, self._words), None)
        self._closed_before: list[Callable[[], object]] = []
        self.is_up = False

    def close_before(self, close: Callable[[], object]) -> None:
        """Have something closed ahead of EAL itself, whose owner may be interrupted; closing it twice does no harm."""
        self._closed_before.append(close)

    def close(self) -> None:
        """Give back what EAL has taken. Nobody polls any more. May be called again."""
        if self.is_up:
            for close in reversed(self._closed_before):
                close()
            self.is_up = False
            call_shim("stop")

    @property
    def control_cores(self) -> set[int]:
        """Where EAL's threads run."""
        return set(self.config.control_cores) or os.sched_getaffinity(0)


_current: Eal | None = None


def start_eal(config: EalConfig, table: str = "dpdk") -> Eal:
    """Start EAL, or find that it is up with the same configuration.

    Args:
        config: what it is started with.
        table: the table of the profile that it is from, for errors.

    Raises:
        UserError: DPDK is not installed, a value is not allowed, there is not enough memory, a device cannot be had.
        RuntimeError: EAL was started before, otherwise; that cannot be done twice.
    """
    global _current
    if _current is not None:
        if _current.is_up and _current.wanted == config:
            return _current
        raise RuntimeError("EAL can be started once in a process, and it was")
    devices = parse_devices(config, table)
    wanted, config = config, _near_card(config, devices)
    usable = frozenset(os.sched_getaffinity(0))
    eal = Eal(config, devices, eal_arguments(config, os.getpid(), usable, table), wanted)
    load_shim()
    for device in devices:
        check_interfaces(device, f"{table}.device", is_forced=config.force)
        check_card(device, f"{table}.device")
        _remove_stale_socket(device, f"{table}.device")
    if any(device.driver == "pci" for device in devices):
        check_locked_memory(config.memory_mib, table)
    if config.huge_pages:
        check_huge_pages(config, table)
    _current = eal
    with aside(eal.control_cores), _memory_on(config.numa_node):
        failure = call_shim("start", len(eal._words), ctypes.addressof(eal._vector))
    if failure < 0:
        raise UserError(
            f"{table}.device = {', '.join(config.devices)}: DPDK did not start ({os.strerror(-failure)}); "
            + _what_it_says(table)
        )
    eal.is_up = True
    # EAL makes a folder also when it puts nothing into it; who is killed could not remove it.
    with suppress(OSError):
        os.rmdir(ctypes.string_at(call_shim("folder")).decode())
    atexit.register(eal.close)
    for device in devices:
        if find_device(device.name) < 0:
            eal.close()
            raise UserError(
                f"{table}.device = {device.text!r}: DPDK could not make it; " + _what_it_says(table)
            )
    return eal


def _what_it_says(table: str) -> str:
    """Where to read on; a command has no option for how much DPDK says."""
    more = "" if table.startswith("--") else f", and more of it with {table}.log_level = 'debug'"
    return f"what it says itself stands above{more}"


def find_device(name: str) -> int:
    """By which number DPDK calls a device, or -errno if there is none of that name."""
    text = ctypes.create_string_buffer(name.encode())
    return call_shim("find", ctypes.addressof(text))


@contextmanager
def aside(cores: set[int]) -> Iterator[None]:
    """Within the block this thread runs on ``cores`` and takes no signals, and so do threads that are made there.

    Afterwards affinity, mask and handlers of signals are as they were.
    """
    affinity = os.sched_getaffinity(0)
    # A fault in a thread that blocks its signal ends the process, also where EAL provokes one to see what happens.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _SIGNALS_OF_FAULTS)
    try:
        with kept_signal_handlers():
            os.sched_setaffinity(0, cores)
            yield
    finally:
        os.sched_setaffinity(0, affinity)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _near_card(config: EalConfig, devices: tuple[Device, ...]) -> EalConfig:
    """The configuration with the node of the first card on the PCI bus, if nobody has chosen another."""
    nodes = [node for device in devices if (node := card_node(device)) >= 0]
    return replace(config, numa_node=nodes[0]) if config.numa_node < 0 and nodes else config


@contextmanager
def _memory_on(node: int) -> Iterator[None]:
    """Within the block this thread's new memory comes from a NUMA node; -1 is from anywhere.

    It is a wish: a container may not be allowed to have one, and a node may be full.
    """
    call_shim("prefer_node", node)
    try:
        yield
    finally:
        call_shim("prefer_node", -1)


def check_huge_pages(config: EalConfig, table: str, root: Path = Path("/")) -> None:
    """Refuse a configuration for which there are not enough huge pages, on its node if it has one.

    Args:
        config: is to take its memory from huge pages.
        table: the table of the profile that it is from, for the error.
        root: where the machine's files begin.

    Raises:
        UserError: there are too few.
    """
    node, free_mib = config.numa_node, 0
    pools = root / ("sys/kernel/mm" if node < 0 else f"sys/devices/system/node/node{node}") / "hugepages"
    for folder in pools.glob("hugepages-*kB"):
        page_kib = int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
        free_mib += int((folder / "free_hugepages").read_text()) * page_kib // 1024
    if free_mib >= config.memory_mib:
        return
    pages = (config.memory_mib + 1) // 2
    if node < 0:
        place, command = "this machine", f"sysctl vm.nr_hugepages={pages}"
    else:
        place = f"NUMA node {node}, which the card is near to,"
        command = f"echo {pages} >{pools}/hugepages-2048kB/nr_hugepages"
    raise UserError(
        f"{table}.memory_mib = {config.memory_mib}: {place} has {free_mib} MiB of free huge pages; set them aside as "
        f"root with '{command}', or leave {table}.huge_pages = false"
    )


def _remove_stale_socket(device: Device, key: str) -> None:
    """A process that was killed leaves the file of memif's socket behind, and the next could not bind to it."""
    parameters = device.parameters
    is_server = device.driver == "net_memif" and parameters.get("role") == "server"
    if not is_server or parameters.get("socket-abstract", "yes") == "yes" or "socket" not in parameters:
        return
    path = parameters["socket"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError as error:
            raise UserError(f"{key} = {device.text!r}: socket = {path!r} cannot be used ({error})") from error
    raise UserError(
        f"{key} = {device.text!r}: another process listens at {path!r}; allowed is a path of our own"
    )
