import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.json_schema import json_schema

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize("answer", ['{"name": "Ada"}', ' {"name": "Ada", "age": 36}\n', '{"name": "Ada", "age": 36.0}'])
def test_what_fits(answer: str) -> None:
    assert json_schema(answer, json.dumps(PERSON)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "", "{}", "Ada", '{"name": ""}', '{"name": "Ada", "age": -1}', '{"name": "Ada", "age": true}', '{"name": NaN}',
        '{"name": "Ada", "born": 1815}', '{"name": "Ada"} as you asked', '```json\n{"name": "Ada"}\n```', "[" * 100_000,
        "1" * 100_000, "\ud800", '{"name": "Ada", "age": 1e400}',
    ],
    ids=lambda answer: answer[:20],
)  # fmt: skip
def test_what_does_not(answer: str) -> None:
    assert json_schema(answer, json.dumps(PERSON)) == 0


def test_a_schema_may_refer_to_itself() -> None:
    assert json_schema('{"children": [{"children": []}, {}]}', json.dumps(TREE)) == 1
    assert json_schema('{"children": [{"children": [3]}, {}]}', json.dumps(TREE)) == 0


@pytest.mark.parametrize(
    ("schema", "where", "what"),
    [
        (
            {"type": "object", "properties": {"at": {"format": "date"}}},
            "#/properties/at/format",
            "'format' is not understood",
        ),
        ({"type": "text"}, "#/type", '"text" cannot stand here'),
        ({"items": [{"type": "string"}]}, "#/items", "a schema is an object"),
        ({"$ref": "#/$defs/node"}, "#/$ref", "which is not there"),
        ({"$ref": "https://example.org/x"}, "#/$ref", "only references within"),
        ({"anyOf": []}, "#/anyOf", "a list of schemas"),
        ({"pattern": "("}, "#/pattern", "cannot stand here"),
        ({"minLength": -1}, "#/minLength", "cannot stand here"),
        ({"maximum": "3"}, "#/maximum", "cannot stand here"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_path(schema: Any, where: str, what: str) -> None:
    with pytest.raises(RhapsodeError) as error:
        json_schema("1", json.dumps(schema))
    assert error.value.message.startswith(f"JSON Schema, {where}: ")
    assert what in error.value.message


def test_a_schema_that_is_not_json_is_a_fault_of_the_row() -> None:
    with pytest.raises(RhapsodeError, match="not JSON"):
        json_schema("1", "{")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 1.5, -2.0])
    | st.sampled_from(["", "a", "ab", "b1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
sizes = st.integers(0, 3)
keywords = {
    "type": st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object", ["null", "string"]]),
    "enum": st.lists(values, min_size=1, max_size=3),
    "const": values,
    "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
    "pattern": st.sampled_from(["a", "^b[0-9]$", ""]),
    **{name: st.integers(-2, 3) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), sizes),
    "multipleOf": st.sampled_from([1, 2, 0.5]),
    "uniqueItems": st.booleans(),
}


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            **keywords, "allOf": several, "anyOf": several, "oneOf": several, "not": inner, "items": inner,
            "prefixItems": several, "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "additionalProperties": inner,
        },
    )  # fmt: skip


schemas = st.recursive(st.booleans() | st.fixed_dictionaries({}, optional=keywords), nested, max_leaves=4)


@settings(max_examples=400)
@given(schema=schemas, value=values)
def test_it_agrees_with_the_reference_implementation(schema: Any, value: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, the reference, is not installed")
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert json_schema(json.dumps(value), json.dumps(schema)) == expected
