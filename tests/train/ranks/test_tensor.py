"""Ranks that divide every product train what one process trains, and write what it would have written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.model.cases import CASES
from tests.train.conftest import make_plan, make_run, numbers
from tests.train.ranks.conftest import Crew
from tests.train.ranks.test_reshard import FILES, furthest, only

from rhapsode.core.events import Events, JsonLines, read_events
from rhapsode.train.trainer import Data

LONG = {
    "precision": "fp64",
    "micro_batch_rows": 4,
    "steps": 50,
    "decay_steps": 25,
    "validate_every": 50,
    "save_every": 50,
}
SHORT = {**LONG, "steps": 4, "decay_steps": 2, "validate_every": 4, "save_every": 2}
ADAMW = {"optimizer": "adamw", "learning_rate": 0.003}
UNTIED = {"config": CASES["llama"]}
PLANS: dict[str, dict[str, Any]] = {
    "tied, AdamW": {**LONG, **ADAMW},
    "untied, AdamW": {**LONG, **ADAMW, **UNTIED},
    "tied, Muon": LONG,
    "untied, Muon": {**LONG, **UNTIED},
    "capped": {**SHORT, **ADAMW, "config": CASES["gemma2"]},
    "experts": {**SHORT, "precision": "fp32", "config": CASES["qwen3_moe"]},
    "bf16": {**SHORT, "precision": "bf16", "recompute": True},
}
BY_FOUR = {"tied, Muon": "replicate", "untied, AdamW": "shard", "capped": "replicate", "experts": "shard"}
BY_TWO = ("tied, AdamW", "untied, Muon", "bf16")
TRAINED = [*((4, name) for name in BY_FOUR), *((2, name) for name in BY_TWO)]
NEAR = {"fp64": 1e-11, "fp32": 1e-6, "bf16": 2e-2}


def near(name: str) -> float:
    """What rounding makes of sums that are added up in another order; after 50 steps of Muon that is much more."""
    return 1e-7 if name.endswith("Muon") else NEAR[str(PLANS[name]["precision"])]


def job(name: str, to: Path, *, resume: bool = False, **layout: Any) -> dict[str, Any]:
    to.mkdir(parents=True, exist_ok=True)
    return {"do": "run", "to": str(to), "resume": resume, "plan": {**PLANS[name], "tensor": 2, **layout}}


def copying(name: str, start: Path, to: Path, *layouts: dict[str, Any]) -> list[dict[str, Any]]:
    """A checkpoint from hand to hand: each copy is read from the one before, by ranks that have other pieces."""
    places = [start, *(to.with_name(f"{to.name} {number}") for number in range(len(layouts)))]
    return [
        {"do": "rewrite", "from": str(before), "to": str(after), "plan": {**PLANS[name], **layout}}
        for before, after, layout in zip(places, places[1:], layouts, strict=False)
    ]


def alone(name: str, data: Data, to: Path, *, resume: bool = False) -> None:
    to.mkdir(parents=True, exist_ok=True)
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, **PLANS[name])
    with JsonLines(to / "events-0.jsonl") as journal, numbers(PLANS[name]["precision"]):
        make_run(plan, data, to, events=Events(journal))(resume=resume)


@pytest.fixture(scope="module")
def room(data: Data, tmp_path_factory: pytest.TempPathFactory, crew: Callable[..., Crew]) -> Path:
    """Where all of it is done at once, as a program of ranks takes seconds to begin: in 1, 2 and 4, by so many."""
    room = tmp_path_factory.mktemp("tensor")
    for name in PLANS:
        alone(name, data, room / "1" / name)
    jobs = [job(name, room / "4" / name, parallel=parallel) for name, parallel in BY_FOUR.items()]
    sharded, replicated = ({"parallel": parallel, "tensor": 2} for parallel in ("shard", "replicate"))
    jobs += copying("experts", last(room, 1, "experts"), room / "4" / "copy", sharded, replicated)
    crew(4, *jobs).succeed()

    jobs = [job(name, room / "2" / name) for name in BY_TWO]
    jobs += copying("experts", room / "4" / "copy 1", room / "2" / "copy", replicated, {**sharded, "tensor": 1})
    half = only(room / "4" / "experts", step=2, to=room / "2" / "resumed")
    shutil.copytree(half, room / "1" / "resumed")
    crew(2, *jobs, job("experts", half, resume=True)).succeed()
    alone("experts", data, room / "1" / "resumed", resume=True)
    return room


def last(room: Path, ranks: int, name: str, *, run: str | None = None) -> Path:
    return room / str(ranks) / (run or name) / f"step-{PLANS[name]['steps']:06d}"


def told(run_dir: Path, kind: str, *fields: str, rank: int = 0) -> list[tuple[float, ...]]:
    events = [event.fields for event in read_events(run_dir / f"events-{rank}.jsonl") if event.kind == kind]
    return [tuple(event[field] for field in fields) for event in events]


@pytest.mark.parametrize(("ranks", "name"), TRAINED)
def test_the_weights_are_those_of_one_process(ranks: int, name: str, room: Path) -> None:
    assert furthest(last(room, ranks, name), last(room, 1, name)) < near(name)


@pytest.mark.parametrize(("ranks", "name"), TRAINED)
def test_every_gradient_counts_once_and_every_rank_knows_of_the_same(ranks: int, name: str, room: Path) -> None:
    for kind, fields in (("step", ("loss", "grad_norm")), ("validation", ("bits_per_byte",))):
        found = [told(room / str(ranks) / name, kind, *fields, rank=rank) for rank in range(ranks)]
        assert all(each == found[0] for each in found)
        expected = told(room / "1" / name, kind, *fields)
        assert found[0] == [pytest.approx(values, rel=near(name)) for values in expected]


def test_a_checkpoint_has_the_same_bytes_through_whatever_hands_it_goes(room: Path) -> None:
    for copy in ("4/copy 0", "4/copy 1", "2/copy 0", "2/copy 1"):
        for name in FILES:
            assert (room / copy / name).read_bytes() == (last(room, 1, "experts") / name).read_bytes()


@pytest.mark.parametrize("ranks", [1, 2])
def test_any_number_of_ranks_goes_on(ranks: int, room: Path) -> None:
    assert furthest(last(room, ranks, "experts", run="resumed"), last(room, 1, "experts")) < NEAR["fp32"]
