"""The shim is made once, whole, by whoever comes first; and a machine without DPDK is told what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from exchange.dpdk.building import PACKAGES, build_shim, is_installed
from exchange.errors import UserError
from tests.dpdk_driver import REPOSITORY, needs_dpdk

_BUILD = """
import pathlib, sys
from exchange.dpdk.building import build_shim
print(build_shim(pathlib.Path(sys.argv[1])))
"""


@needs_dpdk
def test_processes_that_start_at_once_find_one_whole_library(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BUILD, str(tmp_path / "dpdk")]
    started = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    paths = {process.communicate(timeout=120)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert paths == {str(path) for path in (tmp_path / "dpdk").iterdir()}, "one, and nothing half written"
    [path] = paths
    assert Path(path).read_bytes()[:4] == b"\x7fELF"


@needs_dpdk
def test_another_compiler_makes_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_shim(tmp_path)
    made = first.stat().st_mtime_ns
    assert build_shim(tmp_path) == first
    assert first.stat().st_mtime_ns == made, "not again"
    monkeypatch.setenv("CC", "cc -g")
    assert build_shim(tmp_path) != first


def test_without_dpdk_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_installed()
    with pytest.raises(UserError, match="no pkg-config was found") as caught:
        build_shim(tmp_path)
    assert PACKAGES in str(caught.value)
    (tmp_path / "pkg-config").symlink_to("/bin/false")
    with pytest.raises(UserError, match="libdpdk") as caught:
        build_shim(tmp_path)
    assert PACKAGES in str(caught.value)


@needs_dpdk
def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) exit 0;; esac\necho "rte_eal.h: no such file" >&2\nexit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(UserError, match=r"rte_eal\.h: no such file") as caught:
        build_shim(tmp_path / "dpdk")
    assert PACKAGES in str(caught.value)
    assert not any((tmp_path / "dpdk").iterdir())
