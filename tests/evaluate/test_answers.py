"""Answers are what the engine gives alone, whatever else is asked at the same time."""

import json
from pathlib import Path

import pytest
from tests.evaluate.task import questions, tokenizer_of, trained, untrained

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.engine.completion import complete
from rhapsode.engine.load import Loaded
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.answers import AsTrained, Prompt, answer, write_answers
from rhapsode.evaluate.items import Item
from rhapsode.text.chat import Message, render

GREEDY = Sampling(max_tokens=8, temperature=0)


@pytest.fixture(scope="module")
def tuned() -> Loaded:
    return trained(tokenizer_of(chat=True), questions())


def ask(model: Loaded, items, **settings):
    settings = {"prompts": AsTrained(model.tokenizer), "sampling": GREEDY, "events": Events(), **settings}
    return answer(*model, items, **settings)


def test_a_tuned_model_answers_as_wanted_and_stops(tuned):
    items = questions()
    said = ask(tuned, items)
    assert [one.text for one in said] == [item.wanted for item in items]
    assert {one.ended for one in said} == {"stopped"}


def test_together_is_as_one_by_one(tuned):
    items = questions()
    for item, one in zip(items, ask(tuned, items), strict=True):
        ids = render(item.prompt, tokenizer=tuned.tokenizer, add_generation_prompt=True).ids
        alone = "".join(p.text for p in complete(*tuned, ids, sampling=GREEDY))
        assert one.text == alone


def test_an_answer_at_the_limit_is_cut():
    model = untrained(tokenizer_of(chat=True))
    (one,) = ask(
        model,
        questions()[:1],
        sampling=Sampling(max_tokens=3, temperature=0, logit_bias={model.tokenizer.end_of_turn: -100}),
    )
    assert (one.ended, one.tokens) == ("cut", 3)


class Bounded(AsTrained):
    """Ends at a letter, and takes white space away."""

    def __call__(self, item):
        return Prompt(super().__call__(item).ids, stop=("e",), shots=2)

    def tidy(self, answer):
        return answer.upper()


def test_a_stop_string_ends_an_answer_and_frees_its_place(tuned):
    items = [item for item in questions() if item.wanted in ("blue", "white")]
    said = ask(tuned, items, prompts=Bounded(tuned.tokenizer))
    assert [one.text for one in said] == [item.wanted[:-1].upper() for item in items]
    assert {(one.ended, one.shots) for one in said} == {("stopped", 2)}
    assert tuned.engine.num_open == 0


def test_progress_reaches_its_end(tuned):
    heard: list[Event] = []
    ask(tuned, questions(), events=Events(heard.append), stage="answers after")
    assert heard[-1].fields == {"stage": "answers after", "done": 20, "total": 20, "unit": "answers"}


def test_a_prompt_without_room_is_refused_before_anything_is_computed(tuned):
    long = Item("far too long", "g", (Message(role="user", content="sea " * 400),), "blue")
    heard: list[Event] = []
    with pytest.raises(
        RhapsodeError, match=r"item far too long cannot be asked: the prompt has \d+ tokens; the context of 128"
    ):
        ask(tuned, [*questions(), long], events=Events(heard.append))
    assert not heard
    assert tuned.engine.num_open == 0


def test_messages_need_a_chat_template():
    model = untrained(tokenizer_of(chat=False))
    with pytest.raises(RhapsodeError, match="item q0 cannot be asked: this model has no chat template"):
        ask(model, questions())


def test_text_is_gone_on_with_as_it_is():
    tokenizer = tokenizer_of(chat=False)
    items = questions(as_text=True)
    said = ask(trained(tokenizer, items), items)
    assert [one.text for one in said] == [item.wanted for item in items]


def test_every_answer_is_written_down(tuned, tmp_path: Path):
    items = [*questions()[:3], Item("t", "g", "half \ud800 a character\u2028", "x")]
    said = [*ask(tuned, items[:3]), ask(tuned, questions()[:1])[0]._replace(text="a\nb")]
    path = tmp_path / "new" / "after.jsonl"
    write_answers(path, items, said)
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert rows[0] == {
        "id": "q0",
        "group": "g0",
        "prompt": [{"role": "user", "content": "tell of the sea"}],
        "wanted": "blue",
        "answer": "blue",
        "tokens": said[0].tokens,
        "ended": "stopped",
        "shots": 0,
    }
    assert rows[3]["prompt"] == items[3].prompt
    assert [row["answer"] for row in rows] == [one.text for one in said]
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RhapsodeError, match="file"):
        write_answers(tmp_path / "file" / "after.jsonl", [], [])
