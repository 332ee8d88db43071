"""Answers of the model that is trained: who draws what, how they lie in rows, and what is learned of them."""

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import make_decoder, make_spec
from tests.evaluate.scorers import conftest as sandboxes

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.evaluate.items import Item
from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.loader import Batches, Loader
from rhapsode.train.objective import Batch
from rhapsode.train.objectives.grpo import GroupPolicy
from rhapsode.train.objectives.pairs import Reference
from rhapsode.train.rewards import JudgedRollouts, Reward
from rhapsode.train.rollouts import Answerer, Asking, Group, Rollouts, Sampled

NUMBERS: dict[str, Any] = {"temperature": 1.0, "divergence_cost": 0.0, "max_tokens": 6, "per": "token"}
PROMPTS = ("the ship came", "seven gates has the city", "sing", "a fire in the long night", "the man")
ITEMS = [Item(f"item{n}", f"group{n}", prompt, " home") for n, prompt in enumerate(PROMPTS)]
ASKING = Asking(prompts=3, answers=4, max_tokens=6, temperature=1.0)


class Length(Reward):
    """The more characters, the better: nearly every answer of a model at random is worth something else."""

    def __init__(self) -> None:
        super().__init__([])

    def __call__(self, answer: str, item: Item) -> float:
        return 0.0 if item.id == "item2" else float(len(answer))


walls = sandboxes.walls


@pytest.fixture
def model(tokenizer: Tokenizer) -> Decoder:
    return make_decoder(make_spec(vocab_size=tokenizer.vocab_size), seed=3, dtype=torch.float64)


def rollouts(
    model: Decoder, tokenizer: Tokenizer, *, asking: Asking = ASKING, seed: int = 0, items: Sequence[Item] = ITEMS
) -> Rollouts:
    answerer = Answerer(model, tokenizer, stops=[tokenizer.eos], context=64)
    return Rollouts(answerer, items, asking=asking, seed=seed)


def judged(model: Decoder, tokenizer: Tokenizer, *, keeps_all: bool = True, per: str = "token") -> JudgedRollouts:
    return JudgedRollouts(rollouts(model, tokenizer), Length(), spread="group", per=per, keeps_all=keeps_all)


def alone(model: Decoder, prompt: list[int], answer: list[int], *, temperature: float = 1.0) -> torch.Tensor:
    """The log-probabilities of an answer's tokens, read by itself, the plain way."""
    ids = torch.tensor([[*prompt, *answer]])
    attend = DenseAttend(torch.ones_like(ids), dtype=model.embedding.weight.dtype)
    scores = model.logits(model(ids, torch.arange(ids.shape[1])[None], attend=attend))[0, len(prompt) - 1 : -1]
    every = F.log_softmax(scores / temperature, -1)
    return every.gather(-1, torch.tensor(answer)[:, None]).squeeze(1)


def test_batches_are_made_of_packed_rows_or_of_answers(model: Decoder, tokenizer: Tokenizer) -> None:
    sources: list[type] = [Loader, Rollouts, JudgedRollouts]
    assert all(hasattr(source, name) for source in sources for name in ("__call__", "rows_of"))
    made: Batches = rollouts(model, tokenizer)
    batch = made(0)
    assert len(batch.ids)
    assert batch.advantages is None
    assert set(made.measures) == {"answer_tokens", "cut", "sampling_seconds"}


def test_every_prompt_is_asked_once_an_epoch(model: Decoder, tokenizer: Tokenizer) -> None:
    made = rollouts(model, tokenizer)
    asked = [row for place in range(10) for row in made.rows_of(place)]
    for epoch in range(6):
        assert sorted(asked[5 * epoch : 5 * epoch + 5]) == list(range(5))
    assert asked[:5] != asked[5:10]


def test_an_answer_depends_on_seed_place_prompt_and_number_alone(model: Decoder, tokenizer: Tokenizer) -> None:
    first = rollouts(model, tokenizer).sample(4)
    assert rollouts(model, tokenizer).sample(4) == first
    assert rollouts(model, tokenizer, seed=1).sample(4) != first
    again = rollouts(model, tokenizer, asking=ASKING._replace(answers=2)).sample(4)
    assert [group.answers for group in again] == [group.answers[:2] for group in first]
    group = first[0]
    assert len({tuple(answer.ids) for answer in group.answers}) > 1


@torch.no_grad()
def test_what_the_engine_samples_by_is_what_is_trained(model: Decoder, tokenizer: Tokenizer) -> None:
    """The engine's own log-probabilities of the sampled tokens are those of the pass that learns."""
    groups = rollouts(model, tokenizer).sample(0)
    engine = Engine(model, config=EngineConfig(context=64), num_ids=tokenizer.vocab_size)
    for group in groups:
        for answer in group.answers:
            scored = engine.score([*group.prompt, *answer.ids])[len(group.prompt) :]
            said = torch.tensor([one.logprob for one in scored], dtype=torch.float64)
            torch.testing.assert_close(said, alone(model, group.prompt, answer.ids), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_answers_in_trees_are_those_read_one_by_one(model: Decoder, tokenizer: Tokenizer, temperature: float) -> None:
    """Value and gradient, at the temperature of sampling: -A ln p for every token, as the ratio is 1."""
    source = judged(model, tokenizer)
    batch = source(1)
    assert batch.advantages is not None
    objective = GroupPolicy({**NUMBERS, "temperature": temperature}, reference=None)
    found = objective(model, batch)
    groups = rollouts(model, tokenizer).sample(1)
    expected, surrogate, count = 0.0, torch.zeros((), dtype=torch.float64), 0
    for group in groups:
        worth = torch.tensor([Length()(answer.text, group.item) for answer in group.answers], dtype=torch.float64)
        for answer, advantage in zip(group.answers, (worth - worth.mean()) / (worth.std() + 1e-4), strict=True):
            own = alone(model, group.prompt, answer.ids, temperature=temperature)
            surrogate = surrogate - advantage * own.sum()
            expected, count = expected - float(advantage) * len(answer.ids), count + len(answer.ids)
    assert (found.num_terms, found.num_tokens) == (count, count)
    assert float(found.total.detach()) == pytest.approx(expected, abs=1e-9)
    grads = [
        torch.autograd.grad(total, list(model.parameters()), allow_unused=True) for total in (found.total, surrogate)
    ]
    for ours, plain in zip(*grads, strict=True):
        if plain is not None and ours is not None:
            torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-9)


def gradient(model: Decoder, batches: Sequence[Batch], numbers: dict[str, Any]) -> tuple[torch.Tensor, int]:
    objective, terms = GroupPolicy(numbers, reference=None), 0
    model.zero_grad()
    for batch in batches:
        loss = objective(model, batch)
        loss.total.backward()
        terms += loss.num_terms
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), terms


@pytest.mark.parametrize("per", ["answer", "token", "limit"])
def test_what_has_no_gradient_is_not_computed_and_still_counts(model: Decoder, tokenizer: Tokenizer, per: str) -> None:
    place = next(p for p in range(9) if 2 in rollouts(model, tokenizer).rows_of(p))  # all answers to item2 are worth 0
    whole, fewer = (judged(model, tokenizer, keeps_all=keeps, per=per)(place) for keeps in (True, False))
    assert fewer.num_targets < whole.num_targets
    numbers = {**NUMBERS, "per": per}
    (every, terms), (kept, fewer_terms) = gradient(model, [whole], numbers), gradient(model, [fewer], numbers)
    torch.testing.assert_close(kept / fewer_terms, every / terms, rtol=1e-9, atol=1e-12)


def test_any_split_into_rows_gives_the_same_gradient(model: Decoder, tokenizer: Tokenizer) -> None:
    batch = judged(model, tokenizer)(0)
    assert len(batch.ids) > 1
    (whole, terms), (parts, same) = gradient(model, [batch], NUMBERS), gradient(model, batch.split(1), NUMBERS)
    assert terms == same
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)


def test_advantages_stand_beside_the_targets_that_they_weigh(model: Decoder, tokenizer: Tokenizer) -> None:
    batch = judged(model, tokenizer)(0)
    assert batch.advantages is not None
    assert not batch.advantages[batch.targets == IGNORE].any()
    assert not batch.advantages[batch.branches == 0].any()
    parts = batch.split(1)
    assert [part.advantages.shape for part in parts if part.advantages is not None] == [
        part.ids.shape for part in parts
    ]
    moved = batch.map(lambda tensor: tensor.clone())
    assert moved.advantages is not None
    assert torch.equal(moved.advantages, batch.advantages)


def test_a_prompt_is_computed_once(model: Decoder, tokenizer: Tokenizer) -> None:
    batch = rollouts(model, tokenizer)(0)
    groups = rollouts(model, tokenizer).sample(0)
    read = sum(len(g.prompt) - 1 + sum(len(a.ids) for a in g.answers) for g in groups)
    assert int((batch.documents > 0).sum()) == read


def test_a_step_that_says_nothing_has_no_rows(model: Decoder, tokenizer: Tokenizer) -> None:
    asking = Asking(prompts=1, answers=4, max_tokens=3, temperature=1.0)
    silent = rollouts(model, tokenizer, asking=asking, items=[ITEMS[2]])
    source = JudgedRollouts(silent, Length(), spread="group", per="token", keeps_all=False)
    batch = source(0)
    assert len(batch.ids) == 0
    assert batch.split(2) == []
    assert source.measures["told_apart"] == 0


def test_leaving_the_reference_costs_and_the_reference_stays(model: Decoder, tokenizer: Tokenizer) -> None:
    before = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.05)
    reference = Reference(before, contextlib.nullcontext)
    batch = judged(model, tokenizer)(0)
    free, dear = (
        GroupPolicy({**NUMBERS, "divergence_cost": cost}, reference=reference)(model, batch) for cost in (0.0, 0.5)
    )
    assert float(dear.measures["divergence"]) > 0
    gap = float(dear.total.detach() - free.total.detach())
    assert gap == pytest.approx(0.5 * float(dear.measures["divergence"]))
    dear.total.backward()
    assert all(weight.grad is None for weight in before.parameters())


def test_scores_are_weighed_and_added_up() -> None:
    reward = Reward([{"scorer": "number", "weight": 1.0}, {"scorer": "exact", "weight": 0.5}])
    item = Item("a", "a", "3 + 4 =", " 7")
    assert reward.most == 1.5
    assert [reward(text, item) for text in (" 7", "It is 7", " 8")] == [1.5, 1.0, 0.0]


@pytest.mark.usefixtures("walls")
def test_programs_are_rewarded_for_passing_their_tests() -> None:
    reward = Reward([{"scorer": "unit_tests", "weight": 1.0}])
    item = Item("a", "a", "def add(a, b):", '["assert add(1, 2) == 3"]')
    right, wrong = "def add(a, b):\n    return a + b", "def add(a, b):\n    return 0"
    group = Group(item, [1], [Sampled([1], text, is_cut=False) for text in (right, wrong, wrong, "exit()")])
    assert reward.judge([group]) == [[1.0, 0.0, 0.0, 0.0]]


def test_a_row_that_cannot_be_judged_is_named() -> None:
    reward = Reward([{"scorer": "number", "weight": 1.0}])
    with pytest.raises(RhapsodeError, match="item row7: the right answer 'seven' has no number"):
        reward(" 7", Item("row7", "a", "3 + 4 =", "seven"))
