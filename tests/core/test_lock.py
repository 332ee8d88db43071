import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.lock import locked, owner

HOLD = """
import sys, pathlib
from rhapsode.core.lock import locked, owner
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(directory: Path) -> "subprocess.Popen[str]":
    """Another process that holds `directory` until its input ends."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    with hold(tmp_path / "run") as owner:
        with pytest.raises(RhapsodeError, match=rf"in use by process {owner.pid}\b"), locked(tmp_path / "run"):
            pass
        owner.communicate()
    with locked(tmp_path / "run"):
        pass


def test_a_killed_owner_lets_go(tmp_path: Path) -> None:
    with hold(tmp_path) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        owner.communicate()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_refused_attempt_leaves_the_owner_in_charge(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(RhapsodeError, match=str(os.getpid())), locked(tmp_path):
                pass


def test_the_directory_is_free_again_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"), locked(tmp_path):
        raise ValueError("boom")
    with locked(tmp_path):
        pass


def test_anybody_may_ask_who_holds_a_directory(tmp_path: Path) -> None:
    assert owner(tmp_path / "none") is None
    with hold(tmp_path) as process:
        assert owner(tmp_path) == str(process.pid)
        process.communicate()
    assert owner(tmp_path) is None


def test_asking_never_refuses_the_lock_to_another(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as `owner` does for a moment
        release = threading.Timer(0.06, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        release.start()
        with locked(tmp_path):
            assert owner(tmp_path) == str(os.getpid())
        release.join()
