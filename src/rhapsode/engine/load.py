"""A model directory -> an engine and its tokenizer: what `chat`, `serve` and `evaluate` all begin with."""

from pathlib import Path
from typing import NamedTuple

import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.heads import refuse_head
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model, read_spec, stop_tokens


class Loaded(NamedTuple):
    """Ready to answer."""

    engine: Engine
    tokenizer: Tokenizer


def load_engine(
    directory: Path, *, config: EngineConfig | None = None, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Loaded:
    """Read weights and tokenizer; answers end at the tokens that generation_config.json names.

    Raises:
        RhapsodeError: the directory is not a complete model, or its tokenizer has tokens that the model lacks.
    """
    refuse_head(read_spec(directory).head, directory)
    model = load_model(directory, dtype=dtype).to(device)
    tokenizer = Tokenizer.load(directory)
    if tokenizer.rows_needed > model.spec.vocab_size:
        raise RhapsodeError(
            f"{directory}: the tokenizer has {tokenizer.rows_needed} tokens, the model {model.spec.vocab_size}",
            "put the tokenizer beside the model that it was trained with",
        )
    stops = frozenset(stop_tokens(directory)) | {tokenizer.end_of_turn}
    return Loaded(Engine(model, config=config, stop_ids=stops, num_ids=tokenizer.vocab_size), tokenizer)
