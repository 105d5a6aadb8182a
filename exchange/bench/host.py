"""What machine a result comes from, and what the kernel did to its threads.

Two results may only be compared if they come from comparable machines, and a reader of a result must be
able to judge what it is worth. :func:`describe_host` writes down everything that is known to move a
latency; :func:`host_fingerprint` boils it down to what must be equal for a ratio between two results to
mean anything.

Rules: nothing here raises for a file that a container or another kernel lacks: the value is None and
``not_measured`` says why. No host name, user name or address is recorded, so that a result can be published.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import exchange
from exchange.lab_vm.machine import EMULATED_VARIABLE
from exchange.placement.topology import (
    Topology,
    count_noun,
    format_cpu_list,
    read_cpu_list,
    read_this_machine,
)

FINGERPRINT_KEYS: Final = (
    "cpu_model",
    "architecture",
    "cores",
    "processing_units_online",
    "processing_units_allowed",
    "caches_bytes",
    "governor",
    "turbo",
    "clock_source",
    "isolated_processing_units",
    "transparent_huge_pages",
    "kernel_series",
    "hypervisor",
)
"""What must match. Left out on purpose: memory size, NUMA details beyond the caches, versions of Python
and numba (they are part of what is measured, and a change of them is a result), git commit, time,
load."""

_COMMAND_TIMEOUT_S: Final = 5


def describe_host(root: Path = Path("/")) -> dict[str, Any]:
    """Everything about this machine that a reader of a measurement may ask for; JSON-serialisable.

    Unknown values are None and ``["not_measured"]`` maps their key to the reason. ``["fingerprint"]`` is
    :func:`host_fingerprint`. ``root`` is where ``proc`` and ``sys`` are.
    """
    topology = read_this_machine(root)
    cpu = root / "sys/devices/system/cpu"
    allowed = [unit for unit in topology.processing_units if unit.is_allowed]
    host: dict[str, Any] = {
        "cpu_model": cpu_model(root),
        "architecture": platform.machine(),
        "cores": len(topology.usable_cores),
        "processing_units_online": len(topology.processing_units),
        "processing_units_allowed": len(allowed),
        "allowed_processing_units": format_cpu_list(unit.os_index for unit in allowed),
        "smt": _smt(topology),
        "topology": topology.summary(),
        "caches_bytes": _caches(topology),
        "memory_bytes": _memory_bytes(root),
        "governor": _agreed(read_word(path) for path in cpu.glob("cpu[0-9]*/cpufreq/scaling_governor")),
        "turbo": _turbo(cpu),
        "clock_source": read_word(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "isolated_processing_units": format_cpu_list(read_cpu_list(cpu / "isolated")),
        "transparent_huge_pages": transparent_huge_pages(root),
        "huge_pages_reserved": _integer(read_word(root / "proc/sys/vm/nr_hugepages")),
        "kernel": platform.release(),
        "kernel_series": ".".join(platform.release().split(".")[:2]),
        "hypervisor": hypervisor(root),
        "file_system": file_system(Path.cwd(), root),
        "load_average_1_minute": _load_average(),
        "versions": _versions(),
        **_git_state(),
        "described_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    host["not_measured"] = {
        key: _WHY_NOT.get(key, "the kernel does not tell") for key in host if host[key] is None
    }
    host["fingerprint"] = host_fingerprint(host)
    return host


_WHY_NOT: Final = {
    "cpu_model": "/proc/cpuinfo names no model",
    "governor": "no cpufreq files, as in most virtual machines: the host decides",
    "turbo": "no cpufreq files, as in most virtual machines: the host decides",
    "file_system": "no mount of this folder's device is listed",
    "git_commit": "the sources are not a git checkout, or git cannot read it",
    "git_dirty": "the sources are not a git checkout, or git cannot read it",
}


def host_fingerprint(host: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that are equal for comparable machines; made of :data:`FINGERPRINT_KEYS`
    alone."""
    text = repr([(key, host.get(key)) for key in FINGERPRINT_KEYS])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def thread_counters(native_id: int, root: Path = Path("/")) -> dict[str, Any]:
    """What the kernel did to a thread of this process since the thread began.

    ``voluntary_switches``: it gave up its core (slept, waited for a lock). ``involuntary_switches``: the
    core was taken away. ``migrations``: it was moved to another core. ``cpu_ns``: time on a core;
    ``waiting_ns``: time ready to run but without a core. A value that the kernel does not give is None,
    with its reason in ``["not_measured"]``.

    Sources: ``/proc/self/task/TID/{status,sched,schedstat}`` (proc(5),
    Documentation/scheduler/sched-stats). The thread must still live; differences between two calls are
    what a benchmark wants.
    """
    folder = root / f"proc/self/task/{native_id}"
    status, sched = _read(folder / "status"), _read(folder / "sched")
    times = (_read(folder / "schedstat") or "").split()
    counters: dict[str, Any] = {
        "voluntary_switches": _field(status, r"^voluntary_ctxt_switches:\s*(\d+)"),
        "involuntary_switches": _field(status, r"^nonvoluntary_ctxt_switches:\s*(\d+)"),
        "migrations": _field(sched, r"^(?:se\.)?nr_migrations\s*:\s*(\d+)"),
        "cpu_ns": _integer(times[0]) if len(times) == 3 else None,
        "waiting_ns": _integer(times[1]) if len(times) == 3 else None,
    }
    if status is None:
        reason = dict.fromkeys(counters, f"thread {native_id} is not running (any more)")
    else:
        reason = {
            "voluntary_switches": "/proc/self/task/TID/status has no context switches",
            "involuntary_switches": "/proc/self/task/TID/status has no context switches",
            "migrations": "the kernel was built without CONFIG_SCHED_DEBUG (no nr_migrations in sched)",
            "cpu_ns": "the kernel was built without CONFIG_SCHED_INFO (no schedstat)",
            "waiting_ns": "the kernel was built without CONFIG_SCHED_INFO (no schedstat)",
        }
    counters["not_measured"] = {key: reason[key] for key, value in counters.items() if value is None}
    return counters


# --- single facts; doctor asks for some of them too ---


def read_word(path: Path) -> str | None:
    """A short kernel file, stripped; None where it is missing, unreadable or empty."""
    text = _read(path)
    return text.strip() or None if text is not None else None


def cpu_model(root: Path = Path("/")) -> str | None:
    """The processor's name; on ARM, where the kernel gives none, its implementer and part numbers."""
    text = _read(root / "proc/cpuinfo") or ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if found:
        return found[1].strip()
    parts = [re.search(rf"^CPU {key}\s*:\s*(\S+)$", text, re.MULTILINE) for key in ("implementer", "part")]
    return (
        " ".join(f"CPU {match[0].split(':')[0][4:].strip()} {match[1]}" for match in parts if match) or None
    )


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """The processor's features as the kernel names them; empty where it does not tell."""
    text = _read(root / "proc/cpuinfo") or ""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def hypervisor(root: Path = Path("/")) -> str | None:
    """``"none"`` on bare metal, else as much as can be told of what we run on; None where nothing can be
    told. In ``exchange lab-vm`` it says so, so that a result from there is never taken for comparable."""
    if root == Path("/") and (accelerator := os.environ.get(EMULATED_VARIABLE)):
        return f"emulated machine ({accelerator}): times mean nothing"
    flags = cpu_flags(root)
    if "hypervisor" not in flags:
        return "none" if "tsc" in flags else None  # other architectures have no such flag
    named = read_word(root / "sys/hypervisor/type") or read_word(root / "sys/class/dmi/id/product_name")
    if named is None and root == Path("/"):
        found = re.search(r"^Hypervisor vendor:\s*(.+)$", _run(["lscpu"]) or "", re.MULTILINE)
        named = found[1] if found else None
    return named or "unnamed"


def file_system(folder: Path, root: Path = Path("/")) -> str | None:
    """What a folder lies on, as in ``"ext4 on /dev/vda, write back cache"``; None where it cannot be told.

    The cache is the disk's own as the kernel knows it: with ``write back`` a sync has to make the disk write it out.
    Sources: proc_pid_mountinfo(5); Documentation/block/writeback_cache_control.
    """
    try:
        device = folder.stat().st_dev
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in (_read(root / "proc/self/mountinfo") or "").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == number:
            kind, source = rest.split()[:2]
            cache = read_word(root / f"sys/dev/block/{number}/queue/write_cache")
            return f"{kind} on {source}" + (f", {cache} cache" if cache is not None else "")
    return None


def transparent_huge_pages(root: Path = Path("/")) -> str | None:
    """``always``, ``madvise`` or ``never``; None where the kernel has no such thing."""
    return chosen_word(root / "sys/kernel/mm/transparent_hugepage/enabled")


def chosen_word(path: Path) -> str | None:
    """The word in brackets, which is the choice that holds, of a kernel file that lists all; None if there is none."""
    found = re.search(r"\[(\w+)\]", _read(path) or "")
    return found[1] if found else None


def _smt(topology: Topology) -> str:
    widest = max(len(core.processing_units) for core in topology.cores)
    return "off" if widest == 1 else f"{count_noun(widest, 'thread')} per core"


def _caches(topology: Topology) -> dict[str, int]:
    """The size of the largest cache of each level."""
    sizes: dict[str, int] = {}
    for cache in sorted(topology.caches, key=lambda cache: cache.level):
        name = f"L{cache.level}"
        sizes[name] = max(cache.size_bytes, sizes.get(name, 0))
    return sizes


def _memory_bytes(root: Path) -> int | None:
    kilobytes = _field(_read(root / "proc/meminfo"), r"^MemTotal:\s*(\d+) kB")
    return None if kilobytes is None else kilobytes * 1024


def _turbo(cpu: Path) -> str | None:
    if (off := read_word(cpu / "intel_pstate/no_turbo")) is not None:
        return "off" if off == "1" else "on"
    if (on := read_word(cpu / "cpufreq/boost")) is not None:
        return "on" if on == "1" else "off"
    return None


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _versions() -> dict[str, str]:
    """Versions of what compiles and runs the exchange, without importing any of it."""
    versions = {"exchange": _version("hpc-exchange"), "python": platform.python_version()}
    return versions | {name: _version(name) for name in ("numba", "llvmlite", "numpy", "msgspec", "pyhwloc")}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git_state() -> dict[str, Any]:
    """The commit of the checkout that the running sources lie in, and whether they differ from it.

    A package installed below somebody else's checkout (a virtual environment in a project) is not part of
    it, so the checkout's top must be the very folder that holds ``exchange/``.
    """
    unknown = {"git_commit": None, "git_dirty": None}
    sources = Path(exchange.__file__).resolve().parent
    git = ["git", "-C", str(sources)]
    top = _run([*git, "rev-parse", "--show-toplevel"])
    if top is None or Path(top.strip()).resolve() != sources.parent:
        return unknown
    commit = _run([*git, "rev-parse", "HEAD"])
    changes = _run([*git, "status", "--porcelain", "--", str(sources)])
    if commit is None or changes is None:
        return unknown
    return {"git_commit": commit.strip(), "git_dirty": bool(changes.strip())}


def _run(command: list[str]) -> str | None:
    """What a command prints; None where it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    environment = os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, env=environment, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _agreed(values: Any) -> str | None:
    """The one value of all cores, or all of them, sorted, where they differ."""
    return ", ".join(sorted({value for value in values if value is not None})) or None


def _field(text: str | None, pattern: str) -> int | None:
    found = re.search(pattern, text or "", re.MULTILINE)
    return int(found[1]) if found else None


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None
