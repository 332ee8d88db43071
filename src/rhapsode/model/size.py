"""One dial: a number of parameters gives a whole decoder, by way of its `config.json`. Free of torch.

The number itself may come from the budget (`best_size`). The shape follows what trained models of 5M to 1B parameters
look like: depth grows slowly with size, the width takes the rest. Every derived number comes with its formula, for the
plan.
"""

import math
from typing import Any, NamedTuple

from rhapsode.core.errors import PlanRefused
from rhapsode.model.config import ModelConfig
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.spec import ModelSpec

HEAD_DIM = 64
WIDTH_STEP = 32
WIDEST = 8192
ROPE_THETA = 10_000.0
NORM_EPS = 1e-6


ORDINARY_SIZE = 5_000_000
SMALLEST = 1_000_000
OPERATIONS = 6.75
"""Of training, for each token and parameter of a small model: 6, and attention."""
TOKENS = 3
"""To learn from, for each parameter, where time is what runs out first (docs/experiments.md)."""
REPEATS = 4
"""Passes over the data that teach nearly as much as new data would (Muennighoff et al. 2023, arXiv:2305.16264)."""
MOST = 2
"""Parameters for each token that there is."""
ROUND = (1, 1.5, 2, 3, 4, 6, 8, 10)


class Shape(NamedTuple):
    """A decoder, and (name, value, formula) for every derived number."""

    spec: ModelSpec
    derivation: list[tuple[str, str, str]]


class Ids(NamedTuple):
    """What the model must know of its tokenizer."""

    vocab_size: int
    bos: int
    eos: int
    pad: int


def best_size(*, tokens: float | None, operations: float | None, num_tokens: int, vocab_size: int) -> tuple[int, str]:
    """The number of parameters that a budget is best spent on, a round one, and why.

    A larger model learns more from a token, a smaller one sees more of them in the same time.

    Args:
        tokens: to learn from, if that is the budget.
        operations: that the machine does in the time, if that is.
        num_tokens: that there are.
    """
    if tokens is not None:
        wanted, why = tokens / TOKENS, f"{tokens:,.0f} tokens / {TOKENS}"
    elif operations is not None:
        wanted, why = math.sqrt(operations / (OPERATIONS * TOKENS)), f"sqrt({operations:.2g} / {OPERATIONS * TOKENS:g})"
        if (enough := operations / (OPERATIONS * REPEATS * num_tokens)) > wanted:
            wanted, why = enough, f"{operations:.2g} / {OPERATIONS:g} / {REPEATS} passes over {num_tokens:,} tokens"
    else:
        return ORDINARY_SIZE, "model.size is absent, and so is a budget in tokens or in minutes"
    most, least = MOST * num_tokens, max(SMALLEST, 2 * vocab_size * HEAD_DIM)
    if wanted > most:
        wanted, why = most, f"{MOST} for each of {num_tokens:,} tokens: more would learn them by heart"
    if wanted < least:
        wanted, why = least, "the smallest for this vocabulary: the budget or the data would do with less"
    unit = 10 ** math.floor(math.log10(wanted))
    return round(unit * min(ROUND, key=lambda step: abs(math.log(step * unit / wanted)))), why


def shape_of(config: ModelConfig, *, size: int, ids: Ids) -> Shape:
    """The decoder whose number of parameters comes nearest to `size`.

    Raises:
        PlanRefused: the vocabulary alone needs more than the size allows.
    """
    depth = config.depth or max(2, round(2.9 * (size / 1e6) ** 0.3))
    if config.width:
        width = config.width
    else:
        widths = range(2 * WIDTH_STEP, WIDEST + 1, WIDTH_STEP)
        width = min(widths, key=lambda w: abs(_spec(config, ids, depth=depth, width=w).parameters - size))
    spec = _spec(config, ids, depth=depth, width=width)
    if not config.width and spec.parameters > 1.5 * size:
        raise PlanRefused(
            f"model.size {size:,} is too small: the vocabulary of {ids.vocab_size:,} tokens alone needs "
            f"{ids.vocab_size * width:,} parameters",
            "make data.tokens.vocab_size smaller or model.size larger",
        )
    return Shape(spec, _derivation(config, spec, size=size))


def _spec(config: ModelConfig, ids: Ids, *, depth: int, width: int) -> ModelSpec:
    heads = _heads(config, width)
    return spec_from_config(
        own_config(
            config.family,
            ids=ids,
            width=width,
            depth=depth,
            heads=heads,
            kv_heads=heads // 2 if heads % 2 == 0 else heads,
            head_dim=HEAD_DIM,
            ffn=_round(width * 8 / 3),
            context=config.context,
            tied=config.tied,
        )
    )


def own_config(
    family: str,
    *,
    ids: Ids,
    width: int,
    depth: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    ffn: int,
    context: int,
    tied: bool,
    theta: float = ROPE_THETA,
) -> dict[str, Any]:
    """The `config.json` of a decoder of our own, as transformers, vLLM, llama.cpp and mlx read it."""
    return {
        "architectures": [FAMILIES[family].architecture],
        "model_type": family,
        "vocab_size": ids.vocab_size,
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": ids.bos,
        "eos_token_id": ids.eos,
        "pad_token_id": ids.pad,
        "use_cache": True,
    }


def _heads(config: ModelConfig, width: int) -> int:
    """About width / 64; other readers of a Llama refuse one whose heads do not divide its width."""
    heads = max(1, round(width / HEAD_DIM))
    while config.family == "llama" and width % heads:
        heads -= 1
    return heads


def _round(value: float) -> int:
    return max(WIDTH_STEP, round(value / WIDTH_STEP) * WIDTH_STEP)


def _derivation(config: ModelConfig, spec: ModelSpec, *, size: int) -> list[tuple[str, str, str]]:
    depth = "model.depth" if config.depth else f"2.9 (size / 1m)^0.3 = 2.9 x {size / 1e6:g}^0.3"
    width = "model.width" if config.width else f"the multiple of {WIDTH_STEP} that comes nearest to {size:,}"
    heads = f"D / {HEAD_DIM}" + (", down to a divisor of D" if config.family == "llama" else "")
    total = f"V D + L (2 D C (H + K) + 3 D F) + norms, V = {spec.vocab_size:,}"
    return [
        ("depth L", f"{len(spec.layers)}", depth),
        ("width D", f"{spec.width}", width),
        ("heads H x C", f"{spec.heads} x {spec.head_dim}", heads),
        ("key/value heads K", f"{spec.kv_heads}", "H / 2 where even"),
        ("feed-forward F", f"{spec.layers[0].ffn}", f"8/3 D, a multiple of {WIDTH_STEP}"),
        ("parameters", f"{spec.parameters:,}", total if spec.tied else total.replace("V D", "2 V D")),
    ]
