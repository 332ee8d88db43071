"""Keep freed memory instead of handing it back to the system.

A training step allocates and frees the same few hundred megabytes every time. glibc serves large blocks with `mmap` and
returns them at once, so every step faults all its pages in again: on two cores up to half of the time of a
memory-bound operator. Telling malloc to keep the memory costs nothing but the peak, which a step reaches anyway.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
TOP_PAD_BYTES = 256 << 20
NEVER = -1


def keep_freed_memory() -> bool:
    """Set glibc's malloc for work that allocates the same large blocks again and again.

    Returns:
        Whether it took effect; elsewhere than on glibc it does nothing and is not needed for correctness.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD_BYTES), (M_ARENA_MAX, 1))
    return all(mallopt(key, value) == 1 for key, value in settings)
