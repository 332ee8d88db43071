"""What nearly all families share, and the reading of windows and rotary positions.

`standard` is Llama's shape: norms before, root mean square, gated SiLU, rotary positions. A family replaces the fields
in which it differs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.fields import LARGEST, Fields, shown
from rhapsode.model.rope import Factors, Linear, Llama3, Rope, Stretch, Yarn
from rhapsode.model.spec import Activation, LayerSpec, ModelSpec, Norm

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
MOST_LAYERS, MOST_EXPERTS = 512, 1024
SLIDING = {"sliding_attention": True, "full_attention": False}


def standard(
    f: Fields,
    *,
    head_dim: int | None = None,
    theta: float = 10_000.0,
    partial: float | None = None,
    kind: str | None = None,
    tied: bool = False,
    norm: Norm = "rms",
    eps: str = "rms_norm_eps",
    activation: str = "hidden_act",
) -> ModelSpec:
    """Llama's shape.

    Args:
        f: the config; sizes are read under the names that nearly all families use.
        head_dim: of a config that gives none; None is the width shared among the heads.
        theta, tied: what this family takes where its config is silent.
        partial: the share of each head that turns where the config is silent; None is a family that turns it all.
        kind: the kind of layers whose rotation every layer gets; a family with several replaces that of the others.
        norm: which norm; `eps` and `activation` are the names of their keys.

    Raises:
        RhapsodeError: a size is missing or impossible.
    """
    width, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    kv_heads = f.whole("num_key_value_heads", heads)
    size = divided(f, width, heads) if f.get("head_dim", head_dim) is None else f.whole("head_dim", head_dim)
    if heads % kv_heads:
        raise f.wrong("num_key_value_heads", f"a divisor of num_attention_heads, {heads}")
    rope = read_rope(f, size, theta=theta, partial=partial, kind=kind)
    layer = LayerSpec(f.whole("intermediate_size"), rope)
    return ModelSpec(
        family=f.choice("model_type", {f.config["model_type"]: f.config["model_type"]}),
        vocab_size=f.whole("vocab_size"),
        width=width,
        layers=(layer,) * f.whole("num_hidden_layers", high=MOST_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size,
        norm=norm,
        norm_eps=f.number(eps),
        activation=f.choice(activation, ACTIVATIONS),
        tied=f.flag("tie_word_embeddings", tied),
        context=min(f.whole("max_position_embeddings"), longest(rope)),
        eos=read_ends(f),
        attention_scale=size**-0.5,
        config=f.config,
    )


def divided(f: Fields, width: int, heads: int) -> int:
    """The size of a head, where the heads share the width."""
    if width % heads:
        raise f.wrong("num_attention_heads", f"a divisor of the width, {width}, where the config gives no head_dim")
    return width // heads


def read_ends(f: Fields) -> tuple[int, ...]:
    """The ids that end a text; a list or one."""
    ends = f.get("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [ends]
    if any(type(end) is not int or end < 0 for end in ends):
        raise f.wrong("eos_token_id", "a token id or a list of them")
    return tuple(ends)


def longest(rope: Rope) -> int:
    """LongRoPE has factors for short texts and others for long ones; a text keeps one kind, the short, all its life."""
    return rope.stretch.context if isinstance(rope.stretch, Factors) else LARGEST


def windowed(f: Fields, layers: Sequence[LayerSpec], *, is_sliding: Callable[[int], bool]) -> list[bool]:
    """Which layers slide, by the list `layer_types`, or by the family's rule where the config has no list."""
    listed = f.get("layer_types")
    if listed is None:
        return [is_sliding(index) for index in range(len(layers))]
    kinds = [kind for kind in listed if isinstance(kind, str) and kind in SLIDING] if isinstance(listed, list) else []
    if listed != kinds or len(kinds) != len(layers):
        raise f.wrong("layer_types", f"a list of {len(layers)}, each one of {', '.join(SLIDING)}")
    return [SLIDING[kind] for kind in kinds]


def read_rope(
    f: Fields,
    head_dim: int,
    *,
    theta: float,
    key: str = "rope_theta",
    partial: float | None = None,
    kind: str | None = None,
) -> Rope:
    """The rotation of all layers, or of the layers of one `kind` where the family tells them apart.

    Both spellings are read: the base under `key`, with rope_scaling, and transformers 5's rope_parameters.
    """
    values = _rope_values(f, kind)
    outside = {"rope_theta": f.get(key)}
    if partial is not None:
        outside["partial_rotary_factor"] = f.get("partial_rotary_factor")
    r = Fields(outside | {name: value for name, value in values.items() if value is not None})
    theta = r.number("rope_theta", theta)
    dims = int(head_dim * (r.number("partial_rotary_factor", partial) if partial is not None else 1))
    if theta <= 1:
        raise r.wrong("rope_theta", "above one")
    if not 2 <= dims <= head_dim or dims % 2:
        raise RhapsodeError(f"config.json: {dims} of {head_dim} dimensions of a head cannot turn", "restore the file")
    stretch = _stretch(f, r, dims)
    if odd := r.not_understood():
        raise RhapsodeError(
            f"config.json: rope parameters that are not understood: {', '.join(odd)}", "choose another model"
        )
    return Rope(theta, dims, stretch)


def _rope_values(f: Fields, kind: str | None) -> dict[str, Any]:
    """What rope_scaling, and in its absence rope_parameters, says about layers of this kind."""
    scaling, values = (_object(f, key) for key in ("rope_scaling", "rope_parameters"))
    if kind is None:
        return scaling or values
    if odd := values.keys() - SLIDING.keys():
        raise RhapsodeError(
            f"config.json: rope_parameters has {shown(min(odd))}; this family has one entry for each of "
            f"{', '.join(SLIDING)}",
            "restore the file",
        )
    own = _object(Fields(values), kind)
    return own if SLIDING[kind] else own | scaling  # windows are never stretched in the older spelling


def _object(f: Fields, key: str) -> dict[str, Any]:
    value = f.get(key, {})
    if not isinstance(value, dict):
        raise f.wrong(key, "an object")
    return value


def _stretch(f: Fields, r: Fields, dims: int) -> Stretch | None:
    kinds: dict[str, Callable[[], Stretch | None]] = {
        "default": lambda: None,
        "linear": lambda: Linear(r.number("factor")),
        "llama3": lambda: _llama3(r),
        "yarn": lambda: _yarn(f, r),
        "longrope": lambda: _longrope(f, r, dims),
        "su": lambda: _longrope(f, r, dims),
    }
    name = r.get("rope_type", r.get("type", "default"))
    r.only("type", [name])
    if not isinstance(name, str) or name not in kinds:
        raise RhapsodeError(
            f"config.json: rope_type {shown(name)} is not one of {', '.join(kinds)}", "choose another model"
        )
    return kinds[name]()


def _llama3(r: Fields) -> Llama3:
    low, high = r.number("low_freq_factor"), r.number("high_freq_factor")
    if low >= high:
        raise r.wrong("high_freq_factor", f"above low_freq_factor, {low}")
    return Llama3(r.number("factor"), low, high, r.whole("original_max_position_embeddings"))


def _yarn(f: Fields, r: Fields) -> Yarn:
    for key in ("mscale", "mscale_all_dim"):
        r.only(key, [])
    whole = f.whole("max_position_embeddings")
    first = _first_context(f, r, whole)
    factor = r.number("factor", whole / first)
    fast, slow = r.number("beta_fast", 32.0), r.number("beta_slow", 1.0)
    if slow >= fast:
        raise RhapsodeError(f"config.json: beta_slow is {slow}; it must be below beta_fast, {fast}", "restore the file")
    scale = r.number("attention_factor", 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0)
    return Yarn(factor, first, fast, slow, r.flag("truncate", default=True), scale)


def _longrope(f: Fields, r: Fields, dims: int) -> Factors:
    first = _first_context(f, r, None)
    factor = r.number("factor", f.whole("max_position_embeddings") / first)
    scale = r.number("attention_factor", 1.0 if factor <= 1 else (1 + math.log(factor) / math.log(first)) ** 0.5)
    r.get("long_factor")
    factors = r.get("short_factor")
    if not isinstance(factors, list) or len(factors) != dims // 2:
        raise r.wrong("short_factor", f"a list of {dims // 2} numbers")
    each = (Fields({"short_factor": factor}).number("short_factor") for factor in factors)
    return Factors(tuple(each), scale, first)


def _first_context(f: Fields, r: Fields, default: int | None) -> int:
    """The context before it was stretched, which stands beside the other rope values or outside of them."""
    key = "original_max_position_embeddings"
    inside, outside = (fields.maybe_whole(key) for fields in (r, f))
    if inside is not None and outside is not None and inside != outside:
        raise f.wrong(key, f"{inside}, as the rope parameters say")
    first = inside or outside or default
    if first is None or first < 2:
        raise f.wrong(key, "a whole number from 2")
    return first
