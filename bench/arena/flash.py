"""Flash attention that never leaves a document: rows end to end, and the places where documents begin.

A mask keeps torch from its flash kernels, and costs T^2 memory. Ranges do not: `varlen_attn` takes the bounds of the
sequences that lie one after the other in a batch. On a CPU, where it does not exist, every range goes through torch's
plain causal attention: slow, and a proof of the bounds.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels.attention import Weighing

FEWEST = 64


def bounds(documents: Tensor) -> Tensor:
    """[B,T] document numbers -> where each range begins in the B T tokens, and their end, int32.

    Padding is a range of its own, and no range crosses rows. Empty ranges at the end fill up to a power of two, so that
    a compiled model meets few shapes.
    """
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    places = begins.flatten().nonzero()[:, 0]
    size = max(FEWEST, 1 << (len(places)).bit_length())
    found = places.new_full((size + 1,), documents.numel(), dtype=torch.int32)
    found[: len(places)] = places
    return found


class FlashAttend:
    """One instance a batch, shared by all layers."""

    def __init__(self, documents: Tensor) -> None:
        self._bounds, self._longest = bounds(documents), documents.shape[1]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:  # noqa: ARG002 - whole rows need no cache of a layer's own
        assert weighing.softcap is None, "flash attention has no soft cap"
        attend = self._ranges if q.device.type == "cuda" else self._one_by_one
        return attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), weighing).view_as(q)

    def _ranges(self, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        at, most = self._bounds, self._longest
        left = -1 if weighing.window is None else weighing.window - 1
        is_grouped = q.shape[1] != k.shape[1]
        found = varlen_attn(
            q, k, v, at, at, most, most, scale=weighing.scale, window_size=(left, 0), enable_gqa=is_grouped
        )
        assert isinstance(found, Tensor)
        return found

    def _one_by_one(self, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:
        assert weighing.window is None
        out = []
        for start, stop in zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True):
            if start < stop:
                qs, ks, vs = (x[start:stop].transpose(0, 1) for x in (q, k, v))
                seen = F.scaled_dot_product_attention(qs, ks, vs, is_causal=True, scale=weighing.scale, enable_gqa=True)
                out.append(seen.transpose(0, 1))
        return torch.cat(out)
