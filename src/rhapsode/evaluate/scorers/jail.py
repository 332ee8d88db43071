"""Runs a program behind walls and says how it ended: a script of its own, with the standard library and nothing else.

It is started by `sandbox.py` with an order on its standard input, and has three processes. This one watches time,
memory and output, and is the only one that still sees the machine. The first of the new namespaces builds a file
system with nothing in it but the interpreter and an empty /work, and everything in there dies with it. Its child gives
up every right that it can and becomes the program.

Linux only. A step that the machine does not allow ends everything before the program starts.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

NEW_MOUNTS, NEW_NAMES, NEW_IPC, NEW_USERS, NEW_PROCESSES, NEW_NETWORK = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
)  # fmt: skip
NOSUID, NODEV, BIND, RECURSIVE, PRIVATE = 2, 4, 4096, 16384, 1 << 18
MOUNT_SETATTR, AT_RECURSIVE, AT_FDCWD, READ_ONLY = 442, 0x8000, -100, 1
DIE_WITH_PARENT, ADOPT_ORPHANS, NO_NEW_RIGHTS = 1, 36, 38
NOBODY = 65534
FIRST_STRANGER = 2_000_000_000
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
LOOK_SECONDS = 0.05
PIECE = 1 << 16
KILLED = b'{"ended": "signal", "code": 9}'
"""What is true if the first process has no word left to say."""

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | None) -> None:
    """A function of the C library that gives -1 when it fails.

    Raises:
        OSError: it did, and why.
    """
    as_c = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if getattr(_libc, name)(*as_c) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main() -> None:
    order = json.load(sys.stdin)
    output, told = os.pipe(), os.pipe()
    try:
        stranger = part(order)
        first = os.fork()
    except OSError as error:
        answer: dict[str, Any] = {"ended": "refused", "what": str(error)}
    else:
        if first == 0:
            be_first(order, stranger, output[1], told[1])
        os.close(output[1])
        os.close(told[1])
        answer = watch(first, order, output[0], told[0])
    json.dump(answer, sys.stdout)


def part(order: dict[str, Any]) -> int | None:
    """Leave what the machine shares; gives the user that the program is to run as, or None for the one that we are.

    Somebody else than root asks for namespaces in a user namespace of his own. Root needs none, and hands the program
    to a user whom nobody else is, so that limits on a user's processes are its own.
    """
    call("prctl", ADOPT_ORPHANS, 1, 0, 0, 0)
    is_root = os.geteuid() == 0
    if order["walls"] == "namespaces":
        user, group = os.geteuid(), os.getegid()
        apart = NEW_PROCESSES | NEW_NETWORK | NEW_IPC | NEW_NAMES
        call("unshare", apart if is_root else apart | NEW_USERS)
        if not is_root:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call("prctl", DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != order["parent"]:
        raise OSError(0, "whoever asked is gone")
    children_of = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    children_of.read_text()  # without it nobody knows how much memory all of them hold
    return a_stranger() if is_root else None


def a_stranger() -> int:
    """A user whom nobody else is; in a container that has no number for him, the one that stands for nobody."""
    wanted = FIRST_STRANGER + os.getpid()
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return wanted if any(first <= wanted < first + count for first, _, count in ranges) else NOBODY


def be_first(order: dict[str, Any], stranger: int | None, output: int, told: int) -> NoReturn:
    """The first process of the namespaces: make the walls, start the program, wait for it."""
    try:
        call("prctl", DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        if order["walls"] == "namespaces":
            build(order, stranger)
        else:
            os.chdir(order["root"])
            if stranger is not None:
                os.chown(".", stranger, stranger)
        program = os.fork()
        if program == 0:
            become(order, stranger, output)
        os.close(output)
        while (found := os.wait())[0] != program:
            pass
        code = os.waitstatus_to_exitcode(found[1])
        tell(told, {"ended": "exit" if code >= 0 else "signal", "code": abs(code)})
    except BaseException as error:  # noqa: BLE001 - told, and nothing else happens in this process
        tell(told, {"ended": "refused", "what": f"{type(error).__name__}: {error}"})
    os._exit(0)


def tell(told: int, what: dict[str, Any]) -> None:
    os.write(told, json.dumps(what).encode() + b"\n")


def build(order: dict[str, Any], stranger: int | None) -> None:
    """A file system of what the interpreter needs, read-only, and of an empty /work that is as large as it may be."""
    root = order["root"]
    owner = stranger if stranger is not None else os.geteuid()
    group = stranger if stranger is not None else os.getegid()
    call("unshare", NEW_MOUNTS)
    call("mount", b"none", b"/", None, RECURSIVE | PRIVATE, None)
    call("mount", b"none", root.encode(), b"tmpfs", NOSUID | NODEV, b"size=1m,mode=755")
    for path in (*SYSTEM, order["prefix"]):
        show(path, root)
    for path in DEVICES:
        bind(path, root)
    work = Path(root, "work")
    work.mkdir()
    size = f"size={order['file_bytes']},nr_inodes={order['files_most']},mode=700,uid={owner},gid={group}"
    call("mount", b"none", bytes(work), b"tmpfs", NOSUID | NODEV, size.encode())
    Path(root, "tmp").symlink_to("work")
    seal(root, recursive=False)
    os.chroot(root)
    os.chdir("/work")


def show(path: str, root: str) -> None:
    """What lies at `path` at the same place below the root, read-only; nothing if there is nothing or it is there."""
    if Path(path).is_symlink():
        Path(root + path).symlink_to(Path(path).readlink())
    elif Path(path).exists() and not Path(root + path).exists():
        bind(path, root)
        seal(root + path, recursive=True)


def bind(path: str, root: str) -> None:
    target = Path(root + path)
    if Path(path).is_dir():
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    call("mount", path.encode(), bytes(target), None, BIND | RECURSIVE, None)


def seal(path: str, *, recursive: bool) -> None:
    """Read-only, and nothing in it gives rights or is a device."""
    wanted = (ctypes.c_uint64 * 4)(READ_ONLY | NOSUID | NODEV, 0, 0, 0)
    how = AT_RECURSIVE if recursive else 0
    call("syscall", MOUNT_SETATTR, AT_FDCWD, path.encode(), how, bytes(wanted), ctypes.sizeof(wanted))


def become(order: dict[str, Any], stranger: int | None, output: int) -> NoReturn:
    """The program: no rights, no way to get any, and limits on everything that can be counted for a process."""
    if stranger is not None:
        os.setgroups([])
        os.setresgid(stranger, stranger, stranger)
        os.setresuid(stranger, stranger, stranger)
    os.setsid()
    for name, text in {**order["files"], ".stdin": order["stdin"]}.items():
        Path(name).write_text(text, encoding="utf-8")
    given = os.open(".stdin", os.O_RDONLY)
    Path(".stdin").unlink()
    for end, standard in ((given, 0), (output, 1), (output, 2)):
        os.dup2(end, standard)
    limits = {
        resource.RLIMIT_CPU: order["cpu_seconds"],
        resource.RLIMIT_AS: order["memory"],
        resource.RLIMIT_FSIZE: order["file_bytes"],
        resource.RLIMIT_NOFILE: order["open_files"],
        resource.RLIMIT_NPROC: order["processes"] + running(stranger, order["walls"]),
        resource.RLIMIT_CORE: 0,
    }
    for which, most in limits.items():
        resource.setrlimit(which, (most, most))
    call("prctl", NO_NEW_RIGHTS, 1, 0, 0, 0)
    os.execve(order["command"][0], order["command"], order["environment"])


def running(stranger: int | None, walls: str) -> int:
    """Tasks of the program's user that are not the program's, and count against its limit all the same."""
    if stranger is not None or walls == "namespaces":
        return 2  # its own start, and in a namespace whoever made it
    count = 0
    for task in Path("/proc").glob("[0-9]*/task/*"):
        with contextlib.suppress(OSError):
            count += task.stat().st_uid == os.geteuid()
    return count


def watch(first: int, order: dict[str, Any], output: int, told: int) -> dict[str, Any]:
    """Wait for the end, or bring it about; gives how it ended and what was printed."""
    began, printed, said = time.monotonic(), bytearray(), bytearray()
    answer: dict[str, Any] = {}
    kept = {output: printed, told: said}
    limits = {output: order["output_bytes"], told: PIECE}
    while told in kept:
        for end in select.select(list(kept), [], [], LOOK_SECONDS)[0]:
            piece = os.read(end, PIECE)
            kept[end] += piece[: limits[end] - len(kept[end])]
            if not piece or (end == told and said.endswith(b"\n")):
                del kept[end]
        if time.monotonic() - began > order["seconds"]:
            answer = {"ended": "time"}
        elif resident() > order["memory"]:
            answer = {"ended": "memory"}
        if answer:
            break
    answer = answer or json.loads(said.partition(b"\n")[0] or KILLED)
    end_all(first)
    if output in kept:
        drain(output, printed, order["output_bytes"])
    text = printed.decode(errors="replace")
    return {"code": 0, "what": "", **answer, "output": text, "took": time.monotonic() - began}


def drain(output: int, printed: bytearray, most: int) -> None:
    """What was printed and not read yet; nobody prints any more."""
    while len(printed) < most and select.select([output], [], [], 0)[0] and (piece := os.read(output, PIECE)):
        printed += piece[: most - len(printed)]


def children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may end while it is looked at
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def descendants() -> list[int]:
    """Of this process; orphans among them, since it adopts them."""
    found = children(os.getpid())
    for process in found:  # which grows meanwhile
        found += children(process)
    return found


def resident() -> int:
    """Bytes of memory that all of them hold."""
    pages = 0
    for process in descendants():
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def end_all(first: int) -> None:
    """Kill until nobody is left. In namespaces the kernel does so, as soon as the first is killed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                for process in descendants():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                time.sleep(0.001)


if __name__ == "__main__":
    main()
