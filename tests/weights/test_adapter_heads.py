"""An adapter beside which a head is learned whole: PEFT's `modules_to_save`."""

import json
from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.adapter import adapt
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.families.registry import with_head
from rhapsode.model.spec import Head
from rhapsode.weights.adapter import load_adapter, read_adapter, write_adapter
from rhapsode.weights.probe import probe
from rhapsode.weights.safetensors import read_tensors, write_tensors

SPEC = with_head(make_spec(), Head(("a", "b", "c")), pad=2)
LORA = AdapterSpec(rank=4, alpha=8)


def trained(directory: Path) -> Tensor:
    """Writes an adapter that was learned, with its head; gives what the model then says."""
    model = make_decoder(SPEC)
    adapt(model, LORA, seed=0)
    learnt = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert "head.weight" in learnt
    with torch.no_grad():
        for value in learnt.values():
            value.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(value)))
    write_adapter(directory, spec=SPEC, adapter=LORA, weights=learnt.items(), base="b", base_name="base")
    return probe(model)


def test_the_head_comes_back_with_the_adapter(tmp_path: Path) -> None:
    expected = trained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["modules_to_save"], config["task_type"]) == (["score"], "SEQ_CLS")
    model = make_decoder(SPEC)
    load_adapter(model, tmp_path, base="b")
    assert (probe(model) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("named", [["score"], ["classifier", "score"]])
def test_pefts_own_names_of_it_are_read(named: list[str], tmp_path: Path) -> None:
    trained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "modules_to_save": named}))
    assert "head.weight" in read_adapter(tmp_path, spec=SPEC).weights


def test_an_adapter_with_a_head_fits_no_model_that_writes_and_none_without_it_fits_one_that_does_not(
    tmp_path: Path,
) -> None:
    trained(tmp_path)
    with pytest.raises(RhapsodeError, match="which is no part of a LoRA|modules_to_save"):
        read_adapter(tmp_path, spec=make_spec())
    tensors = read_tensors(tmp_path / "adapter_model.safetensors")
    del tensors["base_model.model.score.weight"]
    write_tensors(tmp_path / "adapter_model.safetensors", tensors)
    with pytest.raises(RhapsodeError, match="lacks base_model.model.score.weight"):
        read_adapter(tmp_path, spec=SPEC)
