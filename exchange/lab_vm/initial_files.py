"""The files that the guest's kernel starts with: busybox, a few drivers, two small scripts and the job.

A kernel unpacks them from an archive in cpio's "new ASCII" format before it starts the file ``init``. The archive is
made here, in memory and for each start, because the job travels in it; it is a few megabytes, which takes
milliseconds.

Rules: busybox must be linked statically, for there is no library. Modules are unpacked, since busybox may not know how.
Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

import gzip
import lzma
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

from exchange.errors import UserError

_ELF_INTERPRETER: Final = 3
"""The type of the part of a program (``PT_INTERP``) that names its dynamic loader; ELF-64, elf(5)."""


class File(bytes):
    """The content of a regular file that everybody may read."""


class Program(File):
    """The content of a file that may be run as well."""


def write_archive(files: Mapping[str, File]) -> bytes:
    """A cpio archive of files by their path, which has no slash in front, and of the folders that they lie in."""
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    entries = [(folder, stat.S_IFDIR | 0o755, b"") for folder in folders]
    entries += [
        (path, stat.S_IFREG | (0o755 if isinstance(content, Program) else 0o644), content)
        for path, content in files.items()
    ]
    parts: list[bytes] = []
    for inode, (path, mode, content) in enumerate(sorted(entries), start=1):
        parts += _entry(inode, mode, path, content)
    parts += _entry(0, 0, "TRAILER!!!", b"")
    return b"".join(parts)


def _entry(inode: int, mode: int, path: str, content: bytes) -> Iterable[bytes]:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return (header, name, bytes(-len(header + name) % 4), content, bytes(-len(content) % 4))


def initial_files(busybox: Path, modules: Sequence[Path], job: Mapping[str, str]) -> bytes:
    """The archive: ``modules`` are loaded in this order, and ``job`` is what enter.sh finds beside itself."""
    files: dict[str, File] = {
        "init": Program(_script("init.sh")),
        "bin/busybox": Program(_static_program(busybox)),
    }
    names = [path.name.partition(".ko")[0] + ".ko" for path in modules]
    files |= {f"modules/{name}": File(read_module(path)) for name, path in zip(names, modules, strict=True)}
    files["modules/order"] = File("\n".join(names).encode())
    files["lab-vm/enter.sh"] = File(_script("enter.sh"))
    files |= {f"lab-vm/{name}": File(text.encode(errors="surrogateescape")) for name, text in job.items()}
    return write_archive(files)


def _script(name: str) -> bytes:
    return resources.files("exchange.lab_vm").joinpath(name).read_bytes()


def read_module(path: Path) -> bytes:
    """A kernel module as the kernel takes it, whatever its file is packed with."""
    match path.suffix:
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".gz":
            return gzip.decompress(path.read_bytes())
        case ".zst":
            try:
                return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError) as error:
                raise UserError(f"cannot unpack {path}: sudo apt-get install zstd") from error
        case _:
            return path.read_bytes()


def _static_program(path: Path) -> bytes:
    content = path.read_bytes()
    if not is_static(content):
        raise UserError(
            f"{path} needs libraries, which the guest does not have yet: sudo apt-get install busybox-static"
        )
    return content


def is_static(program: bytes) -> bool:
    """Whether an ELF-64 program runs without a dynamic loader. What is no such program does not."""
    if program[:5] != b"\x7fELF\x02":
        return False
    offset, size_bytes, count = (
        int.from_bytes(program[start:end], "little")
        for start, end in ((0x20, 0x28), (0x36, 0x38), (0x38, 0x3A))
    )
    kinds = (program[offset + index * size_bytes :][:4] for index in range(count))
    return _ELF_INTERPRETER.to_bytes(4, "little") not in kinds
