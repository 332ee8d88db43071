"""What several processes write, each its pieces, is what one would have written; any number reads it again."""

from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder
from tests.model.cases import CASES
from tests.model.test_pieces import dividable
from torch import Tensor

from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.pieces import Place, as_rows, everything, piece
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.directory import write_weights
from rhapsode.weights.rows import OPTIMIZER, Share, Shares, corners
from rhapsode.weights.safetensors import write_tensors

ONE_OF_EACH = list({config["model_type"]: case for case, config in reversed(CASES.items())}.values())


def places(name: str, spec: ModelSpec, *, data: int, tensor: int) -> list[Place]:
    """What each of data x tensor processes has of a parameter: as many rows for each, the last ones fewer or none."""
    found = []
    for rank in range(data * tensor):
        place = piece(name, spec, index=rank % tensor, count=tensor)
        chunk, row = -(-place.num_rows // data), rank // tensor
        found.append(place.within(range(row * chunk, (row + 1) * chunk)))
    return found


def cut(model_weights: dict[str, Tensor], spec: ModelSpec, *, data: int, tensor: int) -> list[Shares]:
    """The weights, and moments that are twice as large, among so many processes."""
    found = []
    for rank in range(data * tensor):
        shares = {}
        for name, value in model_weights.items():
            place = places(name, spec, data=data, tensor=tensor)[rank]
            own = torch.empty(place.num_rows, len(place.columns))
            for mine, there in place.views(own, as_rows(value)):
                mine.copy_(there)
            shares[name] = Share(own, place)
        moments = {f"moment/{name}": Share(2 * share.value, share.place) for name, share in shares.items()}
        found.append(Shares(spec, list(shares.items()), moments))
    return found


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_every_family_is_written_and_read_in_pieces(case: str, tmp_path: Path) -> None:
    model = make_decoder(spec_from_config(CASES[case]))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    alone = tmp_path / "alone"
    alone.mkdir()
    write_weights(alone, spec=model.spec, weights=list(weights.items()))
    (alone / OPTIMIZER).parent.mkdir()
    write_tensors(alone / OPTIMIZER, {f"moment/{name}": 2 * value for name, value in weights.items()})

    grids = [(1, 1), (3, 1), *([(1, 2), (2, 2)] if dividable(case) else [])]
    for data, tensor in grids:
        together = tmp_path / f"{data} x {tensor}"
        together.mkdir()
        processes = cut(weights, model.spec, data=data, tensor=tensor)
        processes[0].plan(together)
        for process in reversed(processes):
            process.write(together)
        for name in ("model.safetensors", OPTIMIZER):
            assert (together / name).read_bytes() == (alone / name).read_bytes()
        for process in processes:
            held = {**dict(process.weights), **process.optimizer}
            expected = {name: share.value.clone() for name, share in held.items()}
            for share in held.values():
                share.value.zero_()
            process.read(alone)
            assert all(torch.equal(share.value, expected[name]) for name, share in held.items())


def test_a_process_without_rows_has_no_corner() -> None:
    model = make_decoder(spec_from_config(CASES[ONE_OF_EACH[0]]))
    name, value = next(iter(model.named_parameters()))
    nothing = Share(value.detach()[:0], everything(value.shape).within(range(0)))
    assert list(corners(name, nothing, model.spec)) == []
