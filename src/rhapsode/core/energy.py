"""What the work took from the socket, in joules: measured where the machine offers it, else an estimate that says so.

Linux counts the energy of Intel's and AMD's processors under /sys/class/powercap (RAPL), where the administrator allows
it to be read; NVIDIA's driver counts that of its cards. Fans, disks and power supplies are in neither.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

POWERCAP = Path("/sys/class/powercap")
WATTS_PER_THREAD = 5.0
"""A processor's rated power over its threads: about 2 in a large server, 5 in a desktop machine, more in small ones."""
NVML = "libnvidia-ml.so.1"

MEASURED, ESTIMATE = "measured", "estimate"


class Energy(NamedTuple):
    """`joules` since the meter was made, `are` "measured" or "estimate", and how one knows."""

    joules: float
    are: str
    how: str


class Meter(Protocol):
    """Counts from the moment it is made. Ask it at least every few minutes: some counters go round."""

    def read(self) -> Energy: ...


class Rapl:
    """The counters of all packages, and of their memory where it has one of its own.

    Args:
        zones: directories below powercap, as `rapl_zones` gives them.

    Raises:
        OSError: a counter cannot be read.
    """

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = [_number(zone / "energy_uj") for zone in zones]
        self._microjoules = 0
        self._how = "counters of " + ", ".join(_text(zone / "name") for zone in zones)

    def read(self) -> Energy:
        now = [_number(zone / "energy_uj") for zone in self._zones]
        for before, after, most in zip(self._last, now, self._ranges, strict=True):
            self._microjoules += after - before if after >= before else after - before + most
        self._last = now
        return Energy(self._microjoules / 1e6, MEASURED, self._how)


class ProcessorTime:
    """An estimate: the processor time that this process used, at so many watts a thread."""

    def __init__(self, *, watts: float = WATTS_PER_THREAD, used: Callable[[], float] = time.process_time) -> None:
        self._watts, self._used, self._start = watts, used, used()

    def read(self) -> Energy:
        seconds = self._used() - self._start
        how = f"{seconds:,.0f} s of processor time x {self._watts:g} W a thread"
        return Energy(seconds * self._watts, ESTIMATE, how)


class Nvidia:
    """The driver's own counter of some cards.

    Args:
        cards: their identifiers, as "GPU-8f6c...".
        library: NVML.

    Raises:
        OSError: the driver does not know a card, or does not count for it.
    """

    def __init__(self, cards: Sequence[str], *, library: Any) -> None:
        self._library, self._handles = library, [ctypes.c_void_p() for _ in cards]
        self._ask("nvmlInit_v2")
        for card, handle in zip(cards, self._handles, strict=True):
            self._ask("nvmlDeviceGetHandleByUUID", card.encode(), ctypes.byref(handle))
        self._start = self._millijoules()
        self._how = f"the driver's counter of {len(cards)} GPU{'s' * (len(cards) > 1)}"

    def read(self) -> Energy:
        return Energy((self._millijoules() - self._start) / 1e3, MEASURED, self._how)

    def _millijoules(self) -> int:
        total = 0
        for handle in self._handles:
            count = ctypes.c_ulonglong()
            self._ask("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(count))
            total += count.value
        return total

    def _ask(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise OSError(f"{function} answers {code}")


class Together:
    """Several meters of different parts. The sum is measured only if every part is.

    A counter that can no longer be read keeps its last value, and the sum is an estimate from there on.
    """

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = list(meters)
        self._last = [Energy(0.0, ESTIMATE, "")] * len(self._meters)

    def read(self) -> Energy:
        self._last = [_read(meter, last) for meter, last in zip(self._meters, self._last, strict=True)]
        is_measured = all(energy.are == MEASURED for energy in self._last)
        how = "; ".join(energy.how if len(self._last) == 1 else _part(energy) for energy in self._last)
        return Energy(sum(energy.joules for energy in self._last), MEASURED if is_measured else ESTIMATE, how)


def find_meter(*, cards: Sequence[str] = (), powercap: Path = POWERCAP, nvml: str = NVML) -> Meter:
    """The best meter that this machine offers for its processors and the named graphics cards."""
    meters: list[Meter] = [_processors(powercap)]
    if cards:
        try:
            meters.append(Nvidia(cards, library=ctypes.CDLL(nvml)))
        except (OSError, AttributeError) as error:  # no such library, or an old one without the counter
            meters.append(_Unknown(f"the GPU is left out: {error}"))
    return Together(meters)


def rapl_zones(powercap: Path) -> list[Path]:
    """Every package and every memory beside one. Cores are part of a package, "psys" has the packages in it."""
    zones = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
    return [zone for zone in zones if _text(zone / "name").partition("-")[0] in ("package", "dram")]


def _processors(powercap: Path) -> Meter:
    zones = rapl_zones(powercap)
    try:
        return Rapl(zones) if zones else ProcessorTime()
    except (OSError, ValueError):  # since 2020 only root may read them, against spying on neighbours
        return ProcessorTime()


class _Unknown:
    """A part of the machine that nobody counts."""

    def __init__(self, why: str) -> None:
        self._why = why

    def read(self) -> Energy:
        return Energy(0.0, ESTIMATE, self._why)


def _read(meter: Meter, last: Energy) -> Energy:
    try:
        return meter.read()
    except (OSError, ValueError) as error:
        return Energy(last.joules, ESTIMATE, f"a counter stopped: {error}")


def _part(energy: Energy) -> str:
    return f"{energy.joules:,.0f} J {'measured' if energy.are == MEASURED else 'estimated'}, {energy.how}"


def _number(path: Path) -> int:
    return int(path.read_bytes())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
