"""What is learned of a conversation is found in two exchanges, and is what asking for every beginning alone finds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.text.test_template import TEMPLATES, conversations, forgeries, texts
from tests.text.test_tools import QWEN, TALK, WEATHER

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message, render
from rhapsode.text.markup import Markup, Read
from rhapsode.text.renderings import Asked, Renderings
from rhapsode.text.sandbox import SANDBOX, Sandbox
from rhapsode.text.tokenizer import Tokenizer

Make = Callable[..., Path]
Found = tuple[list[int], list[bool]] | str
CHANGES_ITS_MIND = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{{ m.content if loop.last or 'x' in m.content else m.content | trim }}{{ '<|im_end|>\n' }}"
    "{% if 'no' in m.content and not loop.last %}{{ raise_exception('no!') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
KINDS = {**{kind: (kind, template) for kind, template in TEMPLATES.items()}, "fickle": ("qwen", CHANGES_ITS_MIND)}
same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)


def learned(messages: list[Message], tokenizer: Tokenizer, **named: Any) -> Found:
    try:
        rendered = render(messages, tokenizer=tokenizer, **named)
        return rendered.ids, rendered.mask
    except RhapsodeError as error:
        return error.message


def one_by_one(messages: list[Message], tokenizer: Tokenizer, **named: Any) -> Found:
    """The plain twin: every beginning is rendered alone, and read as a text of its own."""

    def alone(self: Markup, whole: Read, stop: int) -> Any:
        return self.places(whole.text[:stop])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderings, "prepare", lambda *_: None)
        patch.setattr(Markup, "places_before", alone)
        return learned(messages, tokenizer, **named)


@pytest.fixture(params=list(KINDS))
def tokenizer(request: pytest.FixtureRequest, make: Make) -> Tokenizer:
    kind, template = KINDS[request.param]
    return Tokenizer.load(make(kind, chat_template=template))


@given(messages=conversations(texts | forgeries | st.sampled_from(["no", "x\n", "\n\n"])), prompt=st.booleans())
@same_fixture
def test_it_is_what_is_found_one_by_one(messages: list[Message], tokenizer: Tokenizer, *, prompt: bool) -> None:
    named = {"add_generation_prompt": prompt}
    assert learned(messages, tokenizer, **named) == one_by_one(messages, tokenizer, **named)


def test_so_it_is_with_calls(make: Make) -> None:
    tokenizer = Tokenizer.load(make("qwen", chat_template=QWEN))
    for talk in (TALK[:2], TALK, TALK * 3):
        found = learned(talk, tokenizer, tools=[WEATHER])
        assert found == one_by_one(talk, tokenizer, tools=[WEATHER])
        assert not isinstance(found, str)
        assert any(found[1])


def test_two_exchanges_suffice_for_many_answers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.load(make("qwen", chat_template=QWEN))
    talk = [Message(role=role, content=f"{role} {n}") for n in range(20) for role in ("user", "assistant")]
    lines, exchange = list[str](), Sandbox._exchange

    def counted(self: Sandbox, request: str) -> dict[str, Any]:
        lines.append(request)
        return exchange(self, request)

    monkeypatch.setattr(Sandbox, "_exchange", counted)
    assert sum(render(talk, tokenizer=tokenizer).mask) > 20
    assert len(lines) == 2


def test_beginnings_are_lengths_of_the_first_and_failures_are_left_to_be_asked_for_alone() -> None:
    template = "{% for m in messages %}{{ m.content }}{{ raise_exception('c!') if m.content == 'c' }}{% endfor %}"
    template += "{{ '?' if add_generation_prompt }}"
    rows = [{"content": letter} for letter in "abc"]
    asked = [(2, False, "[]"), (1, False, "[]"), (1, True, "[]"), (3, False, "[]"), (0, False, json.dumps(rows[1:2]))]
    assert SANDBOX.render_beginnings(template, {"messages": rows}, asked) == ["ab", 1, "a?", None, "b"]
    told = Renderings(template, rows, {})
    told.prepare(Asked(2, add_generation_prompt=False), [Asked(3, add_generation_prompt=False)])
    assert told.text(Asked(2, add_generation_prompt=False)) == "ab"
    with pytest.raises(RhapsodeError, match="refuses this conversation: c!"):
        told.text(Asked(3, add_generation_prompt=False))


def test_each_beginning_may_take_its_time_and_one_without_end_is_stopped() -> None:
    slow = "{% for i in range(60000) %}{% for j in range(60 if messages|length < 3 else 90000) %}"
    slow += "{% endfor %}{% endfor %}"
    beginnings = [(count, False, "[]") for count in (1, 2) * 6]
    variables = {"messages": [{"content": "a"}] * 3}
    sandbox = Sandbox()
    assert sandbox.render_beginnings(slow, variables, beginnings) == ["", *[0] * 11]
    with pytest.raises(RhapsodeError, match="takes longer than a second"):
        sandbox.render_beginnings(slow, variables, [*beginnings, (3, False, "[]")])
