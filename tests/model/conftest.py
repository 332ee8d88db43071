"""The same weights in our decoder and in transformers' model of a family."""

import copy
import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from tests.model.cases import CASES, LENGTH
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from rhapsode.engine.cache import Cache, PagedAttend, Span
from rhapsode.engine.pages import PageId
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.parameters import parts
from rhapsode.model.spec import ModelSpec

logging.disable_progress_bar()
TOLERANCE = 1e-3
PAGE_SIZE = 4
ONE_OF_EACH = {config["model_type"]: case for case, config in reversed(CASES.items())}
"""Model type -> the first of its cases."""


class Twin(NamedTuple):
    """One model twice.

    Attributes:
        theirs, ours: transformers' model and our decoder of the case's config, with equal weights.
        written: the config.json that transformers writes for it, and `tensors`: the weights it writes.
        ids, logits: [2,T] token ids, and [2,T,V] what transformers makes of them.
    """

    theirs: PreTrainedModel
    ours: Decoder
    written: dict[str, Any]
    tensors: dict[str, Tensor]
    ids: Tensor
    logits: Tensor


@functools.cache
@torch.no_grad()
def twin(case: str) -> Twin:
    """Weights are drawn with a spread of 0.3: with a small one, a wrong position hides in the tolerance."""
    config = CASES[case]
    spec = spec_from_config(config)
    theirs = their_model(config)
    random = torch.Generator().manual_seed(0)
    for name, weight in theirs.named_parameters():
        middle = float(weight.ndim == 1 and not name.endswith("bias") and spec.norm != "rms_offset")
        weight.normal_(middle, 0.3, generator=random)
    written, tensors = on_disk(theirs)
    ids = torch.randint(3, spec.vocab_size, (2, LENGTH), generator=random)
    return Twin(theirs, filled(spec, tensors), written, tensors, ids, theirs(ids).logits)


def their_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    theirs: PreTrainedConfig = CONFIG_MAPPING[config["model_type"]].from_dict(copy.deepcopy(dict(config)))
    return theirs


def as_transformers_reads(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every key that it leaves out, as transformers fills it in."""
    whole: dict[str, Any] = json.loads(their_config(config).to_json_string(use_diff=False))
    return whole


def their_model(config: Mapping[str, Any]) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_config(their_config(config), attn_implementation="eager")
    return model.float().eval()


def on_disk(theirs: PreTrainedModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config.json and the tensors that transformers writes for a model."""
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory)
        config = json.loads((Path(directory) / "config.json").read_text())
        return config, load_file(Path(directory) / "model.safetensors")


@torch.no_grad()
def filled(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> Decoder:
    """A decoder whose parameters are stacked from tensors as they lie on disk."""
    model = Decoder(spec)
    for name, weight in model.named_parameters():
        rows = [tensors[part.name].T if part.is_transposed else tensors[part.name] for part in parts(name, spec)]
        weight.copy_(torch.cat(rows).view_as(weight))
    return model.eval()


@torch.no_grad()
def dense_logits(model: Decoder, ids: Tensor) -> Tensor:
    """[B,T] -> [B,T,V], whole rows at once."""
    attend = DenseAttend(torch.ones_like(ids), dtype=model.embedding.weight.dtype)
    return model.logits(model(ids, torch.arange(ids.shape[1]).expand_as(ids), attend=attend))


@torch.no_grad()
def paged_logits(model: Decoder, rows: Sequence[Tensor], steps: Sequence[Sequence[int]]) -> list[Tensor]:
    """[T] ids of each request -> [T,V], through the engine's cache.

    Args:
        steps: for each ragged batch, how many tokens of each request are in it.
    """
    num_pages = [-(-len(row) // PAGE_SIZE) for row in rows]
    free = iter(range(sum(num_pages)))
    owned = [[PageId(next(free)) for _ in range(count)] for count in num_pages]
    device = torch.device("cpu")
    cache = Cache(model.spec, num_pages=sum(num_pages), page_size=PAGE_SIZE, dtype=torch.float32, device=device)
    found: list[list[Tensor]] = [[] for _ in rows]
    done = [0] * len(rows)
    for counts in steps:
        busy = [index for index, count in enumerate(counts) if count]
        spans, first = [], 0
        for index in busy:
            spans.append(Span(first, counts[index], done[index] + counts[index], owned[index]))
            first += counts[index]
        places = [torch.arange(done[index], done[index] + counts[index]) for index in busy]
        ids = torch.cat([rows[index][place] for index, place in zip(busy, places, strict=True)])
        logits = model.logits(model(ids, torch.cat(places), attend=PagedAttend(cache, spans)))
        for index, part in zip(busy, logits.split([counts[index] for index in busy]), strict=True):
            found[index].append(part)
            done[index] += len(part)
    assert done == [len(row) for row in rows]
    return [torch.cat(parts) for parts in found]
