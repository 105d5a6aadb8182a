"""Host metadata: complete, publishable, stable where it must be, and silent about nothing that is missing."""

import json
import os
import platform
import subprocess
import threading
import time
from pathlib import Path

import pytest

import exchange
from exchange.bench import host as host_module
from exchange.bench.host import (
    FINGERPRINT_KEYS,
    cpu_flags,
    cpu_model,
    describe_host,
    host_fingerprint,
    hypervisor,
    thread_counters,
    transparent_huge_pages,
)
from exchange.lab_vm.machine import EMULATED_VARIABLE

COUNTERS = ("voluntary_switches", "involuntary_switches", "migrations", "cpu_ns", "waiting_ns")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Files of a bare-metal server."""
    write(
        tmp_path / "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: AMD EPYC 9354 32-Core Processor\n"
        "flags\t\t: fpu tsc constant_tsc nonstop_tsc\n",
    )
    write(tmp_path / "proc/meminfo", "MemTotal:       131072 kB\nMemFree: 1 kB\n")
    write(tmp_path / "proc/sys/vm/nr_hugepages", "512\n")
    system = tmp_path / "sys/devices/system"
    for index in range(2):
        write(system / f"cpu/cpu{index}/cpufreq/scaling_governor", "performance\n")
    write(system / "cpu/cpufreq/boost", "0\n")
    write(system / "cpu/isolated", "2-3\n")
    write(system / "clocksource/clocksource0/current_clocksource", "tsc\n")
    write(tmp_path / "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    return tmp_path


def test_the_description_holds_what_a_reader_asks_for() -> None:
    host = describe_host()
    assert json.loads(json.dumps(host)) == host
    assert host["processing_units_allowed"] == len(os.sched_getaffinity(os.getpid()))
    assert host["versions"]["python"] == platform.python_version()
    assert host["versions"]["numpy"][0].isdigit()
    assert platform.release() == host["kernel"]
    assert set(FINGERPRINT_KEYS) <= set(host)


def test_every_missing_value_has_a_reason() -> None:
    host = describe_host(Path("/nonexistent"))
    missing = {key for key, value in host.items() if value is None}
    assert {"cpu_model", "governor", "clock_source", "memory_bytes"} <= missing
    assert set(host["not_measured"]) == missing
    assert all(host["not_measured"].values())


def test_nothing_personal_is_recorded() -> None:
    text = json.dumps(describe_host())
    assert platform.node() == "" or f'"{platform.node()}"' not in text
    assert str(Path.home()) == "/" or str(Path.home()) not in text


def test_the_files_of_the_kernel_are_read(machine: Path) -> None:
    host = describe_host(machine)
    expected = {
        "cpu_model": "AMD EPYC 9354 32-Core Processor",
        "memory_bytes": 128 << 20,
        "huge_pages_reserved": 512,
        "governor": "performance",
        "turbo": "off",
        "isolated_processing_units": "2-3",
        "clock_source": "tsc",
        "transparent_huge_pages": "madvise",
        "hypervisor": "none",
    }
    assert {key: host[key] for key in expected} == expected


def test_cores_with_different_governors_are_told(machine: Path) -> None:
    write(machine / "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n")
    assert describe_host(machine)["governor"] == "performance, powersave"


def test_intels_turbo_file_counts_the_other_way(machine: Path) -> None:
    write(machine / "sys/devices/system/cpu/intel_pstate/no_turbo", "0\n")
    assert describe_host(machine)["turbo"] == "on"


def test_arm_processors_are_named_by_their_numbers(tmp_path: Path) -> None:
    write(
        tmp_path / "proc/cpuinfo",
        "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd40\n",
    )
    assert cpu_model(tmp_path) == "CPU implementer 0x41 CPU part 0xd40"
    assert cpu_flags(tmp_path) == {"fp", "asimd"}
    assert hypervisor(tmp_path) is None


def test_what_runs_in_the_emulated_machine_is_comparable_with_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(EMULATED_VARIABLE, raising=False)
    real = describe_host()
    monkeypatch.setenv(EMULATED_VARIABLE, "kvm")
    emulated = describe_host()
    assert emulated["hypervisor"] == "emulated machine (kvm): times mean nothing"
    assert emulated["fingerprint"] != real["fingerprint"]


def test_hypervisors_are_named_as_well_as_can_be(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", "flags : fpu tsc hypervisor\n")
    assert hypervisor(tmp_path) == "unnamed"
    write(tmp_path / "sys/class/dmi/id/product_name", "KVM Virtual Machine\n")
    assert hypervisor(tmp_path) == "KVM Virtual Machine"
    write(tmp_path / "sys/hypervisor/type", "xen\n")
    assert hypervisor(tmp_path) == "xen"


def test_huge_page_modes(tmp_path: Path) -> None:
    assert transparent_huge_pages(tmp_path) is None
    write(tmp_path / "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
    assert transparent_huge_pages(tmp_path) == "never"


def test_the_fingerprint_ignores_time_load_and_versions_and_nothing_else() -> None:
    host = describe_host()
    assert host["fingerprint"] == host_fingerprint(host) == describe_host()["fingerprint"]
    noise = {
        "described_utc": "x",
        "load_average_1_minute": 99.0,
        "versions": {},
        "git_commit": "x",
        "memory_bytes": 1,
    }
    assert host_fingerprint(host | noise) == host["fingerprint"]
    for key in FINGERPRINT_KEYS:
        assert host_fingerprint(host | {key: "something else"}) != host["fingerprint"], key


def test_the_git_state_is_that_of_the_exchange_and_of_no_other_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    write(tmp_path / "exchange/__init__.py", "")
    write(tmp_path / "venv/lib/exchange/__init__.py", "")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(exchange, "__file__", str(tmp_path / "exchange/__init__.py"))
    clean = describe_host()
    assert (clean["git_commit"], clean["git_dirty"]) == (git("rev-parse", "HEAD"), False)
    write(tmp_path / "exchange/__init__.py", "changed = 1\n")
    assert describe_host()["git_dirty"] is True
    monkeypatch.setattr(exchange, "__file__", str(tmp_path / "venv/lib/exchange/__init__.py"))
    installed = describe_host()
    assert (installed["git_commit"], installed["git_dirty"]) == (None, None)
    assert "not a git checkout" in installed["not_measured"]["git_commit"]


def test_a_missing_failing_or_hanging_command_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "_COMMAND_TIMEOUT_S", 0.05)
    assert host_module._run(["no-such-command"]) is None
    assert host_module._run(["false"]) is None
    assert host_module._run(["sleep", "20"]) is None


def test_a_sleeping_thread_gives_up_its_core_and_it_is_counted() -> None:
    seen: list[tuple[dict[str, object], dict[str, object]]] = []

    def sleep_often() -> None:
        before = thread_counters(threading.get_native_id())
        for _ in range(20):
            time.sleep(0.001)
        seen.append((before, thread_counters(threading.get_native_id())))

    thread = threading.Thread(target=sleep_often)
    thread.start()
    thread.join()
    before, after = seen[0]
    if before["voluntary_switches"] is None:
        pytest.skip(f"not measured on this machine: {before['not_measured']}")
    assert isinstance(before["voluntary_switches"], int)
    assert isinstance(after["voluntary_switches"], int)
    assert after["voluntary_switches"] >= before["voluntary_switches"] + 20
    assert set(COUNTERS) == set(after) - {"not_measured"}


def test_counters_come_from_the_kernels_files(tmp_path: Path) -> None:
    folder = tmp_path / "proc/self/task/7"
    write(folder / "status", "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n")
    write(folder / "sched", "x (7, #threads: 1)\n---\nse.nr_migrations       :        5\nnr_switches : 15\n")
    write(folder / "schedstat", "1000 200 15\n")
    assert thread_counters(7, tmp_path) == {
        "voluntary_switches": 12,
        "involuntary_switches": 3,
        "migrations": 5,
        "cpu_ns": 1000,
        "waiting_ns": 200,
        "not_measured": {},
    }


def test_a_kernel_that_tells_less_is_said_to(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/task/7/status", "Name:\tx\n")
    found = thread_counters(7, tmp_path)
    assert [found[key] for key in COUNTERS] == [None] * 5
    assert set(found["not_measured"]) == set(COUNTERS)
    assert "CONFIG_SCHED_DEBUG" in found["not_measured"]["migrations"]


def test_a_thread_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    found = thread_counters(7, tmp_path)
    assert {found[key] for key in COUNTERS} == {None}
    assert set(found["not_measured"].values()) == {"thread 7 is not running (any more)"}
