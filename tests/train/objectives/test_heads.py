"""Labels, rewards and vectors in packed rows: plain formulas in float64, transformers' classes, TRL's trainer."""

import types
from collections import defaultdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import Trees, make_decoder, make_spec, make_trees
from tests.train.objectives.conftest import assert_same, gradients
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import with_head
from rhapsode.model.spec import Head
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.objectives.embed import Embed
from rhapsode.train.objectives.heads import Classify, Reward
from rhapsode.train.objectives.preference import Pairs
from rhapsode.train.objectives.registry import make_objective
from rhapsode.train.objectives.reward import bradley_terry

PAIRS = [[[0, 3, 5], [4, 2, 3]], [[0, 6, 1], [0, 2, 4]], [[3, 1, 5]]]
"""Rows of trees: the trunk's length, then each branch's."""


def make_model(head: Head, *, seed: int = 1) -> Decoder:
    return make_decoder(with_head(make_spec(), head, pad=2), seed=seed, dtype=torch.float64)


def make_batch(rows: list[list[list[int]]], *, labels: int = 1, seed: int = 0) -> tuple[Batch, Trees]:
    """Random ids; behind each sequence the number of a label."""
    trees, random = make_trees(rows, width=24), torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 96, trees.documents.shape, generator=random)
    targets = torch.full_like(ids, IGNORE)
    for row in range(len(rows)):
        for places in trees.sequences(row):
            if trees.documents[row, places[-1]]:
                targets[row, places[-1]] = torch.randint(labels, (), generator=random)
    return Batch(ids, targets, trees.positions, trees.documents, trees.branches), trees


def plain_states(model: Decoder, batch: Batch, trees: Trees) -> list[Tensor]:
    """The states of each sequence's tokens, read alone."""
    found = []
    for row in range(len(batch.ids)):
        for places in trees.sequences(row):
            if not batch.documents[row, places[-1]]:
                continue
            ids = batch.ids[row, places][None]
            attend = DenseAttend(torch.ones_like(ids), dtype=torch.float64)
            found.append(model(ids, torch.arange(len(places))[None], attend=attend)[0])
    return found


def total_of(objective: Objective, model: Decoder, parts: list[Batch]) -> tuple[Tensor, int]:
    """A step as training takes it: the whole gradient is in the model afterwards."""
    objective.begin(model, parts)
    model.zero_grad()
    losses = [objective(model, part) for part in parts]
    for loss in losses:
        loss.total.backward()
    return sum(loss.total.detach() for loss in losses), sum(loss.num_terms for loss in losses)  # type: ignore[return-value]


def test_labels_are_learned_as_by_the_plain_formula() -> None:
    model = make_model(Head(("a", "b", "c")))
    batch, trees = make_batch([[[0, 3], [0, 5]], [[0, 9]], [[0, 2], [0, 2], [0, 7]]], labels=3)
    wanted = batch.targets[batch.targets != IGNORE]
    last = torch.stack([states[-1] for states in plain_states(model, batch, trees)])
    expected = F.cross_entropy(last @ model.head.weight.T, wanted, reduction="sum")
    found = Classify()(model, batch)
    assert found.num_terms == 6
    assert_same(found.total, expected, model)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_labels_are_learned_as_transformers_learns_them() -> None:
    """The gradient of the head and of the embedding, of its class for the same weights."""
    transformers = pytest.importorskip("transformers")
    from rhapsode.weights.layout import pieces

    model = make_model(Head(("a", "b", "c")))
    config = transformers.Qwen3Config.from_dict(dict(model.spec.config))
    theirs = transformers.Qwen3ForSequenceClassification(config).to(torch.float64)
    state = {n: v for name, p in model.named_parameters() for n, v in pieces(name, p.detach(), model.spec)}
    theirs.load_state_dict(state)
    batch, trees = make_batch([[[0, 3], [0, 5]], [[0, 9]]], labels=3)
    found = Classify()(model, batch)
    model.zero_grad()
    found.total.backward()
    total = torch.zeros((), dtype=torch.float64)
    wanted = iter(batch.targets[batch.targets != IGNORE])
    for row in range(2):
        for places in trees.sequences(row):
            if batch.documents[row, places[-1]]:
                total = total + theirs(batch.ids[row, places][None], labels=next(wanted)[None]).loss
    total.backward()
    near = {"rtol": 1e-5, "atol": 1e-6}  # transformers turns and norms in float32, whatever goes in
    torch.testing.assert_close(found.total.detach(), total.detach(), **near)
    torch.testing.assert_close(model.head.weight.grad, theirs.score.weight.grad, **near)
    torch.testing.assert_close(model.embedding.weight.grad, theirs.model.embed_tokens.weight.grad, **near)


@pytest.mark.parametrize("centre", [0.0, 0.01])
def test_rewards_are_learned_as_by_the_plain_formula_whatever_pairs_share(centre: float) -> None:
    model = make_model(Head(("reward",)))
    batch, trees = make_batch(PAIRS)
    last = torch.stack([states[-1] for states in plain_states(model, batch, trees)])
    rewards = (last @ model.head.weight.T).squeeze(1)
    expected = bradley_terry(Pairs(rewards[0::2], rewards[1::2]), centre=centre).total
    found = Reward(centre=centre)(model, batch)
    assert (found.num_terms, found.num_tokens) == (5, 10)
    assert_same(found.total, expected, model)


def test_rewards_are_learned_as_trl_learns_them() -> None:
    trl = pytest.importorskip("trl")
    model, (batch, trees) = make_model(Head(("reward",))), make_batch([[[0, 3, 5]], [[0, 6, 1]], [[0, 4, 4]]])
    rows = [
        batch.ids[row, places]
        for row in range(3)
        for places in trees.sequences(row)
        if batch.documents[row, places[-1]]
    ]
    rows = [*rows[0::2], *rows[1::2]]  # chosen ones first
    width = max(map(len, rows))
    ids, mask = torch.full((6, width), 2), torch.zeros(6, width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1

    def forward(input_ids: Tensor, attention_mask: Tensor, **_: Any) -> types.SimpleNamespace:
        attend = DenseAttend(attention_mask, dtype=torch.float64)
        hidden = model(input_ids, torch.arange(width).expand_as(input_ids), attend=attend)
        last = hidden[torch.arange(len(hidden)), attention_mask.sum(1) - 1]
        return types.SimpleNamespace(logits=last @ model.head.weight.T)

    trainer = object.__new__(trl.RewardTrainer)
    trainer.args = types.SimpleNamespace(center_rewards_coefficient=0.01)
    trainer.accelerator = types.SimpleNamespace(
        gather_for_metrics=lambda x: x, gather=lambda x: x, num_processes=1, device=torch.device("cpu")
    )
    trainer._metrics = {mode: defaultdict(list) for mode in ("train", "eval")}
    trainer._total_train_tokens = 0
    trainer.model = types.SimpleNamespace(training=False)
    expected = trainer.compute_loss(forward, {"input_ids": ids, "attention_mask": mask}) * 3
    assert_same(Reward(centre=0.01)(model, batch).total, expected, model)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("rows", [PAIRS, [[[0, 3, 5, 4], [4, 2, 3, 1]], [[0, 6, 1, 2]], [[3, 1, 5, 2]]]])
def test_vectors_are_learned_as_by_the_plain_formula(pooling: str, rows: list[list[list[int]]]) -> None:
    """Of pairs, and of queries with a passage that is wrong."""
    model = make_model(Head(pooling=pooling))  # type: ignore[arg-type]
    batch, trees = make_batch(rows)
    states = plain_states(model, batch, trees)
    vectors = F.normalize(torch.stack([s.mean(0) if pooling == "mean" else s[-1] for s in states]), dim=-1)
    branches = batch.branches[batch.targets != IGNORE]
    queries, passages = vectors[branches == 1], vectors[branches != 1]
    own = (branches[branches != 1] == 2).nonzero().squeeze(1)
    expected = F.cross_entropy(queries @ passages.T / 0.1, own, reduction="sum")
    assert_same(Embed(temperature=0.1)(model, batch).total, expected, model)


@pytest.mark.parametrize("name", ["classify", "reward", "embed"])
def test_any_split_into_micro_batches_gives_the_same_gradient(name: str) -> None:
    """Also where every text is compared with every other one of the step."""
    labels = {"classify": ("a", "b", "c"), "reward": ("reward",), "embed": ()}[name]
    model = make_model(Head(labels, "mean" if name == "embed" else "last"))
    rows = [[[0, 3], [0, 5]], [[0, 6]], [[0, 4]], [[0, 2], [0, 9]]] if name == "classify" else [*PAIRS, [[0, 4, 2]]]
    batch, _ = make_batch(rows, labels=max(1, len(labels)))
    numbers = {"reward": {"centre": 0.01}, "embed": {"temperature": 0.1, "pooling": "mean"}}.get(name, {})
    objective = make_objective({"name": name, **numbers})
    found = []
    for size in (4, 3, 2, 1):
        total, terms = total_of(objective, model, batch.split(size))
        found.append((total, terms, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for total, terms, grads in found[1:]:
        torch.testing.assert_close(total, found[0][0], rtol=1e-10, atol=1e-12)
        assert terms == found[0][1]
        torch.testing.assert_close(grads, found[0][2], rtol=1e-8, atol=1e-10)
    assert any(grad.abs().max() > 1e-6 for grad in found[0][2])


def test_a_passage_that_is_anothers_too_is_no_negative() -> None:
    """Two queries of one passage: as if each step had held only one of them."""
    model = make_model(Head(pooling="mean"))
    batch, _ = make_batch([[[0, 3, 5]], [[0, 3, 5]], [[0, 2, 4]]])
    batch.ids[1, 3:8] = batch.ids[0, 3:8]
    together = Embed(temperature=0.1)(model, batch)
    alone = [Embed(temperature=0.1)(model, batch.map(lambda t, row=row: t[[row, 2]])) for row in (0, 1)]
    first = [loss.total - own for loss, own in zip(alone, _third(model, batch, alone), strict=True)]
    assert together.num_terms == 3
    expected = sum(first) + _last_of_three(model, batch)
    torch.testing.assert_close(together.total, expected, rtol=1e-8, atol=1e-10)


def _vectors(model: Decoder, batch: Batch) -> Tensor:
    from rhapsode.train.objectives.embed import texts_of

    return texts_of(model, batch).vectors


def _third(model: Decoder, batch: Batch, alone: list[Any]) -> list[Tensor]:
    """The part of the last query in steps of two."""
    vectors = _vectors(model, batch)
    found = []
    for row in (0, 1):
        scores = vectors[4] @ vectors[[2 * row + 1, 5]].T / 0.1
        found.append(F.cross_entropy(scores[None], torch.tensor([1]), reduction="sum"))
    return found


def _last_of_three(model: Decoder, batch: Batch) -> Tensor:
    vectors = _vectors(model, batch)
    return F.cross_entropy((vectors[4] @ vectors[[1, 3, 5]].T / 0.1)[None], torch.tensor([2]), reduction="sum")


def test_a_reward_says_how_often_it_is_right() -> None:
    model, (batch, _) = make_model(Head(("reward",))), make_batch(PAIRS)
    found = Reward(centre=0.0)(model, batch)
    assert set(found.measures) == {"reward_chosen", "reward_rejected", "right"}
    assert gradients(found.total, model)
