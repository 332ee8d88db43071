"""Our side: the `Trainer` that `rhapsode train` moves, on the plan that it would settle on here."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rhapsode.core.events import Events
from rhapsode.core.home import HOME
from rhapsode.corpus.packing import pack
from rhapsode.corpus.tokens import Tokens
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.spec import ModelSpec
from rhapsode.recipe.first import First, from_scratch
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.pace import here_on, settle_here
from rhapsode.recipe.recipe import Recipe
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.plan import TrainPlan
from rhapsode.train.ranks.ranks import ALONE
from rhapsode.train.trainer import Data, Trainer


def load_data(tokens_dir: Path, *, context: int) -> Data:
    tokens = Tokens.open(tokens_dir)
    training, held_out = (pack(tokens.split(name).lengths, context=context) for name in ("train", "validation"))
    return Data(tokens, training, held_out, Tokenizer.load(tokens.tokenizer_dir))


def settled(spec: ModelSpec | None, data: Data, *, train: dict[str, Any], seed: int) -> TrainPlan:
    """What a recipe's `train:` section gives for this data, from scratch.

    Args:
        spec: the shape; None is the one that the recipe's defaults choose.
    """
    recipe = Recipe.model_validate(
        {
            "task": {"name": "bench"},
            "data": {"sources": [{"name": "bench", "path": "none", "licence": "none"}]},
            "model": {"context": data.training.context, "seed": seed},
            "train": train,
        }
    )
    loaded = LoadedRecipe(recipe, Path("bench.yaml"), Path(), "", {}, None)
    here = here_on(ALONE, out=Path(), events=Events())
    first = from_scratch(recipe, data, here=here) if spec is None else First(spec, tuple(spec.eos), None, [])
    plan, _ = settle_here(loaded, first, data, ranks=ALONE, here=here, events=Events())
    return plan


@contextlib.contextmanager
def fresh_home() -> Iterator[None]:
    """Nothing that was measured here before counts: for this process and those that it starts."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get(HOME)
        os.environ[HOME] = folder
        try:
            yield
        finally:
            del os.environ[HOME]
            if before is not None:
                os.environ[HOME] = before


@torch.no_grad()
def scores(trainer: Trainer, ids: Tensor) -> Tensor:
    """ids [B,T], a document a row -> what the model gives for the next token, [B,T,V] in float32."""
    model = trainer.model
    attend = DenseAttend(torch.ones_like(ids), dtype=model.embedding.weight.dtype)
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return model.logits(model(ids, positions, attend=attend))
