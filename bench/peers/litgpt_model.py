"""litgpt's model, initialised and scored as its `litgpt pretrain` does.

It wants older versions of packages that we pin, which its model never touches; so it lives in a folder of its own, see
requirements/bench.txt.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace

import torch
from arena.shape import Shape
from torch import Tensor, nn

from peers.loop import Habits

PACKAGES = Path(sys.prefix) / "bench"

PRETRAIN = Habits(5e-4, (0.9, 0.95), 0.1, "cosine", 0.0, 0.02, decays_all=True)
"""config_hub/pretrain/tinystories.yaml of its repository, for a Llama of 15M parameters; the warm-up of 1,000 steps,
which is longer than a short run, as 2%. Its steps of 512 rows would be ten in ten minutes: all peers take eight."""


def is_installed() -> bool:
    return PathFinder.find_spec("litgpt", [*sys.path, str(PACKAGES)]) is not None


class LitgptModel:
    def __init__(self, shape: Shape, *, seed: int) -> None:
        sys.path.append(str(PACKAGES))  # behind everything else, and only in the process that needs it
        from litgpt.config import Config
        from litgpt.model import GPT
        from litgpt.pretrain import initialize_weights
        from litgpt.utils import chunked_cross_entropy

        config = Config(
            name="rhapsode-bench",
            block_size=shape.context,
            vocab_size=shape.vocab,
            padded_vocab_size=shape.vocab,
            n_layer=shape.depth,
            n_head=shape.heads,
            n_query_groups=shape.kv_heads,
            head_size=shape.width // shape.heads,
            n_embd=shape.width,
            intermediate_size=shape.ffn,
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            norm_eps=1e-6,
            mlp_class_name="LLaMAMLP",
        )
        torch.manual_seed(seed)
        model = GPT(config)
        initialize_weights(SimpleNamespace(strategy=None), model, n_layer=shape.depth, n_embd=shape.width)
        if shape.tied:
            model.transformer.wte.weight = model.lm_head.weight
        self.model: nn.Module = model
        self._cross_entropy = chunked_cross_entropy

    def loss(self, model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
        return self._cross_entropy(model(ids), targets)

    def scores(self, ids: Tensor) -> Tensor:
        return self.model(ids)
