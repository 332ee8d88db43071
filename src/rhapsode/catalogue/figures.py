"""The measured figures of this machine: those that are kept, or measured now and kept."""

from rhapsode.core.events import Events
from rhapsode.core.machine import Figures, Machine, keep, kept


def figures_of(machine: Machine, *, events: Events) -> Figures:
    """What is kept of this machine, or else measured, which takes about two seconds and is said."""
    if (known := kept(machine)) is not None:
        return known
    events.emit("measuring")
    found = measure()
    remember(found, machine, events=events)
    return found


def measure() -> Figures:
    """Measure memory and matrix products on the processor, which is where models chat."""
    import torch

    from rhapsode.kernels.bandwidth import measure_bandwidth
    from rhapsode.kernels.peak import measure_peak_flops

    device = torch.device("cpu")
    return Figures(
        bandwidth=measure_bandwidth(device=device),
        fp32_flops=measure_peak_flops(torch.float32, device=device),
        bf16_flops=measure_peak_flops(torch.bfloat16, device=device),
    )


def remember(figures: Figures, machine: Machine, *, events: Events) -> None:
    """Keep the figures; a home that cannot be written costs a warning, not the work."""
    try:
        keep(figures, machine)
    except OSError as error:
        events.emit("warning", message=f"the figures of this machine are not kept: {error}")
