"""What a training run will do, with nothing left to derive. Free of torch.

The loop reads a `TrainPlan` and nothing else, so a number that is not in the plan cannot change the run.
`train/settle.py` makes it from the recipe.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rhapsode.kernels.storage import Storage
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.spec import ModelSpec


class Decision(NamedTuple):
    """A number the plan settled, and why: the formula, or that the recipe says so."""

    name: str
    value: str
    because: str


@dataclass(frozen=True)
class Teacher:
    """A model that another one learns from: the digest of its directory, and its architecture."""

    sha256: str
    spec: ModelSpec


@dataclass(frozen=True)
class TrainPlan:
    """Every number of a training run; `batch_rows` rows of `context` tokens are one step.

    Attributes:
        init_seed: draws the first weights; None where they are those of a base.
        base: the digest of the model that training starts from; None is from scratch.
        stops: tokens that will end a generation.
        begin: the id that every piece of a document begins with, as in `corpus.packing.batch`.
        parallel: what several ranks do: "replicate" the model, or "shard" its rows.
        tensor: so many ranks divide every product; of these groups there are as many as fit.
        objective: its name, and every number of it.
        adapter: what is learned beside frozen weights; None: all weights are trained.
        storage: how the frozen matrices of the blocks are kept; None is in the type that computes.
        teacher: whose distribution is learned, where the objective is that.
        samples: prompts of a look at the model: `prompts`, and if these are fewer, beginnings of held-out documents.
    """

    spec: ModelSpec
    init_seed: int | None
    base: str | None
    stops: tuple[int, ...]
    begin: int | None
    context: int
    steps: int
    batch_rows: int
    micro_batch_rows: int
    optimizer: str
    learning_rate: float
    embedding_learning_rate: float
    weight_decay: float
    warmup_steps: int
    decay_steps: int
    clip: float
    precision: str
    order_seed: int
    validate_every: int
    validation_tokens: int
    samples: int
    prompts: tuple[str, ...]
    save_every: int
    keep: int
    keep_every: int | None
    spike: float | None
    max_skips: int
    recompute: bool
    parallel: str
    tensor: int
    objective: Mapping[str, Any]
    adapter: AdapterSpec | None
    storage: Storage | None
    teacher: Teacher | None = None

    def saves_at(self, step: int) -> bool:
        """Whether there is a checkpoint after so many steps."""
        every = (self.save_every, *([self.keep_every] if self.keep_every else []))
        return step == self.steps or any(step % each == 0 for each in every)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
