import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec, positions_of, random_documents
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend, Weighing
from rhapsode.model.decoder import Decoder


def hidden(model: Decoder, ids: Tensor, documents: Tensor) -> Tensor:
    attend = DenseAttend(documents, dtype=model.embedding.weight.dtype)
    out: Tensor = model(ids, positions_of(documents), attend=attend)
    return out


def random_ids(shape: tuple[int, ...], *, seed: int, vocab_size: int = 96) -> Tensor:
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
@torch.no_grad()
def test_one_document_leaves_another_bit_equal(family: str, dtype: torch.dtype) -> None:
    model = make_decoder(make_spec(family=family), dtype=dtype)
    documents = torch.tensor([[1] * 20 + [2] * 30 + [3] * 10 + [0] * 4])
    ids = random_ids((1, 64), seed=0)
    before = hidden(model, ids, documents)
    for number in (0, 1, 2, 3):
        own = documents == number
        changed = torch.where(own, (ids + 7) % 96, ids)
        after = hidden(model, changed, documents)
        assert torch.equal(after[~own], before[~own])
        assert not torch.equal(after[own], before[own])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), length=st.integers(1, 64))
@torch.no_grad()
def test_a_packed_row_gives_what_its_documents_give_alone(seed: int, length: int) -> None:
    model = make_decoder(make_spec(), dtype=torch.float64)
    documents = random_documents((1, length), seed=seed)
    ids = random_ids((1, length), seed=seed)
    packed = model.logits(hidden(model, ids, documents))
    for number in documents.unique():
        own = documents == number
        alone = model.logits(hidden(model, ids[own][None], torch.ones_like(ids[own][None])))
        torch.testing.assert_close(packed[own][None], alone, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_token_does_not_see_what_follows_it() -> None:
    model = make_decoder(make_spec())
    ids = random_ids((1, 40), seed=3)
    documents = torch.ones_like(ids)
    before = hidden(model, ids, documents)
    ids[:, 25:] = random_ids((1, 15), seed=4)
    assert torch.equal(hidden(model, ids, documents)[:, :25], before[:, :25])


@torch.no_grad()
def test_any_leading_shape_computes_the_same() -> None:
    """The engine's flat lists of tokens and training's rows are the same decoder."""
    model = make_decoder(make_spec(), dtype=torch.float64)

    def only_itself(layer: int, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:
        return v.repeat_interleave(2, -2)

    ids, positions = random_ids((3, 5), seed=5), torch.arange(15).view(3, 5)
    rows = model.logits(model(ids, positions, attend=only_itself))
    flat = model.logits(model(ids.flatten(), positions.flatten(), attend=only_itself))
    torch.testing.assert_close(rows.flatten(0, 1), flat)


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not() -> None:
    for tied in (True, False):
        model = Decoder(make_spec(tied=tied))
        assert (model.head.weight is model.embedding.weight) is tied
        assert ("head.weight" in dict(model.named_parameters())) is not tied


def test_logits_are_float32_or_better() -> None:
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model = make_decoder(make_spec(), dtype=dtype)
        assert model.logits(torch.ones(2, 32, dtype=dtype)).dtype == expected


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_spec_counts_the_parameters_of_the_decoder(family: str, tied: bool) -> None:
    spec = make_spec(family=family, tied=tied, depth=3, head_dim=10)
    with torch.device("meta"):
        model = Decoder(spec)
    assert sum(p.numel() for p in model.parameters()) == spec.parameters
