"""KTO in packed rows: a whole step's gradient is TRL's, however the step is divided."""

import contextlib
import copy
import math
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from torch import Tensor

from rhapsode.corpus.trees import FIRST_OF_BAD
from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.adapter import adapt, without_adapters
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch
from rhapsode.train.objectives.feedback import Feedback, good_of
from rhapsode.train.objectives.pairs import Reference
from rhapsode.train.ranks.ranks import ALONE, Alone, Ranks
from rhapsode.train.step import Gradient, gradient

KTO = {"beta": 0.2, "good_weight": 1.0, "bad_weight": 1.33}
GOOD = [[True, False], [False, True], [True, True]]
ANSWERS = [[(3, 2), (4, 3)], [(2, 5), (6, 1)], [(5, 2), (1, 4)]]
"""Tokens of each own answer and of the one beside it, in rows of two trees."""
PROMPT = 4


class Sequences:
    """What a row of trees holds, answer by answer: prompt and own answer, prompt and other answer."""

    def __init__(self) -> None:
        self.own: list[list[int]] = []
        self.other: list[list[int]] = []
        self.good: list[bool] = []


def make_batch(*, is_shared: bool) -> tuple[Batch, Sequences]:
    random, rows, told = torch.Generator().manual_seed(0), [], Sequences()
    for kinds, sizes in zip(GOOD, ANSWERS, strict=True):
        places = []
        for tree, (is_good, lengths) in enumerate(zip(kinds, sizes, strict=True), start=1):
            prompt, *answers = (torch.randint(3, 90, (n,), generator=random).tolist() for n in (PROMPT, *lengths))
            trunk, first = PROMPT - 1 if is_shared else 0, 1 if is_good else FIRST_OF_BAD
            places += [(token, IGNORE, at, tree, 0) for at, token in enumerate(prompt[:trunk])]
            for branch, answer in enumerate(answers, start=first):
                ids = [*prompt, *answer]
                places += [
                    (ids[at], ids[at + 1] if at + 1 >= PROMPT else IGNORE, at, tree, branch)
                    for at in range(trunk, len(ids) - 1)
                ]
            for kept, answer in zip((told.own, told.other), answers, strict=True):
                kept.append([*prompt, *answer])
            told.good.append(is_good)
        rows.append(places)
    width = max(map(len, rows)) + 3
    padded = [[*places, *[(0, IGNORE, 0, 0, 0)] * (width - len(places))] for places in rows]
    return Batch(*torch.tensor(padded).permute(2, 0, 1)), told


def make_policy() -> Decoder:
    """Adapted, and gone from its base to where the answers beside are likelier: the divergence is above nothing."""
    model, told = make_decoder(make_spec(), std=0.1, dtype=torch.float64), make_batch(is_shared=False)[1]
    adapt(model, AdapterSpec(rank=4, alpha=8), seed=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    for _ in range(2):
        total = torch.stack([log_prob(model, ids) for ids in told.other + told.own[:2]]).sum()
        with torch.no_grad():
            for value, grad in zip(trained, torch.autograd.grad(total, trained), strict=True):
                value.add_(0.01 * grad)
    return model


def step(model: Decoder, batches: Sequence[Batch], *, ranks: Ranks = ALONE) -> tuple[Gradient, list[Tensor]]:
    """The summed gradient of the adapter, in float64."""
    objective = Feedback(KTO, reference=Reference(model, lambda: without_adapters(model)), ranks=ranks)
    objective.begin(model, batches)
    trained = [p for p in model.parameters() if p.requires_grad]
    grads, found = [torch.zeros_like(p) for p in trained], Gradient(0.0, 0, 0, [0.0] * len(objective.measures))
    for batch in batches:
        loss = objective(model, batch)
        grads = [grad + more for grad, more in zip(grads, torch.autograd.grad(loss.total, trained), strict=True)]
        now = [float(loss.measures[name]) for name in objective.measures]
        found = Gradient(
            found.loss + float(loss.total.detach()), found.terms + loss.num_terms, found.tokens + loss.num_tokens,
            [before + after for before, after in zip(found.measures, now, strict=True)],
        )  # fmt: skip
    return found, grads


def log_prob(model: Decoder, ids: list[int]) -> Tensor:
    """Of an answer behind its prompt, read by itself."""
    tokens = torch.tensor([ids])
    attend = DenseAttend(torch.ones_like(tokens), dtype=torch.float64)
    scores = model.logits(model(tokens, torch.arange(len(ids))[None], attend=attend))[0, :-1].log_softmax(-1)
    return scores.gather(1, tokens[0, 1:, None]).squeeze(1)[PROMPT - 1 :].sum()


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_steps_gradient_is_trls(*, is_shared: bool) -> None:
    for package in ("accelerate", "datasets", "trl"):
        pytest.importorskip(package)
    from tests.train.objectives.test_trl import as_transformers, bare
    from trl import KTOTrainer

    model, (batch, told) = make_policy(), make_batch(is_shared=is_shared)
    with torch.no_grad(), without_adapters(model):
        start, start_others = (torch.stack([log_prob(model, ids) for ids in s]) for s in (told.own, told.other))
    trainer = bare(
        KTOTrainer, beta=KTO["beta"], loss_type="kto", desirable_weight=KTO["good_weight"],
        undesirable_weight=KTO["bad_weight"], calculate_KL=True, precompute_ref_logps=True,
    )  # fmt: skip
    inputs = {
        **padded(told.own), **{f"KL_{name}": value for name, value in padded(told.other).items()},
        "label": torch.tensor(told.good), "ref_logps": start, "ref_KL_logps": start_others,
    }  # fmt: skip
    expected = trainer._compute_loss(as_transformers(model), inputs, return_outputs=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(expected, trained)
    found, grads = step(model, batch.split(2))
    assert trainer._metrics["eval"]["kl"][0] > 0
    assert found.measures[2] / found.terms == pytest.approx(trainer._metrics["eval"]["kl"][0], rel=1e-9)
    assert found.loss / found.terms == pytest.approx(float(expected.detach()), rel=1e-9)
    torch.testing.assert_close([grad / found.terms for grad in grads], list(wanted), rtol=1e-8, atol=1e-10)


def padded(sequences: list[list[int]]) -> dict[str, Tensor]:
    width = max(map(len, sequences))
    ids, attention, completion = torch.zeros(3, len(sequences), width, dtype=torch.long)
    for row, own in enumerate(sequences):
        ids[row, : len(own)], attention[row, : len(own)] = torch.tensor(own), 1
        completion[row, PROMPT : len(own)] = 1
    return {"input_ids": ids, "attention_mask": attention, "completion_mask": completion}


class Together(Alone):
    """One of several ranks, which are threads."""

    def __init__(self, rank: int, said: list[list[float]], barrier: threading.Barrier) -> None:
        self.rank, self.size, self._said, self._barrier = rank, len(said), said, barrier

    def sum(self, values: Sequence[float]) -> list[float]:
        self._said[self.rank] = list(values)
        self._barrier.wait(60)
        found = [math.fsum(column) for column in zip(*self._said, strict=True)]
        self._barrier.wait(60)
        return found


def on_ranks(parts: list[list[Batch]], models: list[Decoder]) -> list[Any]:
    """What each rank finds, or how it fails."""
    said: list[list[float]] = [[] for _ in parts]
    barrier, found = threading.Barrier(len(parts)), [None] * len(parts)

    def work(rank: int) -> None:
        try:
            found[rank] = step(models[rank], parts[rank], ranks=Together(rank, said, barrier))
        except MemoryError as error:
            found[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_any_split_into_micro_batches_and_ranks_gives_the_same_gradient() -> None:
    batch, _ = make_batch(is_shared=True)
    whole, wanted = step(make_policy(), [batch])
    parts = [[batch.split(1)], [batch.split(1)[:1], batch.split(1)[1:]], [batch.split(3), []]]
    for split in parts:
        found = on_ranks(split, [make_policy() for _ in split])
        grads = [torch.stack(each).sum(0) for each in zip(*(one[1] for one in found), strict=True)]
        torch.testing.assert_close(grads, wanted, rtol=1e-9, atol=1e-12)
        sums = [math.fsum(values) for values in zip(*(one[0].measures for one in found), strict=True)]
        assert sums == pytest.approx(whole.measures, rel=1e-9)
        assert sum(one[0].terms for one in found) == whole.terms == 6
        assert sum(one[0].tokens for one in found) == whole.tokens == sum(own for row in ANSWERS for own, _ in row)


def test_memory_that_runs_out_on_one_rank_stops_all_of_them() -> None:
    batch, _ = make_batch(is_shared=True)
    broken = make_policy()
    broken.forward = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory"))  # type: ignore[method-assign]
    found = on_ranks([[batch], [batch]], [make_policy(), broken])
    assert all(isinstance(one, MemoryError) for one in found)


def test_rewards_are_means_over_their_kind_whatever_the_balance() -> None:
    model, (batch, told) = make_policy(), make_batch(is_shared=False)
    with torch.no_grad():
        policy = [float(log_prob(model, ids)) for ids in told.own]
        with without_adapters(model):
            start = [float(log_prob(model, ids)) for ids in told.own]
    rewards = [KTO["beta"] * (now - then) for now, then in zip(policy, start, strict=True)]
    found, _ = step(model, batch.split(1))
    for name, kind in ((0, True), (1, False)):
        own = [reward for reward, is_good in zip(rewards, told.good, strict=True) if is_good is kind]
        assert found.measures[name] / found.terms == pytest.approx(sum(own) / len(own))
    assert good_of(batch).tolist() == told.good


def test_the_loop_learns_to_tell_good_from_bad() -> None:
    model, (batch, _) = make_decoder(make_spec(), std=0.1), make_batch(is_shared=True)
    objective = Feedback(KTO, reference=Reference(copy.deepcopy(model), contextlib.nullcontext))
    masters, optimizer = WholeMasters(model), torch.optim.SGD(model.parameters(), lr=0.05)
    gaps = []
    for _ in range(12):
        found = gradient(model, batch.split(2), objective=objective, masters=masters)
        gaps.append((found.measures[0] - found.measures[1]) / found.terms)
        for weight, grad in zip(masters.weights, masters.grads, strict=True):
            model.get_parameter(weight.name).grad = grad.clone()
        optimizer.step()
    assert abs(gaps[0]) < 1e-5
    assert gaps[-1] > 0.05


def test_blocks_below_the_adapter_are_computed_once_for_what_is_found_before_the_gradient() -> None:
    """The plain twin has a reference of its own, and so nothing in common with it."""
    model, (batch, _) = make_decoder(make_spec(), std=0.1, dtype=torch.float64), make_batch(is_shared=True)
    adapt(model, AdapterSpec(rank=4, alpha=8, layers=(len(model.layers) - 1,)), seed=0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(0.1 * name.endswith(".B"))
    twin, calls = copy.deepcopy(model), [0] * len(model.layers)
    for index, block in enumerate(model.layers):
        block.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    losses = []
    for policy, before in ((model, model), (twin, copy.deepcopy(twin))):
        objective = Feedback(KTO, reference=Reference(before, lambda before=before: without_adapters(before)))
        objective.begin(policy, [batch])
        losses.append(objective(policy, batch))
    assert calls == [2] * (len(calls) - 1) + [3]
    torch.testing.assert_close(losses[0].total, losses[1].total, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses[0].measures, losses[1].measures, rtol=1e-10, atol=1e-13)
