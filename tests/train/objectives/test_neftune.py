"""Noise on embeddings: its size by the length of a sequence, and that a step can be repeated and split."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec, random_trees

from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch, hidden_states, next_token
from rhapsode.train.objectives.neftune import Noisy, lengths_at, noise, noisy_embedding
from rhapsode.train.step import gradient


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def make_batch(*, seed: int = 0, shape: tuple[int, int] = (4, 30)) -> Batch:
    documents, branches, positions = random_trees(shape, seed=seed)
    ids = torch.randint(3, 90, documents.shape, generator=torch.Generator().manual_seed(seed))
    return Batch(ids, ids.roll(-1, 1), positions, documents, branches)


@given(seed=st.integers(0, 999))
def test_a_place_knows_how_long_its_sequence_is(seed: int) -> None:
    trees = random_trees((3, 40), seed=seed)
    found = lengths_at(trees.documents, trees.branches)
    for row in range(3):
        of_trunk: dict[int, list[int]] = {}
        for places in trees.sequences(row):
            for place in places:
                of_trunk.setdefault(place, []).append(len(places))
        assert found[row].tolist() == pytest.approx([sum(of_trunk[p]) / len(of_trunk[p]) for p in range(40)])


@given(seed=st.integers(0, 999), alpha=st.sampled_from([5.0, 15.0]))
def test_every_number_lies_within_alpha_over_the_root_of_its_sequences_size(seed: int, alpha: float) -> None:
    lengths = torch.randint(1, 40, (3, 20), generator=torch.Generator().manual_seed(seed))
    found, most = noise(lengths, 64, alpha=alpha, generators=seeded(0, 1, seed)), alpha / (lengths * 64).sqrt()
    largest = found.abs().amax(-1)
    assert (largest <= most).all()
    assert (largest > 0.8 * most).all()


def test_its_expected_length_is_that_of_the_paper() -> None:
    """Of a uniform number in [-1, 1] the mean square is a third: a sequence's noise is alpha / sqrt(3) long."""
    found = noise(torch.full((1, 2000), 2000), 64, alpha=5.0, generators=seeded(0))
    assert found.norm().item() == pytest.approx(5 / 3**0.5, rel=0.01)


@pytest.mark.parametrize("scale", [1.0, 5.5])
def test_it_is_what_reaches_the_blocks_and_only_within_its_context(scale: float) -> None:
    model = make_decoder(dataclasses.replace(make_spec(), embedding_scale=scale), dtype=torch.float64)
    seen: list[torch.Tensor] = []
    handle, batch = model.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])), make_batch()
    plain = hidden_states(model, batch)
    with noisy_embedding(model, batch, alpha=5.0, generators=seeded(*range(4))):
        noisy = hidden_states(model, batch)
    assert torch.equal(hidden_states(model, batch), plain)
    assert not torch.allclose(noisy, plain)
    handle.remove()
    lengths = lengths_at(batch.documents, batch.branches)
    drawn = noise(lengths, model.spec.width, alpha=5.0, generators=seeded(*range(4))).double()
    torch.testing.assert_close(seen[1] - seen[0], drawn, rtol=1e-5, atol=1e-7)


def grads_of(model: Decoder, batches: list[Batch], *, seed: int = 0, place: int = 3) -> list[torch.Tensor]:
    masters = WholeMasters(model)
    gradient(model, batches, objective=Noisy(next_token, alpha=5.0, seed=seed, place=place), masters=masters)
    return [grad.clone() for grad in masters.grads]


def test_any_split_gives_the_same_gradient_and_another_step_another() -> None:
    model, batch, state = make_decoder(make_spec(), dtype=torch.float64), make_batch(), torch.get_rng_state()
    whole = grads_of(model, [batch])
    for rows in (1, 3):
        torch.testing.assert_close(grads_of(model, batch.split(rows)), whole, rtol=1e-9, atol=1e-10)
    for other in ({"seed": 1}, {"place": 4}):
        assert not torch.allclose(grads_of(model, [batch], **other)[0], whole[0])
    assert torch.equal(state, torch.get_rng_state()), "torch's own generator is left alone"
