"""A run's journal has a last word, whatever ended it, and whoever listens is told and let go."""

from pathlib import Path

import pytest

from rhapsode.core.errors import Interrupted, RhapsodeError
from rhapsode.core.events import Event, Events, read_events
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.run import walking


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("done", "")),
        (Interrupted("stopped at step 3", "go on", exit_code=143), ("stopped", "stopped at step 3")),
        (KeyboardInterrupt(), ("stopped", "")),
        (RhapsodeError("the disk is full"), ("failed", "the disk is full")),
        (ValueError("a defect"), ("failed", "a defect")),
    ],
)
def test_the_last_word_says_how_it_ended(
    error: BaseException | None, expected: tuple[str, str], recipe_path: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    events, layout = Events(heard.append, clock=lambda: 1.0), Layout(tmp_path / "out")

    def walk() -> None:
        with walking(load_recipe(recipe_path), layout=layout, events=events, resume=False):
            events.emit("step", step=1, loss=2.0)
            if error is not None:
                raise error

    if error is None:
        walk()
    else:
        with pytest.raises(type(error)):
            walk()
    events.emit("after")
    journal = read_events(layout.runs / "small" / "events.jsonl")
    assert [event.kind for event in journal] == ["step", "end"]
    assert (journal[-1].fields["state"], journal[-1].fields["message"]) == expected
    assert [event.kind for event in heard] == ["step", "end", "after"]


def test_a_new_run_forgets_the_trackers_run_of_the_one_before(recipe_path: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    kept = layout.runs / "small" / "mlflow.json"
    kept.parent.mkdir(parents=True)
    for resume, stays in ((True, True), (False, False)):
        kept.write_text("{}")
        with walking(load_recipe(recipe_path), layout=layout, events=Events(), resume=resume):
            assert kept.exists() == stays
