"""Memory that runs out on one rank concerns all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.train.ranks.conftest import Crew

from rhapsode.core.events import read_events
from rhapsode.core.manifest import verify


def run(to: Path, **job: Any) -> dict[str, Any]:
    to.mkdir()
    plan = {"batch_rows": 8, "steps": 3, "samples": 0, **job.pop("plan")}
    return {"do": "run", "to": str(to), "resume": False, "plan": plan, **job}


def warnings(to: Path, rank: int) -> list[str]:
    return [event.fields["message"] for event in read_events(to / f"events-{rank}.jsonl") if event.kind == "warning"]


def test_all_ranks_compute_fewer_rows_when_one_has_not_enough(tmp_path: Path, crew: Callable[..., Crew]) -> None:
    short, small = tmp_path / "short", tmp_path / "small"
    jobs = [
        run(short, plan={"micro_batch_rows": 4}, short={"1": 2}),
        run(small, plan={"micro_batch_rows": 2}),
    ]
    crew(2, *jobs).succeed()
    said = [warnings(short, rank) for rank in range(2)]
    assert said[0] == said[1]
    assert "from step 1 on it is 2" in said[0][0]
    found, expected = (verify(directory / "step-000003").files for directory in (short, small))
    assert {name for name in found if found[name] != expected[name]} <= {"training/state.json"}


def test_ranks_that_share_a_model_end_with_what_to_do(tmp_path: Path, crew: Callable[..., Crew]) -> None:
    job = run(tmp_path / "shard", plan={"micro_batch_rows": 4, "parallel": "shard"}, short={"1": 2})
    ended = crew(2, job).wait()
    assert all(rank.code != 0 for rank in ended)
    assert "set train.micro_batch_rows lower" in ended[1].said
    assert "rank 1" in ended[0].said
