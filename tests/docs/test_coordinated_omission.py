"""The example of the page about latency reports prints what the page says it prints."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/coordinated_omission.py"


def test_the_page_shows_what_the_example_prints():
    command = [sys.executable, str(ROOT / EXAMPLE)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs/reading-a-latency-report.md").read_text(encoding="utf-8")
    assert printed.count("loop:") == 2
    assert f"```text\n{printed}```" in page
    assert f'--8<-- "{EXAMPLE}"' in page
