"""Directories go both ways: what we write PEFT reads, what PEFT writes we read, and the logits are the same."""

from pathlib import Path

import pytest
import torch
from tests.model.adapted import KINDS, learnt, stir
from tests.model.conftest import TOLERANCE, dense_logits, filled, twin
from tests.weights.conftest import save_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from rhapsode.core.manifest import digest
from rhapsode.model.adapter import adapt
from rhapsode.weights.adapter import load_adapter, write_adapter
from rhapsode.weights.directory import load_model

peft = pytest.importorskip("peft", reason="peft, which reads and writes these directories, is not installed")
pytestmark = [  # any other warning of peft's, that keys are missing or not known, is an error
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # transformers to peft
    pytest.mark.filterwarnings("ignore:.*Conv1D.*"),  # how GPT-2's matrices lie, which peft guesses
]

CASES = ("llama", "qwen3", "gemma3", "gpt2")


def theirs_of(base: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def base_of(case: str, tokenizer_dir: Path, tmp_path: Path) -> Path:
    return save_model(tmp_path / "base", twin(case).ours, tokenizer_dir)


@torch.no_grad()
def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    found: Tensor = model.eval()(ids).logits
    return found


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("case", CASES)
def test_peft_reads_what_we_write(case: str, kind: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    found, adapter = twin(case), KINDS[kind]
    base = base_of(case, tokenizer_dir, tmp_path)
    ours = filled(found.ours.spec, found.tensors)
    adapt(ours, adapter, seed=0)
    stir(ours, seed=3)
    path = tmp_path / "adapter"
    path.mkdir()
    write_adapter(path, spec=ours.spec, adapter=adapter, weights=learnt(ours), base=digest(base), base_name=str(base))
    theirs = peft.PeftModel.from_pretrained(theirs_of(base), path)
    expected = dense_logits(ours, found.ids)
    assert (expected - found.logits).abs().max() > 0.5
    torch.testing.assert_close(logits(theirs, found.ids), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_we_read_what_peft_writes(case: str, kind: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    if kind == "some" and case == "gpt2":
        pytest.skip("GPT-2 has no modules of these names")
    found, adapter = twin(case), KINDS[kind]
    base = base_of(case, tokenizer_dir, tmp_path)
    config = peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=0.1,
        target_modules="all-linear" if kind != "some" else list(adapter.targets),
        layers_to_transform=None if adapter.layers is None else list(adapter.layers),
        use_dora=adapter.kind == "dora",
        use_rslora=adapter.is_rslora,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(theirs_of(base), config)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if "lora_" in name:
                value.add_(torch.randn(value.shape, generator=random), alpha=0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_model(base)
    loaded = load_adapter(ours, tmp_path / "adapter", base=digest(base))
    assert loaded.change > 0.5
    torch.testing.assert_close(dense_logits(ours, found.ids), logits(theirs, found.ids), rtol=0, atol=TOLERANCE)
