"""Attention, forward and back, over sequences that begin alike: as trees, and as documents of their own.

python bench/shared_prefixes.py                                      # the heads of Gemma 3 270M
python bench/shared_prefixes.py --threads 1 --window 512
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from arena.figures import keep, provenance, spread
from torch import Tensor

from rhapsode.kernels import native
from rhapsode.kernels.attention import DenseAttend, Weighing, document_mask

TILE = 64
"""Queries and keys that the operator in C takes together."""


class Family(NamedTuple):
    """Sequences that share `trunk` tokens, and go on with `length` each."""

    trunk: int
    branches: int
    length: int

    def as_tree(self) -> tuple[Tensor, Tensor]:
        """Documents and branches [1, T]."""
        branches = [0] * self.trunk + [n for n in range(1, self.branches + 1) for _ in range(self.length)]
        return torch.ones(1, len(branches), dtype=torch.long), torch.tensor([branches])

    def as_documents(self) -> tuple[Tensor, Tensor]:
        documents = torch.arange(1, self.branches + 1).repeat_interleave(self.trunk + self.length)[None]
        return documents, torch.zeros_like(documents)


FAMILIES = (
    Family(250, 2, 250),
    Family(440, 2, 70),
    Family(950, 2, 70),
    Family(440, 8, 70),
    Family(950, 8, 70),
    Family(60, 8, 450),
    Family(1, 4, 510),
)


class Side:
    """One way to lay the sequences out."""

    def __init__(self, rows: tuple[Tensor, Tensor], weighing: Weighing, heads: tuple[int, int, int]) -> None:
        H, K, C = heads
        self.tokens = rows[0].shape[1]
        mask = document_mask(*rows, window=weighing.window)
        self.tiles = int(F.max_pool2d(mask.float(), TILE, ceil_mode=True).sum())
        self._attend, self._weighing = DenseAttend(*rows, dtype=torch.bfloat16), weighing
        self._heads = [torch.randn(1, self.tokens, n, C).bfloat16().requires_grad_() for n in (H, K, K)]
        self._slope = torch.randn(1, self.tokens, H, C).bfloat16()

    def seconds(self) -> tuple[float, float]:
        """Of the way there, and of the way back."""
        start = time.perf_counter()
        out = self._attend(0, *self._heads, self._weighing)
        middle = time.perf_counter()
        torch.autograd.grad(out, self._heads, self._slope)
        return middle - start, time.perf_counter() - middle


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    assert native.has_attention(), "this processor does not multiply bfloat16"
    weighing = Weighing(options.heads[2] ** -0.5, options.window)
    record = provenance("shared_prefixes", device=torch.device("cpu"), threads=options.threads)
    record |= {"heads": options.heads, "window": options.window, "families": []}
    print("| trunk | branches | length | tokens | tiles | documents ms, there + back | tree ms | there | back | both |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for family in FAMILIES:
        sides = [Side(rows, weighing, options.heads) for rows in (family.as_documents(), family.as_tree())]
        for side in sides:
            side.seconds()
        rounds = [[side.seconds() for side in sides] for _ in range(options.rounds)]
        less = [sides[0].tokens / sides[1].tokens, sides[0].tiles / sides[1].tiles]
        times = [[statistics.median(turn[side][way] for turn in rounds) for way in (0, 1)] for side in (0, 1)]
        ratios = [[turn[0][way] / turn[1][way] for turn in rounds] for way in (0, 1)]
        both = [sum(turn[0]) / sum(turn[1]) for turn in rounds]
        cells = [*family, *(f"{x:.2f}" for x in less), *(f"{a * 1e3:.2f} + {b * 1e3:.2f}" for a, b in times)]
        print("|", " | ".join(map(str, [*cells, *(spread(x, 2) for x in (*ratios, both))])), "|", flush=True)
        record["families"].append({**family._asdict(), "less": less, "rounds": rounds})
    keep(record, options.results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, nargs=3, default=[4, 1, 256], help="of queries, of keys, and their size")
    parser.add_argument("--window", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("out/bench/shared_prefixes.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
