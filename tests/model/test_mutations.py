"""The parity tests see every field: a spec with any one value changed computes something else, or does not load.

The fields are walked, not listed: a new one is tried as soon as it is there.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.model.cases import CASES
from tests.model.conftest import TOLERANCE, Twin, dense_logits, twin

from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import FAMILIES
from rhapsode.model.parameters import shapes
from rhapsode.model.rope import Factors, Linear, Llama3, Rope, Stretch, Yarn
from rhapsode.model.spec import Experts, ModelSpec

SEEN = 10 * TOLERANCE
NEARLY_ALIKE = ("activation = gelu", "activation = gelu_tanh")
"""GELU and its approximation differ by less than a thousandth: exchanged, parity breaks, though not by so much."""

WITHOUT_EFFECT = {
    (ModelSpec, "family"): "names the tensors on disk; the decoder never asks",
    (ModelSpec, "config"): "what is written again; all that counts was read from it",
    (ModelSpec, "context"): "how long a text may be: the engine and the plan ask, the decoder does not",
    (ModelSpec, "eos"): "where the engine stops writing",
    (Factors, "context"): "bounds the context of the spec",
}
INSTEAD_OF_NONE = {
    float: (1.5,),
    int: (5,),
    Rope: (Rope(50.0, 4),),
    Experts: (Experts(2, 1, normalised=True),),
    Stretch: (Linear(2.5), Llama3(6.0, 0.5, 3.0, 32), Yarn(4.0, 32, 3.0, 0.3, is_rounded=True, scale=1.1)),
}


class Mutant(typing.NamedTuple):
    """A value that differs from another in one place."""

    where: str
    value: Any


def mutants(value: Any) -> Iterator[Mutant]:
    """A frozen dataclass with one field changed, field by field, as deep as it goes."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        if (type(value), field.name) not in WITHOUT_EFFECT:
            for where, other in others(getattr(value, field.name), hints[field.name]):
                yield Mutant(f"{field.name}{where}", dataclasses.replace(value, **{field.name: other}))


def others(value: Any, hint: Any) -> Iterator[Mutant]:
    """Other values that a field of this type may have."""
    choices = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if value is None:
        for choice in choices:
            instead = typing.get_args(choice) if typing.get_origin(choice) else INSTEAD_OF_NONE.get(choice, ())
            yield from (Mutant(f" = {other}", other) for other in instead)
        return
    if type(None) in choices:
        yield Mutant(" = None", None)
    if dataclasses.is_dataclass(value):
        yield from (Mutant(f".{where}", other) for where, other in mutants(value))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for where, other in others(item, type(item)):
                yield Mutant(f"[{index}]{where}", (*value[:index], other, *value[index + 1 :]))
    else:
        yield from (Mutant(f" = {other}", other) for other in other_scalars(value, choices))


def other_scalars(value: Any, choices: tuple[Any, ...]) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value - max(1, value // 3)]
    if isinstance(value, float):
        return [1.5 * value]
    words = [word for choice in choices for word in typing.get_args(choice)]
    assert value in words, f"how to change {value!r} is not known"
    return [word for word in words if word != value]


def loads(changed: ModelSpec, spec: ModelSpec) -> bool:
    """Whether there is a decoder of `changed`, and weights made for `spec` fit into it."""
    try:
        for layer in changed.layers:
            if layer.rope is not None:
                layer.rope.frequencies()
        return shapes(changed) == shapes(spec)
    except (AssertionError, ValueError):  # experts without a gate, a factor for every dimension of another size
        return False


@torch.no_grad()
def difference(changed: ModelSpec, model: Twin) -> float:
    """The largest difference that the change makes to a score."""
    with torch.device("meta"):
        made = Decoder(changed)
    made.load_state_dict(model.ours.state_dict(), assign=True)
    return float((dense_logits(made, model.ids[:1]) - model.logits[:1]).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_any_one_field_changed_breaks_parity(case: str) -> None:
    model = twin(case)
    tried = [mutant for mutant in mutants(model.ours.spec) if loads(mutant.value, model.ours.spec)]
    found = {where: difference(changed, model) for where, changed in tried}
    is_gelu = model.ours.spec.activation != "silu"
    unseen = {
        where: by for where, by in found.items() if not by > (TOLERANCE if is_gelu and where in NEARLY_ALIKE else SEEN)
    }
    assert not unseen
    assert len(found) > 4 * len(model.ours.spec.layers)


def test_the_cases_hold_every_kind_of_value_that_a_spec_is_made_of() -> None:
    specs = [twin(case).ours.spec for case in CASES]
    assert {spec.family for spec in specs} == FAMILIES.keys()
    layers = {layer for spec in specs for layer in spec.layers}
    ropes = {layer.rope for layer in layers if layer.rope}
    assert {type(rope.stretch) for rope in ropes} == {type(None), Linear, Llama3, Yarn, Factors}
    assert any(layer.experts for layer in layers)
    for kind, field in WITHOUT_EFFECT:
        assert field in {known.name for known in dataclasses.fields(kind)}
