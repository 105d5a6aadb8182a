"""A process that starts exchanges by forking, so that a life of a tenth of a second does not cost seconds of start.

An exchange that is started with ``python -m exchange serve`` reads its modules and its compiled code before it does
anything. This process has done so once; each exchange is a fork of it, a process of its own, which then does all that a
start does: takes the folder, recovers, listens. Nothing of an exchange is left in it from the time before.

It reads a line of JSON for each thing to do from its standard input, and answers each with a line::

    {"prepare": [overrides ...], "journal": DIR}            have the loops of these settings compiled
    {"start": [arguments ...], "output": FILE, "log": FILE} run "exchange" with these arguments; answers the process

Rules: no thread runs here, for a fork takes only the one that asks along."""

import gc
import json
import os
import signal
import sys
import traceback
from typing import Any

from exchange.cli import run_command
from tests.gateway_driver import SETTINGS, users


def prepare(overrides: list[str], directory: str) -> None:
    """Compile what a start and a recovery with these settings take."""
    from exchange.gateway.server import Server
    from exchange.settings import load_profile

    everything = [*SETTINGS, *overrides, f"journal.directory={directory}"]
    server = Server(load_profile("journaled", everything), users(["nobody"]))
    assert server.journal is not None
    server.exchange.compile(lambda _text: None)
    server.journal.recover(server.exchange, server.transport, server.feed)
    server.close()


def start(arguments: list[str], output: str, log: str) -> int:
    """Fork an exchange; returns its process."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, path in ((1, output), (2, log)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["exchange", *arguments]
        status = run_command()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def answer(asked: dict[str, Any]) -> int:
    """Do one thing."""
    if "prepare" in asked:
        prepare(asked["prepare"], asked["journal"])
        gc.collect()
        return 0
    return start(asked["start"], asked["output"], asked["log"])


def main() -> None:
    """Do what is asked until nobody asks any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        print(answer(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
