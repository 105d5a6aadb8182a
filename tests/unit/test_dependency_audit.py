"""What the check of dependencies says of what pip-audit said: only what it found is a failure."""

import json
import re
from typing import Any

import pytest

from tests.dependency_audit import verdict

GOOD = {"name": "h11", "version": "0.16.0", "vulns": []}
BAD = {"name": "h11", "version": "0.1", "vulns": [{"id": "X-1", "fix_versions": ["0.2", "1.0"]}]}
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "status", "told"),
    [
        ([GOOD, GOOD], 0, "^dependencies: 2 packages without known vulnerabilities$"),
        ([GOOD, UNKNOWN], 0, "1 packages without known vulnerabilities; 1 are not in the database"),
        ([UNKNOWN, UNKNOWN], 0, "not checked .*: the index that is used here has no database"),
        ([GOOD, BAD, UNKNOWN], 1, "known vulnerabilities\nh11 0.1: X-1, fixed in 0.2, 1.0$"),
    ],
)
def test_what_was_found_is_a_failure_and_what_was_not_looked_at_is_said(
    packages: list[dict[str, Any]], status: int, told: str
) -> None:
    found, text = verdict(json.dumps({"dependencies": packages, "fixes": []}), "Found or not\n")
    assert found == status
    assert re.search(told, text)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("requests.exceptions.ConnectionError: Max retries exceeded\n", "no network"),
        ("/usr/bin/python: No module named pip_audit\n", "pip-audit is not installed; make install does it"),
        ("ERROR: something else\n", "ERROR: something else"),
        ("", "pip-audit failed"),
    ],
)
def test_what_cannot_be_checked_is_no_failure(errors: str, told: str) -> None:
    assert verdict("", errors) == (0, f"dependencies: not checked for known vulnerabilities: {told}")
