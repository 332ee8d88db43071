from pathlib import Path

import pytest

from rhapsode.core import machine
from rhapsode.core.machine import examine

CPUINFO = """\
processor\t: 0
model name\t: Fast 9000
flags\t\t: fpu avx2 avx512f amx_bf16

processor\t: 1
model name\t: Slow
"""
MEMINFO = "MemTotal:       16000 kB\nMemAvailable:    9000 kB\n"


@pytest.fixture
def files(monkeypatch):
    files = {"/proc/cpuinfo": CPUINFO, "/proc/meminfo": MEMINFO}
    monkeypatch.setattr(machine, "_read", lambda path: files.get(str(path), "").strip())
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    return files


def test_the_machine_is_read_from_the_system(files, tmp_path):
    found = examine(tmp_path)
    assert found.processor == "Fast 9000"
    assert found.flags == ("avx2", "avx512f", "amx_bf16")
    assert (found.memory, found.memory_available) == (16000 * 1024, 9000 * 1024)
    assert found.threads == 4


@pytest.mark.parametrize(("quota", "threads"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 4), ("", 4)])
def test_a_containers_share_of_the_processor_counts(files, tmp_path, quota, threads):
    files["/sys/fs/cgroup/cpu.max"] = quota
    assert examine(tmp_path).threads == threads


@pytest.mark.parametrize(
    ("limit", "used", "memory", "available"), [("1000000", "400000", 1_000_000, 600_000), ("max", "5", None, None)]
)
def test_a_containers_limit_of_memory_counts(files, tmp_path, limit, used, memory, available):
    files["/sys/fs/cgroup/memory.max"], files["/sys/fs/cgroup/memory.current"] = limit, used
    found = examine(tmp_path)
    assert found.memory == (memory or 16000 * 1024)
    assert found.memory_available == (available or 9000 * 1024)


def test_the_disk_is_that_of_a_folder_that_is_not_there_yet():
    assert examine(Path("not/there/yet")).disk_free > 0
