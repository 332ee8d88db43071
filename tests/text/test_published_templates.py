"""Chat templates as models were published with them, from the trl package: tools rendered as transformers does."""

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers
from tests.text.conftest import Shape
from tests.text.test_tools import TALK, WEATHER, asked, call, rows

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message, render
from rhapsode.text.dialect import dialect_of
from rhapsode.text.tokenizer import Tokenizer

Make = Callable[..., Path]

_FOUND = importlib.util.find_spec("trl")
FOLDER = Path((_FOUND and _FOUND.origin) or "trl").parent / "chat_templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
pytestmark = pytest.mark.skipif(not NAMES, reason="the trl package is not installed, which brings chat templates")

SPECIAL = re.compile(
    r"<\|[^|<>'{}\s]+\|>|<｜[^｜]+｜>|<(?:start_of_turn|end_of_turn|bos|eos|turn\||\|turn|tool_call\||\|tool_call)>"
)
AGAIN = [
    Message(role="user", content="And in Rome, in June?"),
    asked("", call("weather", {"place": "Rome", "month": 6}, 1)),
    Message(role="tool", content="17", tool_call_id="call00001", name="weather"),
    Message(role="assistant", content="Some."),
]
JSON_CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "Athens"}}\n</tool_call>'
XML_CALL = "<tool_call>weather\n<arg_key>place</arg_key>\n<arg_value>Athens</arg_value>\n</tool_call>"
LEARNED = {
    "gemma4_v2": ['<|tool_call>call:weather{place:<|"|>Athens<|"|>}<tool_call|><turn|>', "No.<turn|>"],
    "gemma4_v5": ['<|tool_call>call:weather{place:<|"|>Athens<|"|>}<tool_call|>', "No.<turn|>"],
    "glm4moe_training": [
        f"\n<think></think>\n{XML_CALL}<|observation|>",
        "\n<think></think>\nNo.<|user|>",
    ],
    "gptoss": [
        ' to=functions.weather<|channel|>commentary json<|message|>{"place": "Athens"}<|call|>',
        "<|channel|>final<|message|>No.<|return|>",
    ],
    "lfm2_v2": ["<|tool_call_start|>[weather(place='Athens')]<|tool_call_end|><|im_end|>", "No.<|im_end|>"],
    "llama3_1": ['{"name": "weather", "parameters": {"place": "Athens"}}<|eot_id|>', "No.<|eot_id|>"],
    "qwen2_5": [f"{JSON_CALL}<|im_end|>", "No.<|im_end|>"],
    "qwen3_instruct_2507": [f"{JSON_CALL}<|im_end|>", "No.<|im_end|>"],
    "qwen3_training": [f"<think>\n\n</think>\n\n{JSON_CALL}<|im_end|>", "<think>\n\n</think>\n\nNo.<|im_end|>"],
}
REFUSED = {
    "gemma3": "writes no tool calls",
    "llama3": "writes no tool calls",
    "glm4moe": "does not end a tool call with a special token",
    "qwen3": "writes an answer otherwise once the conversation goes on",
    "deepseekv3": "does not go on from the prompt",
    "nemotron_3_nano": "does not go on from the prompt",
}


@pytest.fixture
def load(kinds: dict[str, Shape], make: Make) -> Callable[[str], Path]:
    """A model with the template of that name, whose vocabulary has all the tokens that it spells."""

    def loaded(name: str) -> Path:
        template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        shape = json.loads(json.dumps(kinds["qwen"]))
        there = {token["content"] for token in shape["added_tokens"]}
        first = 1 + max(token["id"] for token in shape["added_tokens"])
        more = sorted({*SPECIAL.findall(template), '<|"|>'} - there)
        like = {**shape["added_tokens"][0], "special": True}
        shape["added_tokens"] += [{**like, "id": first + number, "content": text} for number, text in enumerate(more)]
        return make("qwen", chat_template=template, shape=shape)

    return loaded


def learned(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[str]:
    """The stretches that are learned, special tokens spelled out."""
    tools = [WEATHER] if "tools" in tokenizer.chat_template else []
    rendered = render(messages, tokenizer=tokenizer, tools=tools)
    found: list[list[int]] = []
    for index, (token, is_learned) in enumerate(zip(rendered.ids, rendered.mask, strict=True)):
        if is_learned and not rendered.mask[index - 1]:
            found.append([])
        if is_learned:
            found[-1].append(token)
    special = {tokenizer.special(name) for name in tokenizer.special_names}
    return ["".join(tokenizer.show(t) if t in special else tokenizer.decode([t]) for t in run) for run in found]


@pytest.mark.parametrize("name", NAMES)
def test_the_ids_are_those_of_transformers(load: Callable[[str], Path], name: str) -> None:
    directory = load(name)
    ours, theirs = Tokenizer.load(directory), transformers.AutoTokenizer.from_pretrained(directory)
    tools: list[dict[str, Any]] = [WEATHER] if "tools" in ours.chat_template else []
    try:
        dialect = dialect_of(ours.chat_template, ours.names)
    except RhapsodeError:
        pytest.skip("this template writes no tool calls")
    if dialect.silence == "null":
        pytest.skip("transformers takes null out of messages, which this template asks for")
    for prompt in (False, True):
        messages = [*TALK, *AGAIN][: 3 if prompt else None]
        given = rows(messages, as_text=dialect.takes_text)
        for row, message in zip(given, messages, strict=True):
            row |= {"name": message.name} if message.name else {}
        expected = theirs.apply_chat_template(
            given, tools=tools or None, tokenize=True, return_dict=False, add_generation_prompt=prompt
        )
        assert render(messages, tokenizer=ours, tools=tools, add_generation_prompt=prompt).ids == expected


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned_is_the_calls_and_the_answers(load: Callable[[str], Path], name: str) -> None:
    loaded = Tokenizer.load(load(name))
    assert learned(loaded, TALK[:2]) == LEARNED[name][:1]
    assert learned(loaded, TALK) == LEARNED[name]


def test_a_call_that_ends_a_conversation_can_be_learned_where_one_in_the_midst_cannot(
    load: Callable[[str], Path],
) -> None:
    loaded = Tokenizer.load(load("qwen3"))
    assert learned(loaded, TALK[:2]) == [f"<think>\n\n</think>\n\n{JSON_CALL}<|im_end|>"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_proven_is_refused(load: Callable[[str], Path], name: str) -> None:
    with pytest.raises(RhapsodeError, match=REFUSED[name]):
        learned(Tokenizer.load(load(name)), TALK)
