"""The command line: verbs that parse, call and render."""

import sys


def main() -> None:
    """The `rhapsode` command."""
    from rhapsode.cli.app import run
    from rhapsode.kernels.waiting import wait_briefly

    wait_briefly()
    sys.exit(run(sys.argv[1:]))
