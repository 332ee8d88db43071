"""A model with more rows: what a vocabulary got besides begins as the mean of what spelled it before.

The new row of a piece, in the embedding and in a projection that is not tied to it, is the mean of the rows of its old
tokens (fast vocabulary transfer, Gee et al. 2022, arXiv:2402.09977). A special token stands for no text: it begins as
the mean of all rows, which leaves what the model says nearly as it was (Hewitt 2021, "Initializing New Word Embeddings
for Pretrained Language Models"). So do rows below the first new one that the model lacked. All else is copied.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from rhapsode.core.manifest import digest, writing
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.parameters import shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.directory import load_model, read_spec, stop_tokens, write_model
from rhapsode.weights.foreign import copy_licence
from rhapsode.weights.shards import Weights
from rhapsode.weights.tokenizer_files import check_vocabulary

KIND = "model"
ROWS = "vocabulary"
"""Under this name the manifest tells how many rows there were and are, and which are new."""
BY_TOKEN = ("embedding.weight", "head.weight")
"""Parameters with a row for every token."""


def extended_spec(spec: ModelSpec, *, rows: int) -> ModelSpec:
    """The same architecture with at least so many rows; those that a publisher has put there to spare are used."""
    if rows <= spec.vocab_size:
        return spec
    return spec_from_config({**spec.config, "vocab_size": rows})


def extend_model(
    base: Path,
    out: Path,
    *,
    tokenizer_dir: Path,
    first: int,
    replaced: Sequence[Sequence[int]],
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write the model in `base` with rows for new tokens, completely or not at all.

    Args:
        tokenizer_dir: the vocabulary that has them.
        first: the number of the first of them; the others follow.
        replaced: for each the tokens that spelled it before; none for a special token.
        facts: what the manifest tells besides.

    Raises:
        RhapsodeError: the base is not complete, or the vocabulary has a token without a row.
        VerificationMismatch: the base has changed since it was written.
    """
    before = read_spec(base)
    spec = extended_spec(before, rows=first + len(replaced))
    assert dataclasses.replace(before, vocab_size=spec.vocab_size, config=spec.config) == spec, "rows alone differ"
    model = load_model(base, dtype=_dtype(base))
    rows = {"rows_before": before.vocab_size, "rows": spec.vocab_size, "first": first, "new": len(replaced)}
    with writing(out, kind=KIND, inputs={"base": digest(base)}, facts={**facts, ROWS: rows}) as work:
        weights = _extended(model, spec, first=first, replaced=replaced)
        write_model(work.path, spec=spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=stop_tokens(base))
        check_vocabulary(work.path, spec=spec)
        copy_licence(base, work.path)


def extended_rows(old: Tensor, *, rows: int, first: int, replaced: Sequence[Sequence[int]]) -> Tensor:
    """[V,D] -> [rows,D], with a row for every new token; means are made in float32."""
    out = torch.cat([old, old.mean(0, keepdim=True, dtype=torch.float32).to(old.dtype).expand(rows - len(old), -1)])
    middle = old.mean(0, dtype=torch.float32)
    for token, ids in enumerate(replaced, start=first):
        out[token] = old[list(ids)].mean(0, dtype=torch.float32) if ids else middle
    return out


def _extended(
    model: Decoder, spec: ModelSpec, *, first: int, replaced: Sequence[Sequence[int]]
) -> Iterator[tuple[str, Tensor]]:
    for name in shapes(spec):
        value = model.get_parameter(name).detach()
        if name in BY_TOKEN:
            value = extended_rows(value, rows=spec.vocab_size, first=first, replaced=replaced)
        yield name, value


def _dtype(base: Path) -> torch.dtype:
    """That of its weights, if all are bfloat16; else one that holds any of them."""
    with Weights(base) as weights:
        is_narrow = all(entry.dtype == torch.bfloat16 for entry in weights.tensors.values())
    return torch.bfloat16 if is_narrow else torch.float32
