"""What a plan's hash covers, which of it the machine alone decides, and what differs between two."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rhapsode import __version__
from rhapsode.core.manifest import read_manifest
from rhapsode.corpus.packing import Packing
from rhapsode.kernels import native
from rhapsode.recipe.recipe import Recipe
from rhapsode.train.plan import TrainPlan
from rhapsode.train.ranks.ranks import Ranks
from rhapsode.train.trainer import Data

MACHINE = {
    "train": ("precision", "micro_batch_rows", "recompute", "parallel", "tensor"),
    "code": ("torch",),
}
"""What is settled for the machine's sake, beside all of `machine`."""
UPKEEP = ("keep", "keep_every", "samples", "prompts")
"""What of `train` says which checkpoints stay and what is shown meanwhile: it may change at any time."""


def settled_values(recipe: Recipe, corpus: Path, data: Data, train: TrainPlan, ranks: Ranks) -> dict[str, Any]:
    """Everything of a run that its hash covers: bytes, rows, numbers, code and the machine's way of computing."""
    return {
        "task": recipe.task.model_dump(mode="json"),
        "corpus": {"files": read_manifest(corpus).files},
        "tokens": {"files": data.tokens.manifest.files},
        "packing": {"train": _packing_hash(data.training), "validation": _packing_hash(data.held_out)},
        "train": train.as_json(),
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "code": {"rhapsode": __version__, "torch": torch.__version__},
        "machine": {
            "device": ranks.device.type,
            "ranks": ranks.size,
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "kernels": "C" if native.is_here() else "torch",
        },
    }


def meaning(settled: Mapping[str, Any]) -> dict[str, Any]:
    """What of a settled plan is the same on every machine."""
    left_out = {**MACHINE, "train": (*MACHINE["train"], *UPKEEP)}
    return {
        part: {k: v for k, v in value.items() if k not in left_out.get(part, ())}
        for part, value in settled.items()
        if part != "machine"
    }


def changes(before: Any, now: Any, *, key: str = "") -> list[str]:
    """What differs between two settled plans, one line a leaf: "train.steps: 300 -> 600"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        lines = (changes(before.get(k), now.get(k), key=f"{key}.{k}".strip(".")) for k in keys)
        return [line for part in lines for line in part]
    before, now = (json.loads(json.dumps(value)) for value in (before, now))
    return [] if before == now else [f"{key}: {_short(before)} -> {_short(now)}"]


def _packing_hash(packing: Packing) -> str:
    columns = (packing.row_offsets, *packing.columns)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
