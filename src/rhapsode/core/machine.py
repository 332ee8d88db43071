"""What this machine has: processor, memory, disk. Limits set for a container count, as they are what we may use.

What was measured here is kept in `machine.json`, under the machine's identity: a home that several machines share, or
one that moves, never lends one machine the figures of another.
"""

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.home import read_record, write_record

FAST = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_bf16": "avx512_bf16",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "bf16": "bf16",
    "i8mm": "i8mm",
    "sve": "sve",
}
"""Flags that change how fast a model runs: as /proc/cpuinfo writes them, and as people do."""


class Machine(NamedTuple):
    """Memory and disk in bytes; `threads` is how many this process may use, `cores` on how many cores they run."""

    system: str
    processor: str
    flags: tuple[str, ...]
    threads: int
    memory: int
    memory_available: int
    disk_free: int
    cores: int


class Figures(NamedTuple):
    """What was measured: bytes a second from memory, operations a second of matrix products by precision."""

    bandwidth: float
    fp32_flops: float
    bf16_flops: float


KEPT = "machine.json"


def identity(machine: Machine) -> str:
    """What tells machines of different speed apart."""
    return f"{machine.processor}; {', '.join(machine.flags)}; {machine.threads} threads"


def keep(figures: Figures, machine: Machine) -> None:
    """Remember what was measured on `machine`: the best that it ever did, since other programs may be in the way.

    Raises:
        OSError: the home cannot be written.
    """
    before = kept(machine) or figures
    best = Figures(*map(max, before, figures))
    write_record(KEPT, read_record(KEPT) | {identity(machine): best._asdict()})


def kept(machine: Machine) -> Figures | None:
    """What was measured on `machine` before, if it was."""
    values: Any = read_record(KEPT).get(identity(machine))
    try:
        figures = Figures(**{name: float(value) for name, value in values.items()})
    except (AttributeError, TypeError, ValueError):
        return None
    return figures if all(0 < value < float("inf") for value in figures) else None


def examine(out: Path) -> Machine:
    """Look at the machine. `disk_free` is that of the disk which holds `out`."""
    cpuinfo = _table(Path("/proc/cpuinfo"))
    meminfo = _table(Path("/proc/meminfo"))
    total, available = _kib(meminfo, "MemTotal"), _kib(meminfo, "MemAvailable")
    limit, used = _memory_limit()
    present = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=cpuinfo.get("model name") or platform.processor() or platform.machine(),
        flags=tuple(name for flag, name in FAST.items() if flag in present),
        threads=allowed_threads(),
        memory=min(total, limit),
        memory_available=min(available, max(limit - used, 0)),
        disk_free=shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.exists())).free,
        cores=min(_cores(), allowed_threads()),
    )


def allowed_threads() -> int:
    """Threads that this process may keep busy: the processors it may run on, and the quota of its control group."""
    allowed = allowed_processors()
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    return max(1, min(allowed, int(quota) // int(period))) if quota.isdigit() and period else allowed


def allowed_processors() -> int:
    """Processors that this process may run on."""
    return len(_processors())


def _processors() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _cores() -> int:
    """Cores behind these processors: one where the system does not say which share a core."""
    siblings = Path("/sys/devices/system/cpu")
    found = {n: _read(siblings / f"cpu{n}" / "topology" / "thread_siblings_list") for n in _processors()}
    return len({shared or str(number) for number, shared in found.items()})


def _memory_limit() -> tuple[int, int]:
    """The control group's limit (a very large number if there is none) and what it uses of it."""
    limit = _read(Path("/sys/fs/cgroup/memory.max"))
    used = _read(Path("/sys/fs/cgroup/memory.current"))
    return (int(limit), int(used or 0)) if limit.isdigit() else (2**63, 0)


def _table(path: Path) -> dict[str, str]:
    """The first value of every `name: value` line."""
    rows: dict[str, str] = {}
    for line in _read(path).splitlines():
        name, _, value = line.partition(":")
        rows.setdefault(name.strip(), value.strip())
    return rows


def _kib(table: Mapping[str, str], name: str) -> int:
    """A "123 kB" entry in bytes; where the system has no such file, what sysconf knows."""
    if name in table:
        return int(table[name].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
