"""``python -m exchange.conformance``: put one of our books before ``tracebook-conformance``.

It reads messages from standard input and answers on standard output, and nothing else is printed there. Exits
with 0 when the run is complete, 2 after an ``error`` answer or for a mistake in the options, 130 after Ctrl-C
and 141 if the other side hangs up; the last two without a word, for they are how such a run is stopped. It is gone at
once when it has ended: the other side waits half a second for that and no longer.
"""

import os
import sys

import click

from exchange.conformance.units import LOTS_PER_UNIT
from exchange.ending import end_process
from exchange.limits import QUANTITY_LOTS_MAX


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--book", "book_kind", type=click.Choice(["naive", "ladder"]), required=True, help="The book to test."
)
@click.option(
    "--lots-per-unit",
    type=click.IntRange(1, QUANTITY_LOTS_MAX),
    default=LOTS_PER_UNIT,
    show_default=True,
    help="How many lots make a quantity of 1.",
)
@click.option("--keep-open", is_flag=True, help="Expect another run after each, until the input ends.")
def conformance(book_kind: str, lots_per_unit: int, keep_open: bool) -> None:
    """Speak the process protocol of tracebook-conformance on standard input and output."""
    from exchange.conformance.server import serve

    # Both are caught here and not in main(): click would print a blank line for the one and exit with 1 for the other.
    try:
        status = serve(
            book_kind, sys.stdin.buffer, sys.stdout.buffer, lots_per_unit=lots_per_unit, keep_open=keep_open
        )
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would flush it, and fail
        status = 141
    end_process(status)


def main() -> None:
    """Run the command; see the top of this file for how it exits."""
    try:
        conformance.main(prog_name="python -m exchange.conformance", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):  # while the modules were being loaded
        sys.exit(130)


if __name__ == "__main__":
    main()
