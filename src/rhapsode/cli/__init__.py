"""The command line: verbs that parse, call and render."""

import os
import sys


def main() -> None:
    """The `rhapsode` command."""
    from rhapsode.cli.app import run
    from rhapsode.kernels.threads import respect_quota
    from rhapsode.kernels.waiting import wait_briefly

    respect_quota()
    wait_briefly()
    if "WORLD_SIZE" in os.environ:  # of several ranks, one that is lost is told of by us, without torch's stack traces
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    sys.exit(run(sys.argv[1:]))
