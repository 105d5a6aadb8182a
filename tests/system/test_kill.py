"""An exchange is killed with SIGKILL, at any moment, and loses nothing that it has told anybody.

A small part of ``python -m tests.system.kill_campaign``, which says what is held against what; and what an operator
sees of an end without notice."""

import asyncio
import re
import signal
from pathlib import Path

import pytest

from exchange.client import Client, Side
from exchange.wire.ouch50 import OrderAccepted
from tests.gateway_driver import PASSWORD, SETTINGS
from tests.system.kill_campaign import Day, Options, killed, run_day
from tests.system.kill_processes import Process, starting

SECONDS_MAX = 300.0
OPTIONS = (
    Options("mapped", "written", 1, "1MiB"),
    Options("file", "synced", 2, "1MiB"),
    Options("mapped", "synced", 2, "1MiB", run_as="processes"),
)
"""Other agents on a thread are another loop to compile, so not every combination is here."""
MOMENTS = ("load", "resume", "snapshot", "start", "load", "end", "load", "load", "start", "snapshot", "load", "resume",
           "load")  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: f"{options.gate}-{options.run_as}")
def test_what_clients_were_told_is_there_after_every_kill(tmp_path: Path, options: Options) -> None:
    moments = MOMENTS if options.run_as == "threads" else MOMENTS[:6]

    async def scenario() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            counts = await run_day(tmp_path / "day", options, 1, moments, starter)
        assert killed(counts) + counts["over before the kill: end"] + counts[
            "over before the kill: start"
        ] == len(moments)
        assert killed(counts) >= len(moments) - 2
        assert counts["trades"] > 0
        assert counts["messages sent again and equal"] > 0
        assert counts["days"] == 1

    with starting(tmp_path) as starter:
        asyncio.run(scenario())


def test_an_operator_sees_what_was_recovered_and_who_holds_the_folder(tmp_path: Path) -> None:
    users, journal = tmp_path / "users", tmp_path / "journal"
    overrides = (*SETTINGS, *OPTIONS[0].overrides(), f"journal.directory={journal}")
    command = [
        "serve",
        "journaled",
        "--users",
        str(users),
        *(part for one in overrides for part in ("--set", one)),
    ]

    async def trade(process: Process) -> tuple[str, int]:
        port = await process.port()
        client = await Client.connect("127.0.0.1", port, "alice", PASSWORD, reconnect_seconds=0)
        number = await client.place("AAPL", Side.BUY, 100, price_ticks=100_0000)
        answer = None
        while not isinstance(answer, OrderAccepted) or answer.user_reference_number != number:
            answer = await client.next_answer()
        session = client.session
        await client.close()
        return session, number

    async def scenario() -> None:
        starter.prepare(OPTIONS[0].overrides())
        Day.write_users(users)
        first = starter.start("first", command)
        session, _ = await trade(first)
        second = starter.start("second", command)
        await second.end()
        told = second.log.read_text()
        assert re.search(rf"exchange: journal\.directory = '{journal}': process \d+ writes to it", told), told
        first.signal(signal.SIGKILL)
        await first.end()
        for number in (signal.SIGTERM, signal.SIGINT):
            again = starter.start(f"ended-with-{number}", command, forked=False)
            assert await trade(again) == (session, 3 - (number == signal.SIGTERM))
            again.signal(number)
            await again.end()
            told = again.log.read_text()
            assert re.search(r"recovered .*replayed_commands=\d+ .*live_orders=\d+ .*seconds=\d", told), told
            assert "ended session_name" in told
            assert "Traceback" not in told

    with starting(tmp_path) as starter:
        asyncio.run(asyncio.wait_for(scenario(), SECONDS_MAX))
