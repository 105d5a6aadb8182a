"""The example about the pages of a file runs, at a small size; not how fast."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/pages_of_a_file.py"


def test_the_example_prints_a_row_for_each_size(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SIZE_MIB": "1", "ROUNDS": "1"}
    command = [sys.executable, str(ROOT / EXAMPLE)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    header, *rows = done.stdout.splitlines()
    assert header.startswith("zeros at a time | ")
    assert [row.split(" KiB")[0].strip() for row in rows] == ["4", "16", "64", "256", "1024"]
    assert all(row.count("|") == header.count("|") for row in rows)
    assert list(tmp_path.iterdir()) == []
