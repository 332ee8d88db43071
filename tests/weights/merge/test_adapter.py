"""A merged model says what the adapter says, or there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from tests.model.adapted import KINDS, learnt, make_adapted
from tests.model.cases import CASES
from tests.model.conftest import ONE_OF_EACH, dense_logits, filled, twin
from tests.weights.conftest import save_model
from transformers import AutoModelForCausalLM

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import digest, read_manifest, verify, writing
from rhapsode.model.adapter import adapt
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.weights.adapter import load_adapter, write_adapter
from rhapsode.weights.directory import load_model
from rhapsode.weights.merge.adapter import merge_adapter

SPEC = make_spec(vocab_size=320)
IDS = torch.randint(0, 320, (2, 20), generator=torch.Generator().manual_seed(0))
DENSE = [
    family
    for family, case in ONE_OF_EACH.items()
    if not any(layer.experts for layer in spec_from_config(CASES[case]).layers)
]
"""Adapters do not reach experts."""
Save = Callable[[Decoder, AdapterSpec], Path]


@pytest.fixture
def base(tokenizer_dir: Path, tmp_path: Path) -> Path:
    return save_model(tmp_path / "base", make_decoder(SPEC), tokenizer_dir)


@pytest.fixture
def save(base: Path, tmp_path: Path) -> Save:
    def act(model: Decoder, adapter: AdapterSpec) -> Path:
        with writing(tmp_path / "adapter", kind="adapter") as work:
            write_adapter(
                work.path,
                spec=model.spec,
                adapter=adapter,
                weights=learnt(model),
                base=digest(base),
                base_name="base",
            )
        return tmp_path / "adapter"

    return act


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_it_is_the_adapter_to_the_last_digits(kind: str, base: Path, save: Save, tmp_path: Path) -> None:
    model = make_adapted(SPEC, KINDS[kind])
    merged = merge_adapter(base, save(model, KINDS[kind]), tmp_path / "merged", dtype=torch.float32)
    found = dense_logits(load_model(merged.path), IDS)
    torch.testing.assert_close(found, dense_logits(model, IDS), rtol=0, atol=1e-4)
    assert merged.difference < 1e-4 < 0.1 < merged.change


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_base_in_bfloat16_is_merged_from_what_it_is(
    kind: str, tokenizer_dir: Path, save: Save, tmp_path: Path
) -> None:
    rounded = make_decoder(SPEC).bfloat16()
    base = save_model(tmp_path / "base", rounded, tokenizer_dir)  # takes the place of the other
    model = rounded.float()
    adapt(model, KINDS[kind], seed=0)
    for name, value in learnt(model):
        if name.endswith(".B"):
            value.data.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    adapter = save(model, KINDS[kind])
    assert read_manifest(adapter).kind == "adapter"
    merged = merge_adapter(base, adapter, tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(dense_logits(load_model(merged.path), IDS), dense_logits(model, IDS), rtol=0, atol=1e-4)


def test_it_is_rounded_once(base: Path, save: Save, tmp_path: Path) -> None:
    adapter = save(make_adapted(SPEC, KINDS["lora"]), KINDS["lora"])
    wide = merge_adapter(base, adapter, tmp_path / "wide", dtype=torch.float32)
    narrow = merge_adapter(base, adapter, tmp_path / "narrow")
    one, other = load_model(wide.path), load_model(narrow.path)
    for value, expected in zip(other.parameters(), one.parameters(), strict=True):
        assert torch.equal(value, expected.bfloat16().float())
    assert wide.difference < narrow.difference < narrow.change


@pytest.mark.parametrize("family", DENSE)
def test_every_family_is_merged(family: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    case = twin(ONE_OF_EACH[family])
    base = save_model(tmp_path / "base", case.ours, tokenizer_dir)
    model = filled(case.ours.spec, case.tensors)
    adapt(model, KINDS["lora"], seed=0)
    for name, value in learnt(model):
        if name.endswith(".B"):
            value.data.fill_(0.1)
    path = tmp_path / "adapter"
    path.mkdir()
    write_adapter(path, spec=model.spec, adapter=KINDS["lora"], weights=learnt(model), base=digest(base), base_name="b")
    merged = merge_adapter(base, path, tmp_path / "merged", dtype=torch.float32, tolerance=1e-3)
    expected = dense_logits(model, case.ids)
    theirs = AutoModelForCausalLM.from_pretrained(merged.path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(case.ids).logits, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_what_rounding_would_lose_is_refused_and_leaves_nothing(base: Path, save: Save, tmp_path: Path) -> None:
    model = make_decoder(SPEC)
    adapt(model, KINDS["lora"], seed=0)
    for name, value in learnt(model):
        if name.endswith(".B"):
            value.data.fill_(1e-5)  # far below what bfloat16 can tell from nothing beside 0.3
    adapter = save(model, KINDS["lora"])
    with pytest.raises(RhapsodeError, match="does not survive being merged.*up to"):
        merge_adapter(base, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]
    assert merge_adapter(base, adapter, tmp_path / "merged", dtype=torch.float32).change > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.int8, torch.float8_e4m3fn])
def test_narrow_weights_are_refused(dtype: torch.dtype, base: Path, save: Save, tmp_path: Path) -> None:
    adapter = save(make_adapted(SPEC, KINDS["lora"]), KINDS["lora"])
    with pytest.raises(RhapsodeError, match="not merged into weights of the type"):
        merge_adapter(base, adapter, tmp_path / "merged", dtype=dtype)


def test_it_carries_its_evidence(base: Path, save: Save, tmp_path: Path) -> None:
    (base.parent / "base").mkdir(exist_ok=True)
    adapter = save(make_adapted(SPEC, KINDS["lora"]), KINDS["lora"])
    merged = merge_adapter(
        base, adapter, tmp_path / "merged", prove=lambda path: (path / "README.md").write_text("# Merged\n") and None
    )
    manifest = verify(merged.path)
    assert manifest.inputs == {"base": digest(base), "adapter": digest(adapter)}
    assert manifest.facts["merged"] == {"difference": merged.difference, "change": merged.change}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= manifest.files.keys()
    again = merge_adapter(
        base, adapter, tmp_path / "again", prove=lambda path: (path / "README.md").write_text("# Merged\n") and None
    )
    assert digest(again.path) == digest(merged.path)


def test_a_merged_model_has_no_use_for_the_adapter(base: Path, save: Save, tmp_path: Path) -> None:
    adapter = save(make_adapted(SPEC, KINDS["lora"]), KINDS["lora"])
    merged = merge_adapter(base, adapter, tmp_path / "merged")
    with pytest.raises(RhapsodeError, match="trained on the model"):
        load_adapter(load_model(merged.path), adapter, base=digest(merged.path))
