import json
from pathlib import Path

import pytest

from rhapsode.core import machine
from rhapsode.core.machine import Figures, examine, identity, keep, kept

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


def test_two_threads_of_a_core_are_one_core(files, tmp_path):
    assert examine(tmp_path).cores == 4  # nobody says that they share one
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files |= {siblings.format(number): f"{number % 2},{number % 2 + 2}" for number in range(4)}
    assert examine(tmp_path).cores == 2
    files["/sys/fs/cgroup/cpu.max"] = "100000 100000"
    assert examine(tmp_path).cores == 1


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


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RHAPSODE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_figures_are_kept_for_this_machine_and_no_other(home, files, tmp_path):
    here = examine(tmp_path)
    assert kept(here) is None
    keep(Figures(20e9, 200e9, 800e9), here)
    assert kept(here) == Figures(20e9, 200e9, 800e9)
    assert kept(here._replace(memory_available=1, disk_free=1)) is not None, (
        "what changes from day to day is no identity"
    )
    for other in (here._replace(processor="Slow"), here._replace(threads=64), here._replace(flags=())):
        assert kept(other) is None
        keep(Figures(1.0, 1.0, 1.0), other)
    assert kept(here) == Figures(20e9, 200e9, 800e9)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"machine": 3}', "{%s: 3}", '{%s: {"bandwidth": "x"}}', '{%s: {"a": 1}}']
)
def test_damaged_figures_count_as_none(home, files, tmp_path, damage):
    here = examine(tmp_path)
    home.mkdir()
    (home / "machine.json").write_text(damage.replace("%s", json.dumps(identity(here))), encoding="utf-8")
    assert kept(here) is None
    keep(Figures(20e9, 200e9, 800e9), here)
    assert kept(here) is not None
    assert [path.name for path in home.iterdir()] == ["machine.json"]


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_impossible_figures_count_as_none(home, files, tmp_path, value):
    here = examine(tmp_path)
    keep(Figures(value, 1.0, 1.0), here)
    assert kept(here) is None


def test_the_best_that_was_ever_measured_is_kept(home, files, tmp_path):
    here = examine(tmp_path)
    keep(Figures(20e9, 100e9, 800e9), here)
    keep(Figures(7e9, 200e9, 300e9), here)
    assert kept(here) == Figures(20e9, 200e9, 800e9)
