"""Every family computes what transformers computes: in whole rows, through the cache, in ragged batches."""

import pytest
import torch
from tests.model.cases import CASES, LENGTH
from tests.model.conftest import ONE_OF_EACH, TOLERANCE, dense_logits, paged_logits, twin
from torch import Tensor

from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.sampling import Sampling
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.parameters import disk_shapes


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE)


def test_every_family_has_a_case() -> None:
    assert ONE_OF_EACH.keys() == FAMILIES.keys()


@pytest.mark.parametrize("case", CASES)
def test_whole_rows_give_the_logits_of_transformers(case: str) -> None:
    model = twin(case)
    assert model.logits.std() > 1  # at such a scale a wrong base or mask is far outside of the tolerance
    assert type(model.theirs).__name__ == FAMILIES[model.ours.spec.family].architecture
    close(dense_logits(model.ours, model.ids), model.logits)


@pytest.mark.parametrize("case", CASES)
def test_sequences_are_longer_than_windows(case: str) -> None:
    windows = [layer.window for layer in twin(case).ours.spec.layers if layer.window]
    assert all(2 * window < LENGTH for window in windows)


@pytest.mark.parametrize("case", CASES)
def test_the_tensors_on_disk_are_those_that_transformers_writes(case: str) -> None:
    model = twin(case)
    spec = model.ours.spec
    assert disk_shapes(spec) == {name: tuple(value.shape) for name, value in model.tensors.items()}
    assert sum(weight.numel() for weight in model.ours.parameters()) == spec.parameters == model.theirs.num_parameters()


@pytest.mark.parametrize("case", CASES)
def test_a_config_and_what_transformers_makes_of_it_are_one_spec(case: str) -> None:
    assert spec_from_config(twin(case).written) == twin(case).ours.spec


@pytest.mark.parametrize("case", CASES)
def test_token_by_token_and_in_chunks_through_the_cache(case: str) -> None:
    model = twin(case)
    for chunks in ([1] * LENGTH, [13, 1, 1, 10, 2, 13]):
        (found,) = paged_logits(model.ours, [model.ids[0]], [[count] for count in chunks])
        close(found, model.logits[0])


@pytest.mark.parametrize("case", CASES)
def test_a_ragged_batch_gives_each_request_what_it_gets_alone(case: str) -> None:
    model = twin(case)
    rows = [model.ids[0], model.ids[1, :17], model.ids[1, :1], model.ids[0, :30]]
    expected = [model.logits[0], model.logits[1, :17], model.logits[1, :1], model.logits[0, :30]]
    at_once = [[40, 17, 1, 30]]
    reading_and_writing = [[20, 14, 0, 28], [18, 1, 1, 1], [1, 1, 0, 1], [1, 1, 0, 0]]
    for chunks in (at_once, reading_and_writing):
        for found, logits in zip(paged_logits(model.ours, rows, chunks), expected, strict=True):
            close(found, logits)


@pytest.mark.parametrize("family", ["gemma3_text", "gpt2", "mistral", "qwen2", "qwen3_moe", "smollm3"])
@torch.no_grad()
def test_transformers_with_its_own_cache_gives_the_same(family: str) -> None:
    model = twin(ONE_OF_EACH[family])
    cache, found = None, []
    for part in model.ids.split([25, *[1] * (LENGTH - 25)], 1):
        out = model.theirs(part, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out.logits)
    theirs = torch.cat(found, 1)
    ours = paged_logits(model.ours, list(model.ids), [[25, 25], *[[1, 1]] * (LENGTH - 25)])
    close(torch.stack(ours), theirs)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_engine_writes_what_transformers_would_write(family: str) -> None:
    """Prompts of unequal length, four tokens a step: every token is the likeliest of all before it."""
    model = twin(ONE_OF_EACH[family])
    prompts = [model.ids[0, :18].tolist(), model.ids[1, :3].tolist(), model.ids[1, :11].tolist()]
    engine = Engine(
        model.ours, config=EngineConfig(tokens_per_step=4, max_requests=4, page_size=4), stop_ids=frozenset()
    )
    written = [list(prompt) for prompt in prompts]
    for index, output in engine.generate(prompts, Sampling(temperature=0, max_tokens=14)):
        assert output.scored is not None
        written[index].append(output.scored.token)
    for prompt, ids in zip(prompts, written, strict=True):
        logits = model.theirs(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(ids[len(prompt) :])[:, None])[:, 0]
        assert (logits.amax(1) - chosen < TOLERANCE).all()
