import asyncio
import logging
from collections.abc import Iterator

import pytest
from tests.engine.conftest import dense_greedy, prompt_of

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.output import Output
from rhapsode.engine.sampling import Sampling
from rhapsode.engine.worker import Job, QueueFullError, Work, Worker
from rhapsode.model.decoder import Decoder

GREEDY = Sampling(temperature=0, max_tokens=10)
LONG = Sampling(temperature=0, max_tokens=100)


@pytest.fixture
def worker(model: Decoder) -> Iterator[Worker]:
    worker = Worker(Engine(model, config=EngineConfig(max_requests=2)), max_running=2, max_waiting=2)
    yield worker
    worker.stop()
    assert not worker.is_alive
    assert worker.engine.num_open == 0
    assert worker.engine.pages.num_free == worker.engine.pages.count


async def tokens_of(job: Job) -> list[list[int]]:
    tokens: dict[int, list[int]] = {}
    async for index, output in job.outputs():
        if output.error is not None:
            raise output.error
        assert output.scored is not None
        tokens.setdefault(index, []).append(output.scored.token)
    return [tokens[index] for index in sorted(tokens)]


def test_jobs_at_the_same_time_each_get_their_own(worker: Worker, model: Decoder) -> None:
    prompts = [prompt_of(length, seed=length) for length in (5, 20, 33)]

    async def run() -> list[list[list[int]]]:
        pair = worker.submit([Work(prompt, GREEDY) for prompt in prompts[:2]])
        single = worker.submit([Work(prompts[2], GREEDY)])
        return await asyncio.gather(tokens_of(pair), tokens_of(single))

    pair, single = asyncio.run(run())
    assert [*pair, *single] == [dense_greedy(model, prompt, num_tokens=10) for prompt in prompts]
    assert worker.num_open == 0


def test_all_or_none_is_queued(worker: Worker) -> None:
    async def run() -> None:
        with pytest.raises(RhapsodeError, match="no tokens"):
            worker.submit([Work([1], GREEDY), Work([], GREEDY)])
        assert worker.num_open == 0
        with pytest.raises(QueueFullError):
            worker.submit([Work([1], GREEDY)] * 5)
        jobs = [worker.submit([Work([1], LONG)] * 2) for _ in range(2)]
        with pytest.raises(QueueFullError):
            worker.submit([Work([1], GREEDY)])
        for job in jobs:
            job.close()
            job.close()
        assert worker.num_open == 0
        assert await tokens_of(worker.submit([Work([1], Sampling(max_tokens=1))]))

    asyncio.run(run())


def test_a_stopped_request_says_no_more(worker: Worker) -> None:
    async def run() -> list[int]:
        job = worker.submit([Work([1], LONG), Work([2], GREEDY)])
        seen = []
        async for index, _ in job.outputs():
            seen.append(index)
            if index == 0:
                job.stop(0)
        return seen

    seen = asyncio.run(run())
    assert (seen.count(0), seen.count(1)) == (1, 10)


def test_a_deadline(worker: Worker) -> None:
    async def run() -> None:
        job = worker.submit([Work(prompt_of(20), LONG)])
        with pytest.raises(TimeoutError):
            async for _ in job.outputs(deadline=asyncio.get_running_loop().time()):
                pass
        job.close()

    asyncio.run(run())
    assert worker.num_open == 0


def test_a_failing_engine_ends_what_is_open_and_then_works_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = Engine.step
    failures = [RuntimeError("injected")]

    def failing(engine: Engine) -> list[Output]:
        if failures:
            raise failures.pop()
        return step(engine)

    monkeypatch.setattr(Engine, "step", failing)

    async def run() -> list[list[int]]:
        with pytest.raises(RhapsodeError, match="engine failed"):
            await tokens_of(worker.submit([Work([1, 2], GREEDY)]))
        return await tokens_of(worker.submit([Work([1, 2], GREEDY)]))

    with caplog.at_level(logging.ERROR):
        (tokens,) = asyncio.run(run())
    assert len(tokens) == 10
    assert "injected" in caplog.text


def test_stopping_ends_what_is_open(model: Decoder) -> None:
    worker = Worker(Engine(model), max_running=2, max_waiting=2)

    async def run() -> None:
        job = worker.submit([Work([1], LONG)])
        worker.stop()
        worker.stop()
        with pytest.raises(RhapsodeError, match="stops"):
            await tokens_of(job)

    asyncio.run(run())
    assert worker.num_open == 0
