"""What an adapter is, as a value. Free of torch, so that plans and forms can reason about adapters.

An adapter is a change of low rank to some matrices of a model's blocks (LoRA, Hu et al. 2021, arXiv:2106.09685), named
as Hugging Face names them: the same words as in PEFT's files, hit by the same rule.
"""

import math
from dataclasses import dataclass
from typing import Literal

from rhapsode.core.errors import RhapsodeError

AdapterKind = Literal["lora", "dora"]
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class AdapterSpec:
    """A whole adapter.

    Attributes:
        rank: of every learnt matrix.
        alpha: the learnt matrix is multiplied with alpha / rank, or where `is_rslora`, alpha / sqrt(rank).
        targets: the modules that are hit, by the end of their names, such as q_proj or mlp.down_proj; "all-linear"
            alone is every matrix of the blocks.
        kind: lora; or dora, which learns the length of every row beside its direction (Liu et al. 2024,
            arXiv:2402.09353).
        is_rslora: the scale that keeps a high rank learning (Kalajdzievski 2023, arXiv:2312.03732).
        dropout: none, for dropped numbers would make a step depend on how its rows are split.
        layers: the blocks that are hit; None is all of them.
        tokens: those whose rows in the embedding, and in a projection that is not tied to it, are trained whole.

    Raises:
        RhapsodeError: a value cannot be.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = (ALL_LINEAR,)
    kind: AdapterKind = "lora"
    is_rslora: bool = False
    dropout: float = 0.0
    layers: tuple[int, ...] | None = None
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise RhapsodeError(f"an adapter's rank is {self.rank}", "choose 1 or more, for example 16")
        if not 0 < self.alpha < math.inf:
            raise RhapsodeError(f"an adapter's alpha is {self.alpha}", "choose a number above 0, for example 16")
        if self.kind not in ("lora", "dora"):
            raise RhapsodeError(f"an adapter's kind is {self.kind!r}", "choose lora or dora")
        if self.dropout:
            raise RhapsodeError(f"an adapter's dropout is {self.dropout}", "leave it out: it is not built")
        if not self.targets or (ALL_LINEAR in self.targets and len(self.targets) > 1):
            raise RhapsodeError(
                f"an adapter's targets are {list(self.targets)}", f"name modules, or {ALL_LINEAR} and nothing else"
            )

    @property
    def scale(self) -> float:
        """What the product B A is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.is_rslora else self.rank)

    def hits(self, module: str, *, layer: int) -> bool:
        """Whether the module, by its whole name on disk, is adapted; the rule is PEFT's."""
        if module in self.targets:
            return True
        is_named = self.targets == (ALL_LINEAR,) or any(module.endswith(f".{name}") for name in self.targets)
        return is_named and (self.layers is None or layer in self.layers)
