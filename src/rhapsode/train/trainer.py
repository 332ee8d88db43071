"""A run's weights, optimizer and data at some step: what the loop moves on, and the plan tries out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rhapsode.core.errors import VerificationMismatch
from rhapsode.core.manifest import digest
from rhapsode.corpus.packing import Packing
from rhapsode.corpus.tokens import Tokens
from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.model.decoder import Decoder
from rhapsode.model.initialise import initialise
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.loader import Loader
from rhapsode.train.objective import Objective, next_token
from rhapsode.train.optimizer import AdamW, Both, Muon, Optimizer
from rhapsode.train.plan import TrainPlan
from rhapsode.train.schedule import rate
from rhapsode.train.step import Masters, StepResult, train_step
from rhapsode.weights.checkpoint import TrainingState, load_checkpoint
from rhapsode.weights.directory import load_model

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Data:
    """Packed tokens to learn from and to look at."""

    tokens: Tokens
    training: Packing
    held_out: Packing
    tokenizer: Tokenizer


class Trainer:
    """Begins at step 0 with fresh weights, or those of the model in `base`; `restore` goes on from a checkpoint."""

    def __init__(
        self,
        plan: TrainPlan,
        data: Data,
        *,
        device: torch.device,
        base: Path | None = None,
        plan_hash: str = "",
        objective: Objective = next_token,
    ) -> None:
        keep_freed_memory()
        self.plan, self.objective = plan, objective
        model = first_weights(plan, base=base)
        self.masters = Masters(model.to(device))
        self.model = model.to(PRECISIONS[plan.precision])
        self.optimizer = make_optimizer(plan, self.masters)
        self.state = TrainingState(step=0, tokens=0, skipped=0, plan=plan_hash)
        self._load = Loader(
            data.tokens.split("train"),
            data.training,
            rows=plan.batch_rows,
            seed=plan.order_seed,
            pad=data.tokenizer.pad,
            begin=plan.begin,
            device=device,
        )

    def learning_rate_share(self) -> float:
        """The schedule's share of the peak rate for the next step."""
        plan = self.plan
        return rate(self.state.step, steps=plan.steps, warmup=plan.warmup_steps, decay=plan.decay_steps)

    def step(self, *, between: Callable[[], None] = lambda: None) -> StepResult:
        """The next step. `between` runs after each micro-batch and may raise to give the step up."""
        result = train_step(
            self.model,
            self._load(self.state.step).split(self.plan.micro_batch_rows),
            objective=self.objective,
            masters=self.masters,
            optimizer=self.optimizer,
            scale=self.learning_rate_share(),
            clip=self.plan.clip,
            between=between,
        )
        self.state = replace(
            self.state,
            step=self.state.step + 1,
            tokens=self.state.tokens + result.tokens,
            skipped=self.state.skipped + (not result.moved),
        )
        return result

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        weights = {w.name: w.value for w in self.masters.weights}
        self.state, optimizer = load_checkpoint(path, spec=self.plan.spec, weights=weights)
        self.optimizer.load(optimizer, steps=self.state.step - self.state.skipped)
        self.masters.publish()


def first_weights(plan: TrainPlan, *, base: Path | None) -> Decoder:
    """The model of step 0, in float32.

    Raises:
        VerificationMismatch: the base is not the one that was planned, or its bytes have changed.
    """
    if plan.base is None:
        assert plan.init_seed is not None, "a model without a base is drawn from a seed"
        model = Decoder(plan.spec)
        initialise(model, seed=plan.init_seed)
        return model
    assert base is not None, "the plan names a base"
    if (found := digest(base)) != plan.base:
        raise VerificationMismatch(
            f"{base} is not the model that was planned: its digest is {found[:12]}, not {plan.base[:12]}",
            "plan again, or put it back",
        )
    return load_model(base)


def make_optimizer(plan: TrainPlan, masters: Masters) -> Optimizer:
    weights = masters.weights
    if plan.optimizer == "adamw":
        return AdamW(weights, learning_rate=plan.learning_rate, weight_decay=plan.weight_decay)
    is_matrix = [w.parts is not None for w in weights]
    matrices = [w for w, m in zip(weights, is_matrix, strict=True) if m]
    others = [w for w, m in zip(weights, is_matrix, strict=True) if not m]
    muon = Muon(
        matrices,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        dtype=PRECISIONS[plan.precision],
    )
    adamw = AdamW(others, learning_rate=plan.embedding_learning_rate, weight_decay=0.0)
    return Both(muon, adamw, is_matrix=is_matrix)
