"""A step's gradient does not depend on how its rows are split, and weights move only along a finite one."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec, positions_of, random_documents
from tests.train.conftest import CPU, Infinite, make_plan
from torch import Tensor

from rhapsode.kernels.attention import attend_plain, document_mask
from rhapsode.kernels.cross_entropy import IGNORE, cross_entropy_plain
from rhapsode.kernels.norm import rms_norm_plain
from rhapsode.kernels.rope import rotate_plain
from rhapsode.kernels.swiglu import swiglu_plain
from rhapsode.model import decoder, feed_forward, norms
from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch, NextToken, next_token
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.optimizer import AdamW
from rhapsode.train.step import gradient, train_step
from rhapsode.train.trainer import Data, Trainer


def random_batch(rows: int, length: int, *, seed: int) -> Batch:
    """Packed rows of which each has another number of targets, some of them none."""
    random = np.random.default_rng(seed)
    documents = random_documents((rows, length), seed=seed)
    ids = torch.from_numpy(random.integers(0, 96, (rows, length)))
    targets = torch.from_numpy(random.integers(0, 96, (rows, length)))
    kept = torch.from_numpy(random.random((rows, length)) < random.choice([0.0, 0.1, 0.5, 1.0], (rows, 1)))
    targets = targets.masked_fill(~kept | (documents == 0), IGNORE)
    targets[0, 0] = 5
    return Batch(ids, targets, positions_of(documents), documents, torch.zeros_like(ids))


def cut(batch: Batch, borders: Sequence[int]) -> list[Batch]:
    ends = [*sorted(borders), len(batch.ids)]
    starts = [0, *ends[:-1]]
    return [batch.map(lambda t, a=a, b=b: t[a:b]) for a, b in zip(starts, ends, strict=True) if a < b]


def plain_gradient(model: Decoder, batch: Batch) -> list[Tensor]:
    """Every operator's specification, all rows at once, one mean over all targets."""
    mask = document_mask(batch.documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "rms_norm", rms_norm_plain)
        patch.setattr(decoder, "rotate", rotate_plain)
        patch.setattr(feed_forward, "swiglu", swiglu_plain)
        twin = Decoder(model.spec).to(model.embedding.weight.dtype)
        twin.load_state_dict(model.state_dict())
        attend = lambda _layer, q, k, v, weighing: attend_plain(q, k, v, weighing, mask=mask)  # noqa: E731
        hidden = twin(batch.ids, batch.positions, attend=attend)
        scores = torch.nn.functional.linear(hidden, twin.head.weight)
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)
    return list(torch.autograd.grad(loss, list(twin.parameters())))


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 6),
    length=st.integers(1, 20),
    borders=st.lists(st.integers(0, 6), max_size=5),
    seed=st.integers(0, 999),
    tied=st.booleans(),
)
def test_any_split_gives_the_gradient_of_the_plain_twin(
    rows: int, length: int, borders: list[int], seed: int, tied: bool
) -> None:
    model = make_decoder(make_spec(tied=tied), dtype=torch.float64)
    batch = random_batch(rows, length, seed=seed)
    masters = WholeMasters(model)
    assert all(weight.value.dtype == torch.float64 for weight in masters.weights)

    def mean_gradient(micro_batches: list[Batch]) -> list[Tensor]:
        total, tokens, *_ = gradient(model, micro_batches, objective=next_token, masters=masters)
        assert tokens == batch.num_targets
        return [torch.tensor(total / tokens, dtype=torch.float64), *(g / tokens for g in masters.grads)]

    whole, split = mean_gradient([batch]), mean_gradient(cut(batch, [min(b, rows) for b in borders]))
    torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(whole[1:], plain_gradient(model, batch), rtol=1e-9, atol=1e-12)


def test_micro_batches_are_all_rows_in_order() -> None:
    batch = random_batch(7, 5, seed=0)
    parts = batch.split(3)
    assert [len(part.ids) for part in parts] == [3, 3, 1]
    for name in ("ids", "targets", "positions", "documents", "branches"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert [part.advantages for part in parts] == [None] * 3


class Setting(NamedTuple):
    model: Decoder
    masters: WholeMasters
    optimizer: AdamW


def setting() -> Setting:
    model = make_decoder(make_spec(), std=0.1, dtype=torch.float64)
    masters = WholeMasters(model)
    return Setting(model, masters, AdamW(masters.weights, learning_rate=0.01, weight_decay=0.0))


def test_a_long_gradient_is_scaled_down_to_the_clip_and_a_short_one_is_left() -> None:
    batch = random_batch(3, 12, seed=1)
    norms = {}
    for clip in (0.1, 1e9):
        model, masters, optimizer = setting()
        result = train_step(
            model, [batch], objective=next_token, masters=masters, optimizer=optimizer, scale=1.0, clip=clip
        )
        norms[clip] = torch.linalg.vector_norm(torch.cat([g.flatten() for g in masters.grads]))
        assert result.grad_norm > 0.1
        assert result.moved
    assert float(norms[0.1]) == pytest.approx(0.1, rel=1e-9)
    assert float(norms[1e9]) == pytest.approx(result.grad_norm, rel=1e-9)


def test_the_loss_of_a_step_is_the_mean_over_its_targets() -> None:
    batch = random_batch(4, 12, seed=2)
    model, masters, optimizer = setting()
    with torch.no_grad():
        mask = document_mask(batch.documents)
        attend = lambda _layer, q, k, v, weighing: attend_plain(q, k, v, weighing, mask=mask)  # noqa: E731
        hidden = model(batch.ids, batch.positions, attend=attend)
        expected = cross_entropy_plain(hidden.flatten(0, 1), model.head.weight, batch.targets.flatten())
    result = train_step(
        model, batch.split(1), objective=next_token, masters=masters, optimizer=optimizer, scale=1.0, clip=1.0
    )
    assert result.tokens == batch.num_targets
    assert result.loss == pytest.approx(float(expected) / batch.num_targets, rel=1e-12)


def test_the_model_computes_with_the_rounded_masters() -> None:
    model = make_decoder(make_spec(), dtype=torch.bfloat16)
    masters = WholeMasters(model)
    assert all(weight.value.dtype == torch.float32 for weight in masters.weights)
    for weight in masters.weights:
        weight.value.add_(1e-4)
    masters.publish()
    for (name, param), weight in zip(model.named_parameters(), masters.weights, strict=True):
        assert name == weight.name
        assert torch.equal(param, weight.value.to(torch.bfloat16))


def everything(trainer: Trainer) -> Iterator[bytes]:
    state = trainer.optimizer.state()
    tensors = [*trainer.model.parameters(), *(w.value for w in trainer.masters.weights), *state.values()]
    yield from (t.detach().view(torch.uint8).numpy().tobytes() for t in tensors)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_infinite_gradient_leaves_every_byte_and_is_counted(data: Data, optimizer: str, precision: str) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, optimizer=optimizer, precision=precision)
    # three micro-batches a step: the second one of the second step is bad
    trainer = Trainer(plan, data, device=CPU, objective=Infinite(4))
    assert trainer.step().moved
    before = list(everything(trainer))
    result = trainer.step()
    assert not result.moved
    assert list(everything(trainer)) == before
    assert (trainer.state.step, trainer.state.skipped) == (2, 1)
    assert trainer.step().moved
    assert list(everything(trainer)) != before


def test_an_infinite_loss_is_a_skipped_step_too(data: Data) -> None:
    class Endless(NextToken):
        def __call__(self, model: Decoder, batch: Batch) -> Loss:
            loss = next_token(model, batch)
            return Loss(loss.total + float("inf"), loss.num_terms)

    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    trainer = Trainer(plan, data, device=CPU, objective=Endless())
    before = list(everything(trainer))
    assert not trainer.step().moved
    assert list(everything(trainer)) == before


def test_a_step_that_is_given_up_leaves_every_byte(data: Data) -> None:
    trainer = Trainer(make_plan(vocab_size=data.tokenizer.vocab_size), data, device=CPU)
    before = list(everything(trainer))

    def give_up() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.step(between=give_up)
    assert list(everything(trainer)) == before
    assert trainer.state.step == 0
    untouched = Trainer(make_plan(vocab_size=data.tokenizer.vocab_size), data, device=CPU)
    assert dataclasses.asdict(trainer.state) == dataclasses.asdict(untouched.state)
    assert trainer.step() == untouched.step()
    assert list(everything(trainer)) == list(everything(untouched))
