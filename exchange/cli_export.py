"""``exchange export``: the order book as a shared library for C, C++ and whatever calls C.

The command only parses, calls :func:`exchange.export.export_library` and prints what it wrote and how to use
it. What cannot be exported leaves as :class:`~exchange.errors.UserError`."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write to; it is made if it is not there.",
)
@click.option(
    "--cpu",
    default="native",
    show_default=True,
    metavar="NAME",
    help="The processor the code is for: native is this one; x86-64-v2, x86-64-v3 and x86-64-v4 are families; "
    "any name that LLVM knows is allowed.",
)
def export(out: Path, cpu: str) -> None:
    """Write the order book as a C library that needs no Python.

    Into DIR go libexchange_book.so, exchange_book.h and an example program. A C compiler is needed to link.
    """
    from exchange.export import export_library

    files = export_library(out, cpu)
    click.echo(f"{files.library}  {files.library.stat().st_size:,} bytes, for {cpu}")
    click.echo(f"{files.header}")
    click.echo(f"{files.example}")
    click.echo("\nTo try it:\n")
    click.echo(f"  cd {out}")
    click.echo("  cc -O2 example.c -I. -L. -lexchange_book -Wl,-rpath,'$ORIGIN' -pthread -o example")
