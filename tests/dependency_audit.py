"""Do the installed packages have known vulnerabilities? ``make check`` asks, where it can.

``pip-audit`` asks the database of the Python Package Index about every package of this environment. It needs the
network. Where there is none the answer is "not checked", in a line, and no failure: a check that cannot be done must
neither stop anybody's work nor look as if it had been done. What it finds is a failure.

``pip check`` runs first and needs nothing: whether the versions that are installed suit each other."""

import json
import subprocess
import sys
from typing import Final

SECONDS_MAX: Final = 90.0
NETWORK_SECONDS: Final = "10"


def main() -> int:
    """The exit status."""
    consistent = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    if consistent.returncode != 0:
        print(f"dependencies: {(consistent.stdout or consistent.stderr).strip()}")
        return 1
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--skip-editable",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    try:
        done = subprocess.run(
            [*command, "--timeout", NETWORK_SECONDS],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        status, told = 0, not_checked(f"no answer within {SECONDS_MAX:.0f} s")
    else:
        status, told = verdict(done.stdout, done.stderr)
    print(told)
    return status


def verdict(output: str, errors: str) -> tuple[int, str]:
    """What pip-audit has said, as JSON and in words: an exit status, and what to say.

    A package that its database does not know counts as not checked: behind some mirrors that is every package.
    """
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, not_checked(_trouble(errors))
    checked = [one for one in packages if "vulns" in one]
    bad = [
        f"{one['name']} {one['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for one in checked
        for found in one["vulns"]
    ]
    if bad:
        return 1, "dependencies: known vulnerabilities\n" + "\n".join(bad)
    if not checked:
        return 0, not_checked("the index that is used here has no database of them")
    left = len(packages) - len(checked)
    more = f"; {left} are not in the database and were not checked" if left else ""
    return 0, f"dependencies: {len(checked)} packages without known vulnerabilities{more}"


def _trouble(errors: str) -> str:
    if "No module named pip_audit" in errors:
        return "pip-audit is not installed; make install does it"
    if any(word in errors for word in ("onnect", "timed out", "resolve", "SSLError", "Proxy")):
        return "no network"
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "pip-audit failed"


def not_checked(reason: str) -> str:
    """The line that says so."""
    return f"dependencies: not checked for known vulnerabilities: {reason}"


if __name__ == "__main__":
    sys.exit(main())
