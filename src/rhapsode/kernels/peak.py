"""What this machine can do at best: the yardstick beside which a training step is shown."""

import time

import torch

SIZE = 1024
SECONDS = 0.25


def measure_peak_flops(dtype: torch.dtype, *, device: torch.device) -> float:
    """Floating-point operations a second of a square matrix product, the best of a quarter of a second of tries."""
    a = torch.randn(SIZE, SIZE, device=device).to(dtype)
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best
