"""Energy is measured where counters can be read, and called an estimate everywhere else."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from rhapsode.core.energy import Nvidia, ProcessorTime, Rapl, find_meter, rapl_zones

RANGE = 262_143_328_850


ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "uncore",
    "intel-rapl:2": "psys",
    "intel-rapl-mmio:0": "package-0",
}


class Tree:
    """A powercap directory as Linux lays it out for two packages, with what must not be counted twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for zone, name in ZONES.items():
            (path / zone).mkdir(parents=True)
            (path / zone / "name").write_text(f"{name}\n")
            (path / zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
            self.set(zone, 1_000_000)
        (path / "intel-rapl").mkdir()
        (path / "intel-rapl" / "enabled").write_text("1\n")

    def set(self, zone: str, microjoules: int) -> None:
        (self.path / zone / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "powercap")


def test_packages_and_their_memory_are_summed_and_nothing_twice(tree: Tree) -> None:
    assert [zone.name for zone in rapl_zones(tree.path)] == ["intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1"]
    meter = find_meter(powercap=tree.path)
    for zone in ZONES:
        tree.set(zone, 3_000_000)
    energy = meter.read()
    assert energy.joules == pytest.approx(3 * 2.0)
    assert (energy.are, energy.how) == ("measured", "counters of package-0, dram, package-1")


def test_a_counter_that_goes_round_goes_on(tree: Tree) -> None:
    tree.set("intel-rapl:0", RANGE - 500_000)
    meter = Rapl([tree.path / "intel-rapl:0"])
    for value in (RANGE - 100_000, 400_000, 900_000):
        tree.set("intel-rapl:0", value)
        joules = meter.read().joules
    assert joules == pytest.approx(0.4 + 0.5 + 0.5)


def test_counters_that_may_not_be_read_give_an_estimate(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "energy_uj":  # root may read everything, so chmod would not do
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    energy = find_meter(powercap=tree.path).read()
    assert energy.are == "estimate"
    assert "processor time x 5 W a thread" in energy.how


@pytest.mark.parametrize("nonsense", ["", "many\n"])
def test_counters_that_hold_no_number_give_an_estimate(nonsense: str, tree: Tree) -> None:
    (tree.path / "intel-rapl:1" / "energy_uj").write_text(nonsense)
    assert find_meter(powercap=tree.path).read().are == "estimate"


def test_a_counter_that_disappears_keeps_what_it_had(tree: Tree) -> None:
    meter = find_meter(powercap=tree.path)
    tree.set("intel-rapl:0", 9_000_000)
    assert meter.read().joules == pytest.approx(8.0)
    (tree.path / "intel-rapl:0" / "energy_uj").unlink()
    energy = meter.read()
    assert (energy.joules, energy.are) == (pytest.approx(8.0), "estimate")
    assert "a counter stopped" in energy.how


def test_a_machine_without_counters_gives_an_estimate(tmp_path: Path) -> None:
    used = iter([100.0, 160.0])
    energy = ProcessorTime(used=lambda: next(used)).read()
    assert energy == (300.0, "estimate", "60 s of processor time x 5 W a thread")
    assert find_meter(powercap=tmp_path / "none").read().are == "estimate"


class Driver:
    """NVML's functions over a dictionary of counters, in millijoules."""

    def __init__(self, counters: dict[bytes, int], *, answer: int = 0) -> None:
        self.counters, self.answer = counters, answer
        self.names = list(counters)

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's own name
        return self.answer

    def nvmlDeviceGetHandleByUUID(self, card: bytes, handle: Any) -> int:  # noqa: N802
        if card not in self.counters:
            return 6
        handle._obj.value = 1 + self.names.index(card)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, count: Any) -> int:  # noqa: N802
        count._obj.value = self.counters[self.names[(handle.value or 0) - 1]]
        return 0


def test_the_cards_that_are_named_are_counted_and_no_others() -> None:
    driver = Driver({b"GPU-1": 5_000, b"GPU-2": 100_000, b"GPU-3": 0})
    meter = Nvidia(["GPU-3", "GPU-1"], library=driver)
    driver.counters = {b"GPU-1": 6_500, b"GPU-2": 900_000, b"GPU-3": 1_000}
    assert meter.read() == (2.5, "measured", "the driver's counter of 2 GPUs")


@pytest.mark.parametrize("driver", [Driver({}), Driver({b"GPU-1": 0}, answer=9)])
def test_a_driver_that_does_not_count_is_an_error_to_the_caller(driver: Driver) -> None:
    with pytest.raises(OSError, match="nvml"):
        Nvidia(["GPU-1"], library=driver)


def test_a_sum_with_an_unknown_part_says_so(tree: Tree) -> None:
    energy = find_meter(cards=["GPU-1"], powercap=tree.path, nvml="no-such-library.so").read()
    assert energy.are == "estimate"
    assert "0 J measured, counters of package-0" in energy.how
    assert "the GPU is left out" in energy.how
