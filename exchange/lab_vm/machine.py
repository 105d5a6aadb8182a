"""What the emulated machine is made of, and the command line by which qemu makes it.

Two sockets, each a NUMA node with half of the processors and of the memory, 21 to 10 apart as in common servers.
Network cards come in pairs that are joined to each other: what one card sends, the other receives, so that two
processes can talk over two cards. The first card of a pair stands on node 0, the second on node 1. All are behind an
emulated IOMMU, which is what vfio-pci asks for.

Rules: everything here is a pure function of its arguments. A folder's path may have commas, which qemu wants doubled.
Source: qemu-system-x86_64(1) and docs/pcie.txt, docs/pci_expander_bridge.txt of qemu 7.2.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from exchange.errors import UserError

type Accelerator = Literal["kvm", "tcg"]
"""``kvm``: the guest's instructions run on the processor. ``tcg``: they are emulated, tens of times slower."""

type CardKind = Literal["virtio-net", "e1000e"]

EMULATED_VARIABLE: Final = "EXCHANGE_EMULATED"
"""Set in the guest's environment, to the accelerator; a figure from there is marked by it."""

COMPILER_VARIABLES: Final = {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""}
"""What the guest's compiler makes code for, unless its environment says otherwise.

It is less than any processor has, here or emulated. So code that was compiled outside with the same variables is not
compiled again inside, which would take tens of times longer.
"""

CARD_KINDS: Final[tuple[str, ...]] = get_args(CardKind.__value__)
NODES: Final = 2
DISTANCE_FAR: Final = 21
"""Between the two nodes, as ACPI's table has it; 10 is a node's distance to itself."""

CPUS_MAX: Final = 64
CARDS_MAX: Final = 8
MEMORY_MIB_MIN: Final = 1024
"""Below this an exchange that compiles is killed for memory."""
MEMORY_MIB_MAX: Final = 1 << 20

_TRANSLATION_MIB: Final = 512
"""What qemu may keep of translated code, beside the guest's memory."""
_MESSAGE_BYTES: Final = 512_000
"""The largest answer of the file server, as the guest mounts it."""

_CARDS: Final = {
    "virtio-net": "virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on,romfile=",
    "e1000e": "e1000e,romfile=",
}
_FIRST_BUS: Final = {0: 0x40, 1: 0x80}
"""The number of the PCI bus at which each node's cards begin."""


class Machine(NamedTuple):
    """What the guest has.

    ``cards`` are joined two by two; ``writable`` are folders of this machine that the guest may change; if
    ``is_verbose``, its kernel logs all that happens to the console.
    """

    memory_mib: int = 2048
    cpus: int = 4
    cards: tuple[CardKind, ...] = ("virtio-net", "virtio-net", "e1000e", "e1000e")
    writable: tuple[Path, ...] = ()
    is_verbose: bool = False


class Channels(NamedTuple):
    """The file descriptors that qemu inherits to write to, and whether the guest has qemu's own terminal as its own."""

    console: int
    output: int
    errors: int
    status: int
    has_terminal: bool


def check_machine(machine: Machine) -> None:
    """Raise :class:`UserError` if no such machine can be made."""
    if not 2 <= machine.cpus <= CPUS_MAX or machine.cpus % NODES:
        raise UserError(f"--cpus {machine.cpus}: allowed are even numbers from 2 to {CPUS_MAX}")
    memory = machine.memory_mib
    if not MEMORY_MIB_MIN <= memory <= MEMORY_MIB_MAX or memory % NODES:
        raise UserError(
            f"--memory {memory}: allowed are even numbers of MiB from {MEMORY_MIB_MIN:,} to {MEMORY_MIB_MAX:,}"
        )
    if len(machine.cards) > CARDS_MAX or len(machine.cards) % 2:
        raise UserError(
            f"--card: {len(machine.cards)} cards; they are joined two by two, so 0, 2, 4 ... {CARDS_MAX} are allowed"
        )
    for folder in machine.writable:
        if not folder.is_dir() or "\n" in str(folder):
            raise UserError(f"--writable {folder}: it is no folder")


def kernel_command_line(*, is_verbose: bool) -> str:
    """What the guest's kernel is told: log to the serial line, use the IOMMU, and end at a panic.

    ``iommu=pt`` leaves the kernel's own drivers untranslated, which the emulation makes slow; vfio always translates.
    The clock is the processor's counter: the kernel does not trust an emulated one, and any other is a device that each
    look at the time stops the guest for. Nor does it wait at its start for a timer to tick, and panic if it ticks late,
    as it may where others have this machine's processors.
    """
    level = "loglevel=7" if is_verbose else "quiet"
    clock = "tsc=reliable clocksource=tsc no_timer_check"
    return f"console=ttyS0 {level} panic=-1 mitigations=off intel_iommu=on iommu=pt {clock}"


def qemu_arguments(
    machine: Machine,
    accelerator: Accelerator,
    kernel: Path,
    modules: Path,
    initial_files: str,
    channels: Channels,
) -> list[str]:
    """The arguments of ``qemu-system-x86_64``.

    ``kernel`` is the image, ``modules`` what the guest has as ``/lib/modules``, and ``initial_files`` the path of the
    initial RAM disk.
    """
    command_line = kernel_command_line(is_verbose=machine.is_verbose)
    return [
        *_processor_and_memory(machine, accelerator),
        *("-kernel", str(kernel), "-initrd", initial_files, "-append", command_line),
        *_lines(channels),
        *_shared_folders(machine, modules),
        *_cards(machine),
    ]


def _processor_and_memory(machine: Machine, accelerator: Accelerator) -> Iterator[str]:
    yield from (
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-name",
        "exchange-lab-vm",
    )
    yield from ("-machine", "q35,kernel-irqchip=split", "-m", f"{machine.memory_mib}M")
    if accelerator == "kvm":
        yield from ("-accel", "kvm", "-cpu", "host")
    else:
        yield from ("-accel", f"tcg,thread=multi,tb-size={_TRANSLATION_MIB}", "-cpu", "max")
    cores = machine.cpus // NODES
    yield from ("-smp", f"{machine.cpus},sockets={NODES},cores={cores},threads=1")
    for node in range(NODES):
        yield from ("-object", f"memory-backend-ram,id=memory{node},size={machine.memory_mib // NODES}M")
        cpus = f"cpus={node * cores}-{(node + 1) * cores - 1}"
        yield from ("-numa", f"node,nodeid={node},{cpus},memdev=memory{node}")
    yield from ("-numa", f"dist,src=0,dst=1,val={DISTANCE_FAR}")
    yield from ("-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on")


def _lines(channels: Channels) -> Iterator[str]:
    """The kernel's console, and the lines for output and exit status, which are numbered ports in the guest."""
    yield from ("-chardev", f"file,id=console,path=/dev/fd/{channels.console}", "-serial", "chardev:console")
    yield from ("-device", "virtio-serial-pci,bus=pcie.0,id=lines")
    if channels.has_terminal:
        yield from ("-chardev", "stdio,id=terminal,mux=on,signal=off")
        yield from ("-device", "virtconsole,bus=lines.0,nr=0,chardev=terminal")
    ports = (("output", channels.output), ("errors", channels.errors), ("status", channels.status))
    for number, (name, descriptor) in enumerate(ports, start=1):
        yield from ("-chardev", f"file,id={name},path=/dev/fd/{descriptor}")
        yield from ("-device", f"virtserialport,bus=lines.0,nr={number},chardev={name},name={name}")


def _shared_folders(machine: Machine, modules: Path) -> Iterator[str]:
    """Folders of this machine by the names under which the guest mounts them."""
    yield from _shared(Path("/"), "host", ",readonly=on")
    yield from _shared(modules, "modules", ",readonly=on")
    for index, folder in enumerate(machine.writable):
        yield from _shared(folder, f"writable{index}", "")


def _shared(folder: Path, name: str, rights: str) -> Iterator[str]:
    path = str(folder).replace(",", ",,")
    yield from ("-fsdev", f"local,id={name},path={path},security_model=none,multidevs=remap{rights}")
    yield from ("-device", f"virtio-9p-pci,bus=pcie.0,fsdev={name},mount_tag={name}")


def _cards(machine: Machine) -> Iterator[str]:
    """The cards on their nodes: an expander bridge for each node, and below it a port for each card."""
    if not machine.cards:
        return
    for node, bus in _FIRST_BUS.items():
        yield from ("-device", f"pxb-pcie,id=node{node},bus=pcie.0,bus_nr={bus},numa_node={node}")
    for index, kind in enumerate(machine.cards):
        node = index % NODES
        port = f"pcie-root-port,id=port{index},bus=node{node},chassis={index + 1},slot={index // NODES}"
        yield from ("-device", port)
        yield from ("-netdev", f"hubport,id=wire{index},hubid={index // 2}")
        address = f"52:54:00:1a:b0:{index + 1:02x}"
        yield from ("-device", f"{_CARDS[kind]},bus=port{index},netdev=wire{index},mac={address}")
