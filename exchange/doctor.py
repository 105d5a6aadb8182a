"""What this machine can run: which layers and variants, and the command that enables each of the others.

Where it can, a check *does* the thing (compiles a kernel, binds a thread, looks into a child process)
instead of reading a setting that promises it. A check that fails in a way nobody foresaw becomes a
finding of its own: the doctor never falls ill. Nothing is changed on the machine.
"""

import ctypes
import mmap
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from exchange.bench.host import (
    chosen_word,
    cpu_flags,
    cpu_model,
    hypervisor,
    read_word,
    transparent_huge_pages,
)
from exchange.cache_folder import cache_root
from exchange.doctor_bypass import check_huge_page_pool, check_interfaces, check_vfio
from exchange.doctor_replication import check_links
from exchange.errors import UserError
from exchange.export.linking import find_c_compiler
from exchange.findings import Check, Finding, Status, package_version
from exchange.lab_vm.guest_kernel import cached_kernel, installed_kernel
from exchange.lab_vm.machine import EMULATED_VARIABLE
from exchange.lab_vm.requirements import choose_accelerator, find_programs, missing_packages
from exchange.placement import Assignment, apply_to_current_thread
from exchange.placement.drawing import format_bytes
from exchange.placement.memory_nodes import node_of_page, place_memory
from exchange.placement.numa import places_for_memory
from exchange.placement.topology import count_noun, format_cpu_list, read_cpu_list, read_this_machine

PYTHON_MIN: Final = (3, 12)
PINNED_CORES: Final = 4
"""What the pinned profile fills: one core for ingress and egress, one for each of two shards, one for the
OS."""

SHARED_MEMORY_MIN_BYTES: Final = 256 * 1024 * 1024
"""The largest rings of the tests and labs, several at a time; Docker's default is a quarter of it."""


def diagnose(root: Path = Path("/")) -> list[Finding]:
    """Examine the machine; takes a second or two, most of it compiling. Never raises.

    ``root`` is where ``proc``, ``sys`` and ``dev`` are, so that a test can describe another machine.
    """
    return [finding for check in CHECKS for finding in _guarded(check, root)]


def _guarded(check: Check, root: Path) -> list[Finding]:
    """The findings of a check, or the one finding that it broke."""
    try:
        return list(check(root))
    except Exception as error:
        name = check.__name__.removeprefix("_").removeprefix("check_").replace("_", " ")
        return [Finding("doctor", name, "limited", f"could not be checked: {type(error).__name__}: {error}")]


# --- the machine ---


def _check_python(_root: Path) -> Iterator[Finding]:
    version = platform.python_version()
    wanted = ".".join(map(str, PYTHON_MIN))
    if sys.version_info[:2] < PYTHON_MIN:
        remedy = f"install Python {wanted} or newer, for instance with pyenv"
        yield Finding("machine", "python", "missing", f"{version}; {wanted} or newer is needed", remedy)
    elif sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield Finding("machine", "python", "limited", f"{version} without a global lock: not tested with it")
    else:
        yield Finding("machine", "python", "ok", version)


def _check_processor(root: Path) -> Iterator[Finding]:
    architecture = platform.machine()
    model = cpu_model(root) or "a processor that does not tell its name"
    host = hypervisor(root)
    where = {None: "", "none": ", no hypervisor"}.get(host, f", under a hypervisor ({host})")
    if architecture not in ("x86_64", "AMD64"):
        detail = f"{architecture}, {model}{where}: atomics compile, but only x86-64 is tested"
        yield Finding("machine", "processor", "limited", detail)
        return
    yield Finding("machine", "processor", "ok", f"{architecture}, {model}{where}")
    flags = cpu_flags(root)
    if {"constant_tsc", "nonstop_tsc"} <= flags:
        yield Finding("machine", "cycle counter", "ok", "runs at one rate in every power state")
    else:
        detail = (
            "the kernel does not report constant_tsc and nonstop_tsc: cycle counts may drift with frequency"
        )
        yield Finding("machine", "cycle counter", "limited", detail)


def _check_cores(_root: Path) -> Iterator[Finding]:
    topology = read_this_machine()
    count = len(topology.usable_cores)
    have = f"{count_noun(count, 'core')} for this process"
    if count >= PINNED_CORES:
        detail = f"{have}: the pinned profile needs {PINNED_CORES}, one of them for the OS"
        yield Finding("machine", "cores", "ok", detail)
    elif count > 1:
        detail = (
            f"{have}; the pinned profile fills {PINNED_CORES} (ingress and egress, two shards, the OS). Here "
            "shards share a thread and no core is left for the OS: rank profiles, but do not trust p99.9"
        )
        yield Finding("machine", "cores", "limited", detail, "run on a machine with more cores")
    else:
        detail = f"{have}: threads take turns, and no profile with two of them shows what it can do"
        yield Finding(
            "machine", "cores", "limited", detail, "give the container or virtual machine more cores"
        )


def _check_isolated_cores(root: Path) -> Iterator[Finding]:
    units = read_cpu_list(root / "sys/devices/system/cpu/isolated")
    if units:
        detail = f"processing units {format_cpu_list(units)}: pinned threads go there first"
        yield Finding("machine", "isolated cores", "ok", detail)
        return
    online = read_cpu_list(root / "sys/devices/system/cpu/online")
    spare = format_cpu_list(online[1:]) if len(online) >= PINNED_CORES else None
    remedy = f"boot with isolcpus={spare} nohz_full={spare} rcu_nocbs={spare}" if spare else None
    yield Finding(
        "machine", "isolated cores", "limited", "none: the kernel may run anything beside us", remedy
    )


def _check_clock_source(root: Path) -> Iterator[Finding]:
    folder = root / "sys/devices/system/clocksource/clocksource0"
    current = read_word(folder / "current_clocksource")
    available = (read_word(folder / "available_clocksource") or "").split()
    if current is None:
        yield Finding("machine", "clock source", "limited", "the kernel does not tell")
    elif current in ("tsc", "arch_sys_counter"):
        yield Finding("machine", "clock source", "ok", f"{current}: read without a system call")
    else:
        remedy = f"echo tsc | sudo tee {folder}/current_clocksource" if "tsc" in available else None
        yield Finding("machine", "clock source", "limited", f"{current}: slower to read than tsc", remedy)


def _check_governor(root: Path) -> Iterator[Finding]:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    found = sorted({word for word in map(read_word, files) if word})
    if not found:
        detail = "no cpufreq files, as in most virtual machines: the host decides how fast the cores run"
        yield Finding("machine", "governor", "limited", detail)
    elif found == ["performance"]:
        yield Finding("machine", "governor", "ok", "performance: cores keep their frequency")
    else:
        detail = f"{', '.join(found)}: a core that was idle starts slowly"
        yield Finding("machine", "governor", "limited", detail, "sudo cpupower frequency-set -g performance")


def _check_huge_pages(root: Path) -> Iterator[Finding]:
    mode = transparent_huge_pages(root)
    if mode in ("always", "madvise"):
        yield Finding("machine", "huge pages, advised", "ok", f"transparent_hugepage is {mode}")
    else:
        path = root / "sys/kernel/mm/transparent_hugepage/enabled"
        detail = f"transparent_hugepage is {mode}" if mode else "the kernel has no transparent huge pages"
        detail += ": books and rings get 4 KB pages and miss the TLB more often"
        remedy = f"echo madvise | sudo tee {path}" if mode else None
        yield Finding("machine", "huge pages, advised", "limited", detail, remedy)
    path = root / "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    shared = chosen_word(path)
    if shared in ("always", "within_size", "advise", "force"):
        yield Finding(
            "machine", "huge pages, shared", "ok", f"shmem_enabled of transparent_hugepage is {shared}"
        )
    else:
        detail = f"shmem_enabled of transparent_hugepage is {shared}" if shared else "the kernel has none"
        detail += ': shards in processes (shards.run_as = "processes") get 4 KB pages'
        remedy = f"echo advise | sudo tee {path}" if shared else None
        yield Finding("machine", "huge pages, shared", "limited", detail, remedy)


def _check_shared_memory(root: Path) -> Iterator[Finding]:
    folder = root / "dev/shm"
    try:
        status = os.statvfs(folder)
    except OSError as error:
        detail = f"{folder}: {error.strerror}; rings between processes cannot be made"
        remedy = f"sudo mkdir -p {folder} && sudo mount -t tmpfs tmpfs {folder}"
        yield Finding("machine", "shared memory", "missing", detail, remedy)
        return
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes >= SHARED_MEMORY_MIN_BYTES and os.access(folder, os.W_OK):
        yield Finding("machine", "shared memory", "ok", f"{folder} has {format_bytes(free_bytes)} free")
    elif not os.access(folder, os.W_OK):
        yield Finding(
            "machine", "shared memory", "missing", f"{folder} cannot be written", f"sudo chmod 1777 {folder}"
        )
    else:
        detail = (
            f"{folder} has only {format_bytes(free_bytes)} free: large rings between processes will not fit"
        )
        remedy = f"sudo mount -o remount,size=1g {folder}, or docker run --shm-size=1g"
        yield Finding("machine", "shared memory", "limited", detail, remedy)


# --- the layers of this version ---


def compile_probe() -> str | None:
    """Compile a kernel with an atomic addition and run it; None if it works, else what is wrong, in words."""
    try:
        import numba
        import numpy as np

        from exchange.native import address_of, fetch_add
    except Exception as error:
        return f"numba or the native layer does not load ({type(error).__name__}: {error})"
    if getattr(numba.config, "DISABLE_JIT", 0):
        return "compilation is turned off by NUMBA_DISABLE_JIT"

    def add_twice(address: int) -> int:
        fetch_add(address, 1)
        return int(fetch_add(address, 1))

    word = np.zeros(1, dtype=np.int64)
    try:
        before = numba.njit(nogil=True)(add_twice)(address_of(word))
    except Exception as error:
        return (
            f"compiling failed ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        )
    return None if (before, word[0]) == (1, 2) else f"a compiled atomic addition gave {before}, {word[0]}"


def _check_compiled_layers(_root: Path) -> Iterator[Finding]:
    problem = compile_probe()
    remedy = f"{sys.executable} -m pip install --upgrade numba numpy, and unset NUMBA_DISABLE_JIT"
    compiled = (
        ("native", "atomics, kernels", "a kernel with an atomic addition compiles and runs"),
        ("queues", "locked, spsc, mpsc", "compiled"),
        ("queues", "disruptor", "compiled"),
        ("book", "ladder", "compiled"),
    )
    interpreted = {"queues": ("python", "needs nothing"), "book": ("naive", "needs nothing")}
    for layer, group in groupby(compiled, key=lambda row: row[0]):
        if layer in interpreted:
            yield Finding(layer, interpreted[layer][0], "ok", interpreted[layer][1])
        for _, variant, detail in group:
            if problem is None:
                yield Finding(layer, variant, "ok", detail)
            else:
                yield Finding(layer, variant, "missing", problem, remedy)


def _check_placement(root: Path) -> Iterator[Finding]:
    yield Finding("placement", "none", "ok", "needs nothing")
    topology = read_this_machine()
    if topology.notes:
        remedy = f"{sys.executable} -m pip install --upgrade pyhwloc"
        yield Finding("placement", "hwloc", "limited", "; ".join(topology.notes), remedy)
    else:
        yield Finding("placement", "hwloc", "ok", topology.summary())
    units = [unit.os_index for unit in topology.processing_units if unit.is_allowed]
    refused = refused_units(units) if topology.is_this_machine else units
    if not refused:
        detail = f"a thread could be bound to each of the processing units {format_cpu_list(units)}"
        yield Finding("placement", "pinned", "ok", detail)
    else:
        detail = f"the kernel refuses to bind a thread to processing units {format_cpu_list(refused)}"
        status: Status = "limited" if len(refused) < len(units) else "missing"
        yield Finding(
            "placement", "pinned", status, detail, "widen the container's cpuset (docker run --cpuset-cpus)"
        )
    yield _check_numa([node.os_index for node in places_for_memory(topology)], root)


def _check_numa(nodes: list[int], root: Path) -> Finding:
    """``nodes`` are those that memory may be placed on."""
    if len(nodes) == 1:
        detail = "one NUMA node has all memory that this process may use: the same as pinned here"
        return Finding("placement", "numa", "limited", detail)
    refusal = refused_nodes(nodes)
    if refusal is not None:
        remedy = "docker run --cap-add SYS_NICE, without which a container may not place memory"
        return Finding(
            "placement", "numa", "missing", f"the kernel does not place memory ({refusal})", remedy
        )
    detail = f"memory can be placed on each of the nodes {format_cpu_list(nodes)}"
    if read_word(root / "proc/sys/kernel/numa_balancing") == "1":
        detail += (
            "; the kernel moves other memory about to where it is used (numa_balancing), which takes time"
        )
        return Finding("placement", "numa", "limited", detail, "sudo sysctl kernel.numa_balancing=0")
    return Finding("placement", "numa", "ok", detail)


def refused_nodes(nodes: Iterable[int]) -> str | None:
    """Why the kernel does not place a page on one of these NUMA nodes, tried with one for each; None if it does."""
    for node in nodes:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:
            first = ctypes.c_char.from_buffer(page)
            try:
                place_memory(ctypes.addressof(first), mmap.PAGESIZE, (node,))
                page[0] = 1
                if (found := node_of_page(ctypes.addressof(first))) != node:
                    return f"a page for node {node} was put on node {found}"
            except OSError as error:
                return f"node {node}: {error.strerror}"
            finally:
                del first  # or the mapping could not be closed
    return None


def refused_units(units: Iterable[int]) -> list[int]:
    """The processing units that the kernel will not bind a thread to, tried with a thread that does
    nothing else."""
    refused: list[int] = []

    def bind_to_each() -> None:
        for unit in units:
            try:
                apply_to_current_thread(Assignment("probe", unit, None, None, "", is_this_machine=True))
            except UserError:
                refused.append(unit)

    probe = threading.Thread(target=bind_to_each, name="doctor-probe")
    probe.start()
    probe.join()
    return refused


def _check_transport(_root: Path) -> Iterator[Finding]:
    yield Finding("transport", "memory", "ok", "needs nothing")
    yield Finding("transport", "tcp, udp", "ok", "need nothing but the kernel's sockets")
    yield _check_afxdp()
    version = package_version("libdpdk")
    try:
        find_c_compiler()
        has_compiler = True
    except UserError:
        has_compiler = False
    if version is not None and has_compiler:
        yield Finding("transport", "dpdk", "ok", f"DPDK {version}, and a C compiler for the shim")
        return
    lacking = "no DPDK" if version is None else f"DPDK {version}, and no C compiler for the shim"
    remedy = "sudo apt-get install libdpdk-dev dpdk pkg-config gcc"
    yield Finding("transport", "dpdk", "missing", f"this machine has {lacking}", remedy)


def _check_afxdp() -> Finding:
    from exchange.afxdp.libraries import PACKAGES, PRIVILEGES, find_obstacle

    obstacle = find_obstacle()
    if obstacle is None:
        return Finding(
            "transport", "afxdp", "ok", f"libxdp and libbpf; taking an interface takes {PRIVILEGES}"
        )
    is_library = PACKAGES in obstacle
    remedy = f"sudo apt-get install {PACKAGES}" if is_library else None
    return Finding("transport", "afxdp", "missing", obstacle.partition(";")[0], remedy)


def _check_replication(root: Path) -> Iterator[Finding]:
    detail = "need nothing but a folder on a disk; exchange bench journal says what a sync costs there"
    yield Finding("journal", "file, mapped", "ok", detail)
    yield from check_links(root)


def _check_lease(_root: Path) -> Iterator[Finding]:
    from importlib.metadata import version

    from exchange.replication.lease_store import check_installed
    from exchange.replication.store_process import PACKAGE, find_server

    try:
        check_installed()
        find_server()
    except UserError as error:
        missing, _, remedy = str(error).partition("; ")
        command = remedy.removesuffix(" does it").strip("'").replace("python", sys.executable, 1)
        yield Finding("replication", "lease", "missing", missing, command)
        return
    detail = (
        f"a store of leases can be started here: {PACKAGE} {version(PACKAGE)}, nats-py {version('nats-py')}"
    )
    yield Finding("replication", "lease", "ok", detail)


def _check_lab_vm(_root: Path) -> Iterator[Finding]:
    if accelerator := os.environ.get(EMULATED_VARIABLE):
        yield Finding(
            "lab-vm", "emulated machine", "ok", f"this is one ({accelerator}): its times mean nothing"
        )
        return
    packages = missing_packages()
    if packages:
        detail = "NUMA nodes and network cards to try things on: programs are missing"
        remedy = f"sudo apt-get install {' '.join(packages)}"
        yield Finding("lab-vm", "emulated machine", "missing", detail, remedy)
        return
    kernel = installed_kernel() or cached_kernel(cache_root() / "lab-vm")
    has_kernel = f"Linux {kernel.release}" if kernel else "a kernel that its first start fetches with apt"
    if choose_accelerator(find_programs().qemu) == "kvm":
        yield Finding("lab-vm", "emulated machine", "ok", f"qemu with KVM, {has_kernel}")
    else:
        detail = f"qemu, {has_kernel}; KVM does not work here, so that it is emulated: tens of times slower"
        yield Finding("lab-vm", "emulated machine", "limited", detail)


def _check_flame(root: Path) -> Iterator[Finding]:
    beside = Path(sys.executable).parent / "py-spy"
    if shutil.which("py-spy") is None and not beside.exists():
        remedy = f"{sys.executable} -m pip install py-spy"
        yield Finding("bench", "flame graphs", "missing", "py-spy is not installed", remedy)
    elif can_trace_child():
        yield Finding("bench", "flame graphs", "ok", "py-spy may look into the processes that it starts")
    else:
        path = root / "proc/sys/kernel/yama/ptrace_scope"
        scope = read_word(path)
        detail = "this process may not look into its own child, which is how py-spy works"
        remedy = "docker run --cap-add SYS_PTRACE"
        if scope not in (None, "0"):
            remedy = f"echo 0 | sudo tee {path}, or in a container: {remedy}"
        yield Finding("bench", "flame graphs", "missing", detail, remedy)


def can_trace_child() -> bool:
    """Whether a child's memory can be opened: the permission check is the same one that ptrace makes."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        with open(f"/proc/{child.pid}/mem", "rb"):
            return True
    except OSError:
        return False
    finally:
        child.kill()
        child.communicate()


def _check_counters(root: Path) -> Iterator[Finding]:
    devices = root / "sys/bus/event_source/devices"
    has_counters = any((devices / name).exists() for name in ("cpu", "cpu_core", "armv8_pmuv3_0"))
    paranoid = read_word(root / "proc/sys/kernel/perf_event_paranoid")
    if not has_counters:
        detail = (
            "no hardware counters, as in most virtual machines: no instructions or cache misses per command"
        )
        yield Finding("bench", "hardware counters", "limited", detail)
    elif paranoid is not None and paranoid.lstrip("-").isdigit() and int(paranoid) > 2 and os.geteuid() != 0:
        detail = f"perf_event_paranoid is {paranoid}: only root may count"
        yield Finding(
            "bench", "hardware counters", "limited", detail, "sudo sysctl kernel.perf_event_paranoid=2"
        )
    else:
        yield Finding("bench", "hardware counters", "ok", "the kernel offers them, for instance to perf stat")


CHECKS: Final[tuple[Check, ...]] = (
    _check_python,
    _check_processor,
    _check_cores,
    _check_isolated_cores,
    _check_clock_source,
    _check_governor,
    _check_huge_pages,
    check_huge_page_pool,
    _check_shared_memory,
    _check_compiled_layers,
    _check_placement,
    _check_transport,
    check_vfio,
    check_interfaces,
    _check_replication,
    _check_lease,
    _check_lab_vm,
    _check_flame,
    _check_counters,
)
"""In the order of the report."""
