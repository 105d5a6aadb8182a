"""Frames of any sort through a card's queue and a port: a small part of the campaign, in a process of its own."""

import subprocess
import sys

from tests.dpdk_driver import REPOSITORY, needs_dpdk


@needs_dpdk
def test_any_frame_is_what_the_oracle_says() -> None:
    command = [sys.executable, "-m", "tests.property.frame_campaign", "--frames", "20000", "--seed", "7"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("20,000 frames from seed 7: ")
