"""Our training with one thing changed: what an ablation compares with the plan as it is settled.

What a recipe can say is changed there; what it cannot is altered in the trainer, in a process of its own.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch.nn.functional as F

from arena.shape import IDS, Shape
from rhapsode.kernels.cross_entropy import chunked_cross_entropy
from rhapsode.model.config import ModelConfig
from rhapsode.model.decoder import Decoder
from rhapsode.model.size import Ids, shape_of
from rhapsode.model.spec import ModelSpec
from rhapsode.train import optimizer as optimizers
from rhapsode.train.objective import Batch, NextToken, hidden_states
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.optimizer import Muon
from rhapsode.train.plan import TrainPlan
from rhapsode.train.trainer import Trainer, make_optimizer

Alter = Callable[[Trainer], None]


def leave(trainer: Trainer) -> None:
    """Change nothing."""


class Arm(NamedTuple):
    """One change.

    Attributes:
        train: of the recipe's `train:` section.
        family, size: another family, another number of parameters.
        rates: what the settled peak rates are multiplied with: of the matrices or everything, and of the embedding.
        alter: what is done to the trainer before its first step.
        pace: whose speed it has, by the share of the tokens; its own, measured, if there is nothing.
    """

    train: dict[str, Any] = {}  # noqa: RUF012 - nobody writes into it
    family: str = "qwen3"
    size: int | None = None
    rates: tuple[float, float] = (1.0, 1.0)
    alter: Alter = leave
    pace: dict[str, float] = {}  # noqa: RUF012

    def change(self, plan: TrainPlan) -> TrainPlan:
        rate, beside = plan.learning_rate * self.rates[0], plan.embedding_learning_rate * self.rates[1]
        return dataclasses.replace(plan, learning_rate=rate, embedding_learning_rate=beside)

    def spec(self, shape: Shape) -> ModelSpec:
        if self.size is None:
            return shape.spec(self.family)
        config = ModelConfig.model_validate({"family": self.family, "context": shape.context})
        return shape_of(config, size=self.size, ids=Ids(shape.vocab, **IDS)).spec


FOUR = (
    (8.34098067179567, -24.597367896594378, 18.22302487632441),
    (3.9779944237830387, -2.965434209067008, 0.5642720012484784),
    (3.327478541017012, -2.495236796816244, 0.510813367795594),
    (2.308564577438504, -1.675994456026124, 0.4195739287707896),
)
"""The best quintics for singular values from 0.004 upwards."""
THREE = (
    (7.897654889354008, -22.84897460008898, 16.83293198990143),
    (3.4067911785903098, -2.5540517165810037, 0.5174798788049879),
    (2.383019040681918, -1.7418778977945946, 0.4267258826618809),
)
"""The best from 0.015 upwards."""


def quintics(found: Any) -> Alter:
    """Others for Muon."""

    def alter(trainer: Trainer) -> None:  # noqa: ARG001 - it is the module that changes
        optimizers.POLAR_EXPRESS = found

    return alter


def whole_heads(trainer: Trainer) -> None:
    """To Muon all queries are one matrix, and so are all keys, and all values."""
    masters, spec = trainer.masters, trainer.plan.spec
    assert spec.heads == spec.kv_heads, "matrices of equal height"
    height = spec.heads * spec.head_dim
    masters.weights = [w._replace(height=height) if "attention.qkv" in w.name else w for w in masters.weights]
    trainer.optimizer = make_optimizer(trainer.plan, masters)


def momentum(value: float) -> Alter:
    def alter(trainer: Trainer) -> None:
        muon: Any = functools.partial(Muon, momentum=value)
        trainer.optimizer = make_optimizer(trainer.plan, trainer.masters, muon=muon)

    return alter


class _ZLoss(NextToken):
    """Every token, and weight * (log of the sum of exponentials)^2 of each (Chowdhery et al. 2022, PaLM)."""

    def __init__(self, weight: float) -> None:
        super().__init__("z_loss")
        self._weight = weight

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        hidden, targets = hidden_states(model, batch).flatten(0, 1), batch.targets.flatten()
        loss = chunked_cross_entropy(hidden, model.head.weight, targets)
        levels = F.linear(hidden[targets >= 0], model.head.weight).float().logsumexp(-1)
        return Loss(loss.total + self._weight * levels.square().sum(), loss.tokens)


def z_loss(weight: float) -> Alter:
    def alter(trainer: Trainer) -> None:
        trainer.objective = _ZLoss(weight)

    return alter


def growing(share: float) -> Alter:
    """Half a step's rows for this share of the tokens, so that they are twice as many steps; then whole ones."""

    def alter(trainer: Trainer) -> None:
        plan, load = trainer.plan, trainer.load
        whole = round(plan.steps * (1 - share))
        small = 2 * (plan.steps - whole)
        trainer.load = _Growing(load, small=small)  # type: ignore[assignment]
        trainer.plan = plan_with(trainer, steps=small + whole)

    return alter


class _Growing:
    """Steps of half of a loader's rows, then of all of them; it measures nothing of its own."""

    measures: Mapping[str, float] = MappingProxyType({})

    def __init__(self, load: Callable[[int], Batch], *, small: int) -> None:
        self._load, self._small = load, small

    def __call__(self, place: int) -> Batch:
        if place >= self._small:
            return self._load(place - self._small // 2)
        half, rest = divmod(place, 2)
        return self._load(half).map(lambda tensor: tensor.chunk(2)[rest])


def plan_with(trainer: Trainer, *, steps: int) -> TrainPlan:
    """The plan with other steps, and the same shares of them for warm-up and decay."""
    plan = trainer.plan
    rising, falling = (round(part / plan.steps * steps) for part in (plan.warmup_steps, plan.decay_steps))
    return dataclasses.replace(plan, steps=steps, warmup_steps=rising, decay_steps=falling)


def embedding_std(factor: float) -> Alter:
    def alter(trainer: Trainer) -> None:
        for weight in trainer.masters.weights:
            if weight.name == "embedding.weight":
                weight.value.mul_(factor)
        trainer.masters.publish()

    return alter


PLAIN = "as planned"
ADAMW, SMALL, LARGE = "AdamW for everything", "2048 tokens a step", "8192 tokens a step"
AS_PLANNED = {PLAIN: 1.0}
ARMS: dict[str, Arm] = {
    PLAIN: Arm(),
    ADAMW: Arm({"optimizer": "adamw"}),
    "AdamW: rate x 2": Arm({"optimizer": "adamw"}, rates=(2.0, 1.0), pace={ADAMW: 1.0}),
    "Muon: four iterations": Arm(alter=quintics(FOUR)),
    "Muon: three iterations": Arm(alter=quintics(THREE)),
    "Muon: heads together": Arm(alter=whole_heads),
    "Muon: momentum 0.9": Arm(alter=momentum(0.9), pace=AS_PLANNED),
    "Muon: rate x 0.7": Arm(rates=(0.7, 1.0), pace=AS_PLANNED),
    "Muon: rate x 1.4": Arm(rates=(1.4, 1.0), pace=AS_PLANNED),
    "embedding: rate x 0.5": Arm(rates=(1.0, 0.5), pace=AS_PLANNED),
    "embedding: rate x 2": Arm(rates=(1.0, 2.0), pace=AS_PLANNED),
    "embedding: first std x 0.25": Arm(alter=embedding_std(0.25), pace=AS_PLANNED),
    SMALL: Arm({"batch_tokens": 2048}),
    LARGE: Arm({"batch_tokens": 8192}),
    "2048 tokens a step for 30%, then 4096": Arm(alter=growing(0.3), pace={SMALL: 0.3, PLAIN: 0.7}),
    "4096 tokens a step for 30%, then 8192": Arm(
        {"batch_tokens": 8192}, alter=growing(0.3), pace={PLAIN: 0.3, LARGE: 0.7}
    ),
    "no warm-up": Arm({"warmup": 0}, pace=AS_PLANNED),
    "warm-up 10%": Arm({"warmup": 0.1}, pace=AS_PLANNED),
    "decay over 80%": Arm({"decay": 0.8}, pace=AS_PLANNED),
    "decay over 25%": Arm({"decay": 0.25}, pace=AS_PLANNED),
    "no weight decay": Arm({"weight_decay": 0}, pace=AS_PLANNED),
    "z-loss 1e-4": Arm(alter=z_loss(1e-4), pace=AS_PLANNED),  # in one operator it would cost next to nothing
    "no norms on queries and keys": Arm(family="llama"),
    "1M parameters": Arm(size=1_000_000),
    "2M parameters": Arm(size=2_000_000),
    "4M parameters": Arm(size=4_000_000),
    "8M parameters": Arm(size=8_000_000),
    "30M parameters": Arm(size=30_000_000),
}
