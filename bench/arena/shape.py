"""One shape of decoder, which every side builds in its own way."""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.size import Ids, own_config
from rhapsode.model.spec import ModelSpec

IDS = {"bos": 0, "eos": 1, "pad": 2}
"""As our own tokenizers number them."""


@dataclass(frozen=True)
class Shape:
    """A decoder: width, depth, heads of equal size, a gated feed-forward of inner size `ffn`."""

    depth: int
    width: int
    vocab: int
    heads: int
    kv_heads: int
    ffn: int
    tied: bool
    context: int

    def spec(self, family: str = "llama") -> ModelSpec:
        """Peers build the Llama; Qwen 3 is the same with norms on queries and keys, and what we train by default."""
        return spec_from_config(
            own_config(
                family,
                ids=Ids(self.vocab, **IDS),
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.width // self.heads,
                ffn=self.ffn,
                context=self.context,
                tied=self.tied,
            )
        )


SIZES = {
    "tiny": Shape(2, 64, 512, 2, 2, 192, tied=True, context=64),
    "15m": Shape(6, 384, 8192, 6, 6, 1024, tied=True, context=512),
    "60m": Shape(8, 640, 32768, 10, 10, 1696, tied=True, context=512),
    "125m": Shape(12, 768, 50304, 12, 12, 2048, tied=True, context=1024),
    "350m": Shape(24, 1024, 50304, 16, 16, 2752, tied=True, context=1024),
}
"""By the number of parameters that people call them by; `tiny` shows that a script runs."""


def add_shape_options(parser: ArgumentParser) -> None:
    parser.add_argument("--size", choices=SIZES, default="15m", help="the shape; default 15m")
    parser.add_argument("--context", type=int, help="tokens of a row; default: as the size says")


def shape_of(options: Namespace) -> Shape:
    shape = SIZES[options.size]
    return Shape(**{**vars(shape), "context": options.context or shape.context})
