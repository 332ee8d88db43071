"""Rows of new tokens beside an adapter: the gradient of an ordinary embedding, and PEFT's files both ways."""

import copy
import json
from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder
from tests.model.adapted import learnt, stir
from tests.model.conftest import TOLERANCE, dense_logits, filled, twin
from tests.weights.conftest import save_model
from transformers import AutoModelForCausalLM

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import digest
from rhapsode.model.adapter import adapt, without_adapters
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.train.objective import Batch, next_token
from rhapsode.weights.adapter import load_adapter, write_adapter
from rhapsode.weights.directory import load_model
from rhapsode.weights.merge.adapter import merge_adapter

TOKENS = (3, 7, 20)
ADAPTER = AdapterSpec(rank=3, alpha=6, tokens=TOKENS)
CASES = ("llama", "gemma3")  # a projection of its own, and one that is the embedding
theirs_warn = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def batch(ids: torch.Tensor) -> Batch:
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return Batch(ids, ids.roll(-1, 1), positions, torch.ones_like(ids), ids * 0)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_rows_of_an_ordinary_embedding(case: str) -> None:
    spec = twin(case).ours.spec
    plain = make_decoder(spec, dtype=torch.float64)
    ours = copy.deepcopy(plain)
    adapt(ours, ADAPTER, seed=0)
    ids = torch.randint(0, spec.vocab_size, (2, 24), generator=torch.Generator().manual_seed(0))
    ids[0, :3], ids[1, 5:8] = torch.tensor(TOKENS), torch.tensor(TOKENS)
    losses = [next_token(model, batch(ids)).total for model in (plain, ours)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    for loss in losses:
        loss.backward()
    names = [name for name, _ in learnt(ours) if name.endswith(".rows")]
    assert names == (["embedding.rows"] if spec.tied else ["embedding.rows", "head.rows"])
    for name in names:
        whole, rows = plain.get_parameter(name.replace("rows", "weight")).grad, ours.get_parameter(name).grad
        assert whole is not None
        torch.testing.assert_close(rows, whole[list(TOKENS)], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_without_the_adapter_it_computes_what_its_base_does(case: str) -> None:
    found = twin(case)
    ours = filled(found.ours.spec, found.tensors)
    adapt(ours, ADAPTER, seed=0)
    stir(ours, seed=3)
    changed = dense_logits(ours, found.ids)
    with without_adapters(ours):
        torch.testing.assert_close(dense_logits(ours, found.ids), found.logits, rtol=0, atol=TOLERANCE)
    assert (changed - found.logits).abs().max() > 0.5
    torch.testing.assert_close(dense_logits(ours, found.ids), changed, rtol=0, atol=0)


@theirs_warn
@pytest.mark.parametrize("case", CASES)
def test_peft_reads_what_we_write_and_merges_as_we_do(case: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    found = twin(case)
    base = save_model(tmp_path / "base", found.ours, tokenizer_dir)
    ours = filled(found.ours.spec, found.tensors)
    adapt(ours, ADAPTER, seed=0)
    stir(ours, seed=3)
    path = tmp_path / "adapter"
    path.mkdir()
    write_adapter(path, spec=ours.spec, adapter=ADAPTER, weights=learnt(ours), base=digest(base), base_name=str(base))
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    theirs = peft.PeftModel.from_pretrained(theirs, path)
    ids = torch.cat([found.ids, torch.tensor(TOKENS).expand(len(found.ids), -1)], 1)
    expected = dense_logits(ours, ids)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(ids).logits, expected, rtol=0, atol=TOLERANCE)
    again = load_model(base)
    assert load_adapter(again, path, base=digest(base)).spec.tokens == TOKENS
    torch.testing.assert_close(dense_logits(again, ids), expected, rtol=0, atol=TOLERANCE)
    merge_adapter(base, path, tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(dense_logits(load_model(tmp_path / "merged"), ids), expected, rtol=0, atol=TOLERANCE)


@theirs_warn
@pytest.mark.parametrize("case", CASES)
def test_we_read_what_peft_writes(case: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    found = twin(case)
    base = save_model(tmp_path / "base", found.ours, tokenizer_dir)
    tokens = list(TOKENS)
    indices = tokens if case == "gemma3" else {"embed_tokens": tokens, "lm_head": tokens}
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=indices, task_type="CAUSAL_LM")
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    theirs = peft.get_peft_model(theirs, config)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if "lora_" in name or "trainable_tokens" in name:
                value.add_(torch.randn(value.shape, generator=random), alpha=0.2)
        expected = theirs.eval()(found.ids).logits
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_model(base)
    assert load_adapter(ours, tmp_path / "adapter", base=digest(base)).spec.tokens == TOKENS
    torch.testing.assert_close(dense_logits(ours, found.ids), expected, rtol=0, atol=TOLERANCE)


def test_a_token_that_the_model_lacks_is_refused_by_number() -> None:
    spec = twin("llama").ours.spec
    with pytest.raises(RhapsodeError, match="row for the token 99,999"):
        adapt(make_decoder(spec), AdapterSpec(rank=1, alpha=1, tokens=(99_999,)), seed=0)


def test_rows_of_the_embedding_alone_are_refused(tokenizer_dir: Path, tmp_path: Path) -> None:
    """Its readers would see another model than was trained, where the projection is a matrix of its own."""
    ours = filled(twin("llama").ours.spec, twin("llama").tensors)
    adapt(ours, ADAPTER, seed=0)
    stir(ours, seed=3)
    write_adapter(tmp_path, spec=ours.spec, adapter=ADAPTER, weights=learnt(ours), base="", base_name="")
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    for wrong in ({"embed_tokens": list(TOKENS)}, {"embed_tokens": [1, 1], "lm_head": [1, 1]}, ["a"]):
        path.write_text(json.dumps(config | {"trainable_token_indices": wrong}))
        with pytest.raises(RhapsodeError, match="trainable_token_indices"):
            load_adapter(filled(ours.spec, twin("llama").tensors), tmp_path, base="")
