"""Yardsticks: the best product of the machine, the memory of a process, and where a figure comes from."""

import datetime as dt
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rhapsode import __version__
from rhapsode.core.machine import examine
from rhapsode.kernels.peak import measure_peak_flops

GPU_SIZES = (4096, 8192, 16384)
GPU_TRIES = 20


def product_ceiling(device: torch.device) -> float:
    """Operations a second of the fastest bf16 product; a GPU shows its best only with large ones."""
    if device.type == "cpu":
        return measure_peak_flops(torch.bfloat16, device=device)
    return max(_products(size, device) for size in GPU_SIZES)


def _products(size: int, device: torch.device) -> float:
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(GPU_TRIES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(a, b)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU what torch took there, else the most that this process ever had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` of a child begins with what its parent had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def spread(values: Sequence[float], digits: int) -> str:
    """Median [smallest-largest]."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def provenance(bench: str, *, device: torch.device, threads: int) -> dict[str, Any]:
    """When, where and with what: the beginning of every record."""
    machine = examine(Path())
    return {
        "bench": bench,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor,
        "memory": machine.memory,
        "threads": threads,
        "torch": torch.__version__,
        "rhapsode": __version__,
    }


def keep(record: dict[str, Any], results: Path) -> None:
    """Append to a file of JSON lines."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
