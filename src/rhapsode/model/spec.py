"""What a decoder is, as a value. Free of torch, so that plans and forms can reason about models.

An architecture is a `ModelSpec` with one `LayerSpec` a layer: `model/families.py` makes one from a `config.json`,
`model/size.py` makes one from a size. New families add fields here, never a subclass of the decoder.
"""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class LayerSpec:
    """One block: attention whose rotation has the base `rope_theta`, then a gated feed-forward of inner width `ffn`."""

    ffn: int
    rope_theta: float


@dataclass(frozen=True)
class ModelSpec:
    """A whole decoder.

    Attributes:
        family: the name that `config.json` gives as model_type.
        vocab_size: number of token ids, special tokens included.
        width: size of the residual stream.
        heads, kv_heads, head_dim: query heads, key/value heads, size of each.
        norm_eps: added to the mean square inside every norm.
        qk_norm: queries and keys are normalised per head before the rotation (Qwen3).
        tied: the vocabulary projection is the embedding.
        context: the longest sequence the model was made for, in tokens.
        bos, eos, pad: token ids; every id in `eos` ends a generation.
    """

    family: str
    vocab_size: int
    width: int
    layers: tuple[LayerSpec, ...]
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    qk_norm: bool
    tied: bool
    context: int
    bos: int
    eos: tuple[int, ...]
    pad: int

    @cached_property
    def matrix_parameters(self) -> int:
        """Parameters of the blocks that take part in matrix products."""
        attention = self.width * self.head_dim * 2 * (self.heads + self.kv_heads)
        return sum(attention + 3 * self.width * layer.ffn for layer in self.layers)

    @cached_property
    def parameters(self) -> int:
        """All parameters, a tied projection counted once."""
        embeddings = self.vocab_size * self.width * (1 if self.tied else 2)
        norms = self.width * (2 * len(self.layers) + 1)
        head_norms = 2 * self.head_dim * len(self.layers) if self.qk_norm else 0
        return self.matrix_parameters + embeddings + norms + head_norms

    def flops_per_token(self, context: int) -> float:
        """Multiply-adds counted as two, forward and backward, attention causally once: 6 (P + VD) + 6 L H C T."""
        projections = 6 * (self.matrix_parameters + self.vocab_size * self.width)
        return projections + 6 * len(self.layers) * self.heads * self.head_dim * context
