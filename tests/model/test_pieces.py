"""A decoder in narrower ones: their pieces are the whole, and what their blocks write adds up to what it writes."""

import dataclasses

import pytest
import torch
from tests.conftest import make_decoder, make_spec, positions_of, random_documents
from tests.model.cases import CASES

from rhapsode.core.errors import PlanRefused
from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.rope import rotation
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.narrow import narrow
from rhapsode.model.parameters import shapes
from rhapsode.model.pieces import as_rows, everything, piece
from rhapsode.model.spec import ModelSpec


def dividable(case: str) -> bool:
    try:
        narrow(spec_from_config(CASES[case]), 2)
    except PlanRefused:
        return False
    return True


DIVIDABLE = [case for case in CASES if dividable(case)]


def narrowed(whole: Decoder, *, index: int, count: int) -> Decoder:
    """The `index`-th of `count` narrower decoders that have the weights of the whole one between them."""
    found, weights = Decoder(narrow(whole.spec, count)), dict(whole.named_parameters())
    with torch.no_grad():
        for name, own in found.named_parameters():
            for mine, there in piece(name, whole.spec, index=index, count=count).views(
                as_rows(own), as_rows(weights[name])
            ):
                mine.copy_(there)
    return found


@pytest.mark.parametrize("case", DIVIDABLE)
def test_what_blocks_write_adds_up(case: str) -> None:
    whole = make_decoder(spec_from_config(CASES[case]))
    parts = [narrowed(whole, index=index, count=2) for index in range(2)]
    documents = random_documents((2, 20), seed=1)
    attend = DenseAttend(documents, dtype=torch.float32)
    x = torch.randn(2, 20, whole.spec.width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for index, layer in enumerate(whole.spec.layers):
            turn = None
            if layer.rope is not None:
                frequencies = torch.tensor(layer.rope.frequencies())
                turn = rotation(positions_of(documents), frequencies, scale=layer.rope.scale, dtype=x.dtype)
            block, *blocks = (model.layers[index] for model in (whole, *parts))
            seen = [each.attention(x, turn, layer=index, attend=attend) for each in (block, *blocks)]
            torch.testing.assert_close(sum(seen[1:]), seen[0])
            torch.testing.assert_close(sum(each.ffn(x) for each in blocks), block.ffn(x))


def test_families_of_every_kind_can_be_divided() -> None:
    assert {"gemma2", "gemma3", "granite", "llama", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe"} <= {*DIVIDABLE}


@pytest.mark.parametrize("case", DIVIDABLE)
def test_every_number_is_in_one_piece_that_is_the_first(case: str) -> None:
    spec = spec_from_config(CASES[case])
    for name, shape in shapes(spec).items():
        for size in (1, 3):
            seen = as_rows(torch.zeros(shape))
            for index in range(2):
                place = piece(name, spec, index=index, count=2)
                for rank in range(size):
                    chunk = -(-place.num_rows // size)
                    part = place.within(range(rank * chunk, (rank + 1) * chunk))
                    for some, there in part.views(torch.ones(part.num_rows, len(part.columns)), seen):
                        there.add_(some * part.is_first)
            assert torch.equal(seen, torch.ones_like(seen)), name


def test_a_piece_of_a_piece_has_its_rows() -> None:
    place = everything((4, 3, 5))
    assert (place.num_rows, place.columns) == (12, range(5))
    place = place._replace(runs=(range(2, 4), range(8, 11)))
    assert place.within(range(1, 3)).runs == (range(3, 4), range(8, 9))
    assert place.within(range(5, 9)).runs == ()
    assert everything((7,)).within(range(2, 4)) == everything((7,))._replace(runs=(range(2, 4),))


@pytest.mark.parametrize(
    ("changes", "why", "hint"),
    [
        ({"qk_norm": "all"}, "normalises all heads together", "leave train.tensor out"),
        ({"out_bias": True}, "has a bias here", "leave train.tensor out"),
        ({"ffn_bias": True}, "has a bias here", "leave train.tensor out"),
        ({"heads": 6}, "does not divide the 6 query heads", "among 2"),
        ({"kv_heads": 1}, "does not divide the 1 key/value heads", "leave train.tensor out"),
        ({"layers": (make_spec(ffn=50).layers[0],)}, "does not divide the 50 numbers", "among 2"),
    ],
)
def test_what_cannot_be_divided_is_refused(changes: dict[str, object], why: str, hint: str) -> None:
    spec: ModelSpec = dataclasses.replace(make_spec(heads=8, kv_heads=4), **changes)  # type: ignore[arg-type]
    with pytest.raises(PlanRefused, match=why) as caught:
        narrow(spec, 4)
    assert hint in caught.value.hint
    assert narrow(spec, 1) is spec
