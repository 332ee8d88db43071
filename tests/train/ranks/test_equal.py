"""However many ranks divide a step, and however they hold the model, the weights are those of one process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.train.conftest import CPU, make_plan
from tests.train.ranks.conftest import Crew
from torch import Tensor

from rhapsode.train.ranks.pieces import rows_of
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.safetensors import read_tensors

RATES = {"adamw": 0.003, "muon": 0.02}


def job(name: str, to: Path, *, steps: int, **plan: Any) -> dict[str, Any]:
    return {
        "do": "step",
        "name": name,
        "to": str(to),
        "steps": steps,
        "plan": {"precision": "fp32", "steps": steps, **plan},
    }


def alone(data: Data, *, steps: int, **plan: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    """What one process ends with, and what it says of its last step."""
    settled = make_plan(vocab_size=data.tokenizer.vocab_size, precision="fp32", steps=steps, **plan)
    trainer = Trainer(settled, data, device=CPU)
    for _ in range(steps):
        result = trainer.step()
    tensors = {w.name: w.value for w in trainer.masters.weights} | trainer.optimizer.state()
    return tensors, {"loss": result.loss, "tokens": result.tokens, "norm": result.grad_norm}


def furthest(name: str, to: Path, whole: Mapping[str, Tensor], *, size: int, is_sharded: bool) -> float:
    """The largest difference between what ranks hold and the same rows of what one process does."""
    differences = []
    for rank in range(size):
        for key, value in read_tensors(to / f"{name}-{rank}").items():
            rows = rows_of(len(whole[key]), rank=rank, size=size) if is_sharded else range(len(whole[key]))
            expected = whole[key][rows.start : rows.stop]
            assert value.shape == expected.shape
            differences += [float((value - expected).abs().max())] if len(rows) else []
    return max(differences)


def test_two_ranks_are_one_with_twice_the_micro_batches(data: Data, tmp_path: Path, crew: Callable[..., Crew]) -> None:
    cases = {f"{o}-{p}": (o, p) for o in RATES for p in ("replicate", "shard")}
    shared = {"steps": 50, "micro_batch_rows": 4, "decay_steps": 25}
    jobs = [
        job(name, tmp_path, **shared, optimizer=o, learning_rate=RATES[o], parallel=p) for name, (o, p) in cases.items()
    ]
    bf16 = {"precision": "bf16", "recompute": True, "steps": 3}
    jobs += [job(f"bf16-{p}", tmp_path, **bf16, parallel=p) for p in ("replicate", "shard")]
    under_way = crew(2, *jobs)
    one = {o: alone(data, **shared, optimizer=o, learning_rate=RATES[o]) for o in RATES}
    ranks = under_way.succeed()
    for number, (name, (optimizer, parallel)) in enumerate(cases.items()):
        whole, said = one[optimizer]
        assert furthest(name, tmp_path, whole, size=2, is_sharded=parallel == "shard") < 1e-6, name
        for rank in ranks:
            assert rank.results[number] == pytest.approx(said, rel=1e-6)
    for name in (*RATES, "bf16"):
        first, second = ((tmp_path / f"{name}-replicate-{rank}").read_bytes() for rank in range(2))
        assert first == second
    held = read_tensors(tmp_path / "bf16-replicate-0")
    assert furthest("bf16-shard", tmp_path, held, size=2, is_sharded=True) < 2e-2


def test_rows_that_cannot_be_divided_evenly_are_all_there(
    data: Data, tmp_path: Path, crew: Callable[..., Crew]
) -> None:
    """Of 8 rows three ranks get 2, 3 and 3, in one micro-batch or two; of 2 rows one gets none."""
    cases = {f"{rows}-{p}": (rows, p) for rows in (8, 2) for p in ("replicate", "shard")}
    shared = {"steps": 3, "micro_batch_rows": 2}
    jobs = [job(name, tmp_path, **shared, batch_rows=rows, parallel=p) for name, (rows, p) in cases.items()]
    under_way = crew(3, *jobs)
    one = {rows: alone(data, **shared, batch_rows=rows) for rows in (8, 2)}
    ranks = under_way.succeed()
    for number, (name, (rows, parallel)) in enumerate(cases.items()):
        whole, said = one[rows]
        assert furthest(name, tmp_path, whole, size=3, is_sharded=parallel == "shard") < 5e-6, name
        for rank in ranks:
            assert rank.results[number]["tokens"] == said["tokens"]
            assert rank.results[number] == pytest.approx(said, rel=1e-5)


def test_rows_of_a_parameter_are_dealt_out_once() -> None:
    for height in (1, 2, 5, 96):
        for size in (1, 2, 3, 7):
            assert [r for rank in range(size) for r in rows_of(height, rank=rank, size=size)] == list(range(height))
