"""An emulated machine: two sockets, two NUMA nodes, network cards, and the project from this machine's own files.

What takes a card away from the kernel (vfio, huge pages, a driver in user space) needs a machine that may be broken,
and what places memory needs one with two NUMA nodes. qemu makes both out of any Linux machine: the guest boots a
Debian kernel, mounts the root of this machine read-only, lays memory over it so that everything can be written, and
runs one command or a shell as root. What it writes is gone when it ends.

* :mod:`exchange.lab_vm.machine`: what the machine is made of, and qemu's command line for it
* :mod:`exchange.lab_vm.requirements`: which programs it needs, and whether KVM works here
* :mod:`exchange.lab_vm.guest_kernel`: the kernel, this machine's own or one from apt that is not installed
* :mod:`exchange.lab_vm.initial_files`: the files that the kernel starts with
* :mod:`exchange.lab_vm.running`: boot, run, pass on the output and the exit status

Rules: times that are measured in it mean nothing. :data:`~exchange.lab_vm.machine.EMULATED_VARIABLE` is set in it, so
that whoever measures can say so.
"""

from exchange.lab_vm.machine import CardKind, Machine
from exchange.lab_vm.running import Job, run_job, run_shell

__all__ = ["CardKind", "Job", "Machine", "run_job", "run_shell"]
