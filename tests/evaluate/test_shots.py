"""A base is asked in the best way that training rows show; held-out rows have no part in the choice."""

import pytest
from tests.evaluate.task import loaded, questions, tokenizer_of, trained, untrained

from rhapsode.core.events import Events
from rhapsode.engine.load import Loaded
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.config import TaskEvaluationConfig
from rhapsode.evaluate.items import Item
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.evaluate.shots import SEPARATORS, Choice, Plain, Tried, best_prompt, separator_for
from rhapsode.text.chat import Message

CONFIG = {"scorers": ["accuracy"], "max_tokens": 8, "shots": [0, 1, 3], "shots_items": 6}
SHOTS = questions()[:3]


def text_of(model: Loaded, item: Item, shots=SHOTS, *, separator="\n\n", room=1000) -> str:
    prompt = Plain(model.tokenizer, shots, separator=separator, room=room)(item)
    return model.tokenizer.decode(prompt.ids)


def choose(model: Loaded, items=None, **settings) -> Choice:
    config = TaskEvaluationConfig.model_validate({**CONFIG, **settings})
    return best_prompt(
        *model,
        questions() if items is None else items,
        scorer=scorer(config.scorers[0]),
        config=config,
        sampling=Sampling(max_tokens=config.max_tokens, temperature=0),
        seed=0,
        events=Events(),
    )


@pytest.fixture(scope="module")
def base() -> Loaded:
    return untrained(tokenizer_of(chat=False))


def test_messages_become_lines_and_the_answer_is_left_to_the_model(base):
    asked = Item(
        "x", "x", (Message(role="system", content="Be brief."), Message(role="user", content="sing the sea")), "blue"
    )
    assert text_of(base, asked) == (
        "Be brief.\n\n"
        "User: tell of the sea\nAssistant: blue\n\n"
        "User: tell of the wine\nAssistant: red\n\n"
        "User: tell of the night\nAssistant: black\n\n"
        "User: sing the sea\nAssistant:"
    )


def test_text_stays_as_it_is_but_for_the_space_that_begins_the_answer(base):
    shots = questions(as_text=True)[:2]
    asked = Item("x", "x", "sing the sea: ", "blue")
    assert text_of(base, asked, shots) == "tell of the sea: blue\n\ntell of the wine: red\n\nsing the sea:"


def test_as_many_examples_as_leave_room(base):
    item = questions()[9]
    whole = len(Plain(base.tokenizer, SHOTS, separator="\n\n", room=1000)(item).ids)
    fewer = Plain(base.tokenizer, SHOTS, separator="\n\n", room=whole - 1)(item)
    assert fewer.shots == 2
    assert len(fewer.ids) < whole
    none = Plain(base.tokenizer, SHOTS, separator="\n\n", room=1)(item)
    assert none.shots == 0
    assert len(none.ids) > 1, "the question itself is never cut"


def test_answers_end_where_the_next_question_would_begin(base):
    prompts = Plain(base.tokenizer, SHOTS, separator="\n\n", room=1000)
    assert prompts(questions()[0]).stop == ("\n\n", "\nUser:")
    assert prompts(questions(as_text=True)[0]).stop == ("\n\n",)
    assert prompts.tidy(" blue\n") == "blue"


def test_what_separates_examples_stands_in_no_answer():
    items = questions()
    assert separator_for(items) == "\n\n"
    long = items[0]._replace(wanted="one paragraph\n\nanother\n")
    assert separator_for([*items, long]) == "\n\n\n"
    assert separator_for([long._replace(wanted=f"a{''.join(SEPARATORS)}b")]) == SEPARATORS[-1]


def test_the_way_that_answers_best_is_chosen():
    """A model that was tuned to answer behind two examples alone, and to be silent without them."""
    tokenizer = tokenizer_of(chat=False)
    items = questions(as_text=True)
    shots = choose(untrained(tokenizer), items, shots=[2]).prompts
    seen = [item._replace(prompt=tokenizer.decode(shots(item).ids)) for item in items]
    model = trained(tokenizer, [*seen, *(item._replace(wanted="") for item in items)])
    found = choose(model, items, shots=[0, 2])
    assert found.prompts.name == "in plain text behind 2 examples"
    assert [one.prompt for one in found.tried] == ["in plain text", "in plain text behind 2 examples"]
    without, with_two = (one.value for one in found.tried)
    assert without == 0
    assert with_two is not None
    assert with_two > 0
    assert found.items == 6


def test_a_chat_template_is_one_way_among_others():
    tokenizer = tokenizer_of(chat=True)
    found = choose(trained(tokenizer, questions()))
    assert found.tried[0] == Tried("as it is trained and served", 1.0)
    assert found.prompts.name == "as it is trained and served"
    assert len(found.tried) == 4


def test_of_equals_the_one_with_fewest_examples_is_taken(base):
    found = choose(base)
    assert {one.value for one in found.tried} == {0.0}
    assert found.prompts.name == "in plain text"


def test_only_as_many_examples_as_leave_room_are_tried():
    tokenizer = tokenizer_of(chat=False)
    model = untrained(tokenizer)
    assert [one.prompt for one in choose(model, shots=[0, 1, 19]).tried] == [
        "in plain text",
        "in plain text behind 1 example",
    ]


def test_rows_of_one_prompt_are_never_example_and_question_at_once(base):
    same = [item._replace(group="one") for item in questions()]
    found = choose(base, same, shots=[1, 3])
    assert found.items == 0
    assert found.tried[0].value is None


def test_without_training_rows_there_is_nothing_to_choose(base):
    found = choose(base, [])
    assert found.prompts.name == "in plain text"
    assert found.tried[0].value is None


def test_the_choice_is_the_same_however_rows_are_ordered():
    model = loaded(untrained(tokenizer_of(chat=False)).engine.model, tokenizer_of(chat=False))
    one, other = choose(model, shots=[3]), choose(model, questions()[::-1], shots=[3])
    item = questions()[0]
    assert one.prompts(item) == other.prompts(item)


def test_fewer_rows_than_examples_are_all_shown(base):
    found = choose(base, questions()[:2], shots=[5])
    assert found.prompts(questions()[9]).shots == 2
    assert found.tried == (Tried("in plain text behind 2 examples", None),)


def test_where_no_number_of_examples_leaves_room_as_many_as_do_are_shown(base):
    found = choose(base, shots=[12, 14], max_tokens=90)
    assert [one.prompt for one in found.tried] == ["in plain text behind 12 examples"]
    assert 0 < found.prompts(questions()[0]).shots < 12


def test_rows_that_one_way_has_no_room_for_are_tried_in_none():
    """The chat template tells of tools, which fill the context; plain text does not."""
    model = untrained(tokenizer_of(chat=True))
    tools = ({"type": "function", "function": {"name": "sing", "description": "sing " * 200}},)
    items = [item._replace(tools=tools) if number % 2 else item for number, item in enumerate(questions())]
    found = choose(model, items, shots=[0], shots_items=20)
    assert found.items == sum(not item.tools for item in items)
