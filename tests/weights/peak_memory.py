"""Reads, stores, takes in or writes one model in a process of its own, and prints by how much its memory grew."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tests.conftest import make_spec

from rhapsode.core.events import Events
from rhapsode.core.manifest import writing
from rhapsode.model.parameters import shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.directory import import_directory, load_model, write_model
from rhapsode.weights.frozen import load_frozen

SMALL = make_spec(vocab_size=400)
LARGE = make_spec(vocab_size=32_768, width=512, ffn=2_048, depth=2, heads=8, kv_heads=8, head_dim=64)
DEEP = make_spec(vocab_size=4_096, width=512, ffn=2_048, depth=16, heads=8, kv_heads=8, head_dim=64)


def resident(key: str) -> int:
    """VmRSS is the memory in use, VmHWM the most there ever was since it was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def main(work: Path, tokenizer_dir: Path, what: str, dtype: torch.dtype) -> None:
    def write(path: Path, spec: ModelSpec) -> None:
        weights = ((name, torch.full(shape, 0.5, dtype=dtype)) for name, shape in shapes(spec).items())
        with writing(path, kind="model") as out:
            write_model(
                out.path, spec=spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=(), max_shard_bytes=20 << 20
            )

    def take(path: Path, _spec: ModelSpec) -> None:
        with writing(work / "taken", kind="model") as out:
            import_directory(path, out.path, events=Events())

    act: Callable[[Path, ModelSpec], object]
    act = {
        "write": write,
        "take": take,
        "read": lambda path, _spec: load_model(path),
        "store": lambda path, _spec: load_frozen(path, dtype=torch.float32, storage="int4"),
    }[what]
    name, spec = ("deep", DEEP) if what == "store" else ("large", LARGE)
    if what == "store":
        write(work / name, spec)
    act(work / "small", SMALL)  # what is imported and allocated once is not counted
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    kept = act(work / name, spec)
    peak = resident("VmHWM") - before
    del kept
    largest = max(torch.Size(shape).numel() for shape in shapes(spec).values()) * dtype.itemsize
    sys.stdout.write(json.dumps({"peak": peak, "parameters": spec.parameters, "largest": largest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], getattr(torch, sys.argv[4]))
