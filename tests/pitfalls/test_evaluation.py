"""Pitfall 25: no benchmark at all, and what was forgotten unseen."""

from tests.pitfalls.conftest import Project

from rhapsode.recipe.load import load_recipe


def test_25_before_after_and_general_text_are_measured_unless_somebody_says_no(project: Project) -> None:
    """With intervals in pairs: tests/evaluate/test_evaluate_task.py; in report and card: tests/recipe/test_tuned.py."""
    config = load_recipe(project.recipe).recipe.evaluate
    assert "base" in config.baselines
    assert config.task is not None
    assert config.task.general is not None
    assert config.task.general.documents > 20


def test_25_whoever_tunes_without_scorers_still_sees_held_out_bits_of_both(project: Project) -> None:
    text = project.recipe.read_text().replace("evaluate: {task: {scorers: [accuracy]}}", "")
    project.recipe.write_text(text)
    recipe = load_recipe(project.recipe).recipe
    assert recipe.data.split.validation > 0
    assert "base" in recipe.evaluate.baselines
