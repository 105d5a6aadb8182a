"""The emulated machine without qemu: its command line, its kernel, its first files, its job, the end of its lines."""

import gzip
import lzma
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import UserError
from exchange.lab_vm import guest_kernel, requirements, running
from exchange.lab_vm.guest_kernel import (
    GuestKernel,
    cached_kernel,
    find_kernel,
    installed_kernel,
    modules_for,
)
from exchange.lab_vm.initial_files import File, Program, initial_files, is_static, read_module, write_archive
from exchange.lab_vm.machine import (
    COMPILER_VARIABLES,
    EMULATED_VARIABLE,
    Accelerator,
    Channels,
    Machine,
    check_machine,
    qemu_arguments,
)
from exchange.lab_vm.running import Job, check_folder, job_environment, job_script, split_at_end

CHANNELS = Channels(console=5, output=6, errors=7, status=8, has_terminal=False)
MODULES = {
    "kernel/drivers/virtio/virtio_pci.ko": "kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko",
    "kernel/drivers/virtio/virtio_ring.ko": "kernel/drivers/virtio/virtio.ko",
    "kernel/drivers/virtio/virtio.ko": "",
    "kernel/drivers/char/virtio_console.ko": "kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko",
    "kernel/net/9p/9pnet_virtio.ko.xz": "",
    "kernel/fs/overlayfs/overlay.ko": "",
    "kernel/drivers/net/virtio_net.ko": "",
    "kernel/drivers/net/e1000e.ko": "",
    "kernel/drivers/vfio/pci/vfio-pci.ko": "",
    "kernel/drivers/vfio/vfio_iommu_type1.ko": "",
}


def arguments(machine: Machine, channels: Channels = CHANNELS, accelerator: str = "tcg") -> list[str]:
    return qemu_arguments(
        machine,
        "kvm" if accelerator == "kvm" else "tcg",
        Path("/boot/vmlinuz"),
        Path("/lib/modules"),
        "/dev/fd/9",
        channels,
    )


def values(command: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(command) if name == option]


def make_kernel(root: Path, release: str, modules: dict[str, str] = MODULES) -> GuestKernel:
    folder = root / "lib/modules" / release
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text("".join(f"{path}: {needs}\n" for path, needs in modules.items()))
    (folder / "modules.builtin").write_text("kernel/fs/9p/9p.ko\n")
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot" / f"vmlinuz-{release}").touch()
    return GuestKernel(release, root / "boot" / f"vmlinuz-{release}", root / "lib/modules")


def test_two_sockets_are_two_nodes_that_share_processors_and_memory_evenly() -> None:
    command = arguments(Machine(memory_mib=3000, cpus=6))
    assert values(command, "-smp") == ["6,sockets=2,cores=3,threads=1"]
    assert values(command, "-numa") == [
        "node,nodeid=0,cpus=0-2,memdev=memory0",
        "node,nodeid=1,cpus=3-5,memdev=memory1",
        "dist,src=0,dst=1,val=21",
    ]
    assert [value for value in values(command, "-object") if "size=1500M" in value] == values(
        command, "-object"
    )


def test_cards_are_joined_two_by_two_across_the_nodes_and_stand_behind_the_iommu() -> None:
    command = arguments(Machine(cards=("virtio-net", "e1000e", "e1000e", "e1000e")))
    wires = [value.split(",")[2] for value in values(command, "-netdev")]
    assert wires == ["hubid=0", "hubid=0", "hubid=1", "hubid=1"]
    devices = values(command, "-device")
    assert any(device.startswith("intel-iommu") for device in devices)
    ports = [device for device in devices if device.startswith("pcie-root-port")]
    assert [f"bus=node{index % 2}" in port for index, port in enumerate(ports)] == [True] * 4
    cards = [device for device in devices if "netdev=wire" in device]
    assert [card.split("-")[0].split(",")[0] for card in cards] == ["virtio", "e1000e", "e1000e", "e1000e"]
    assert "iommu_platform=on" in cards[0]
    assert len({card.partition("mac=")[2] for card in cards}) == 4


def test_a_machine_without_cards_has_no_bridges() -> None:
    assert "-netdev" not in arguments(Machine(cards=()))
    assert "pxb" not in " ".join(arguments(Machine(cards=())))


def test_the_root_is_shared_read_only_and_a_writable_folder_is_not() -> None:
    shared = values(arguments(Machine(writable=(Path("/some,where"),))), "-fsdev")
    assert [share.endswith("readonly=on") for share in shared] == [True, True, False]
    assert "path=/some,,where," in shared[2]


def test_the_accelerator_and_the_terminal_are_asked_for() -> None:
    assert values(arguments(Machine(), accelerator="kvm"), "-accel") == ["kvm"]
    assert values(arguments(Machine(), accelerator="kvm"), "-cpu") == ["host"]
    assert values(arguments(Machine()), "-accel")[0].startswith("tcg,thread=multi")
    assert "virtconsole" not in " ".join(arguments(Machine()))
    assert "virtconsole" in " ".join(arguments(Machine(), CHANNELS._replace(has_terminal=True)))
    assert "quiet" in values(arguments(Machine()), "-append")[0]
    assert "quiet" not in values(arguments(Machine(is_verbose=True)), "-append")[0]


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Machine(cpus=3), "--cpus 3: allowed are even numbers from 2 to 64"),
        (Machine(cpus=0), "--cpus 0:"),
        (Machine(memory_mib=64), "--memory 64: allowed are even numbers of MiB from 1,024"),
        (Machine(memory_mib=2049), "--memory 2049:"),
        (Machine(cards=("e1000e",)), "--card: 1 cards; they are joined two by two"),
        (Machine(cards=("e1000e",) * 10), "--card: 10 cards"),
        (Machine(writable=(Path("/no/such/folder"),)), "--writable /no/such/folder: it is no folder"),
    ],
)
def test_a_machine_that_cannot_be_made_is_refused(machine: Machine, message: str) -> None:
    with pytest.raises(UserError) as refused:
        check_machine(machine)
    assert message in str(refused.value)


def test_modules_come_after_what_they_need_and_once(tmp_path: Path) -> None:
    kernel = make_kernel(tmp_path, "6.1.0-1-amd64")
    names = [path.name for path in modules_for(kernel, ("virtio_pci", "9p", "virtio_console", "vfio_pci"))]
    assert names == ["virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "virtio_console.ko", "vfio-pci.ko"]
    with pytest.raises(LookupError):
        modules_for(kernel, ("nosuch",))


def test_the_newest_kernel_that_will_do_is_taken(tmp_path: Path) -> None:
    assert installed_kernel(tmp_path) is None
    make_kernel(tmp_path, "6.1.0-9-amd64")
    assert installed_kernel(tmp_path) is not None
    newer = make_kernel(tmp_path, "6.1.0-57-amd64")
    make_kernel(
        tmp_path, "6.2.0-cloud", {path: needs for path, needs in MODULES.items() if "e1000e" not in path}
    )
    assert installed_kernel(tmp_path) == newer
    (tmp_path / "boot/vmlinuz-6.1.0-57-amd64").unlink()
    assert installed_kernel(tmp_path) != newer


def test_a_kernel_in_the_cache_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_kernel(tmp_path) is None
    (tmp_path / "linux-image-6.1.0-57-amd64").mkdir()
    kept = make_kernel(tmp_path / "linux-image-6.1.0-57-amd64", "6.1.0-57-amd64")
    monkeypatch.setattr(guest_kernel, "installed_kernel", lambda root=None: root and installed_kernel(root))
    assert find_kernel(tmp_path) == kept


def test_what_apt_says_is_told_on_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sudo apt-get install linux-image-amd64"):
        guest_kernel.fetch_kernel(tmp_path)
    (tmp_path / "apt-cache").write_text("#!/bin/sh\necho E: no lists >&2\nexit 100\n")
    (tmp_path / "apt-cache").chmod(0o755)
    with pytest.raises(UserError, match=r"apt-cache depends failed \(E: no lists\); sudo apt-get update"):
        guest_kernel.fetch_kernel(tmp_path)
    (tmp_path / "apt-cache").write_text("#!/bin/sh\necho linux-image-amd64\n")
    with pytest.raises(UserError, match="apt knows no linux-image-amd64"):
        guest_kernel.fetch_kernel(tmp_path)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="there is no cpio to read the archive with")
def test_the_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    files = {"init": Program(b"#!/bin/sh\n"), "a/b/c": File(b"x" * 4097), "a/empty": File()}
    subprocess.run(
        ["cpio", "-idm", "--quiet"], input=write_archive(files), cwd=tmp_path, check=True, capture_output=True
    )
    for name, content in files.items():
        assert (tmp_path / name).read_bytes() == content
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o644


def test_an_entry_of_the_archive_is_padded_to_words() -> None:
    archive = write_archive({"ab": File(b"12345")})
    header = archive[:110]
    assert (header[:6], int(header[54:62], 16), int(header[94:102], 16)) == (b"070701", 5, 3)
    assert archive[110:124] == b"ab\0\0\0\0" + b"12345\0\0\0"


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz"])
def test_modules_are_unpacked(tmp_path: Path, suffix: str) -> None:
    pack = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress}[suffix]
    path = tmp_path / f"overlay.ko{suffix}"
    path.write_bytes(pack(b"a module"))
    assert read_module(path) == b"a module"
    archive = initial_files(_static_program(tmp_path), [path], {"job": "true\n"})
    assert b"modules/overlay.ko\0" in archive
    assert b"a module" in archive
    assert b"lab-vm/job\0" in archive


def _static_program(folder: Path) -> Path:
    """A file that says of itself that it is a program without parts."""
    path = folder / "busybox"
    path.write_bytes(b"\x7fELF\x02" + bytes(59))
    return path


def test_a_busybox_that_needs_libraries_is_refused(tmp_path: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    assert not is_static(interpreter.read_bytes())
    assert not is_static(b"#!/bin/sh\n")
    assert is_static(_static_program(tmp_path).read_bytes())
    with pytest.raises(UserError, match="sudo apt-get install busybox-static"):
        initial_files(interpreter, [], {})


def test_the_job_is_the_command_in_its_folder_and_environment(tmp_path: Path) -> None:
    script = tmp_path / "job"
    folder = tmp_path / "a folder; with $signs"
    folder.mkdir()
    show = 'import os, sys; print(os.getcwd(), os.environ["A"], sys.argv[1:]); sys.exit(7)'
    job = Job((sys.executable, "-c", show, "it's", "$HOME", ""), folder)
    script.write_text(job_script(job, {"A": "two\nlines'", "BASH_FUNC_x%%": "() { :; }"}))
    done = subprocess.run(["/bin/sh", script], capture_output=True, text=True, env={}, check=False)
    assert done.stdout == f"{folder} two\nlines' {["it's", '$HOME', '']}\n"
    assert (done.stderr, done.returncode) == ("", 7)


def test_the_environment_says_that_the_machine_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("KEPT", "yes")
    environment = job_environment("tcg")
    assert environment[EMULATED_VARIABLE] == "tcg"
    assert environment["KEPT"] == "yes"
    assert "XDG_RUNTIME_DIR" not in environment
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))


def test_the_guest_compiles_for_a_processor_that_both_have(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COMPILER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert job_environment("tcg").items() >= COMPILER_VARIABLES.items()
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    environment = job_environment("tcg")
    assert environment["NUMBA_CPU_NAME"] == "generic"
    assert "NUMBA_CPU_FEATURES" not in environment


def run_and_fail(
    accelerator: Accelerator | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], list[bytes], str]:
    """Which accelerators are tried where nothing starts, what is said meanwhile, and the error."""
    tried: list[str] = []
    said: list[bytes] = []

    def start(_start: object, accelerator: str, _writers: object) -> int:
        tried.append(accelerator)
        raise running._NotStarted("it said nothing")

    monkeypatch.setattr(running, "_run_once", start)
    monkeypatch.setattr(running, "find_programs", lambda: requirements.Programs(*[Path("/bin/true")] * 3))
    monkeypatch.setattr(running, "find_kernel", lambda cache: GuestKernel("6", cache, cache))
    monkeypatch.setattr(running, "choose_accelerator", lambda qemu: "kvm")
    with pytest.raises(UserError) as failed:
        running.run_job(
            Job(("true",), Path("/")), Machine(), Path("/"), accelerator, said.append, said.append
        )
    return tried, said, str(failed.value)


def test_a_machine_that_does_not_start_with_kvm_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, said, error = run_and_fail(None, monkeypatch)
    assert tried == ["kvm", "tcg"]
    assert said == [b"exchange: the machine does not start with KVM; it is started again, emulated\n"]
    assert error == "the emulated machine did not start: it said nothing"
    assert run_and_fail("kvm", monkeypatch)[:2] == (["kvm"], [])
    assert run_and_fail("tcg", monkeypatch)[:2] == (["tcg"], [])


@pytest.mark.parametrize("folder", ["/run/x", "/dev/shm", "/proc"])
def test_a_folder_that_the_guest_does_not_see_is_refused(folder: str) -> None:
    check_folder(Path("/runner"))
    with pytest.raises(UserError, match="of its own"):
        check_folder(Path(folder))


@given(st.lists(st.text("END-", max_size=8).map(str.encode), max_size=12), st.binary(max_size=4))
def test_a_line_ends_at_its_end_however_it_comes(pieces: list[bytes], behind: bytes) -> None:
    end = b"ENDE"
    whole = b"".join(pieces).replace(end, b"")
    if end in whole + end[:-1]:
        return
    passed, kept, ended = b"", b"", False
    for piece in [
        *(whole[index : index + 3] for index in range(0, len(whole), 3)),
        end[:2],
        end[2:] + behind,
    ]:
        assert not ended
        now, kept, ended = split_at_end(kept + piece, end)
        passed += now
        assert len(kept) < len(end)
    assert ended
    assert passed == whole


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_program", lambda name: None)
    assert requirements.missing_packages() == ["qemu-system-x86", "busybox-static", "kmod", "util-linux"]
    with pytest.raises(
        UserError, match="sudo apt-get install qemu-system-x86 busybox-static kmod util-linux"
    ):
        requirements.find_programs()


def test_kvm_is_not_used_where_it_is_not_or_where_a_guest_does_not_run(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\nexit 33\n")
    qemu.chmod(0o755)
    device = tmp_path / "kvm"
    assert requirements.choose_accelerator(qemu, device) == "tcg"
    device.touch()
    assert requirements.choose_accelerator(qemu, device) == "kvm"
    qemu.write_text("#!/bin/sh\nexit 134\n")
    assert requirements.choose_accelerator(qemu, device) == "tcg"


@pytest.mark.skipif(shutil.which(requirements.QEMU) is None, reason="sudo apt-get install qemu-system-x86")
def test_the_guest_by_which_kvm_is_tried_runs() -> None:
    assert requirements._runs(Path(str(shutil.which(requirements.QEMU))), "tcg", "max")
