"""What our training on a GPU could gain: each a treatment of the `Trainer`, to be tried alone and together.

What proves its worth here belongs into the product; the plain side, without any, is what `rhapsode train` does.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from rhapsode.model.decoder import Decoder
from rhapsode.train.plan import TrainPlan
from rhapsode.train.trainer import Data, Trainer

TREATMENTS = ("float8", "compiled")
FLOAT8 = Path(sys.prefix) / "float8"
"""Where torchao lies: apart, because transformers loads it wherever it sees it."""
FLOAT8_MULTIPLE = 16
"""Both sides of a matrix must divide by it for the scaled product."""


def treated(plan: TrainPlan, data: Data, *, device: torch.device, by: tuple[str, ...]) -> Trainer:
    """The trainer of the product, changed as `by` says; without any, exactly that."""
    trainer = Trainer(plan, data, device=device)
    if "float8" in by:
        to_float8(trainer.model, emulate=device.type != "cuda")
    if "compiled" in by:
        for block in trainer.model.layers:
            block.compile()
    return trainer


def to_float8(model: Decoder, *, emulate: bool) -> None:
    """The matrices of the blocks in float8, each scaled as a whole; the vocabulary stays in bf16."""
    sys.path.append(str(FLOAT8))
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    def is_wanted(module: nn.Module, name: str) -> bool:
        sizes = (module.in_features, module.out_features) if isinstance(module, nn.Linear) else ()
        return "layers." in name and bool(sizes) and all(size % FLOAT8_MULTIPLE == 0 for size in sizes)

    convert_to_float8_training(model, config=Float8LinearConfig(emulate=emulate), module_filter_fn=is_wanted)
