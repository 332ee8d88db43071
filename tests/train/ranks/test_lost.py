"""When a rank is lost, all others end soon and say which; started again, they end with the bytes of a whole run."""

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.train.ranks.conftest import Crew, free_port

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events, read_events
from rhapsode.core.manifest import digest, verify
from rhapsode.train.ranks.join import joined, place
from rhapsode.train.ranks.ranks import Alone
from rhapsode.train.ranks.watch import FELL, LEFT, Watch, page_of

HOST = socket.gethostname()


def job(to: Path, *, resume: bool = False, **rest: Any) -> dict[str, Any]:
    to.mkdir(exist_ok=True)
    plan = {"steps": 5, "save_every": 1, "keep": 9, "micro_batch_rows": 8, "parallel": "shard"}
    return {"do": "run", "to": str(to), "resume": resume, "plan": plan, **rest}


@pytest.mark.parametrize(
    ("number", "victim"),
    [
        (signal.SIGKILL, 1),
        pytest.param(signal.SIGSTOP, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGSTOP, 0, marks=pytest.mark.slow),
    ],
    ids=["killed", "stopped", "the first killed", "the first stopped"],
)
def test_all_end_and_name_the_lost_one_and_a_restart_is_exact(
    number: int, victim: int, tmp_path: Path, crew: Callable[..., Crew]
) -> None:
    lost, whole = tmp_path / "lost", tmp_path / "whole"
    ended = crew(3, job(lost, die={str(victim): (4, int(number))})).wait()
    for rank, end in enumerate(ended):
        if rank != victim:
            assert end.code == 1, end.said
            assert f"rank {victim} of 3 ({HOST})" in end.said
            assert "start all ranks again with --resume" in end.said
    if victim > 0:
        events = [e.fields for e in read_events(lost / "events-0.jsonl") if e.kind == "lost"]
        assert [(e["rank"], e["host"]) for e in events] == [(victim, HOST)]
    crew(3, job(lost, resume=True), job(whole)).succeed()
    # what is made of the same bytes has the same digest
    assert digest(lost / "step-000005") == digest(whole / "step-000005")


def test_a_wish_that_one_rank_hears_stops_all_with_their_state_saved(tmp_path: Path, crew: Callable[..., Crew]) -> None:
    wished = job(tmp_path / "wished", die={"1": (2, int(signal.SIGTERM))})
    ended = crew(2, wished).wait()
    for end in ended:
        assert (end.code, end.results) == (1, [])
        assert "stopped at step 2 of 5" in end.said
    assert verify(tmp_path / "wished" / "step-000002").facts["step"] == 2


def test_who_falls_by_its_own_error_tells_the_others_why(tmp_path: Path, crew: Callable[..., Crew]) -> None:
    wrong = job(tmp_path / "wrong")
    wrong["plan"] = {**wrong["plan"], "base": "no such model"}
    ended = crew(2, wrong).wait()
    assert [end.code for end in ended] == [1, 1]
    assert "rank 0 of 2" in ended[1].said
    assert "has stopped: the plan names a base" in ended[1].said


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**values: object) -> None:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return put


def test_one_process_is_alone(environment: Callable[..., None]) -> None:
    environment(WORLD_SIZE=1, RANK=0)
    with joined() as ranks:
        assert isinstance(ranks, Alone)


def test_an_environment_of_which_a_part_is_missing_is_refused(environment: Callable[..., None]) -> None:
    environment(WORLD_SIZE=2, RANK=0)
    with pytest.raises(RhapsodeError, match="WORLD_SIZE is 2, but MASTER_ADDR is not set"):
        place()


def test_a_port_that_is_taken_is_named(environment: Callable[..., None]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment(RANK=0, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        with pytest.raises(RhapsodeError, match=f"cannot meet at 127.0.0.1:{port}") as caught, joined(start=2):
            pass
    assert "MASTER_PORT" in caught.value.hint


def test_ranks_that_do_not_come_are_named(environment: Callable[..., None]) -> None:
    environment(RANK=0, WORLD_SIZE=3, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    with pytest.raises(RhapsodeError, match="2 of 3 ranks did not come within 1 s: 1, 2"), joined(start=1):
        pass


class Pages(dict[str, bytes]):
    """A store of one process; `answers` until it does not."""

    answers = True

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def multi_get(self, keys: list[str]) -> list[bytes]:
        if not self.answers:
            raise RuntimeError("Broken pipe\nat 0x1")
        return [self[key] for key in keys]


@pytest.fixture
def pages() -> Pages:
    return Pages({page_of(rank): b"0" for rank in range(3)})


def watched(pages: Pages, *, seconds: float) -> tuple[list[int], list[dict[str, Any]]]:
    """Exit codes and events of a watch by rank 0 of three whose silence is 0.2 s, after some seconds."""
    codes: list[int] = []
    heard: list[dict[str, Any]] = []
    watch = Watch(
        pages,  # type: ignore[arg-type]
        rank=0,
        hosts=["a", "b", "c"],
        where="a:1",
        keeps_store=False,
        silence=0.2,
        end=codes.append,
    )
    watch.listen(Events(lambda event: heard.append(event.fields)))
    watch.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not codes:
        time.sleep(0.01)
    watch.leave()
    return codes, heard


def test_the_silent_rank_is_lost_and_one_that_has_left_is_not(pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    pages[page_of(1)] = LEFT.encode()
    codes, heard = watched(pages, seconds=5)
    assert codes == [1]
    assert [(event["rank"], event["host"]) for event in heard] == [(2, "c")]
    assert "rank 0: rank 2 of 3 (c) has been silent" in capsys.readouterr().err
    pages[page_of(2)] = LEFT.encode()
    assert watched(pages, seconds=0.5) == ([], [])
    assert pages[page_of(0)] == LEFT.encode()


def test_a_store_that_is_gone_takes_the_ranks_with_it(pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    pages.answers = False
    assert watched(pages, seconds=5)[0] == [1]
    assert "the store at a:1, kept by torchrun or by rank 0 of 3 (a), is gone: Broken pipe\n" in capsys.readouterr().err


def test_the_reason_of_a_fall_is_passed_on(pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    pages[page_of(1)] = f"{FELL}the disk is full".encode()
    assert watched(pages, seconds=5)[0] == [1]
    assert "rank 1 of 3 (b) has stopped: the disk is full" in capsys.readouterr().err
