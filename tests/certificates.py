"""Certificates for tests, signed by themselves, made by the ``openssl`` that is on every machine with TLS."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    """Two files, PEM."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str = "localhost", passphrase: str = "") -> Certificate:
    """A certificate for a name and for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    protection = ["-passout", f"pass:{passphrase}"] if passphrase else ["-noenc"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *protection,
            *("-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    made.key.chmod(0o600)
    return made
