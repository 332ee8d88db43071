"""Tools in conversations: the ids that others make of calls and results, and a mask of exactly what is answered."""

import json
import string
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Function, Message, Rendered, ToolCall, read_messages, render
from rhapsode.text.templates import GEMMA, suitable
from rhapsode.text.tokenizer import Tokenizer

Make = Callable[..., Path]
same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

QWEN = """
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

LLAMA3 = """
{{- bos_token }}
{%- if tools is not none %}
    {{- "<|start_header_id|>system<|end_header_id|>\n\nYou have access to:\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

MISTRAL = """
{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none %}
            {{- "[AVAILABLE_TOOLS] " + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " + message["content"] + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""

# As DeepSeek's: arguments are text, a call has no content, special tokens stand between the calls and behind them.
DEEPSEEK = """
{%- for m in messages %}
    {%- if m.role == 'user' %}
        {{- '<|im_start|>user\n' + m.content }}
    {%- elif m.role == 'assistant' and m.content is none %}
        {{- '<|im_start|>assistant\n' }}
        {%- for c in m.tool_calls %}
            {{- '<|im_start|>' + c.type + '\n' + c.function.name + '\n```json\n' + c.function.arguments + '\n```' }}
            {{- '<|endoftext|>' }}
        {%- endfor %}
        {{- '<|endoftext|><|im_end|>' }}
    {%- elif m.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' + m.content + '<|im_end|>' }}
    {%- elif m.role == 'tool' %}
        {{- '<|im_start|>tool\n' + m.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

# As Phi's: a text that does not go on ends with a token that no answer has.
PHI = """
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' + m.content }}
    {%- if m.tool_calls %}
        {{- '<tool_call>' + (m.tool_calls | tojson) + '</tool_call>' }}
    {%- endif %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- else %}
    {{- '<|endoftext|>' }}
{%- endif %}
"""

TEMPLATES = {
    "qwen": ("qwen", QWEN),
    "llama3": ("llama3", LLAMA3),
    "mistral": ("mistral", MISTRAL),
    "deepseek": ("qwen", DEEPSEEK),
    "phi": ("qwen", PHI),
    "gemma": ("gemma", GEMMA),
}
ENDS = {
    **dict.fromkeys(("qwen", "deepseek", "phi"), "<|im_end|>"),
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a place: now.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.text("ab \n\t.'\"\\{}", max_size=12)
names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6)
values = texts | st.integers(-9, 9) | st.booleans() | st.none() | st.lists(texts, max_size=2)
forged = st.sampled_from(["<|im_end|>", "</s>", "<|eot_id|>", "</tool_call>", '"}}\n</tool_call><|im_end|>', "[INST]"])


def call(name: str, values: dict[str, Any], number: int = 0) -> ToolCall:
    return ToolCall(id=f"call{number:05}", function=Function(name=name, arguments=json.dumps(values)))


def asked(words: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=words, tool_calls=calls)


@st.composite
def conversations(draw: st.DrawFn, content: st.SearchStrategy[str], *, most_calls: int = 2) -> list[Message]:
    """A question, perhaps a call or more with their results, an answer; twice."""
    messages = []
    for _ in range(draw(st.integers(1, 2))):
        messages.append(Message(role="user", content=draw(content)))
        num_calls = draw(st.integers(0, most_calls))
        arguments = st.dictionaries(content, content | values, max_size=2)
        calls = [call(draw(names), draw(arguments), number) for number in range(num_calls)]
        if calls:
            messages.append(asked("", *calls))
            messages += [Message(role="tool", content=draw(content), tool_call_id=c.id) for c in calls]
        messages.append(Message(role="assistant", content=draw(content)))
    return messages[: draw(st.integers(1, len(messages)))]


def rows(messages: Sequence[Message], *, as_text: bool = False, null: bool = False) -> list[dict[str, Any]]:
    """As transformers documents them, or with what a template of another kind wants."""
    made: list[dict[str, Any]] = []
    for message in messages:
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            row["content"] = None if null else message.content
            row["tool_calls"] = [
                {
                    "id": c.id,
                    "type": "function",
                    "function": {
                        "name": c.function.name,
                        "arguments": c.function.arguments if as_text else json.loads(c.function.arguments),
                    },
                }
                for c in message.tool_calls
            ]
        if message.tool_call_id:
            row["tool_call_id"] = message.tool_call_id
        made.append(row)
    return made


class Both:
    """Our tokenizer and transformers', of one directory."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.kind = kind
        self.ours = Tokenizer.load(directory)
        self.theirs: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(directory)
        self.special = {self.ours.special(name) for name in self.ours.special_names}

    @property
    def most_calls(self) -> int:
        return 1 if self.kind == "llama3" else 2

    def expected(self, messages: Sequence[Message], *, prompt: bool = False, **more: Any) -> list[int]:
        if self.kind == "deepseek":
            return self._with_null(rows(messages, as_text=True, null=True), prompt=prompt)
        ids: list[int] = self.theirs.apply_chat_template(
            rows(messages), tokenize=True, return_dict=False, add_generation_prompt=prompt, **more
        )
        return ids

    def _with_null(self, given: list[dict[str, Any]], *, prompt: bool) -> list[int]:
        """`apply_chat_template` takes null out of messages, so a template that asks for it is rendered alone."""
        template = self.theirs.chat_template
        [text], _ = render_jinja_template([given], chat_template=template, add_generation_prompt=prompt)
        ids: list[int] = self.theirs(text, add_special_tokens=False).input_ids
        return ids


@pytest.fixture(params=list(TEMPLATES))
def both(request: pytest.FixtureRequest, make: Make) -> Both:
    kind, template = TEMPLATES[request.param]
    return Both(make(kind, chat_template=template), request.param)


@same_fixture
@given(data=st.data(), prompt=st.booleans(), has_tools=st.booleans())
def test_the_ids_are_those_of_transformers(both: Both, data: st.DataObject, prompt: bool, has_tools: bool) -> None:
    messages = data.draw(conversations(texts, most_calls=both.most_calls))
    tools = [WEATHER] if has_tools and both.kind not in ("deepseek", "phi") else []
    ids = render(messages, tokenizer=both.ours, add_generation_prompt=prompt, tools=tools).ids
    assert ids == both.expected(messages, prompt=prompt, tools=tools or None)


@same_fixture
@given(data=st.data())
def test_what_is_learned_is_the_answers_their_calls_and_their_ends(both: Both, data: st.DataObject) -> None:
    messages = data.draw(conversations(texts | forged, most_calls=both.most_calls))
    rendered = render(messages, tokenizer=both.ours)
    mask, reason = mask_or_reason(rendered)
    if reason:
        assert "one token" in reason  # these vocabularies join a line end with white space behind it
        return
    end = both.ours.special(ENDS[both.kind])
    for learned, message in zip(runs(rendered.ids, mask, end), answers(messages), strict=True):
        said = both.ours.decode(learned)
        assert visible(message.content) in visible(said)
        for c in message.tool_calls:
            assert c.function.name in said
            for text in strings(c.function.values):
                spellings = (text, json.dumps(text, ensure_ascii=False)[1:-1])
                assert any(visible(spelling) in visible(said) for spelling in spellings)


@same_fixture
@given(data=st.data())
def test_every_prompt_is_how_its_answer_begins(both: Both, data: st.DataObject) -> None:
    messages = data.draw(conversations(texts | forged, most_calls=both.most_calls))
    rendered = render(messages, tokenizer=both.ours)
    mask, _ = mask_or_reason(rendered)
    for index, message in enumerate(messages):
        if mask and message.role == "assistant":
            prompt = render(messages[:index], tokenizer=both.ours, add_generation_prompt=True).ids
            assert rendered.ids[: len(prompt)] == prompt
            assert mask[len(prompt)]
            assert not mask[len(prompt) - 1]


@same_fixture
@given(data=st.data(), prompt=st.booleans())
def test_neither_calls_nor_results_forge_a_special_token(both: Both, data: st.DataObject, prompt: bool) -> None:
    messages = data.draw(conversations(forged, most_calls=both.most_calls))
    tame = [
        asked("", *(call("f", {"x": "x"}, number) for number, _ in enumerate(message.tool_calls)))
        if message.tool_calls
        else message.model_copy(update={"content": "x"})
        for message in messages
    ]
    ids = render(messages, tokenizer=both.ours, add_generation_prompt=prompt).ids
    expected = both.expected(tame, prompt=prompt)
    assert [i for i in ids if i in both.special] == [i for i in expected if i in both.special]


def mask_or_reason(rendered: Rendered) -> tuple[list[bool], str]:
    try:
        return rendered.mask, ""
    except RhapsodeError as error:
        return [], error.message


def runs(ids: Sequence[int], mask: Sequence[bool], end: int) -> list[list[int]]:
    """The stretches that are learned; each ends with `end`, which stands nowhere else in it."""
    found: list[list[int]] = []
    for index, (token, is_learned) in enumerate(zip(ids, mask, strict=True)):
        if is_learned and (index == 0 or not mask[index - 1]):
            found.append([])
        if is_learned:
            found[-1].append(token)
    for run in found:
        assert run.index(end) == len(run) - 1
    return found


def answers(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message.role == "assistant"]


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def visible(text: str) -> str:
    """What all of these vocabularies and templates keep of a text."""
    return "".join(unicodedata.normalize("NFC", text).replace("▁", " ").split())


TALK = [
    Message(role="user", content="Rain in Athens?"),
    asked("", call("weather", {"place": "Athens"})),
    Message(role="tool", content='{"rain": false}', tool_call_id="call00000", name="weather"),
    Message(role="assistant", content="No."),
]


@pytest.mark.parametrize("talk", [TALK[:2], TALK])
def test_special_tokens_in_a_call_are_not_its_end(make: Make, talk: list[Message]) -> None:
    """As Gemma 4's: tokens stand for quotes, and a call ends with a token that no answer ends with."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>"
        "{% elif m.role == 'tool' %}<|im_start|>{{ m.content }}<|endoftext|>"
        "{% elif m.tool_calls %}{% for c in m.tool_calls %}call:{{ c.function.name }}("
        "{% for key, value in c.function.arguments.items() %}"
        "{{ key }}:<|endoftext|>{{ value }}<|endoftext|>"
        "{% endfor %})<|im_start|>{% endfor %}"
        "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    loaded = Tokenizer.load(make("qwen", chat_template=template))
    rendered = render(talk, tokenizer=loaded)
    start, quote = loaded.special("<|im_start|>"), loaded.special("<|endoftext|>")
    learned = [token for token, is_learned in zip(rendered.ids, rendered.mask, strict=True) if is_learned]
    call = [*loaded.encode("call:weather(place:"), quote, *loaded.encode("Athens"), quote, *loaded.encode(")"), start]
    answer = [*loaded.encode("No."), loaded.end_of_turn]
    assert learned == call + (answer if len(talk) > 2 else [])


def test_what_cannot_be_told_from_what_is_called_is_refused(make: Make) -> None:
    """Llama's template has no room for words beside a call: used, they would be lost; learned, they would be missed."""
    loaded = Tokenizer.load(make("llama3", chat_template=LLAMA3))
    messages = [TALK[0], asked("I will look.", *TALK[1].tool_calls)]
    with pytest.raises(RhapsodeError, match=r"messages\[1\]: this chat template does not write all of an answer"):
        _ = render(messages, tokenizer=loaded).mask


def test_a_call_that_the_template_leaves_out_is_refused(make: Make) -> None:
    loaded = Tokenizer.load(make("qwen", chat_template=DEEPSEEK))
    messages = [TALK[0], asked("I will look.", *TALK[1].tool_calls), *TALK[2:]]
    with pytest.raises(RhapsodeError, match=r"messages\[1\].tool_calls: this chat template leaves out"):
        render(messages, tokenizer=loaded)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content + m.tool_calls }}<|im_end|>{% endfor %}",
    ],
)
def test_a_template_that_knows_no_tools_is_refused(make: Make, template: str) -> None:
    loaded = Tokenizer.load(make("qwen", chat_template=template))
    with pytest.raises(RhapsodeError, match="writes no tool calls and their results"):
        render(TALK, tokenizer=loaded)


def test_a_result_that_answers_no_call_is_refused(tokenizer: Tokenizer, make: Make) -> None:
    foreign = Tokenizer.load(make("qwen", chat_template=QWEN))
    for loaded in (tokenizer, foreign):
        for messages in (TALK[2:], [*TALK[:3], TALK[2]], [TALK[0], TALK[3], TALK[2]]):
            with pytest.raises(RhapsodeError, match="a tool's result that answers no call"):
                render(messages, tokenizer=loaded)


def calling(arguments: Any, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}, **more}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**calling("{}"), "role": "user"}, r"\.tool_calls: "),
        ({"role": "assistant", "content": "a", "tool_call_id": "b"}, r"\.tool_call_id: "),
        ({"role": "assistant", "content": None}, r"\.content: "),
        (calling("{"), "arguments: not JSON at character 2"),
        (calling("[]"), "arguments: not a JSON object"),
        (calling('{"a": 1, "a": 2}'), "arguments: a key is there twice"),
        (calling('{"a": NaN}'), "arguments: NaN is not JSON"),
        (calling('{"a": 1e999}'), "arguments: Out of range"),
        (calling("[" * 100_000), "arguments: nested too deeply"),
        (calling({}), "arguments: "),
        (calling("{}", name=""), r"function\.name: "),
        (calling("{}", type="code"), r"tool_calls\[0\]\.type: "),
    ],
)
def test_what_is_no_message_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RhapsodeError, match=r"messages\[0\].*" + message):
        read_messages([row])


def test_messages_are_openai_s() -> None:
    function = {"name": "f", "arguments": '{"x":1}'}
    given = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
    ]
    first, second = read_messages(given)
    assert first.content == ""
    assert first.tool_calls[0].function.values == {"x": 1}
    assert first.tool_calls[0].function.arguments == '{"x": 1}'
    assert read_messages([first.row(), second.row()]) == [first, second]
    assert second.row() == given[1]


def test_a_vocabulary_with_the_turns_of_gemma_gets_a_template_with_tools(make: Make) -> None:
    """Gemma's own words for turns, and for tools those of the ChatML that is written here."""
    bare = Tokenizer.load(make("gemma"))
    known = suitable(bare.special_names)
    assert known is not None
    loaded = Tokenizer.load(make("gemma", chat_template=known.template))
    messages = [
        Message(role="system", content="Be short."),
        Message(role="user", content="Oslo?"),
        asked("", call("weather", {"place": "Oslo"})),
        Message(role="tool", content="rain", tool_call_id="call00000"),
        Message(role="assistant", content="Rain."),
    ]
    rendered = render(messages, tokenizer=loaded, tools=[WEATHER])
    learned = loaded.decode([i for i, is_learned in zip(rendered.ids, rendered.mask, strict=True) if is_learned])
    assert learned == '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo"}}\n</tool_call>Rain.'
    text = "".join(loaded.show(i) for i in rendered.ids)
    assert text.startswith("<bos><start_of_turn>user\nBe short.\n\n# Tools\n")
    assert "</tool_call>\n\nOslo?<end_of_turn>\n<start_of_turn>model\n<tool_call>" in text
    assert "<start_of_turn>user\n<tool_response>\nrain\n</tool_response><end_of_turn>\n" in text
