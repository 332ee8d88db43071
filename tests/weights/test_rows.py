"""What several processes write, each its rows, is what one would have written; any number reads it again."""

from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder
from tests.model.cases import CASES
from torch import Tensor

from rhapsode.model.families.registry import spec_from_config
from rhapsode.weights.directory import write_weights
from rhapsode.weights.rows import OPTIMIZER, Share, Shares, corners
from rhapsode.weights.safetensors import write_tensors

ONE_OF_EACH = list({config["model_type"]: case for case, config in reversed(CASES.items())}.values())


def cut(tensors: dict[str, Tensor], *, size: int) -> list[dict[str, Share]]:
    """Rows for each of `size` processes, as many for each; the last ones have fewer or none."""
    found = []
    for rank in range(size):
        shares = {}
        for name, value in tensors.items():
            chunk = -(-len(value) // size)
            first = min(rank * chunk, len(value))
            shares[name] = Share(value[first : first + chunk].clone(), first, tuple(value.shape))
        found.append(shares)
    return found


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_every_family_is_written_and_read_in_rows(case: str, tmp_path: Path) -> None:
    model = make_decoder(spec_from_config(CASES[case]))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    moments = {f"moment/{name}": torch.randn_like(value) for name, value in weights.items()}
    alone, together = tmp_path / "alone", tmp_path / "together"
    for directory in (alone, together):
        directory.mkdir()
    write_weights(alone, spec=model.spec, weights=list(weights.items()))
    (alone / OPTIMIZER).parent.mkdir()
    write_tensors(alone / OPTIMIZER, moments)

    parts = zip(cut(weights, size=3), cut(moments, size=3), strict=True)
    shares = [Shares(model.spec, list(w.items()), o) for w, o in parts]
    shares[0].plan(together)
    for part in reversed(shares):
        part.write(together)
    for name in ("model.safetensors", OPTIMIZER):
        assert (together / name).read_bytes() == (alone / name).read_bytes()

    for size in (1, 2):
        parts = zip(cut(weights, size=size), cut(moments, size=size), strict=True)
        for w, o in parts:
            held = {**w, **o}
            expected = {name: share.value.clone() for name, share in held.items()}
            for share in held.values():
                share.value.zero_()
            Shares(model.spec, list(w.items()), o).read(together)
            assert all(torch.equal(share.value, expected[name]) for name, share in held.items())


def test_a_process_without_rows_has_no_corner() -> None:
    model = make_decoder(spec_from_config(CASES[ONE_OF_EACH[0]]))
    name, value = next(iter(model.named_parameters()))
    assert list(corners(name, Share(value.detach()[:0], len(value), tuple(value.shape)), model.spec)) == []
