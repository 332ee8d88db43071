"""The command line: verbs that parse, call and render."""

import sys


def main() -> None:
    """The `rhapsode` command."""
    from rhapsode.cli.app import run

    sys.exit(run(sys.argv[1:]))
