"""`rhapsode doctor`: what this machine can do, and what is missing."""

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from rhapsode import __version__
from rhapsode.cli import options
from rhapsode.cli.console import give, table
from rhapsode.core.home import home
from rhapsode.core.machine import Figures, examine
from rhapsode.core.units import format_bytes

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"]([^'\"]+)['\"])?")


def doctor(*, out: options.Out = options.OUT, json: options.Json = False) -> None:
    """Look at the machine, measure it, and list the packages that are installed and those that are not.

    What is measured is kept for the forecasts of `rhapsode models`.
    """
    from rhapsode.catalogue.figures import remember
    from rhapsode.catalogue.store import installed
    from rhapsode.cli.progress import watched

    machine, torch = examine(out), _torch()
    bandwidth = _bandwidth()
    with watched() as events:
        peaks = _processor_peaks(torch)
        remember(Figures(bandwidth, peaks["fp32"], peaks["bf16"]), machine, events=events)
    result = {
        "rhapsode": __version__,
        "python": platform.python_version(),
        "machine": machine._asdict(),
        "bandwidth": bandwidth,
        "torch": torch,
        "operators": _operators(),
        "home": str(home()),
        "models": [model.name for model in installed()],
        "packages": _packages(),
    }
    give(result, as_json=json, show=lambda console: _show(console, result))


def _torch() -> dict[str, Any]:
    """Torch's version and devices, and the best rate of a matrix product on the device that training would use."""
    import torch

    from rhapsode.kernels.peak import measure_peak_flops

    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if has_gpu else "cpu")
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())] if has_gpu else []
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
        "peak_device": device.type,
        "peak_flops": {
            name: measure_peak_flops(dtype, device=device)
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        },
    }


def _operators() -> str:
    """What does the small work between matrix products, and what would make it faster."""
    from rhapsode.kernels import native

    if not native.is_here():
        return "torch's: training is faster with a C compiler (cc, gcc or clang)"
    return "in C, compiled here" + ("" if native.has_attention() else "; attention torch's: no bf16 in this processor")


def _bandwidth() -> float:
    """Bytes a second from the memory of the processor, which is what limits a chat on it."""
    import torch

    from rhapsode.kernels.bandwidth import measure_bandwidth

    return measure_bandwidth(device=torch.device("cpu"))


def _processor_peaks(found: Mapping[str, Any]) -> Mapping[str, float]:
    """The rates of the processor, measured again where those found are a GPU's."""
    if found["peak_device"] == "cpu":
        peaks: Mapping[str, float] = found["peak_flops"]
        return peaks
    import torch

    from rhapsode.kernels.peak import measure_peak_flops

    precisions = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: measure_peak_flops(dtype, device=torch.device("cpu")) for name, dtype in precisions.items()}


def _packages() -> dict[str, dict[str, dict[str, str | None]]]:
    """Group ("base" or an extra) -> package -> what is needed and what is installed."""
    groups: dict[str, dict[str, dict[str, str | None]]] = {"base": {}}
    for line in importlib.metadata.requires("rhapsode") or []:
        match = _REQUIREMENT.match(line)
        assert match is not None, line
        name, needed, extra = match[1], match[2].strip(), match[3] or "base"
        if name != "rhapsode":
            groups.setdefault(extra, {})[name] = {"needed": needed, "installed": _version(name)}
    return groups


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _show(console: Console, result: Mapping[str, Any]) -> None:
    machine, torch = result["machine"], result["torch"]
    peaks = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {name}" for name, rate in torch["peak_flops"].items())
    rows = [
        ("rhapsode", f"{result['rhapsode']}, Python {result['python']}, torch {torch['version']}"),
        ("system", machine["system"]),
        ("processor", f"{machine['processor']} ({', '.join(machine['flags']) or 'no flags that matter'})"),
        ("threads", f"{machine['threads']}, of which torch uses {torch['threads']}"),
        ("memory", f"{format_bytes(machine['memory_available'])} free of {format_bytes(machine['memory'])}"),
        ("disk", f"{format_bytes(machine['disk_free'])} free"),
        ("GPU", ", ".join(f"{gpu['name']}, {format_bytes(gpu['memory'])}" for gpu in torch["gpus"]) or "none"),
        ("peak", f"{peaks} ({torch['peak_device']}, measured)"),
        ("operators", result["operators"]),
        ("bandwidth", f"{result['bandwidth'] / 1e9:.1f} GB/s from memory (measured)"),
        ("models", f"{', '.join(result['models']) or 'none yet'} (in {result['home']})"),
    ]
    console.print(table("", ("", ""), rows))
    for group, packages in result["packages"].items():
        absent = [name for name, package in packages.items() if package["installed"] is None]
        if absent:
            advice = f"pip install 'rhapsode[{group}]'" if group != "base" else "pip install rhapsode"
            console.print(Text.assemble((f"{group}: ", "bold"), f"not installed: {', '.join(absent)}; {advice}"))
        else:
            console.print(Text.assemble((f"{group}: ", "bold"), f"all {len(packages)} packages are installed"))
