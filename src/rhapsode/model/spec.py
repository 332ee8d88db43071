"""What a decoder is, as a value. Free of torch, so that plans and forms can reason about models.

An architecture is a `ModelSpec` with one `LayerSpec` a layer, derived from a `config.json` by `model/families`. New
families add fields here, never a subclass of the decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from rhapsode.model.rope import Rope

Activation = Literal["silu", "gelu", "gelu_tanh"]
Norm = Literal["rms", "rms_offset", "layer"]
QKNorm = Literal["head", "all"]
Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class Head:
    """What a model that does not write has in place of the projection to the vocabulary.

    Attributes:
        labels: a score for each of them, of a sequence's last token; without any, the model gives vectors.
        pooling: the tokens whose mean is a sequence's vector: all of them, or the last one alone.
    """

    labels: tuple[str, ...] = ()
    pooling: Pooling = "last"

    @property
    def purpose(self) -> str:
        """What the model does, to stand behind "it"."""
        if not self.labels:
            return "turns texts into vectors"
        return "gives answers a reward" if len(self.labels) == 1 else f"tells {len(self.labels)} labels apart"


@dataclass(frozen=True)
class Experts:
    """A feed-forward of which every token takes a few of many (Shazeer et al. 2017).

    Attributes:
        count, per_token: how many there are, how many a token takes.
        normalised: the weights of those taken are made to add up to one.
    """

    count: int
    per_token: int
    normalised: bool


@dataclass(frozen=True)
class LayerSpec:
    """One block.

    Attributes:
        ffn: inner width of the feed-forward, or of each expert.
        rope: how queries and keys are turned by their position; None leaves them.
        window: a token sees itself and the `window` - 1 before it; None is all of them.
        experts: None is one feed-forward for every token.
    """

    ffn: int
    rope: Rope | None = None
    window: int | None = None
    experts: Experts | None = None


@dataclass(frozen=True)
class ModelSpec:
    """A whole decoder.

    Attributes:
        family: the name that `config.json` gives as model_type.
        vocab_size: rows of the embedding, padding included.
        width: size of the residual stream.
        heads, kv_heads, head_dim: query heads, key/value heads, size of each.
        norm: root mean square, the same with weights counted from one (Gemma), or layer norm with a bias.
        norm_eps: added to the mean square inside every norm.
        tied: the vocabulary projection is the embedding.
        context: the longest sequence the model was made for, in tokens.
        eos: every one of these token ids ends a generation.
        activation, gated: of the feed-forward; a gated one multiplies it with a second projection.
        pre_norm, post_norm: whether attention and feed-forward have a norm before them, and one after.
        qk_norm: queries and keys are normalised, each head alone or all together.
        qkv_bias, out_bias, ffn_bias: which projections have a bias.
        learned_positions: an embedding of the position is added to that of the token.
        attention_scale: what products of queries and keys are multiplied with.
        attention_softcap, logit_softcap: c tanh(x / c) of those products, and of the final scores.
        embedding_scale, residual_scale, logit_scale: multiply the embedding, what a block adds, the final scores.
        head: what stands in place of that projection; None is a model that writes.
        config: the `config.json` this was read from, which is what is written again.
    """

    family: str
    vocab_size: int
    width: int
    layers: tuple[LayerSpec, ...]
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    tied: bool
    context: int
    eos: tuple[int, ...]
    attention_scale: float
    norm: Norm = "rms"
    activation: Activation = "silu"
    gated: bool = True
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: QKNorm | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    learned_positions: bool = False
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    head: Head | None = None
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_scores(self) -> int:
        """What the model gives a score to: every token, or every label."""
        return self.vocab_size if self.head is None else len(self.head.labels)

    @cached_property
    def matrix_parameters(self) -> int:
        """Parameters of the blocks that take part in the matrix products of one token."""
        return sum(
            self._layer_matrices(layer, experts=layer.experts.per_token if layer.experts else 1)
            for layer in self.layers
        )

    @cached_property
    def parameters(self) -> int:
        """All parameters, a tied projection counted once."""
        matrices = sum(
            self._layer_matrices(layer, experts=layer.experts.count if layer.experts else 1) for layer in self.layers
        )
        embeddings = self.width * (self.vocab_size + (0 if self.tied else self.num_scores))
        positions = self.context * self.width if self.learned_positions else 0
        return matrices + embeddings + positions + self._vectors

    def flops_per_token(self, context: int) -> float:
        """Multiply-adds counted as two, forward and backward, attention causally once: 6 (P + VD) + 6 L H C T.

        A window shorter than the context counts as it is: a token sees at most so many.
        """
        projections = 6 * (self.matrix_parameters + self.num_scores * self.width)
        seen = sum(_mean_seen(context, layer.window) for layer in self.layers)
        return projections + 12 * seen * self.heads * self.head_dim

    def _layer_matrices(self, layer: LayerSpec, *, experts: int) -> int:
        attention = self.width * self.head_dim * 2 * (self.heads + self.kv_heads)
        router = self.width * layer.experts.count if layer.experts else 0
        return attention + router + experts * (3 if self.gated else 2) * self.width * layer.ffn

    @property
    def _vectors(self) -> int:
        """Norms and biases."""
        norm = self.width * (2 if self.norm == "layer" else 1)
        heads = (self.heads + self.kv_heads) * self.head_dim
        head_norms = {None: 0, "head": 2 * self.head_dim, "all": heads}[self.qk_norm]
        block = norm * 2 * (self.pre_norm + self.post_norm) + head_norms
        block += (heads + self.kv_heads * self.head_dim) * self.qkv_bias + self.width * self.out_bias
        biases = sum((layer.ffn * (2 if self.gated else 1) + self.width) * self.ffn_bias for layer in self.layers)
        return norm + block * len(self.layers) + biases


def _mean_seen(context: int, window: int | None) -> float:
    """How many tokens a token sees, on average over a causal sequence of `context`."""
    seen = min(window or context, context)
    return seen - seen * seen / (2 * context)
