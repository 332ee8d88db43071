import itertools
from collections.abc import Sequence

import pytest
import torch
from tests.engine.conftest import VOCAB, dense_greedy, dense_logits, make_model, prompt_of

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.output import Output
from rhapsode.engine.sampling import Sampling
from rhapsode.engine.scheduler import RequestId
from rhapsode.model.decoder import Decoder

GREEDY = Sampling(temperature=0, max_tokens=20)


def answers(engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
    tokens: list[list[int]] = [[] for _ in prompts]
    for index, output in engine.generate(prompts, sampling):
        assert output.error is None
        if output.scored is not None:
            tokens[index].append(output.scored.token)
    return tokens


def run(engine: Engine) -> dict[RequestId, list[Output]]:
    outputs: dict[RequestId, list[Output]] = {}
    while engine.num_open:
        for output in engine.step():
            outputs.setdefault(output.request, []).append(output)
    return outputs


def tokens_of(outputs: Sequence[Output]) -> list[int]:
    return [output.scored.token for output in outputs if output.scored is not None]


def test_cached_equals_uncached(model: Decoder) -> None:
    for seed, length in ((1, 1), (2, 15), (3, 16), (4, 50)):
        prompt = prompt_of(length, seed=seed)
        assert answers(Engine(model), [prompt], GREEDY) == [dense_greedy(model, prompt, num_tokens=20)]


def test_log_probabilities_are_those_of_the_model_without_a_cache(model: Decoder) -> None:
    prompt = prompt_of(21)
    sampling = Sampling(temperature=1.7, top_k=5, seed=3, max_tokens=12, logprobs=4, prompt_logprobs=2)
    outputs = [
        output for _, output in Engine(model, config=EngineConfig(tokens_per_step=32)).generate([prompt], sampling)
    ]
    ids = prompt + tokens_of(outputs)
    expected = torch.log_softmax(dense_logits(model, ids), -1)
    assert outputs[0].prompt is not None
    assert outputs[0].prompt[0] == (prompt[0], None, ())
    assert all(output.prompt is None for output in outputs[1:])
    scored = [*outputs[0].prompt[1:], *(output.scored for output in outputs if output.scored)]
    assert len(scored) == len(ids) - 1
    for place, one in enumerate(scored):
        assert one.token == ids[place + 1]
        assert one.logprob == pytest.approx(expected[place, one.token].item(), abs=1e-4)
        best = expected[place].topk(len(one.top))
        assert [alternative.token for alternative in one.top] == best.indices.tolist()
        assert [alternative.logprob for alternative in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert {len(one.top) for one in scored[: len(prompt) - 1]} == {2}
    assert {len(one.top) for one in scored[len(prompt) - 1 :]} == {4}


def test_score_is_the_log_probability_of_a_given_text(model: Decoder) -> None:
    ids = prompt_of(model.spec.context)
    expected = torch.log_softmax(dense_logits(model, ids), -1)
    engine = Engine(model, config=EngineConfig(tokens_per_step=48))
    for scored in (engine.score(ids), engine.score(ids)):
        given = [one.logprob for one in scored[1:]]
        assert given == pytest.approx([expected[i, token].item() for i, token in enumerate(ids[1:])], abs=1e-4)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=11, max_tokens=20, top_p=0.9, repetition_penalty=1.2)])
def test_a_request_gets_the_same_answer_alone_and_among_others_that_come_and_go(
    model: Decoder, sampling: Sampling
) -> None:
    prompts = [prompt_of(length, seed=length) for length in (3, 40, 17, 64, 1, 33, 16)]
    alone = [answers(Engine(model), [prompt], sampling)[0] for prompt in prompts]
    engine = Engine(model, config=EngineConfig(tokens_per_step=24, max_requests=4))
    together: dict[RequestId, list[int]] = {}
    numbers = []
    for prompt in prompts:
        numbers.append(engine.add(prompt, sampling))
        for output in itertools.chain(engine.step(), engine.step(), engine.step()):
            together.setdefault(output.request, []).extend(tokens_of([output]))
    for number, outputs in run(engine).items():
        together.setdefault(number, []).extend(tokens_of(outputs))
    assert [together[number] for number in numbers] == alone


@pytest.mark.parametrize("tokens_per_step", [1, 7, 16, 512])
def test_a_prompt_in_pieces_equals_a_prompt_at_once(model: Decoder, tokens_per_step: int) -> None:
    prompt = prompt_of(45)
    engine = Engine(model, config=EngineConfig(tokens_per_step=tokens_per_step, max_requests=1))
    assert answers(engine, [prompt], GREEDY) == [dense_greedy(model, prompt, num_tokens=20)]


def test_a_beginning_that_is_known_is_not_computed_again_and_changes_nothing(model: Decoder) -> None:
    engine = Engine(model)
    prompt = prompt_of(40)
    (first,) = answers(engine, [prompt], GREEDY)
    longer = [*prompt, *first, *prompt_of(5, seed=9)]
    outputs = [output for _, output in engine.generate([longer], GREEDY)]
    assert outputs[0].num_cached == 48
    assert tokens_of(outputs) == dense_greedy(model, longer, num_tokens=20)
    other = engine.add(longer, GREEDY, salt=b"another tenant")
    assert run(engine)[other][0].num_cached == 0


def test_running_out_of_pages_changes_no_answer(model: Decoder) -> None:
    prompts = [prompt_of(30, seed=seed) for seed in range(4)]
    sampling = Sampling(seed=5, max_tokens=60, logprobs=0, prompt_logprobs=0)
    roomy = Engine(model)
    page = 2 * 2 * 16 * 2 * 8 * 4
    tight = Engine(model, config=EngineConfig(memory=8 * page))
    assert tight.pages.count == 8
    expected = answers(roomy, prompts, sampling)
    assert answers(tight, prompts, sampling) == expected
    assert tight.pages.num_free == 8


def test_reasons_to_finish() -> None:
    model = make_model(eos=(1, 2))
    prompt = prompt_of(100)
    engine = Engine(model)
    free = Engine(model, stop_ids=frozenset())
    full = [output for _, output in free.generate([prompt], Sampling(temperature=0))]
    assert (len(full), full[-1].finish_reason) == (28, "length")
    stop = tokens_of(full)[5]
    first = tokens_of(full).index(stop)
    outputs = [output for _, output in engine.generate([prompt], Sampling(temperature=0, stop_ids=frozenset({stop})))]
    assert (len(outputs), outputs[-1].finish_reason) == (first + 1, "stop")
    ended = [output for _, output in engine.generate([prompt], Sampling(temperature=0, logit_bias={2: 100}))]
    assert (tokens_of(ended), ended[0].finish_reason) == ([2], "stop")
    nothing = [output for _, output in engine.generate([prompt], Sampling(max_tokens=0))]
    assert [(output.scored, output.finish_reason) for output in nothing] == [(None, "length")]


def test_a_prompt_that_fills_the_context_is_refused_with_the_counts(model: Decoder) -> None:
    engine = Engine(model)
    for length in (128, 129, 1280):
        with pytest.raises(RhapsodeError, match=rf"{length} tokens.* 128 tokens"):
            engine.add(prompt_of(length))
    assert len(answers(engine, [prompt_of(127)], Sampling(max_tokens=10**12))[0]) == 1


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        ([], Sampling()),
        ([VOCAB], Sampling()),
        ([-1], Sampling()),
        ([1], Sampling(logit_bias={VOCAB: 1.0})),
        ([1], Sampling(stop_ids=frozenset({-1}))),
    ],
)
def test_what_the_model_has_no_token_for_is_refused(model: Decoder, prompt: list[int], sampling: Sampling) -> None:
    engine = Engine(model)
    with pytest.raises(RhapsodeError):
        engine.add(prompt, sampling)
    assert engine.num_open == 0


def test_too_little_memory_is_refused(model: Decoder) -> None:
    with pytest.raises(RhapsodeError, match="2048 bytes"):
        Engine(model, config=EngineConfig(memory=100, page_size=8))


def test_cancel_frees_everything_at_any_time(model: Decoder) -> None:
    engine = Engine(model, config=EngineConfig(tokens_per_step=16, max_requests=2))
    numbers = [engine.add(prompt_of(40, seed=seed), GREEDY) for seed in range(4)]
    for number in numbers:
        engine.step()
        engine.cancel(number)
        engine.cancel(number)
    engine.cancel(RequestId(10**6))
    assert engine.num_open == 0
    assert engine.step() == []
    assert engine.pages.num_free == engine.pages.count
    generation = engine.generate([prompt_of(5), prompt_of(6)], GREEDY)
    next(generation)
    generation.close()
    assert engine.num_open == 0
    assert engine.pages.num_free == engine.pages.count


def test_what_is_not_a_number_ends_only_its_own_request() -> None:
    model = make_model()
    with torch.no_grad():
        model.embedding.weight[7] = float("nan")
    good = [token for token in prompt_of(50) if token != 7]
    bad = [*good[:20], 7, *good[20:]]
    sampling = Sampling(temperature=0, max_tokens=8, logit_bias={7: -100})
    engine = Engine(model, config=EngineConfig(tokens_per_step=24, max_requests=4))
    expected = answers(Engine(model), [good], sampling)[0]
    for _ in range(2):
        failing, fine = engine.add(bad, sampling), engine.add(good, sampling)
        outputs = run(engine)
        assert [output.finish_reason for output in outputs[failing]] == ["error"]
        assert outputs[failing][0].error is not None
        assert tokens_of(outputs[fine]) == expected
    assert engine.pages.num_free == engine.pages.count
    assert all(tensor.isfinite().all() for tensor in engine._cache.keys)


def test_an_exception_ends_only_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    engine = Engine(model)
    forward = model.embedding.forward

    def broken(ids: torch.Tensor) -> torch.Tensor:
        if 7 in ids:
            raise RuntimeError("injected")
        return forward(ids)

    good = [token for token in prompt_of(50) if token != 7]
    sampling = Sampling(temperature=0, max_tokens=8, logit_bias={7: -100})
    expected = answers(engine, [good], sampling)[0]
    monkeypatch.setattr(model.embedding, "forward", broken)
    numbers = [engine.add(prompt, sampling) for prompt in (good, [7, 8], good[:-1], [3, 7])]
    outputs = run(engine)
    assert [outputs[number][-1].finish_reason for number in numbers] == ["length", "error", "length", "error"]
    assert "injected" in str(outputs[numbers[1]][0].error)
    assert tokens_of(outputs[numbers[0]]) == expected
    assert engine.pages.num_free == engine.pages.count


def test_a_model_in_bfloat16_writes_too() -> None:
    model = make_model().to(torch.bfloat16)
    prompts = [prompt_of(20), prompt_of(40, seed=1)]
    sampling = Sampling(max_tokens=5, seed=1, logprobs=1)
    assert [len(answer) for answer in answers(Engine(model), prompts, sampling)] == [5, 5]
