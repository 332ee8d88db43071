"""A decoder of which several ranks have a share each: the same blocks, with fewer heads and a narrower feed-forward.

What their blocks write into the residual stream adds up to what the whole one writes (Shoeybi et al. 2019,
arXiv:1909.08053). Free of torch.
"""

import dataclasses
import math

from rhapsode.core.errors import PlanRefused
from rhapsode.model.spec import ModelSpec


def narrow(spec: ModelSpec, ranks: int) -> ModelSpec:
    """What each of `ranks` ranks has of the decoder. Queries stay with the keys that they look at.

    Raises:
        PlanRefused: it cannot be divided into so many, or not at all.
    """
    if ranks == 1:
        return spec
    _require_divisible(spec, ranks)
    layers = tuple(dataclasses.replace(layer, ffn=layer.ffn // ranks) for layer in spec.layers)
    return dataclasses.replace(spec, heads=spec.heads // ranks, kv_heads=spec.kv_heads // ranks, layers=layers)


def _require_divisible(spec: ModelSpec, ranks: int) -> None:
    if spec.qk_norm == "all":
        raise PlanRefused(
            f"train.tensor {ranks}: this family normalises all heads together, and no rank would have all of them",
            "leave train.tensor out; train.parallel: shard needs no more memory",
        )
    if spec.out_bias or spec.ffn_bias:
        raise PlanRefused(
            f"train.tensor {ranks}: what a block writes has a bias here, which every rank would add once more",
            "leave train.tensor out; train.parallel: shard needs no more memory",
        )
    counts = {"query heads": spec.heads, "key/value heads": spec.kv_heads}
    counts |= {f"numbers inside the feed-forward of layer {i}": layer.ffn for i, layer in enumerate(spec.layers)}
    for what, count in counts.items():
        if count % ranks:
            raise PlanRefused(f"train.tensor {ranks} does not divide the {count} {what}", _hint(*counts.values()))


def _hint(*counts: int) -> str:
    most = math.gcd(*counts)
    found = [str(ranks) for ranks in range(2, most + 1) if most % ranks == 0]
    return f"this model can be divided among {' or '.join(found)}" if found else "leave train.tensor out"
