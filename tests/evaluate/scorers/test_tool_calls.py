"""Tool calls are judged as whoever carries them out would read them."""

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.tool_calls import aim, tool_calls, tool_fields, tool_schema
from rhapsode.text.chat import Function

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "time"}},
]
RAIN = Function(name="weather", arguments='{"city": "Paris", "days": 2}')
ONE, NONE = aim([RAIN], TOOLS), aim([], TOOLS)
BOTH = aim([RAIN, Function(name="time", arguments="{}")], TOOLS)


def call(inside: str) -> str:
    return f"<tool_call>\n{inside}\n</tool_call>"


def weather(arguments: str) -> str:
    return call(f'{{"name": "weather", "arguments": {arguments}}}')


RIGHT = weather('{"days": 2.0, "city": "Paris"}')
TIME = call('{"name": "time", "arguments": {}}')


@pytest.mark.parametrize(
    ("answer", "wanted", "whole", "part", "fits"),
    [
        (RIGHT, ONE, 1, 1, 1),
        (f"Let me see.\n{RIGHT}", ONE, 1, 1, 1),
        (f"{TIME}\n{RIGHT}", BOTH, 1, 1, 1),
        (RIGHT, BOTH, 0, 2 * 3 / 7, 1),
        (f"{RIGHT}\n{RIGHT}", ONE, 0, 2 * 3 / 9, 1),
        (weather('{"city": "Rome", "days": 2}'), ONE, 0, 2 / 3, 1),
        (weather('{"city": "Paris", "days": true}'), ONE, 0, 2 / 3, 0),
        (weather('{"days": 2}'), ONE, 0, 4 / 5, 0),
        (call('{"name": "climate", "arguments": {"city": "Paris", "days": 2}}'), ONE, 0, 0, 0),
        ("It rains.", ONE, 0, 0, 0),
        (RIGHT.removesuffix("</tool_call>"), ONE, 0, 0, 0),
        ("It rains.", NONE, 1, 1, 1),
        (RIGHT, NONE, 0, 0, 1),
    ],
)
def test_what_an_answer_is_worth(answer: str, wanted: str, whole: float, part: float, fits: float) -> None:
    assert tool_calls(answer, wanted) == whole
    assert tool_fields(answer, wanted) == pytest.approx(part)
    assert tool_schema(answer, wanted) == fits


def test_arguments_count_under_the_name_of_their_tool() -> None:
    """Else a call of the wrong tool with the right city would be half right."""
    assert tool_fields(call('{"name": "time", "arguments": {"city": "Paris"}}'), BOTH) == pytest.approx(2 * 1 / 6)


def test_a_row_whose_own_call_does_not_fit_is_refused() -> None:
    wrong = aim([Function(name="weather", arguments='{"town": "Paris"}')], TOOLS)
    with pytest.raises(RhapsodeError, match="the row's own call of weather does not fit"):
        tool_schema("", wrong)


def test_a_schema_that_is_not_understood_is_refused_by_the_name_of_its_tool() -> None:
    tool = {"type": "function", "function": {"name": "when", "parameters": {"format": "date"}}}
    with pytest.raises(RhapsodeError, match="the tool when: JSON Schema, #/format"):
        tool_schema("", aim([], [tool]))
