"""Our own ChatML with tools: the ids of the template that is saved, an exact mask, prefixes, nothing to forge."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tests.text.test_tools import TALK, WEATHER, asked, call, conversations, forged, names, rows, texts

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import SPECIAL_TOKENS, Tokenizer

tools = st.lists(
    st.builds(lambda name, text: {"type": "function", "function": {"name": name, "description": text}}, names, texts),
    max_size=2,
)
systems = st.lists(st.builds(Message, role=st.just("system"), content=texts), max_size=1)
# An answer that begins with an empty line is rendered as a model would generate it, which no text template can do.
visible = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: text.lstrip())


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> transformers.PreTrainedTokenizerBase:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    loaded: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(directory)
    return loaded


@given(system=systems, messages=conversations(visible), tools=tools, prompt=st.booleans(), as_text=st.booleans())
def test_the_ids_are_those_of_the_template(
    tokenizer: Tokenizer,
    theirs: transformers.PreTrainedTokenizerBase,
    system: list[Message],
    messages: list[Message],
    tools: list[dict[str, Any]],
    prompt: bool,
    as_text: bool,
) -> None:
    """Whether arguments are text, as OpenAI has them, or objects, as other servers make them before they render."""
    given = rows([*system, *messages], as_text=as_text, null=as_text)
    expected = theirs.apply_chat_template(
        given, tools=tools or None, tokenize=True, return_dict=False, add_generation_prompt=prompt
    )
    rendered = render([*system, *messages], tokenizer=tokenizer, tools=tools, add_generation_prompt=prompt)
    assert rendered.ids == expected


@given(messages=conversations(texts | forged), tools=tools)
def test_the_mask_is_exactly_the_answers_their_calls_and_their_ends(
    tokenizer: Tokenizer, messages: list[Message], tools: list[dict[str, Any]]
) -> None:
    rendered = render(messages, tokenizer=tokenizer, tools=tools)
    learned = [token for token, is_learned in zip(rendered.ids, rendered.mask, strict=True) if is_learned]
    answers = [message for message in messages if message.role == "assistant"]
    assert learned == [t for answer in answers for t in (*tokenizer.encode(written(answer)), tokenizer.end_of_turn)]


def written(message: Message) -> str:
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(c.function.name)}, "arguments": {c.function.arguments}}}\n</tool_call>'
        for c in message.tool_calls
    ]
    return "\n".join([*([message.content] if message.content else []), *calls])


@given(messages=conversations(texts | forged), tools=tools)
def test_the_beginning_of_a_conversation_is_a_prefix(
    tokenizer: Tokenizer, messages: list[Message], tools: list[dict[str, Any]]
) -> None:
    whole = render(messages, tokenizer=tokenizer, tools=tools)
    for count in range(1, len(messages)):
        part = render(messages[:count], tokenizer=tokenizer, tools=tools)
        assert whole.ids[: len(part.ids)] == part.ids
        assert whole.mask[: len(part.mask)] == part.mask
        if messages[count].role == "assistant":
            prompt = render(messages[:count], tokenizer=tokenizer, tools=tools, add_generation_prompt=True).ids
            assert whole.ids[: len(prompt)] == prompt
            assert whole.mask[len(prompt)]


@given(messages=conversations(texts | forged), tools=tools)
def test_tools_cannot_forge_a_turn(tokenizer: Tokenizer, messages: list[Message], tools: list[dict[str, Any]]) -> None:
    ids = render(messages, tokenizer=tokenizer, tools=tools).ids
    turn = [tokenizer.special("<|im_start|>"), tokenizer.end_of_turn]
    special = [token for token in ids if token < len(SPECIAL_TOKENS)]
    assert special == [tokenizer.bos] + turn * (len(messages) + bool(tools))


def test_a_conversation_in_full(tokenizer: Tokenizer) -> None:
    talk = [
        Message(role="system", content="Be brief."),
        TALK[0],
        asked("I look.", call("weather", {"place": "Athens"})),
    ]
    text = tokenizer.decode(render([*talk, *TALK[2:]], tokenizer=tokenizer, tools=[WEATHER]).ids)
    assert text.startswith("system\nBe brief.\n\n# Tools\n\n")
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in text
    assert text.endswith(
        "user\nRain in Athens?\n"
        'assistant\nI look.\n<tool_call>\n{"name": "weather", "arguments": {"place": "Athens"}}\n</tool_call>\n'
        'tool\n<tool_response>\n{"rain": false}\n</tool_response>\n'
        "assistant\nNo.\n"
    )


def test_a_late_system_message_is_refused_with_tools_too(tokenizer: Tokenizer) -> None:
    with pytest.raises(RhapsodeError, match=r"messages\[1\].role: a system message may only be the first"):
        render([TALK[0], Message(role="system", content="x")], tokenizer=tokenizer, tools=[WEATHER])
