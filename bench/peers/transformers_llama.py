"""transformers' `LlamaForCausalLM`, with the attention that it chooses by itself (torch's fused one, causal)."""

import torch
from arena.shape import Shape
from torch import Tensor, nn

from peers.loop import Habits

TRAINER = Habits(5e-5, (0.9, 0.999), 0.0, "linear", 0.0, 0.0, decays_all=False)
"""What its `Trainer` does when nothing is said. Those numbers are for tuning a model that is trained already."""
FROM_SCRATCH = Habits(5e-4, (0.9, 0.999), 0.1, "cosine", 0.0, 0.02, decays_all=False)
"""What its course sets for the `Trainer` in "Training a causal language model from scratch"; the warm-up of 1,000
steps, which is longer than a short run, as 2%."""


class TransformersLlama:
    def __init__(self, shape: Shape, *, seed: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(seed)
        self.model: nn.Module = LlamaForCausalLM(LlamaConfig.from_dict(dict(shape.spec().config)))

    def loss(self, model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
        # shift_labels: these are the ids to predict already, one for each input as on our side
        return model(input_ids=ids, labels=targets, shift_labels=targets, use_cache=False).loss

    def scores(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, use_cache=False).logits
