import contextlib
import dataclasses
import math
import unittest.mock
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import make_spec
from tests.weights import conftest as weights

from rhapsode.core.events import Event, Events
from rhapsode.corpus.packing import batch as packed
from rhapsode.corpus.packing import pack
from rhapsode.corpus.tokens import Tokens
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.checkpoints import Evidence
from rhapsode.train.loop import Run
from rhapsode.train.objective import Batch, NextToken, Objective, next_token
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.plan import TrainPlan
from rhapsode.train.ranks.ranks import ALONE, Ranks
from rhapsode.train.signals import StopWish
from rhapsode.train.trainer import PRECISIONS, Data, Trainer
from rhapsode.weights.checkpoint import TrainingState

CONTEXT = 32
CPU = torch.device("cpu")


def make_plan(*, vocab_size: int, config: Mapping[str, Any] | None = None, **changes: Any) -> TrainPlan:
    """A run of some seconds, by default of a small Qwen 3; a row is 32 tokens."""
    own = make_spec(vocab_size=vocab_size, context=CONTEXT)
    plan = TrainPlan(
        spec=own if config is None else spec_from_config({**config, "vocab_size": vocab_size}),
        init_seed=0,
        base=None,
        stops=(1, 4),
        begin=None,
        context=CONTEXT,
        steps=6,
        batch_rows=8,
        micro_batch_rows=3,
        optimizer="muon",
        learning_rate=0.02,
        embedding_learning_rate=0.006,
        weight_decay=0.1,
        warmup_steps=1,
        decay_steps=3,
        clip=1.0,
        precision="bf16",
        order_seed=0,
        validate_every=4,
        validation_tokens=256,
        samples=0,
        prompts=(),
        save_every=2,
        keep=2,
        keep_every=None,
        spike=10.0,
        max_skips=3,
        recompute=False,
        parallel="replicate",
        tensor=1,
        objective={"name": "next_token"},
        adapter=None,
        storage=None,
    )
    return dataclasses.replace(plan, **changes)


@contextlib.contextmanager
def numbers(precision: str | None) -> Iterator[None]:
    """Plans may ask for "fp64" here, in which two orders of the same sums give the same numbers after any training."""
    with unittest.mock.patch.dict(PRECISIONS, fp64=torch.float64):
        torch.set_default_dtype(torch.float64 if precision == "fp64" else torch.float32)
        yield
        torch.set_default_dtype(torch.float32)


def load_data(path: Path) -> Data:
    tokens = Tokens.open(path)
    train, held_out = (pack(tokens.split(name).lengths, context=CONTEXT) for name in ("train", "validation"))
    return Data(tokens, train, held_out, Tokenizer.load(tokens.tokenizer_dir))


def make_run(
    plan: TrainPlan,
    data: Data,
    run_dir: Path,
    *,
    events: Events | None = None,
    wish: StopWish | None = None,
    objective: Objective = next_token,
    plan_hash: str = "0123456789abcdef",
    machine: Mapping[str, Any] | None = None,
    ranks: Ranks = ALONE,
    base: Path | None = None,
) -> Run:
    def card(state: TrainingState) -> str:
        return f"# After {state.step} steps\n"

    return Run(
        Trainer(
            plan, data, device=CPU, base=base, plan_hash=plan_hash, machine=machine, objective=objective, ranks=ranks
        ),
        data,
        run_dir=run_dir,
        evidence=Evidence(inputs={"tokens": "t"}, recipe={"train": {}}, card=card, base_name=str(base or "")),
        events=events or Events(),
        wish=wish or StopWish(),
        peak_flops=1e9,
    )


class Poisoned(NextToken):
    """Next-token training that some micro-batches, by their rows, lead astray: their loss is `worth` times as high."""

    __name__ = "next_token"

    def __init__(self, data: Data, *bad: Sequence[int], worth: float = math.inf) -> None:
        split, packing = data.tokens.split("train"), data.training
        self._bad = [packed(split, packing, rows, pad=data.tokenizer.pad).ids.tolist() for rows in bad]
        self._worth = worth

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        loss = next_token(model, batch)
        is_bad = torch.is_grad_enabled() and batch.ids.tolist() in self._bad
        return Loss(loss.total * self._worth, loss.num_terms) if is_bad else loss


class Infinite(NextToken):
    """Next-token training whose gradient is infinite at the given micro-batches, counted from 0."""

    __name__ = "next_token"

    def __init__(self, *calls: int) -> None:
        self.calls, self.seen = set(calls), 0

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        loss = next_token(model, batch)
        if not torch.is_grad_enabled():
            return loss
        bad, self.seen = self.seen in self.calls, self.seen + 1
        # the root of zero has an infinite slope: the loss itself stays what it is
        return Loss(loss.total + (model.norm.weight.sum() * 0).abs().sqrt(), loss.num_terms) if bad else loss


class Heard(list[Event]):
    """A listener that remembers."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def kinds(self) -> list[str]:
        """What happened, without what depends on how fast it did."""
        return [event.kind for event in self if event.kind not in ("step", "save_waited")]

    def of(self, kind: str, field: str) -> list[Any]:
        return [event.fields[field] for event in self if event.kind == kind]


small_disk = weights.small_disk


@pytest.fixture(scope="session")
def data(tokens: Tokens) -> Data:
    return load_data(tokens.path)
