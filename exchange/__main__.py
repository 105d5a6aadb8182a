"""``python -m exchange``, and the ``exchange`` command: Ctrl-C stops it while its files are being read as well."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from exchange.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("exchange: stopped\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
