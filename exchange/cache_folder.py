"""Where this user's files are kept that can be made again: compiled code, the kernel of the emulated machine.

Rules: deleting the folder is always safe. Nothing is imported here, so that who only asks where it is waits for
nothing."""

import os
from pathlib import Path


def cache_root() -> Path:
    """The folder of all of it: ``$EXCHANGE_CACHE``, else one in the user's cache folder."""
    if "EXCHANGE_CACHE" in os.environ:
        return Path(os.environ["EXCHANGE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hpc-exchange"
