"""Rotary positions: their base, how much of a head turns, and how they were stretched, read and written.

Llama 3's stretch is no key of a GGUF file but a tensor, `rope_freqs.weight`, by which llama.cpp divides the speed of
every dimension; the four numbers that it was made from are found again from it, and checked by making it once more.
LongRoPE has two such tensors.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rhapsode.model.rope import Factors, Linear, Llama3, Rope, Stretch, Yarn
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.gguf.facts import Facts, Vector, shortest
from rhapsode.weights.gguf.settings import head_dim

FREQUENCIES = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
OLMO3_THETA = 5e5
_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}


class Rotations(NamedTuple):
    """The rotation of layers that see everything, and of those with a window."""

    far: Rope
    near: Rope


@dataclass(frozen=True)
class Rotation:
    """Positions of all layers alike; a part of each head may turn where it `may_be_partial`."""

    may_be_partial: bool = False

    def read(self, facts: Facts) -> dict[str, Any]:
        theta, dims = facts.real("rope.freq_base", 10_000.0), self._dims(facts)
        part = {"partial_rotary_factor": dims / head_dim(facts)} if self.may_be_partial else {}
        stretch = read_stretch(facts, Rope(theta, dims))
        parameters = {"rope_type": "default", **stretch, **part, "rope_theta": theta}
        scaling = {"rope_scaling": stretch} if stretch else {}
        return {"rope_theta": theta, **part, **scaling, "rope_parameters": parameters}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        return write_rope(rotations(spec).far)

    def vectors(self, spec: ModelSpec) -> dict[str, Vector]:
        """Tensors that belong to the settings."""
        return llama3_vector(rotations(spec).far)

    def _dims(self, facts: Facts) -> int:
        size = head_dim(facts)
        dims = facts.whole("rope.dimension_count", size, high=size)
        if dims % 2 or (dims != size and not self.may_be_partial):
            raise facts.bad("rope.dimension_count", dims, f"the size of a head, {size}")
        return dims


@dataclass(frozen=True)
class NearAndFar:
    """Layers with a window turn at a speed of their own, and only those without one are stretched."""

    near_theta: float | None

    def read(self, facts: Facts) -> dict[str, Any]:
        config = Rotation().read(facts)
        near = facts.real("rope.freq_base_swa", self.near_theta or config["rope_theta"])
        del config["rope_parameters"]  # one rotation for all layers; transformers 5 reads the older spelling too
        if self.near_theta is not None:
            return config | {"rope_local_base_freq": near}
        if near == config["rope_theta"] == OLMO3_THETA:
            return config
        far = {"rope_type": "default", **config.get("rope_scaling", {}), "rope_theta": config["rope_theta"]}
        kinds = {"full_attention": far, "sliding_attention": {"rope_type": "default", "rope_theta": near}}
        return {"rope_parameters": kinds}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        far, near = rotations(spec)
        keys = write_rope(far)
        return keys if near.theta == (self.near_theta or far.theta) else keys | {"rope.freq_base_swa": near.theta}

    def vectors(self, spec: ModelSpec) -> dict[str, Vector]:
        return llama3_vector(rotations(spec).far)


@dataclass(frozen=True)
class LongRotation:
    """Phi-3's: two tensors of factors, for texts that fit the first context and for longer ones."""

    def read(self, facts: Facts) -> dict[str, Any]:
        config = Rotation(may_be_partial=True).read(facts)
        context = facts.whole("context_length")
        first = facts.whole("rope.scaling.original_context_length", context)
        config["original_max_position_embeddings"] = first
        factors = {"short_factor": facts.vector(SHORT), "long_factor": facts.vector(LONG)}
        if all(vector is None for vector in factors.values()):
            return config
        if any(vector is None for vector in factors.values()):
            raise facts.wrong(f"one of {SHORT} and {LONG} is missing")
        lists = {key: [shortest(float(x)) for x in vector] for key, vector in factors.items() if vector is not None}
        usual = _long_scale(context, first)
        scale = facts.real("rope.scaling.attn_factor", usual)
        scaling: dict[str, Any] = {"type": "longrope", **lists}
        if not math.isclose(scale, usual, rel_tol=1e-4):
            scaling["attention_factor"] = scale
        config["rope_parameters"] |= {"rope_type": "longrope", **scaling}
        return config | {"rope_scaling": scaling}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        rope = rotations(spec).far
        first = _long_values(spec).get("original_max_position_embeddings")
        first = first or spec.config.get("original_max_position_embeddings", spec.context)
        keys = write_rope(rope) | {"rope.scaling.original_context_length": first}
        return keys | ({"rope.scaling.attn_factor": rope.scale} if isinstance(rope.stretch, Factors) else {})

    def vectors(self, spec: ModelSpec) -> dict[str, Vector]:
        rope = rotations(spec).far
        if not isinstance(rope.stretch, Factors):
            return {}
        long = _long_values(spec)["long_factor"]
        return {LONG: np.array(long, np.float32), SHORT: np.array(rope.stretch.factors, np.float32)}


@dataclass(frozen=True)
class NoRotation:
    """Learned positions."""

    def read(self, facts: Facts) -> dict[str, Any]:  # noqa: ARG002 - the others' signature
        return {}

    def write(self, spec: ModelSpec) -> dict[str, Any]:  # noqa: ARG002 - the others' signature
        return {}

    def vectors(self, spec: ModelSpec) -> dict[str, Vector]:  # noqa: ARG002 - the others' signature
        return {}


def rotations(spec: ModelSpec) -> Rotations:
    """The two kinds of a decoder, the same where it has one."""
    turning = [layer for layer in spec.layers if layer.rope is not None]
    far = next((layer for layer in turning if layer.window is None), turning[0])
    near = next((layer for layer in turning if layer.window is not None), turning[0])
    assert far.rope is not None
    assert near.rope is not None
    return Rotations(far.rope, near.rope)


def read_stretch(facts: Facts, rope: Rope) -> dict[str, Any]:
    """`rope_scaling` of a config.json, empty where there is none."""
    kind, factors = facts.text("rope.scaling.type", "linear"), facts.vector(FREQUENCIES)
    factor = facts.real("rope.scaling.factor", facts.real("rope.scale_linear", 1.0))
    if factors is not None and not (factors == 1).all():
        if factor != 1:
            raise facts.wrong(f"{FREQUENCIES} and rope.scaling.factor stretch twice")
        return llama3_of(facts, factors, rope)
    if kind == "yarn":
        return _read_yarn(facts, factor)
    if kind not in ("none", "linear", "longrope"):
        raise facts.bad("rope.scaling.type", kind, "one of none, linear, yarn, longrope")
    return {"rope_type": "linear", "factor": factor} if kind == "linear" and factor != 1 else {}


def write_rope(rope: Rope) -> dict[str, Any]:
    return {"rope.freq_base": rope.theta, "rope.dimension_count": rope.dims} | _write_stretch(rope.stretch)


def llama3_vector(rope: Rope) -> dict[str, Vector]:
    """How much slower each dimension turns, where the stretch is Llama 3's."""
    if not isinstance(rope.stretch, Llama3):
        return {}
    plain, slow = Rope(rope.theta, rope.dims).frequencies(), rope.frequencies()
    return {FREQUENCIES: np.array([p / s for p, s in zip(plain, slow, strict=True)], np.float32)}


def llama3_of(facts: Facts, factors: Vector, rope: Rope) -> dict[str, Any]:
    """Llama 3's stretch that has these factors. Several have; the one of published models comes first.

    Raises:
        RhapsodeError: none has.
    """
    if len(factors) != rope.dims // 2 or not (np.isfinite(factors) & (factors > 0)).all():
        raise facts.wrong(f"{FREQUENCIES} must be {rope.dims // 2} numbers above zero")
    for stretch in _candidates(factors, rope):
        made = llama3_vector(Rope(rope.theta, rope.dims, stretch))[FREQUENCIES]
        if np.allclose(made, factors, rtol=1e-5, atol=0):
            return {
                "rope_type": "llama3",
                "factor": stretch.factor,
                "low_freq_factor": stretch.low,
                "high_freq_factor": stretch.high,
                "original_max_position_embeddings": stretch.context,
            }
    raise facts.wrong(f"{FREQUENCIES} is not a stretch of Llama 3's kind", "no other kind is understood")


def _candidates(factors: Vector, rope: Rope) -> Iterator[Llama3]:
    """What the factors may come from. They tell only the ratios of the first context and its two limits."""
    factor = shortest(float(factors.max()))
    contexts = [8192, *(2**power for power in range(4, 24))]
    for context in contexts:
        yield Llama3(factor, 1.0, 4.0, context)
    plain = np.array(Rope(rope.theta, rope.dims).frequencies()) / (2 * math.pi)
    kept = (1 / factors.astype(np.float64) - 1 / factor) / (1 - 1 / factor) if factor != 1 else np.ones(len(factors))
    between = (kept > 1e-4) & (kept < 1 - 1e-4)
    for turns, part in zip(plain[between], kept[between], strict=True):
        yield Llama3(factor, 1.0, 4.0, round((3 * part + 1) / turns))
        for context in contexts:
            if (high := 1 + float((context * turns - 1) / part)) > 1:
                yield Llama3(factor, 1.0, round(high, 4), context)


def _read_yarn(facts: Facts, factor: float) -> dict[str, Any]:
    context = facts.whole("rope.scaling.original_context_length", facts.whole("context_length"))
    found = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": context}
    for key, usual in _BETAS.items():
        value = facts.real(f"rope.scaling.yarn_{key}", usual)
        found |= {} if value == usual else {key: value}
    usual = _yarn_scale(factor)
    scale = facts.real("rope.scaling.yarn_attn_factor", usual * facts.real("rope.scaling.attn_factor", 1.0))
    return found if math.isclose(scale, usual, rel_tol=1e-4) else found | {"attention_factor": scale}


def _write_stretch(stretch: Stretch | None) -> dict[str, Any]:
    if isinstance(stretch, Linear):
        return {"rope.scaling.type": "linear", "rope.scaling.factor": stretch.factor}
    if not isinstance(stretch, Yarn):
        return {}
    keys: dict[str, Any] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": stretch.factor,
        "rope.scaling.original_context_length": stretch.context,
    }
    betas = {"beta_fast": stretch.fast, "beta_slow": stretch.slow}
    keys |= {f"rope.scaling.yarn_{key}": value for key, value in betas.items() if value != _BETAS[key]}
    share = stretch.scale / _yarn_scale(stretch.factor)  # llama.cpp multiplies the usual scale with it
    return keys if math.isclose(share, 1.0) else keys | {"rope.scaling.attn_factor": share}


def _yarn_scale(factor: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


def _long_scale(context: int, first: int) -> float:
    return 1.0 if context <= first else math.sqrt(1 + math.log(context / first) / math.log(first))


def _long_values(spec: ModelSpec) -> dict[str, Any]:
    """LongRoPE's own values, in either spelling of a config.json."""
    return {**(spec.config.get("rope_scaling") or {}), **(spec.config.get("rope_parameters") or {})}
