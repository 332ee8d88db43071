"""Pitfalls 3, 6, 7, 16, 17, 22, 23 and 24: what a training does wrong while its loss falls."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder, make_spec, positions_of
from tests.engine.conftest import dense_logits
from tests.pitfalls.conftest import COLOURS, Project, Tuned
from tests.train.conftest import make_plan, make_run
from torch import Tensor

from rhapsode.core.errors import PlanRefused, RecipeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.core.machine import examine
from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch, next_token
from rhapsode.train.step import gradient
from rhapsode.train.trainer import Data
from rhapsode.weights.directory import load_model
from rhapsode.weights.names import checkpoints


def test_03_a_machine_without_the_memory_is_told_before_it_begins(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode.recipe.run.examine", lambda path: examine(path)._replace(memory_available=100_000))
    with pytest.raises(PlanRefused, match=r"training needs at least .* of memory, 100\.0 kB is free"):
        plan_run(load_recipe(project.recipe), layout=project.layout, events=Events())


@pytest.mark.parametrize("name", ["train-00000.learned", "train-00000.bin"])
def test_06_tokens_or_a_mask_that_are_not_those_of_the_plan_are_not_trained_on(name: str, tuned: Tuned) -> None:
    """One flipped bit: a token that is learned or not, or is another."""
    (path,) = tuned.plan.data.tokens.path.glob(name)
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    try:
        _refused(tuned, match=f"{name} has changed since it was written")
    finally:
        path.write_bytes(whole)


def _refused(tuned: Tuned, *, match: str) -> None:
    loaded, layout = load_recipe(tuned.project.recipe, ["task.name=again"]), tuned.project.layout
    with (
        pytest.raises(VerificationMismatch, match=match),
        walking(loaded, layout=layout, events=Events(), resume=False) as walk,
    ):
        train_run(walk, tuned.plan, tuned.cost, resume=False)


def ends(model: Decoder, tuned: Tuned) -> Tensor:
    """How likely the end is behind each answer."""
    words = tuned.plan.data.tokenizer
    rows = [words.ids(f"Which colour has ship {n}?") + words.encode(f" {COLOURS[n % 3]}") for n in range(6)]
    last = [dense_logits(model, row)[-1] for row in rows]
    return torch.stack(last).softmax(-1)[:, words.eos]


def test_07_after_a_few_steps_the_end_is_likely_behind_every_answer(tuned: Tuned) -> None:
    assert tuned.plan.base_directory is not None
    before, after = (ends(load_model(path), tuned) for path in (tuned.plan.base_directory, tuned.model))
    assert (after > before).all()
    assert after.mean() > 20 * before.mean()


def test_16_another_order_another_mask_or_another_rate_is_no_resuming(tuned: Tuned) -> None:
    """kill -9 and resuming to the byte: tests/train/test_kill.py, of a model and of an adapter."""
    for change in ("train.seed=1", "train.learning_rate=0.01", "train.adapter.rank=8"):
        plan = tuned.project.plan(change)
        loaded = load_recipe(tuned.project.recipe, [change])
        with (
            pytest.raises(PlanRefused, match="is a run of another plan:\n  train"),
            walking(loaded, layout=tuned.project.layout, events=Events(), resume=True) as walk,
        ):
            train_run(walk, plan, tuned.cost, resume=True)


def test_17_the_same_seed_gives_the_same_bytes_and_another_seed_others(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, steps=2, validate_every=2)
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        run_dir = tmp_path / str(number)
        run_dir.mkdir()
        make_run(dataclasses.replace(plan, order_seed=seed), data, run_dir)(resume=False)
        weights.append((checkpoints(run_dir)[-1] / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def uneven() -> Batch:
    """Four rows of which one is learned whole and the others hardly."""
    ids = torch.randint(0, 96, (4, 16), generator=torch.Generator().manual_seed(0))
    targets = torch.full_like(ids, IGNORE)
    targets[0], targets[1:, 3] = ids[0].roll(-1), 7
    documents = torch.ones_like(ids)
    return Batch(ids, targets, positions_of(documents), documents, torch.zeros_like(ids))


def test_22_however_rows_are_split_the_gradient_is_that_of_all_tokens_alike() -> None:
    """A mean of the micro-batches' means, which is the fault, is far from it."""

    def of(*parts: Batch) -> Tensor:
        model = make_decoder(make_spec()).double()
        masters = WholeMasters(model)
        found = gradient(model, list(parts), objective=next_token, masters=masters)
        return torch.cat([grad.flatten() for grad in masters.grads]) / found.terms

    batch = uneven()
    whole, split = of(batch), of(*batch.split(1))
    assert torch.allclose(whole, split, rtol=1e-5, atol=1e-7)
    mean_of_means = torch.stack([of(part) for part in batch.split(1)]).mean(0)
    assert (mean_of_means - whole).norm() > 0.1 * whole.norm()


def test_23_a_document_does_not_see_its_neighbour_in_the_row() -> None:
    model, documents = make_decoder(make_spec()), torch.tensor([[1] * 9 + [2] * 7])
    ids = torch.randint(0, 96, (2, 16), generator=torch.Generator().manual_seed(0))
    ids[1, 9:] = ids[0, 9:]

    def scores(row: Tensor, seen: Tensor) -> Tensor:
        with torch.no_grad():
            attend = DenseAttend(seen, dtype=torch.float32)
            return model.logits(model(row[None], positions_of(seen), attend=attend))[0, 9:]

    assert torch.equal(scores(ids[0], documents), scores(ids[1], documents))
    crossed = torch.ones_like(documents)
    assert not torch.allclose(scores(ids[0], crossed), scores(ids[1], crossed), atol=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.lerning_rate=1", "learning_rate"),
        ("data.split.group=folder", "name a field of the examples"),
        ("data.clean={}", "which this has no effect on"),
        ("model.tied=true", "model.base has settled this already"),
        ("train.embedding_learning_rate=0.1", "leave it out"),
    ],
)
def test_24_a_typo_or_a_value_without_effect_is_refused(change: str, said: str, project: Project) -> None:
    """That no field is dead: tests/recipe/test_no_dead_knobs.py."""
    with pytest.raises(RecipeError) as error:
        load_recipe(project.recipe, [change])
    assert said in f"{error.value.message} {error.value.hint}"
