"""A checkpoint is one ordinary directory, whoever wrote it, and any number of ranks goes on from it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.train.conftest import make_plan, make_run
from tests.train.ranks.conftest import Crew
from transformers import AutoModelForCausalLM

from rhapsode.core.manifest import verify
from rhapsode.train.trainer import Data
from rhapsode.weights.checkpoint import read_state
from rhapsode.weights.directory import load_model
from rhapsode.weights.safetensors import TensorFile, read_tensors

FILES = ("model.safetensors", "training/optimizer.safetensors")
PLAN = {"precision": "fp32", "micro_batch_rows": 4, "save_every": 2}


def job(to: Path, *, resume: bool = False, **plan: Any) -> dict[str, Any]:
    return {"do": "run", "to": str(to), "resume": resume, "plan": {**PLAN, **plan}}


def alone(data: Data, to: Path, *, resume: bool = False) -> Path:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, **PLAN)
    to.mkdir(exist_ok=True)
    return make_run(plan, data, to)(resume=resume)


def furthest(one: Path, other: Path) -> float:
    found = [(read_tensors(one / name), read_tensors(other / name)) for name in FILES]
    return max(float((a[key] - b[key]).abs().max()) for a, b in found for key in a)


def only(run_dir: Path, *, step: int, to: Path) -> Path:
    """A run of which one checkpoint is left."""
    to.mkdir()
    shutil.copytree(run_dir / f"step-{step:06d}", to / f"step-{step:06d}")
    return to


def test_two_ranks_write_what_one_process_writes_and_three_go_on(
    data: Data, tmp_path: Path, crew: Callable[..., Crew]
) -> None:
    two = tmp_path / "two"
    two.mkdir()
    under_way = crew(2, job(two, parallel="shard"))
    whole = alone(data, tmp_path / "one")
    ranks = under_way.succeed()
    assert [rank.results[0] for rank in ranks] == [str(two / "step-000006")] * 2
    for step in (4, 6):
        saved, expected = two / f"step-{step:06d}", tmp_path / "one" / f"step-{step:06d}"
        assert verify(saved).files.keys() == verify(expected).files.keys()
        for name in FILES:
            with TensorFile(saved / name) as a, TensorFile(expected / name) as b:
                assert a.tensors == b.tensors
        assert furthest(saved, expected) < 1e-6
        assert read_state(saved).step == step
    model, theirs = load_model(two / "step-000006"), AutoModelForCausalLM.from_pretrained(two / "step-000006")
    assert torch.equal(model.embedding.weight, theirs.get_input_embeddings().weight)

    # from two to one, and to three that hold it either way
    resumed = alone(data, only(two, step=4, to=tmp_path / "to one"), resume=True)
    assert furthest(resumed, whole) < 1e-6
    jobs = [
        job(only(two, step=4, to=tmp_path / f"to three, {parallel}"), resume=True, parallel=parallel)
        for parallel in ("shard", "replicate")
    ]
    crew(3, *jobs).succeed()
    for one in jobs:
        assert furthest(Path(one["to"]) / "step-000006", whole) < 2e-6
