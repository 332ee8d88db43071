"""Noise on embeddings: its size by the length of a document, and that a step can be repeated."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec, random_documents
from tests.train.objectives.conftest import Answers, hidden_of

from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.neftune import noise, noisy_embedding


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 999), alpha=st.sampled_from([5.0, 15.0]))
def test_every_number_lies_within_alpha_over_the_root_of_its_documents_size(seed: int, alpha: float) -> None:
    documents = random_documents((3, 40), seed=seed)
    found = noise(documents, 8, alpha=alpha, generator=seeded(seed))
    for row, numbers in zip(found, documents, strict=True):
        for document in numbers.unique():
            part = row[numbers == document]
            most = alpha / (len(part) * 8) ** 0.5
            assert part.abs().max() <= most
            assert part.abs().max() > 0.4 * most


def test_its_expected_length_is_that_of_the_paper() -> None:
    """Of a uniform number in [-1, 1] the mean square is a third: a document's noise is alpha / sqrt(3) long."""
    found = noise(torch.ones(1, 2000, dtype=torch.long), 64, alpha=5.0, generator=seeded(0))
    assert found.norm().item() == pytest.approx(5 / 3**0.5, rel=0.01)


@given(cut=st.integers(1, 3), seed=st.integers(0, 99))
def test_rows_may_be_split(cut: int, seed: int) -> None:
    documents = random_documents((4, 30), seed=seed)
    whole, generator = noise(documents, 8, alpha=5.0, generator=seeded(seed)), seeded(seed)
    parts = [noise(part, 8, alpha=5.0, generator=generator) for part in (documents[:cut], documents[cut:])]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("scale", [1.0, 5.5])
def test_it_is_what_reaches_the_blocks_and_only_within_its_context(scale: float, answers: Answers) -> None:
    model = make_decoder(dataclasses.replace(make_spec(), embedding_scale=scale), dtype=torch.float64)
    seen: list[torch.Tensor] = []
    handle = model.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    plain = hidden_of(model, answers)
    with noisy_embedding(model, answers.documents, alpha=5.0, generator=seeded(3)):
        noisy = hidden_of(model, answers)
    assert torch.equal(hidden_of(model, answers), plain)
    assert not torch.allclose(noisy, plain)
    handle.remove()
    drawn = noise(answers.documents, model.spec.width, alpha=5.0, generator=seeded(3)).double()
    torch.testing.assert_close(seen[1] - seen[0], drawn, rtol=1e-5, atol=1e-7)


def test_torchs_own_generator_is_left_alone(policy: Decoder, answers: Answers) -> None:
    before = torch.get_rng_state()
    with noisy_embedding(policy, answers.documents, alpha=5.0, generator=seeded(3)):
        hidden_of(policy, answers)
    assert torch.equal(before, torch.get_rng_state())
