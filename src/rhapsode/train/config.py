"""The recipe's `train:` section. Free of torch.

What is left out is derived from the model's size and the amount of data, and the plan shows it with its formula.
"""

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from rhapsode.core.config import Config, Count, Share
from rhapsode.core.units import parse_count
from rhapsode.kernels.storage import Storage
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.train.objectives.config import DistilConfig, ObjectiveField

BUDGET = re.compile(r"\s*(?:([0-9.]+ ?[a-zA-Z]*?)\s+(steps|tokens|epochs)|([0-9.]+) ?(s|m|h|d))\s*")
SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Budget(NamedTuple):
    """How long to train: a number of steps, of tokens or of passes over the data, or a time on this machine."""

    amount: float
    unit: Literal["steps", "tokens", "epochs", "seconds"]

    def __str__(self) -> str:
        if self.unit == "seconds":
            letter = next(letter for letter, each in SECONDS.items() if self.amount % each == 0 or each == 1)
            return f"{self.amount / SECONDS[letter]:.12g}{letter}"
        return f"{self.amount if self.amount % 1 else int(self.amount)} {self.unit}"


def parse_budget(value: Any) -> Budget:
    """'300 steps', '5m tokens', '1.5 epochs', or a time: '90s', '10m', '2h'."""
    if isinstance(value, Budget):
        return value
    match = BUDGET.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError(
            "budget",
            "{value} is not a budget; write for example 300 steps, 5m tokens, 2 epochs, or a time: 10m, 2h",
            {"value": repr(value)},
        )
    unit: Any = match[2] or "seconds"
    try:
        amount = float(match[3]) * SECONDS[match[4]] if unit == "seconds" else _amount(match[1], unit)
    except ValueError as error:
        raise PydanticCustomError("budget", "{message}", {"message": str(error)}) from None
    if amount <= 0:
        raise PydanticCustomError("budget", "a budget of {value} trains nothing", {"value": value})
    return Budget(amount, unit)


def _amount(text: str, unit: str) -> float:
    return float(text) if unit == "epochs" else parse_count(text)


BudgetField = Annotated[
    Budget,
    BeforeValidator(parse_budget),
    PlainSerializer(str),
    WithJsonSchema(
        {"type": "string", "pattern": BUDGET.pattern, "examples": ["300 steps", "5m tokens", "2 epochs", "10m", "2h"]}
    ),
]


class AdapterConfig(Config):
    """Train a change of low rank beside frozen weights (LoRA), and merge it into them at the end."""

    rank: Count = Field(default=16, ge=1, description="Of the change to each matrix.")
    alpha: float = Field(default=32, gt=0, description="The change is multiplied with alpha / rank.")
    targets: list[str] = Field(
        default=["all-linear"],
        min_length=1,
        description="Matrices that change, as Hugging Face names them: q_proj, down_proj; all-linear is every one.",
    )
    layers: list[Count] | None = Field(default=None, min_length=1, description="Blocks that are changed, from 0; all.")
    kind: Literal["lora", "dora"] = Field(
        default="lora", description="dora learns the length of every row apart from its direction."
    )
    rslora: bool = Field(default=False, description="Multiply with alpha / sqrt(rank), for high ranks.")

    @property
    def spec(self) -> AdapterSpec:
        """The adapter.

        Raises:
            RhapsodeError: its targets cannot be.
        """
        return AdapterSpec(
            rank=self.rank,
            alpha=self.alpha,
            targets=tuple(self.targets),
            kind=self.kind,
            is_rslora=self.rslora,
            layers=None if self.layers is None else tuple(self.layers),
        )


class TrainConfig(Config):
    """What is learned, of which weights, and for how long."""

    objective: ObjectiveField | None = Field(
        default=None,
        description="What an answer is worth: next_token (text), sft (answers), dpo, ipo, orpo, simpo (preferences), "
        "kto (feedback), grpo (answers that are sampled and judged), distil (text or answers, with a teacher); or of a "
        "model that does not write: classify (answers are labels), reward (preferences), embed (pairs); its name "
        "alone, or with its numbers. If absent, what the data is made for.",
    )
    adapter: AdapterConfig | None = Field(
        default=None,
        description="Train a small change beside frozen weights (LoRA); absent: all weights are trained.",
    )
    storage: Storage | None = Field(
        default=None,
        description="How frozen matrices are kept: bf16, int8 or int4 (QLoRA); if absent, as they compute. Only with "
        "an adapter.",
    )

    budget: BudgetField = Field(
        default=Budget(1, "epochs"),
        description="How long to train: steps, tokens, epochs (passes over the data), or a time on this machine "
        "(10m, 2h), of which the plan makes steps at the speed that it measures.",
    )
    batch_tokens: Count | None = Field(
        default=None, ge=1, description="Tokens a step, rounded to whole rows; derived from the budget if absent."
    )
    micro_batch_rows: Count | None = Field(
        default=None, ge=1, description="Rows computed at once; smaller needs less memory and gives the same gradient."
    )
    optimizer: Literal["muon", "adamw"] | None = Field(
        default=None,
        description="Muon for matrices with AdamW for the rest, or AdamW for everything; if absent, muon from scratch "
        "and adamw from a base.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Peak rate of the matrices (Muon) or of everything (AdamW); derived if absent."
    )
    embedding_learning_rate: float | None = Field(
        default=None, gt=0, description="Peak AdamW rate of embeddings and norms beside Muon; derived if absent."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="Decoupled decay of matrices, times the learning rate.")
    warmup: Share | None = Field(
        default=None,
        description="Share of the steps in which the rate rises from zero; if absent, 2% from scratch and 10% from a "
        "base.",
    )
    decay: Share | None = Field(
        default=None,
        description="Share of the steps, the last ones, in which the rate falls to zero; if absent, 50% from scratch "
        "and 90% from a base.",
    )
    clip: float = Field(
        default=1.0, gt=0, description="Largest norm of a step's gradient; a longer one is scaled down."
    )
    precision: Literal["bf16", "fp32"] | None = Field(
        default=None,
        description="Type of the computation, the faster one here if absent; master weights and optimizer state are "
        "always fp32.",
    )
    recompute: bool = Field(
        default=False,
        description="Keep what enters a block and compute the rest again on the way back: less memory, a third "
        "more time.",
    )
    parallel: Literal["auto", "replicate", "shard"] = Field(
        default="auto",
        description="Several ranks hold the whole model each (replicate, fastest) or share its rows (shard, FSDP2); "
        "auto shards what does not fit comfortably.",
    )
    tensor: Count = Field(
        default=1,
        ge=1,
        description="Neighbouring ranks that divide every matrix of a block and its product (tensor parallel), each of "
        "them with some heads; groups of these then replicate or shard.",
    )
    seed: Count = Field(default=0, description="Seed of the order of the data.")
    validate_every: Count = Field(default=50, ge=1, description="Steps between two looks at the held-out documents.")
    validation_tokens: Count | None = Field(
        default=None,
        ge=1,
        description="Held-out tokens of such a look, at most; if absent, what a tenth of the training's time pays for.",
    )
    samples: Count = Field(
        default=2,
        le=16,
        description="Prompts that a look lets the model go on with: task.prompts, then beginnings of held-out "
        "documents.",
    )
    save_every: Count = Field(default=200, ge=1, description="Steps between two checkpoints.")
    keep: Count = Field(
        default=2, ge=1, description="Newest checkpoints that are kept, beside the best one on held-out documents."
    )
    keep_every: Count | None = Field(
        default=None, ge=1, description="Steps between checkpoints that are kept for good; if absent, none is."
    )
    spike: float | None = Field(
        default=10,
        gt=0,
        description="Deviations above the recent losses or gradients from which a step is left out; null: never.",
    )
    max_skips: Count = Field(
        default=3, ge=1, description="Steps left out in a row at which the run goes back to a checkpoint, then stops."
    )

    @property
    def teacher(self) -> str | None:
        """The model that this one learns from, where it does."""
        return self.objective.teacher if isinstance(self.objective, DistilConfig) else None

    def optimizer_for(self, *, is_trained: bool) -> Literal["muon", "adamw"]:
        """The one that is named, or what suits weights that are trained already, or are not."""
        return self.optimizer or ("adamw" if is_trained else "muon")
