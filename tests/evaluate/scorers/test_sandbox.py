"""Programs that try to break out, to take everything, or to stay."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from tests.evaluate.scorers.conftest import Run

import rhapsode
from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.sandbox import LIMITS, run_python

SHORT = LIMITS._replace(seconds=3.0)


def test_an_ordinary_program(run: Run) -> None:
    outcome = run("import sys, json; print(json.dumps(sys.stdin.read()), 6 * 7)", stdin="words\n")
    assert (outcome.ended, outcome.code, outcome.output) == ("exit", 0, '"words\\n" 42\n')


def test_files_and_processes_of_its_own(run: Run) -> None:
    outcome = run("""
import subprocess, sys, tempfile, threading
open("a.txt", "w").write("mine")
print(subprocess.run([sys.executable, "-c", "print(open('a.txt').read())"], capture_output=True, text=True).stdout)
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
""")
    assert outcome.output.split() == ["mine", "thread"]


def test_the_same_program_does_the_same_again(run: Run) -> None:
    program = "print({str(i) for i in range(20)}, hash('x'))"
    assert run(program).output == run(program).output


def test_errors_are_told(run: Run) -> None:
    outcome = run("print('before'); raise SystemExit('wrong')")
    assert (outcome.ended, outcome.code) == ("exit", 1)
    assert outcome.output.split() == ["before", "wrong"]


@pytest.mark.parametrize(
    "program", ["while True: pass", "import time; time.sleep(1000)", "import signal\nsignal.pause()"]
)
def test_an_endless_program_is_ended(run: Run, program: str) -> None:
    outcome = run(program, limits=SHORT._replace(seconds=1.0))
    assert outcome.ended == "time"
    assert outcome.took < 30


def test_processor_time_is_counted_apart_from_the_clock(run: Run) -> None:
    outcome = run("while True: pass", limits=LIMITS._replace(seconds=500.0, cpu_seconds=1))
    assert (outcome.ended, outcome.code) in (("signal", signal.SIGKILL), ("signal", signal.SIGXCPU))


def test_signals_that_can_be_ignored_do_not_save_it(run: Run) -> None:
    outcome = run("""
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True: pass
""", limits=SHORT._replace(seconds=1.0))  # fmt: skip
    assert outcome.ended == "time"


def test_memory_of_one_process(run: Run) -> None:
    outcome = run("x = bytearray(10**10)")
    assert outcome.output.endswith("MemoryError\n")


def test_memory_of_all_together(run: Run) -> None:
    outcome = run("""
import os, time
for _ in range(10):
    if not os.fork():
        x = bytearray(b"1") * (40 << 20)
        time.sleep(100)
time.sleep(100)
""", limits=LIMITS._replace(memory=200 << 20, seconds=60.0))  # fmt: skip
    assert outcome.ended == "memory"


def test_a_fork_bomb_meets_a_wall_and_leaves_nobody(run: Run) -> None:
    mark = f"bomb-{os.getpid()}"
    outcome = run(f"""
import os, sys
name = "{mark}"
while True:
    try:
        os.fork()
    except OSError as error:
        os.write(1, b"refused\\n")
""", limits=LIMITS._replace(seconds=2.0, processes=16))  # fmt: skip
    assert outcome.ended == "time"
    assert "refused" in outcome.output
    assert not strangers()


def strangers() -> list[str]:
    """Processes that run as somebody who is only made for programs of models."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid >= 2_000_000_000:
                found.append((path / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_threads_count_as_processes(run: Run) -> None:
    outcome = run("""
import threading, time
for count in range(1000):
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
""", limits=LIMITS._replace(processes=16))  # fmt: skip
    assert "can't start new thread" in outcome.output


def test_a_process_that_leaves_its_session_ends_with_the_others(run: Run, tmp_path: Path) -> None:
    before = time.monotonic()
    outcome = run("""
import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        time.sleep(1000)
    os._exit(0)
print("gone")
""")
    assert outcome.output == "gone\n"
    assert time.monotonic() - before < 60
    assert not strangers()


def test_nothing_of_the_environment_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHAPSODE_TEST_SECRET", "hunter2")
    outcome = run("""
import os, pathlib
print(dict(os.environ))
for path in pathlib.Path("/proc").glob("*/environ"):
    print(path.read_bytes())
""")
    assert "hunter2" not in outcome.output
    assert "RHAPSODE" not in outcome.output
    assert "PATH" in outcome.output


def test_files_of_the_machine_are_not_there(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    outcome = run(f"""
import os, pathlib
places = [{str(secret)!r}, "/etc/passwd", "/etc/shadow", {rhapsode.__file__!r}, "/proc/1/environ"]
for path in [*places, os.path.expanduser("~root")]:
    print(pathlib.Path(path).exists())
print(sorted(os.listdir("/")), os.listdir("."))
""")
    *there, listing = outcome.output.splitlines()
    assert there == ["False"] * 6
    assert listing.endswith("['main.py']")
    assert "home" not in listing


def test_nothing_can_be_written_outside(run: Run, tmp_path: Path) -> None:
    outcome = run(f"""
import os, sys
library = os.path.dirname(os.__file__)
places = ["/x", "/usr/x", {str(tmp_path / "x")!r}, os.path.join(sys.prefix, "x"), library + "/os.py", "/dev/x"]
for place in places:
    try:
        open(place, "w").write("x")
    except OSError as error:
        print(type(error).__name__)
""")
    assert len(outcome.output.split()) == 6, outcome.output
    assert set(outcome.output.split()) <= {"OSError", "PermissionError", "FileNotFoundError"}
    assert not list(tmp_path.iterdir())


def test_space_is_limited_for_all_files_together(run: Run) -> None:
    outcome = run("""
for i in range(100):
    try:
        open(f"{i}", "wb").write(bytes(1 << 20))
    except OSError as error:
        print(i, error)
        break
""")
    written, _, error = outcome.output.partition(" ")
    assert 14 <= int(written) <= 16
    assert error == "[Errno 28] No space left on device\n"


def test_a_large_file_is_refused(run: Run) -> None:
    assert "OSError: [Errno" in run("open('x', 'wb').write(bytes(100 << 20))").output


def test_the_number_of_files_is_limited(run: Run) -> None:
    outcome = run("for i in range(10_000): open(str(i), 'w').close()")
    assert "No space left" in outcome.output


def test_there_is_no_network(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = run(f"""
import socket
for address in (("127.0.0.1", {port}), ("8.8.8.8", 53)):
    try:
        socket.create_connection(address, timeout=2)
        print("connected")
    except OSError as error:
        print(error.errno)
""")
    assert outcome.output.split() == ["101", "101"]  # the network is unreachable


def test_abstract_sockets_of_the_machine_are_out_of_reach(run: Run) -> None:
    name = f"\0rhapsode-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        outcome = run(f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})")
    assert "ConnectionRefusedError" in outcome.output


def test_the_parent_cannot_be_killed_nor_seen(run: Run) -> None:
    outcome = run(f"""
import os
print(os.getpid() < 10, os.getppid())
for process in ({os.getpid()}, os.getppid(), -1):
    try:
        os.kill(process, 9)
        print("killed")
    except OSError as error:
        print(type(error).__name__)
""")
    lines = outcome.output.split()
    assert lines[:2] == ["True", "1"]
    assert lines[2] == "ProcessLookupError"
    assert lines[3] in ("PermissionError", "killed")  # a signal to the first process of a namespace is dropped


def test_there_are_no_rights_to_get_back(run: Run) -> None:
    outcome = run("""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000), libc.unshare(0x00020000))
print(libc.mount(b"none", b"/work", b"tmpfs", 0, None), libc.ptrace(16, 1, 0, 0))
for act in (lambda: os.setuid(0), lambda: os.chroot("/work"), lambda: os.mknod("null", 0o20666, os.makedev(1, 3))):
    try:
        act()
        print("allowed")
    except OSError as error:
        print("refused")
""")
    assert outcome.output.split() == ["-1"] * 4 + ["refused"] * 3


def test_limits_cannot_be_raised(run: Run) -> None:
    outcome = run("""
import resource
for name in ("CPU", "AS", "FSIZE", "NOFILE", "NPROC", "CORE"):
    which = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(which)
    try:
        resource.setrlimit(which, (hard + 1, hard + 1))
        print(name)
    except (ValueError, OSError):
        pass
""")
    assert outcome.output == ""


def test_of_endless_output_only_the_beginning_is_kept(run: Run) -> None:
    outcome = run("while True: print('x' * 1000)", limits=SHORT._replace(output_bytes=5000))
    assert outcome.ended == "time"
    assert len(outcome.output) == 5000


def test_output_that_is_no_text_is_no_error(run: Run) -> None:
    assert run("import os; os.write(1, bytes(range(256)))").ended == "exit"


def test_ends_by_a_signal_are_told(run: Run) -> None:
    outcome = run("import ctypes; ctypes.string_at(0)")
    assert (outcome.ended, outcome.code) == ("signal", signal.SIGSEGV)


def test_when_whoever_asked_is_killed_the_program_ends(walls: None, tmp_path: Path) -> None:
    asking = textwrap.dedent("""
        import sys
        from rhapsode.evaluate.scorers.sandbox import LIMITS, run_python
        print("started", flush=True)
        run_python({"main.py": "import time; time.sleep(1000)"}, main="main.py", limits=LIMITS._replace(seconds=500.0))
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(rhapsode.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", asking], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until(lambda: len(sleepers()) >= 1)
        process.kill()
    until(lambda: not sleepers())


def sleepers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().endswith(b"-X\0utf8\0main.py\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(what: object) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_several_at_a_time_are_limited_each_for_itself(run: Run) -> None:
    """Were processes counted together, these would starve each other."""
    program = """
import os, time
for _ in range(6):
    if not os.fork():
        time.sleep(1)
        os._exit(0)
print("all")
"""
    outputs: list[str] = []
    limits = LIMITS._replace(processes=8, seconds=60.0)
    threads = [threading.Thread(target=lambda: outputs.append(run(program, limits=limits).output)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["all\n"] * 3


def test_nothing_is_left_in_the_folder_for_temporary_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run("open('x', 'w').write('x')")
    assert not list(tmp_path.iterdir())


ATTEMPTS = {
    "ordinary": "print(6 * 7); open('x', 'w')",
    "endless": "while True: pass",
    "memory": "x = bytearray(10**10)",
    "forks": "import os\nwhile True:\n  try: os.fork()\n  except OSError: os.write(1, b'refused')",
    "stays": "import os\nif not os.fork():\n  os.setsid()\n  while True: pass",
    "environment": "import os; print(dict(os.environ))",
    "elsewhere": "open('/x', 'w')",
    "rights": "import ctypes; print(ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None))",
}


@pytest.mark.parametrize("walls", ["namespaces", "limits"])
def test_somebody_without_any_rights_has_walls_as_well(walls: str, walls_of_anybody: Path) -> None:
    """In another process, as nobody, if these tests are run by root; with an interpreter that nobody may read."""
    script = textwrap.dedent("""
        import json, sys
        from rhapsode.evaluate.scorers.sandbox import LIMITS, run_python
        limits = LIMITS._replace(seconds=2.0, processes=10, output_bytes=1000)
        for name, program in json.loads(sys.argv[2]).items():
            outcome = run_python({"main.py": program}, main="main.py", limits=limits, walls=sys.argv[1])
            print(json.dumps([name, outcome.ended, outcome.output]))
    """)
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    command = [str(walls_of_anybody), "-B", "-c", script, walls, json.dumps(ATTEMPTS)]
    environment = {"PYTHONPATH": str(Path(rhapsode.__file__).parents[1]), "RHAPSODE_TEST_SECRET": "hunter2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/", **user)
    if walls == "namespaces" and "cannot be run behind walls" in done.stderr:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])
    assert not done.returncode, done.stderr
    found = {name: (ended, output) for name, ended, output in map(json.loads, done.stdout.splitlines())}
    assert found["ordinary"] == ("exit", "42\n")
    assert found["endless"] == ("time", "")
    assert "MemoryError" in found["memory"][1]
    assert found["forks"][0] == "time"
    assert "refused" in found["forks"][1]
    assert found["stays"] == ("exit", "")
    assert "hunter2" not in found["environment"][1]
    assert "Error" in found["elsewhere"][1]
    assert found["rights"] == ("exit", "-1\n")
    assert not sleepers()


@pytest.fixture(scope="session")
def walls_of_anybody() -> Path:
    """An interpreter for a user who is not root."""
    own = Path(sys.executable)
    if os.geteuid() or all(p.stat().st_mode & 0o005 == 0o005 for p in own.resolve().parents):
        return own
    for path in map(Path, ("/usr/bin/python3", "/usr/local/bin/python3")):
        version = [str(path), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        if path.exists() and not subprocess.run(version, check=False).returncode:
            return path
    pytest.skip("there is no Python 3.11 on this machine that a user without rights may run")


def test_a_machine_that_allows_no_walls_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container without the right to make namespaces."""
    monkeypatch.setattr("rhapsode.evaluate.scorers.sandbox.JAIL", stub := tmp_path / "jail.py")
    stub.write_text('print(\'{"ended": "refused", "what": "unshare: Operation not permitted"}\')')
    with pytest.raises(RhapsodeError) as error:
        run_python({"main.py": ""}, main="main.py")
    assert "unshare: Operation not permitted" in error.value.message
    assert 'walls="limits"' in error.value.hint
    with pytest.raises(RhapsodeError) as error:
        run_python({"main.py": ""}, main="main.py", walls="limits")
    assert "not root" in error.value.hint
