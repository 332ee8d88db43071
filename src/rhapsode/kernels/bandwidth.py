"""How fast this machine reads its memory: what decides the speed of writing an answer.

Measured as it is used: the engine's product of a matrix that no cache holds, once for every token.
"""

import time

import torch

from rhapsode.kernels.linear import linear

ROWS, COLUMNS = 16_384, 4_096  # 256 MiB of float32
SECONDS = 0.25


@torch.inference_mode()
def measure_bandwidth(*, device: torch.device) -> float:
    """Bytes a second, the best of a quarter of a second of tries."""
    matrix = torch.zeros(ROWS, COLUMNS, device=device)
    vector = torch.ones(1, COLUMNS, device=device)
    matrix.fill_(1.0)  # zeros share one page of memory until they are written
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        linear(vector, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return matrix.numel() * matrix.element_size() / best
