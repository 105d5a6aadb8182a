"""The shim between compiled loops and DPDK, which :mod:`exchange.c_shims` compiles.

Most of what a poll loop calls in DPDK is ``static inline`` in its headers.
"""

from pathlib import Path
from typing import Any, Final

from exchange.c_shims import Shim

PACKAGES: Final = "libdpdk-dev dpdk pkg-config gcc"
SHIM: Final = Shim(
    title="DPDK",
    name="dpdk",
    library="libdpdk",
    packages=PACKAGES,
    source=Path(__file__).with_name("shim.c"),
)


def load_shim() -> Any:
    """As :meth:`exchange.c_shims.Shim.load`."""
    return SHIM.load()


def build_shim(folder: Path) -> Path:
    """As :meth:`exchange.c_shims.Shim.build`."""
    return SHIM.build(folder)


def is_installed() -> bool:
    """As :meth:`exchange.c_shims.Shim.is_installed`."""
    return SHIM.is_installed()
