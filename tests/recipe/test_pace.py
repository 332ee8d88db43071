"""A budget in minutes becomes steps by a speed that is measured once."""

from pathlib import Path

import pytest
import torch

from rhapsode.core.events import Event, Events
from rhapsode.core.home import HOME, read_record
from rhapsode.core.machine import examine
from rhapsode.recipe import pace
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.pace import here_on
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.train.ranks.ranks import ALONE


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, str(tmp_path / "home"))


def planned(recipe_path: Path, out: Path, *changes: str) -> tuple[Plan, list[str]]:
    """The plan, and the stages that were walked."""
    stages: list[str] = []

    def hear(event: Event) -> None:
        if event.kind == "stage" and event.fields["state"] == "done":
            stages.append(event.fields["name"])

    plan = make_plan(load_recipe(recipe_path, list(changes)), layout=Layout(out), events=Events(hear))
    return plan, stages


def rows(plan: Plan) -> int:
    """That are trained in all."""
    return plan.train.steps * plan.train.batch_rows


def test_the_speed_is_measured_once_so_the_same_recipe_is_the_same_plan(recipe_path: Path, tmp_path: Path) -> None:
    first, stages = planned(recipe_path, tmp_path / "out", "train.budget=60s")
    assert "pace" in stages
    again, stages = planned(recipe_path, tmp_path / "out", "train.budget=60s")
    assert "pace" not in stages
    assert again.hash == first.hash
    longer, _ = planned(recipe_path, tmp_path / "out", "train.budget=10m")
    assert rows(longer) > 4 * rows(first)
    assert any("measured here" in decision.because for decision in first.decisions)
    assert all(speed > 0 for speed in read_record(pace.KEPT).values())


def test_a_budget_in_steps_measures_nothing(recipe_path: Path, tmp_path: Path) -> None:
    _, stages = planned(recipe_path, tmp_path / "out")
    assert "pace" not in stages


def test_a_longer_time_may_mean_a_larger_batch_which_is_measured_again(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def measured(plan: object, *_: object, **__: object) -> float:
        seen.append(plan.batch_rows)  # type: ignore[attr-defined]
        return 1e8

    monkeypatch.setattr(pace, "measure_speed", measured)
    monkeypatch.setattr(pace, "GUESS", 1.0)
    plan, _ = planned(recipe_path, tmp_path / "out", "train.budget=1h", "model.context=16")
    assert seen[0] < plan.train.batch_rows == seen[-1]


def test_without_a_size_the_budget_decides_how_large_the_model_is(recipe_path: Path, tmp_path: Path) -> None:
    plan, _ = planned(recipe_path, tmp_path / "out", "model.size=null", "train.budget=1h")
    (said,) = (decision for decision in plan.decisions if decision.name == "size")
    assert said.value == "1.0m"
    assert plan.train.spec.parameters < 2_000_000
    assert "the smallest for this vocabulary" in said.because  # these few texts would do with less


def test_where_threads_share_cores_the_fastest_number_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = torch.get_num_threads(), []
    machine = examine(tmp_path)._replace(threads=8, cores=4)
    monkeypatch.setattr(pace, "examine", lambda _: machine)
    monkeypatch.setattr(pace.threads, "fastest_threads", lambda counts: asked.append(counts) or 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        for _ in range(2):
            torch.set_num_threads(before)
            here_on(ALONE, out=tmp_path, events=Events())
            assert torch.get_num_threads() == 4
        assert asked == [(4, 8)]
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        torch.set_num_threads(3)
        here_on(ALONE, out=tmp_path, events=Events())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
