"""Peers by name. A module is imported when its peer is built: most of them load a lot."""

import fnmatch
import importlib
import itertools
from typing import NamedTuple

from peers.litgpt_model import is_installed
from peers.loop import Build, How

BUILDS = {
    "transformers": ("peers.transformers_llama", "TransformersLlama"),
    "litgpt": ("peers.litgpt_model", "LitgptModel"),
    "gpt": ("peers.plain_gpt", "PlainGPT"),
}
"""Name -> module, class."""

WEIGHTS, MODES, ALLOCATORS = ("autocast", "bf16"), ("eager", "compiled"), ("shipped", "ours")
DEFAULT = "*:autocast:*"


class Variant(NamedTuple):
    """A peer and how it runs, written `transformers:autocast:eager:shipped`."""

    peer: str
    weights: str
    mode: str
    allocator: str

    def __str__(self) -> str:
        return ":".join(self)

    @property
    def how(self) -> How:
        return How(autocast=self.weights == "autocast", compiled=self.mode == "compiled")


def variants(patterns: list[str]) -> list[Variant]:
    """All that match one of the patterns, and are installed."""
    every = itertools.starmap(Variant, itertools.product(BUILDS, WEIGHTS, MODES, ALLOCATORS))
    return [v for v in every if is_here(v.peer) and any(fnmatch.fnmatch(str(v), p) for p in patterns)]


def is_here(peer: str) -> bool:
    return peer != "litgpt" or is_installed()


def build(peer: str) -> Build:
    module, name = BUILDS[peer]
    found: Build = getattr(importlib.import_module(module), name)
    return found
