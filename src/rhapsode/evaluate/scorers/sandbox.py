"""Running programs that a model wrote: without network, in an empty folder, with limits on everything.

A program is one process tree in namespaces of its own (`jail.py`): it sees no network, no other process and no file but
the interpreter, which it cannot write; what it may use of time, memory, processes and space is counted; of the
environment of whoever asked it sees nothing, and when it ends nothing of it is left. This holds against programs that
are wrong or cheat; against one that breaks the kernel there is no help in it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rhapsode.core.errors import RhapsodeError

JAIL = Path(__file__).with_name("jail.py")
GRACE_SECONDS = 60.0
"""How much longer than the program the one that watches it may take."""

Walls = Literal["namespaces", "limits"]
Ended = Literal["exit", "signal", "time", "memory"]


class Limits(NamedTuple):
    """What a program may use.

    Attributes:
        seconds: on the clock, from start to end.
        cpu_seconds: of each of its processes.
        memory: bytes of address space of each process, and bytes in memory of all together.
        processes: at a time, threads included.
        file_bytes: of all its files together; with walls "limits", of each.
        files_most: how many files it may have.
        open_files: at a time, of each process.
        output_bytes: of what it prints; the rest is not kept.
    """

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory: int = 1 << 30
    processes: int = 32
    file_bytes: int = 16 << 20
    files_most: int = 1000
    open_files: int = 64
    output_bytes: int = 1 << 16


LIMITS = Limits()


class Outcome(NamedTuple):
    """How a program ended.

    Attributes:
        ended: by itself; by a signal, as after too much processor time; or because it took too much time or memory.
        code: its exit code, or the number of the signal.
        output: what it printed, errors among it.
        took: seconds.
    """

    ended: Ended
    code: int
    output: str
    took: float


def run_python(
    files: Mapping[str, str], *, main: str, stdin: str = "", limits: Limits = LIMITS, walls: Walls = "namespaces"
) -> Outcome:
    """Run one of `files`, with Python's standard library and no other.

    Args:
        files: text by name, in the folder where the program starts; a name has no folder in it.
        walls: "limits" makes no namespaces: for machines that allow none, and programs that are only wrong. Such a
            program can reach the network and all that its user can.

    Raises:
        RhapsodeError: this machine does not allow the walls; the program was not started.
    """
    assert main in files
    assert all("/" not in name for name in files), "a name with a folder"
    if sys.platform != "linux":
        raise _not_here("it is not Linux", walls="namespaces")
    with tempfile.TemporaryDirectory(prefix="rhapsode-sandbox-", ignore_cleanup_errors=True) as root:
        home = "/work" if walls == "namespaces" else root
        order = {
            **limits._asdict(),
            "walls": walls,
            "parent": os.getpid(),
            "root": root,
            "prefix": sys.base_prefix,
            "files": dict(files),
            "stdin": stdin,
            "command": [str(Path(sys.executable).resolve()), "-s", "-S", "-B", "-X", "utf8", main],
            "environment": {
                "PATH": "/usr/bin:/bin",
                "HOME": home,
                "TMPDIR": home,
                "PYTHONHASHSEED": "0",
                "MALLOC_ARENA_MAX": "1",
            },
        }
        answer = _watched(json.dumps(order), seconds=limits.seconds)
    if answer["ended"] == "refused":
        raise _not_here(str(answer["what"]), walls=walls)
    return Outcome(answer["ended"], answer["code"], answer["output"], answer["took"])


def _watched(order: str, *, seconds: float) -> dict[str, Any]:
    """The jail's answer."""
    command = [sys.executable, "-I", "-S", str(JAIL)]
    try:
        done = subprocess.run(
            command, input=order, capture_output=True, text=True, env={"PATH": os.defpath}, cwd="/",
            start_new_session=True, timeout=seconds + GRACE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"ended": "time", "code": 0, "output": "", "took": seconds + GRACE_SECONDS}
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2] or f"the jail ended with {done.returncode}"
        return {"ended": "refused", "what": why}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _not_here(why: str, *, walls: Walls) -> RhapsodeError:
    if walls == "limits":
        hint = "run as a user who is not root, or with an interpreter that everybody may read"
    else:
        hint = (
            "run where user namespaces are allowed (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0; "
            'Docker: --cap-add SYS_ADMIN --security-opt apparmor=unconfined), or say walls="limits" if nothing is at '
            "stake on this machine"
        )
    return RhapsodeError(f"programs of a model cannot be run behind walls on this machine: {why}", hint)
