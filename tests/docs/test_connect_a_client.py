"""The example of the page about connecting prints what the page says, and its code is what the page shows."""

import asyncio
import os
import sys
from pathlib import Path

from tests.gateway_driver import PASSWORD, run, serving
from tests.moving_exchange import free_ports

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/first_order.py"
TEN_LINES = (14, 21)


def test_the_example_does_what_the_page_says() -> None:
    async def scenario() -> None:
        async with serving("alice") as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / EXAMPLE),
                str(server.address[1]),
                env=os.environ | {"PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
            )
            printed = (await process.communicate())[0].decode()
            assert process.returncode == 0
        page = (ROOT / "docs/connect-a-client.md").read_text(encoding="utf-8")
        assert printed.count("\n") == 3
        assert f"```text\n{printed}```" in page

    run(scenario())


def test_the_example_with_two_addresses_finds_the_one_that_is_served() -> None:
    async def scenario() -> None:
        (refusing,) = free_ports(1)
        async with serving("alice") as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / "docs/examples/two_addresses.py"),
                *(str(refusing), str(server.address[1])),
                env=os.environ | {"PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
            )
            printed = (await process.communicate())[0].decode()
            assert (process.returncode, printed) == (0, f"accepted at port {server.address[1]}\n")

    run(scenario())


def test_the_page_shows_the_ten_lines() -> None:
    lines = (ROOT / EXAMPLE).read_text(encoding="utf-8").splitlines()
    first, last = TEN_LINES
    page = (ROOT / "docs/connect-a-client.md").read_text(encoding="utf-8")
    assert f'--8<-- "{EXAMPLE}:{first}:{last}"' in page
    assert lines[first - 1].startswith("async def main")
    assert lines[last - 1].strip() == "break"
    assert last - first < 10
