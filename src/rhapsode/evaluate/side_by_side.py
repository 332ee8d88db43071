"""Which items are shown beside each other, before and after."""

from collections.abc import Sequence

import numpy as np

from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.held_out import rank


def most_changed(names: Sequence[str], gains: Floats, *, count: int, seed: int) -> list[int]:
    """The largest gains, then the largest losses; where both are too few, others. A hash decides between equals.

    Args:
        gains: [N]; those that are not a number are none.
    """
    gains = np.nan_to_num(gains)
    order = sorted(range(len(names)), key=lambda i: rank(names[i], seed=seed))
    rising, falling = (sorted(order, key=lambda i: sign * gains[i]) for sign in (-1, 1))
    half = (count + 1) // 2
    best = [i for i in rising if gains[i] > 0]
    worst = [i for i in falling if gains[i] < 0]
    best, worst = best[: max(half, count - len(worst))], worst[: max(count - half, count - len(best))]
    chosen = [*best, *worst]
    return chosen + [i for i in order if gains[i] == 0][: count - len(chosen)]
