"""The kernel of the emulated machine, with its modules: this machine's own if it will do, else Debian's from apt.

The one from apt is downloaded and taken apart into the cache folder and is not installed, so that how this machine
boots does not change. It is kept without what no machine of this kind has (sound, graphics, radio), and is looked for
there first the next time; deleting the folder is always safe.

Rules: a kernel will do if its image can be read and it has every module of :data:`DRIVERS`.
Sources: modules.dep(5), depmod(8), apt-get(8).
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from exchange.errors import UserError

INITIAL_DRIVERS: Final = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
"""What the guest cannot reach its files without."""

DRIVERS: Final = ("virtio_net", "e1000e", "vfio_pci", "vfio_iommu_type1")
"""What it loads from its files, before the command runs."""

PACKAGE: Final = "linux-image-amd64"
"""Debian's name for its newest kernel."""

_UNUSED: Final = (
    "kernel/sound",
    "kernel/net/wireless",
    "kernel/net/mac80211",
    "kernel/net/bluetooth",
    *(
        f"kernel/drivers/{name}"
        for name in ("gpu", "media", "net/wireless", "staging", "iio", "hid", "input")
    ),
)


class GuestKernel(NamedTuple):
    """``modules`` is the folder whose subfolder ``release`` has the modules."""

    release: str
    image: Path
    modules: Path


def find_kernel(cache: Path) -> GuestKernel:
    """A kernel that will do; one that is in ``cache`` or comes into it, if the machine has none itself.

    Raises:
        UserError: There is none, and apt does not give one.
    """
    return installed_kernel() or cached_kernel(cache) or fetch_kernel(cache)


def installed_kernel(root: Path = Path("/")) -> GuestKernel | None:
    """The newest kernel in a file tree that will do."""
    found = [
        kernel
        for image in (root / "boot").glob("vmlinuz-*")
        for modules in (root / "lib/modules", root / "usr/lib/modules")
        if _will_do(kernel := GuestKernel(image.name.removeprefix("vmlinuz-"), image, modules.absolute()))
    ]
    return max(found, key=lambda kernel: _version(kernel.release), default=None)


def cached_kernel(cache: Path) -> GuestKernel | None:
    """The newest kernel that :func:`fetch_kernel` has left in a folder."""
    found = [kernel for folder in cache.glob("linux-image-*") if (kernel := installed_kernel(folder))]
    return max(found, key=lambda kernel: _version(kernel.release), default=None)


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release))


def _will_do(kernel: GuestKernel) -> bool:
    try:
        with kernel.image.open("rb"):
            modules_for(kernel, (*INITIAL_DRIVERS, *DRIVERS))
    except (OSError, LookupError):
        return False
    return True


def modules_for(kernel: GuestKernel, drivers: Sequence[str]) -> list[Path]:
    """The files of these modules and of all that they need, in the order in which they are loaded.

    Raises:
        LookupError: The kernel has no such module. What is built into it counts as there.
        OSError: It has no list of its modules.
    """
    folder = kernel.modules / kernel.release
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        # A module's needs are listed with those first that are loaded last.
        needs[_module_name(path)] = [*reversed(others.split()), path]
    built_in = {_module_name(path) for path in (folder / "modules.builtin").read_text().split()}
    ordered: dict[str, None] = {}
    for driver in drivers:
        if driver not in built_in:
            ordered |= dict.fromkeys(needs[driver])
    return [folder / path for path in ordered]


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def fetch_kernel(cache: Path) -> GuestKernel:
    """Download Debian's kernel by apt and take it apart below ``cache``, without installing it."""
    package = _package_name(_output("apt-cache", "depends", PACKAGE))
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as name:
        folder, files = Path(name), Path(name) / "files"
        _output("apt-get", "download", package, folder=folder)
        (archive,) = folder.glob("*.deb")
        _output("dpkg", "-x", str(archive), str(files))
        for modules in _module_folders(files):
            for unused in _UNUSED:
                shutil.rmtree(modules / unused, ignore_errors=True)
            _output("depmod", "-b", str(modules.parents[2]), modules.name)
        kernel = installed_kernel(files)
        if kernel is None:
            raise UserError(f"the kernel of {package} will not do: it lacks one of {', '.join(DRIVERS)}")
        shutil.rmtree(cache / package, ignore_errors=True)
        files.rename(cache / package)
    found = installed_kernel(cache / package)
    assert found is not None
    return found


def _module_folders(files: Path) -> Iterator[Path]:
    for place in ("lib/modules", "usr/lib/modules"):
        yield from (files / place).glob("*")


def _package_name(depends: str) -> str:
    """The kernel that the package stands for, out of what ``apt-cache depends`` prints."""
    found = re.search(r"Depends: (linux-image-\d\S*)", depends)
    if found is None:
        raise UserError(f"apt knows no {PACKAGE}, the kernel of the emulated machine: sudo apt-get update")
    return found[1]


def _output(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            f"no kernel for the emulated machine: sudo apt-get install {PACKAGE} (or {command[0]} to fetch it)"
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(
            f"no kernel for the emulated machine: {' '.join(command[:2])} failed ({said[-1]});"
            f" sudo apt-get update, or sudo apt-get install {PACKAGE}"
        )
    return done.stdout
