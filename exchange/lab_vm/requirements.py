"""What the emulated machine needs of this one: programs, and the packages that they are in; and whether KVM works.

That a machine has ``/dev/kvm`` does not mean that a guest runs by it: inside other virtual machines it may open and
then fail, or hang. So it is tried, with a guest of five bytes on the very processor that the real one would have.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError
from exchange.lab_vm.machine import Accelerator

QEMU: Final = "qemu-system-x86_64"

PACKAGES: Final = {
    QEMU: "qemu-system-x86",
    "busybox": "busybox-static",
    "modprobe": "kmod",
    "setpriv": "util-linux",
}
"""The apt package of each program."""

_SYSTEM_FOLDERS: Final = "/usr/sbin:/sbin"
"""Where a user's own path may not lead, and ``modprobe`` lies."""

_PROBE_SECONDS: Final = 5
_PROBE_PORT: Final = 0xF4
_PROBE_VALUE: Final = 0x10
_FIRMWARE_BYTES: Final = 0x10000
_RESET_OFFSET: Final = 0xFFF0
"""Where a processor begins, 16 bytes below the end of the firmware."""


class Programs(NamedTuple):
    """Where the programs are."""

    qemu: Path
    busybox: Path
    setpriv: Path


def find_program(name: str) -> str | None:
    """The path of a program, in the user's folders or the system's."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)


def missing_packages() -> list[str]:
    """The apt packages of the programs that are not here."""
    return [package for program, package in PACKAGES.items() if find_program(program) is None]


def find_programs() -> Programs:
    """Where the programs are; a :class:`UserError` names the packages of those that are not."""
    missing = missing_packages()
    if missing:
        raise UserError(f"the emulated machine needs more programs: sudo apt-get install {' '.join(missing)}")
    return Programs(*(Path(find_program(name) or "") for name in (QEMU, "busybox", "setpriv")))


def choose_accelerator(qemu: Path, device: Path = Path("/dev/kvm")) -> Accelerator:
    """``kvm`` if a guest runs by it here, tried within seconds, else ``tcg``."""
    return "kvm" if os.access(device, os.R_OK | os.W_OK) and _runs(qemu, "kvm", "host") else "tcg"


def _runs(qemu: Path, accelerator: Accelerator, processor: str) -> bool:
    """Whether a guest does what it is made for: write a byte to a device that then ends qemu with twice that and 1."""
    with tempfile.NamedTemporaryFile(prefix="exchange-lab-vm-") as firmware:
        firmware.write(probe_firmware())
        firmware.flush()
        command = [
            str(qemu),
            *("-nodefaults", "-no-user-config", "-display", "none", "-m", "16"),
            *("-machine", "q35,kernel-irqchip=split", "-accel", accelerator, "-cpu", processor),
            *("-bios", firmware.name),
            *("-device", f"isa-debug-exit,iobase={_PROBE_PORT},iosize=4"),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 2 * _PROBE_VALUE + 1


def probe_firmware() -> bytes:
    """The guest that is tried: ``mov al, VALUE; out PORT, al; hlt`` where a processor begins."""
    code = bytes((0xB0, _PROBE_VALUE, 0xE6, _PROBE_PORT, 0xF4))
    return (bytes(_RESET_OFFSET) + code).ljust(_FIRMWARE_BYTES, b"\0")
