"""Model directories in Hugging Face's layout: safetensors, config.json, generation_config.json, tokenizer files.

Names on disk are those of `model/families.py`; what the decoder stacks is split on the way out and stacked on the way
in. Nothing is unpickled: `.bin` and `.pt` files are refused.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import verify
from rhapsode.model.decoder import Decoder
from rhapsode.model.families import config_from_spec, disk_names, fused_rows, spec_from_config
from rhapsode.model.spec import ModelSpec

WEIGHTS = "model.safetensors"
OS_ERROR = re.compile(r"\(os error (\d+)\)")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def write_model(
    directory: Path, *, spec: ModelSpec, weights: Iterable[tuple[str, Tensor]], tokenizer_dir: Path, end_of_turn: int
) -> None:
    """Write a model into an existing directory; the caller's manifest completes it.

    Args:
        weights: the decoder's own names and tensors; a tied head is not among them.
        end_of_turn: the token that ends a chat message, a stop token beside the end of text.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in weights:
        rows = fused_rows(name, spec)
        parts = value.split(list(rows)) if rows else [value]
        tensors |= {n: p.contiguous() for n, p in zip(disk_names(name), parts, strict=True)}
    write_tensors(directory / WEIGHTS, tensors)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    _write_json(directory / "config.json", config_from_spec(spec, dtype=dtype))
    stops = sorted({*spec.eos, end_of_turn})
    generation = {"bos_token_id": spec.bos, "eos_token_id": stops, "pad_token_id": spec.pad}
    _write_json(directory / "generation_config.json", generation)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer_dir / name, directory / name)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: what the system said; the library itself raises a type of its own, in which a full disk goes unseen.
    """
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = OS_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_spec(directory: Path) -> ModelSpec:
    """The architecture of a model directory; no weights are read."""
    return spec_from_config(_read_json(directory / "config.json"))


def stop_tokens(directory: Path) -> tuple[int, ...]:
    """The ids that end a generation, from generation_config.json."""
    ends = _read_json(directory / "generation_config.json").get("eos_token_id", [])
    return tuple(ends) if isinstance(ends, list) else (ends,)


def load_model(directory: Path, *, dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder of a complete model directory, every byte checked against its manifest first.

    Raises:
        RhapsodeError: the directory is incomplete, of an unknown family, or its tensors do not fit its config.
        VerificationMismatch: a file has changed since it was written.
    """
    if (directory / "adapter_config.json").exists() or list(directory.glob("*.bin")) or list(directory.glob("*.pt")):
        raise RhapsodeError(
            f"{directory} holds weights that Rhapsode does not read", "only safetensors are read; pickles run code"
        )
    verify(directory)
    with torch.device("meta"):
        model = Decoder(read_spec(directory))
    model = model.to_empty(device="cpu").to(dtype)
    if model.spec.tied:
        model.head.weight = model.embedding.weight
    read_weights(directory, dict(model.named_parameters()), spec=model.spec)
    return model.eval()


@torch.no_grad()
def read_weights(directory: Path, into: Mapping[str, Tensor], *, spec: ModelSpec) -> None:
    """Fill tensors that carry the decoder's names, one tensor of the file at a time, nothing left over."""
    try:
        with safe_open(directory / WEIGHTS, framework="pt") as file:
            left = set(file.keys())
            for name, target in into.items():
                rows = fused_rows(name, spec)
                parts = target.split(list(rows)) if rows else [target]
                for disk_name, part in zip(disk_names(name), parts, strict=True):
                    if disk_name not in left:
                        raise RhapsodeError(f"{directory / WEIGHTS} lacks {disk_name}", "the model is not complete")
                    left.remove(disk_name)
                    _copy(file.get_tensor(disk_name), part, name=disk_name)
    except (SafetensorError, FileNotFoundError) as error:
        raise VerificationMismatch(f"{directory / WEIGHTS}: {error}", "the file is damaged or missing") from None
    if left:
        raise RhapsodeError(
            f"{directory / WEIGHTS} holds tensors that config.json does not explain: {sorted(left)[:5]}"
        )


def _copy(source: Tensor, target: Tensor, *, name: str) -> None:
    if source.shape != target.shape:
        raise RhapsodeError(f"{name} is {list(source.shape)}, config.json says {list(target.shape)}")
    target.copy_(source)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RhapsodeError(
            f"{path} is missing", "name a model directory, for example out/runs/NAME/step-000200"
        ) from None
    except ValueError as error:
        raise RhapsodeError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise RhapsodeError(f"{path} is not a JSON object")
    return value
