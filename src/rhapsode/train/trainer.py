"""A run's weights, optimizer and data at some step: what the loop moves on, and the plan tries out."""

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import digest
from rhapsode.corpus.packing import Packing
from rhapsode.corpus.prompts import WithPrompts
from rhapsode.corpus.tokens import Tokens
from rhapsode.evaluate.items import Item
from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.model.adapter import adapt, without_adapters
from rhapsode.model.decoder import Decoder
from rhapsode.model.heads import put_head
from rhapsode.model.initialise import initialise
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.health import after, trouble
from rhapsode.train.loader import Batches, Loader
from rhapsode.train.masters import Masters, WholeMasters
from rhapsode.train.memory import is_out_of_memory
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.objectives.neftune import Noisy
from rhapsode.train.objectives.pairs import Reference
from rhapsode.train.objectives.registry import make_objective, needs_reference, own_share, samples_answers
from rhapsode.train.optimizer import AdamW, Both, Muon, Optimizer
from rhapsode.train.own_answers import own_answers
from rhapsode.train.plan import Teacher, TrainPlan
from rhapsode.train.ranks.ranks import ALONE, Grid, Ranks, arrange, share_of
from rhapsode.train.recompute import recompute
from rhapsode.train.rewards import judged_rollouts
from rhapsode.train.rollouts import answerer, items_of
from rhapsode.train.schedule import rate
from rhapsode.train.step import StepResult, train_step
from rhapsode.weights.checkpoint import TrainingState, load_checkpoint, read_state
from rhapsode.weights.directory import load_model
from rhapsode.weights.frozen import load_frozen
from rhapsode.weights.rows import Share, Shares

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Data:
    """Packed tokens to learn from and to look at; `corpus` holds the examples that they were made from."""

    tokens: Tokens
    training: Packing
    held_out: Packing
    tokenizer: Tokenizer
    corpus: Path | None = None

    def items(self, name: str) -> list[Item]:
        """What the packed examples of "train" or "validation" ask."""
        assert self.corpus is not None, "examples are documents of a corpus"
        packing = self.training if name == "train" else self.held_out
        return items_of(self.corpus, self.tokens.split(name), packing, name=name)


class Trainer:
    """Begins at step 0 with fresh weights, or those of the model in `base`; `restore` goes on from a checkpoint.

    `teacher` holds the plan's, if it has one; `objective` is learned in place of the plan's.
    """

    def __init__(
        self,
        plan: TrainPlan,
        data: Data,
        *,
        device: torch.device,
        base: Path | None = None,
        teacher: Path | None = None,
        plan_hash: str = "",
        machine: Mapping[str, Any] | None = None,
        objective: Objective | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        keep_freed_memory()
        self.plan, self.ranks = plan, ranks
        self.grid = arrange(ranks, tensor=plan.tensor, is_sharded=plan.parallel == "shard")
        make: Callable[..., _Made] = partial(_in_pieces, grid=self.grid) if self.grid.is_divided else _whole
        self.model, self.masters, self.optimizer, self.objective = make(
            plan, device=device, base=base, teacher=teacher, objective=objective, ranks=ranks
        )
        self.state = TrainingState(
            step=0,
            tokens=0,
            skipped=0,
            plan=plan_hash,
            machine=dict(machine or {}),
            micro_batch_rows=plan.micro_batch_rows,
        )
        self.load = self._batches(data, device)

    def _batches(self, data: Data, device: torch.device) -> Batches:
        """Packed rows of the data; or, where it only asks or in a share of the steps, answers of the model itself."""
        plan = self.plan
        if samples_answers(plan.objective):
            return judged_rollouts(plan, answerer(plan, self.model, data.tokenizer), data.items("train"))
        split = data.tokens.split("train")
        given = Loader(
            WithPrompts(split, plan.objective.get("learn_prompts", 0.0)),
            data.training,
            rows=plan.batch_rows,
            seed=plan.order_seed,
            pad=data.tokenizer.pad,
            begin=plan.begin,
            device=device,
            share=share_of(plan.batch_rows, rank=self.grid.row, size=self.grid.data),
        )
        if own_share(plan.objective):
            ask = answerer(plan, self.model, data.tokenizer)
            return own_answers(plan, given, ask, data.items("train"), split=split, packing=data.training)
        return given

    def learning_rate_share(self) -> float:
        """The schedule's share of the peak rate for the next step."""
        plan = self.plan
        return rate(self.state.step, steps=plan.steps, warmup=plan.warmup_steps, decay=plan.decay_steps)

    def step(self, *, between: Callable[[], None] = lambda: None) -> StepResult:
        """The next step. `between` runs after each micro-batch and may raise to give the step up.

        Raises:
            OutOfMemory: nothing has moved; with fewer rows at once it may go.
        """
        is_judged = False

        def accept(loss: float, grad_norm: float) -> bool:
            nonlocal is_judged
            is_judged = True
            return trouble(loss, grad_norm, self.state, spike=self.plan.spike) is None

        try:
            result = train_step(
                self.model,
                self._micro_batches(),
                objective=self._learned(),
                masters=self.masters,
                optimizer=self.optimizer,
                scale=self.learning_rate_share(),
                clip=self.plan.clip,
                accept=accept,
                ranks=self.ranks,
                between=between,
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise (_no_room_to_move() if is_judged else _no_room_to_compute(self.state.micro_batch_rows)) from error
        self.state = after(self.state, result)
        return result._replace(measures={**self.load.measures, **result.measures})

    def _learned(self) -> Objective:
        """What the next step learns; looks are at `objective`, which has no noise."""
        if (alpha := self.plan.objective.get("noise")) is None:
            return self.objective
        return Noisy(self.objective, alpha=alpha, seed=self.plan.order_seed, place=self.state.place)

    def _micro_batches(self) -> list[Batch]:
        """This rank's share of the step's rows."""
        batch, at_once = self.load(self.state.place), self.state.micro_batch_rows
        found = batch.split(at_once) if len(batch.ids) else []
        if not self.grid.is_sharded:
            return found
        from rhapsode.train.ranks.assemble import padded

        most = -(-self.plan.batch_rows // self.grid.data)
        return padded(found, count=-(-most // at_once), context=self.plan.context, device=batch.ids.device)

    def rows_of(self, place: int) -> list[int]:
        """The packed rows of a step, or its prompts, by its place in the order of the data."""
        return self.load.rows_of(place)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = read_state(path)
        weights = [(w.name, w.value) for w in self.masters.weights]
        if self.grid.is_divided:
            found = self.optimizer.state()
            self.shares(weights, found).read(path)
        else:
            _, found = load_checkpoint(path, spec=self.plan.spec, adapter=self.plan.adapter, weights=dict(weights))
        self.state = state
        self.optimizer.load(found, steps=state.step - state.skipped)
        self.masters.publish()

    def shares(self, weights: Sequence[tuple[str, Tensor]], optimizer: Mapping[str, Tensor]) -> Shares:
        """Where the weights and the optimizer's tensors, or copies of them, lie in whole ones."""
        places = self.masters.places
        return Shares(
            self.plan.spec,
            [(name, Share(value, places[name])) for name, value in weights],
            {name: Share(value, places[name.partition("/")[2]]) for name, value in optimizer.items()},
        )


class _Made(NamedTuple):
    """What a trainer moves."""

    model: Decoder
    masters: Masters
    optimizer: Optimizer
    objective: Objective


def _whole(
    plan: TrainPlan,
    *,
    device: torch.device,
    base: Path | None,
    teacher: Path | None,
    objective: Objective | None,
    ranks: Ranks,
) -> _Made:
    """All of the model here."""
    model = first_weights(plan, base=base).to(device)
    if plan.recompute:
        recompute(model)
    masters = WholeMasters(model, ranks=ranks)
    model = model.to(PRECISIONS[plan.precision])
    if objective is None:
        reference = _reference(plan, model) if needs_reference(plan.objective) else None
        taught = None if plan.teacher is None else _teacher(plan, plan.teacher, teacher).to(device)
        objective = make_objective(plan.objective, reference=reference, teacher=taught, ranks=ranks)
    return _Made(model, masters, make_optimizer(plan, masters), objective)


def _reference(plan: TrainPlan, model: Decoder) -> Reference:
    """What the model is before training: without its adapter, or a copy of it all."""
    if plan.adapter is not None:
        return Reference(model, partial(without_adapters, model))
    before = copy.deepcopy(model).requires_grad_(requires_grad=False)
    return Reference(before, contextlib.nullcontext)


def _teacher(plan: TrainPlan, planned: Teacher, directory: Path | None) -> Decoder:
    """Frozen, in the type that computes."""
    assert directory is not None, "the plan names a teacher"
    _require_planned(directory, planned.sha256)
    return load_model(directory, dtype=PRECISIONS[plan.precision]).requires_grad_(requires_grad=False)


def _in_pieces(
    plan: TrainPlan,
    *,
    device: torch.device,
    base: Path | None,
    teacher: Path | None,
    objective: Objective | None,
    ranks: Ranks,
    grid: Grid,
) -> _Made:
    """The pieces of the model that are this rank's, on `device`, which is its own.

    Raises:
        RhapsodeError: the plan trains what cannot be divided yet.
    """
    from rhapsode.train.ranks.assemble import divided
    from rhapsode.train.ranks.muon import PiecesMuon

    assert device.type == ranks.device.type
    is_plain = plan.adapter is None and plan.spec.head is None
    if not is_plain or needs_reference(plan.objective) or teacher is not None:
        raise RhapsodeError(
            "ranks that share one model train all of its weights, on text or on answers, without a teacher",
            "set train.parallel: replicate and leave train.tensor out",
        )
    model, masters, objective, pieces = divided(
        plan.spec,
        first=lambda: first_weights(plan, base=base),
        dtype=PRECISIONS[plan.precision],
        objective=objective or make_objective(plan.objective),
        ranks=ranks,
        grid=grid,
        prepare=recompute if plan.recompute else None,
    )
    muon = partial(PiecesMuon, pieces=pieces)
    return _Made(model, masters, make_optimizer(plan, masters, muon=muon), objective)


def _no_room_to_compute(rows: int) -> RhapsodeError:
    return RhapsodeError(
        f"memory ran out with {rows} rows at once; ranks that share a model cannot change that on the way",
        "set train.micro_batch_rows lower and go on with --resume",
    )


def _no_room_to_move() -> RhapsodeError:
    return RhapsodeError(
        "memory ran out while the weights were moved, so they are lost; the checkpoints on the disk are not",
        "end other programs and go on with --resume, or train a smaller model",
    )


def first_weights(plan: TrainPlan, *, base: Path | None) -> Decoder:
    """The model of step 0: in float32, or with an adapter upon frozen weights of the type that computes.

    Raises:
        VerificationMismatch: the base is not the one that was planned, or its bytes have changed.
    """
    if plan.base is None:
        assert plan.init_seed is not None, "a model without a base is drawn from a seed"
        model = Decoder(plan.spec)
        initialise(model, seed=plan.init_seed)
        return model
    assert base is not None, "the plan names a base"
    _require_planned(base, plan.base)
    if plan.adapter is None:
        model = load_model(base)
        put_head(model, plan.spec)
        return model
    dtype = PRECISIONS[plan.precision]
    if plan.storage is None:
        model = load_model(base, dtype=dtype)
    else:
        model = load_frozen(base, dtype=dtype, storage=plan.storage)
    put_head(model, plan.spec)
    adapt(model, plan.adapter, seed=plan.order_seed)
    return model


def _require_planned(directory: Path, planned: str) -> None:
    if (found := digest(directory)) != planned:
        raise VerificationMismatch(
            f"{directory} is not the model that was planned: its digest is {found[:12]}, not {planned[:12]}",
            "plan again, or put it back",
        )


def make_optimizer(plan: TrainPlan, masters: Masters, *, muon: Callable[..., Muon] = Muon) -> Optimizer:
    weights = masters.weights
    if plan.optimizer == "adamw":
        return AdamW(weights, learning_rate=plan.learning_rate, weight_decay=plan.weight_decay)
    is_matrix = [w.height is not None for w in weights]
    matrices = [w for w, m in zip(weights, is_matrix, strict=True) if m]
    others = [w for w, m in zip(weights, is_matrix, strict=True) if not m]
    whole = muon(
        matrices,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        dtype=PRECISIONS[plan.precision],
    )
    adamw = AdamW(others, learning_rate=plan.embedding_learning_rate, weight_decay=0.0)
    return Both(whole, adamw, is_matrix=is_matrix)
