"""The learning rate over a run: warm-up, stable, decay (Hu et al. 2024, MiniCPM), all linear."""


def rate(step: int, *, steps: int, warmup: int, decay: int) -> float:
    """The share of the peak rate at `step` (0 is the first): above 0 at the first step and at the last."""
    rising = (step + 1) / (warmup + 1)
    falling = (steps - step) / (decay + 1)
    return min(1.0, rising, falling)
