"""A model that calls tools is asked with them, and its calls are judged beside its words."""

from pathlib import Path

import pytest
from tests.serve.caller import CITIES, CONVERSATIONS, TOOL, caller

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.examples.example import Conversation
from rhapsode.engine.load import Loaded, load_engine
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluate_task import evaluate_task
from rhapsode.evaluate.items import Item, call_items, item_of
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return caller(tmp_path_factory.mktemp("caller"))


def items() -> list[Item]:
    """For each city the call, and what is said of its result."""
    found: list[Item] = []
    for name, messages in zip(CITIES, CONVERSATIONS, strict=True):
        example = Conversation(messages, (TOOL,))
        last = item_of(example, name=name)
        assert last is not None
        found += [*call_items(example, name=name), last]
    return found


def judged(model: Loaded, *, scorers: list[str], is_tuned: bool = True) -> TaskEvaluation:
    task = {"scorers": scorers, "max_tokens": 80, "shots": [0, 1], "shots_items": 2, "general": {"documents": 0}}
    config = EvaluateConfig.model_validate({"task": task})
    given = items()
    return evaluate_task(None, model, given, shots_from=given, config=config, events=Events(), is_tuned=is_tuned)


def test_calls_and_words_are_judged_each_by_its_own_scorers(folder: Path) -> None:
    found = judged(load_engine(folder / "tiny"), scorers=["tool_calls", "tool_fields", "tool_schema", "exact"])
    assert [score.value for score in found.after.scores] == [1, 1, 1, 1]
    assert [item.after for item in found.items] == [(1, 1, 1, None), (1, 1, 1, 1)] * 2
    assert [score.groups for score in found.after.scores] == [2, 2, 2, 2]
    call = next(example for example in found.examples if "#" in example.id)
    assert call.after == call.wanted


def test_words_alone_are_asked_where_no_calls_are_judged(folder: Path) -> None:
    found = judged(load_engine(folder / "tiny"), scorers=["exact"])
    assert [item.after for item in found.items] == [(1,), (1,)]


def test_a_model_never_tuned_is_told_of_the_tools_in_plain_text_too(folder: Path) -> None:
    found = judged(load_engine(folder / "tiny"), scorers=["tool_calls"], is_tuned=False)
    assert found.after.scores[0].value == 1
    assert found.after.prompt == "as it is trained and served"
    assert [one.prompt for one in found.after.tried][1:] == ["in plain text", "in plain text behind 1 example"]


def test_calls_that_nobody_here_can_read_are_refused_before_anything_is_asked(folder: Path) -> None:
    engine, tokenizer = load_engine(folder / "tiny")
    template = tokenizer.chat_template.replace("tool_call>", "function_call>")
    other = Tokenizer(tokenizer._source.decode(), names=tokenizer.names, chat_template=template)
    with pytest.raises(RhapsodeError, match="not read here"):
        judged(Loaded(engine, other), scorers=["tool_calls"])
