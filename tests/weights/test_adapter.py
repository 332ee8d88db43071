"""A PEFT directory is read whole or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.conftest import make_decoder, make_spec
from tests.model.adapted import KINDS, learnt, make_adapted
from tests.model.conftest import dense_logits
from tests.weights.conftest import flip_a_bit, save_model

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import digest, writing
from rhapsode.kernels.frozen import STORAGES, Storage
from rhapsode.model.adapter import adapt
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.weights.adapter import load_adapter, put, read_adapter, write_adapter
from rhapsode.weights.directory import load_model
from rhapsode.weights.frozen import load_frozen

SPEC = make_spec(vocab_size=320)
IDS = torch.randint(0, 320, (2, 20), generator=torch.Generator().manual_seed(0))
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def save_adapter(path: Path, model: Decoder, adapter: AdapterSpec, *, base: str) -> Path:
    """Without a manifest, as others write it."""
    path.mkdir()
    write_adapter(path, spec=model.spec, adapter=adapter, weights=learnt(model), base=base, base_name="base")
    return path


@pytest.fixture
def base(tokenizer_dir: Path, tmp_path: Path) -> Path:
    return save_model(tmp_path / "base", make_decoder(SPEC), tokenizer_dir)


@pytest.fixture
def saved(base: Path, tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "adapter", make_adapted(SPEC, KINDS["lora"]), KINDS["lora"], base=digest(base))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read_bit_for_bit(kind: str, base: Path, tmp_path: Path) -> None:
    model, adapter = make_adapted(SPEC, KINDS[kind]), KINDS[kind]
    path = save_adapter(tmp_path / "adapter", model, adapter, base=digest(base))
    found = read_adapter(path, spec=SPEC)
    names = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert (found.spec.rank, found.spec.scale, found.spec.kind) == (adapter.rank, adapter.scale, adapter.kind)
    assert found.spec.targets == (names if kind != "some" else adapter.targets)
    assert found.base == digest(base)
    expected = dict(learnt(model))
    assert found.weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.weights.items())
    ours = load_model(base)
    loaded = load_adapter(ours, path, base=digest(base))
    assert torch.equal(dense_logits(ours, IDS), dense_logits(model, IDS))
    assert loaded.change > 0.1


def test_names_and_words_on_disk_are_those_of_the_ecosystem(saved: Path, base: Path) -> None:
    tensors = load_file(saved / "adapter_model.safetensors")
    modules = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    assert set(tensors) == {
        f"base_model.model.model.layers.{i}.{m}.lora_{x}.weight" for i in range(2) for m in modules for x in "AB"
    }
    with safe_open(saved / "adapter_model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "rhapsode.base": digest(base)}


@pytest.mark.parametrize("storage", STORAGES)
def test_a_stored_base_is_the_one_that_was_stored_in_memory(storage: Storage, base: Path) -> None:
    read, made = load_frozen(base, dtype=torch.float32, storage=storage), load_model(base)
    adapt(made, KINDS["lora"], seed=0, storage=storage)
    assert torch.equal(dense_logits(read, IDS), dense_logits(made, IDS))
    assert not any(value.requires_grad for value in read.parameters())
    adapt(read, KINDS["lora"], seed=0)
    assert [name for name, _ in learnt(read)] == [name for name, _ in learnt(made)]


def test_every_family_goes_from_disk_into_storage(tokenizer_dir: Path, tmp_path: Path) -> None:
    spec = make_spec(family="llama", vocab_size=320, tied=False)
    path = save_model(tmp_path / "model", make_decoder(spec, dtype=torch.bfloat16), tokenizer_dir)
    exact, stored = load_model(path), load_frozen(path, dtype=torch.float32, storage="bf16")
    assert torch.equal(dense_logits(exact, IDS), dense_logits(stored, IDS))


def test_loading_upon_a_stored_base_compares_with_that_base(saved: Path, base: Path) -> None:
    model = load_model(base)
    assert load_adapter(model, saved, base=digest(base), storage="int4").change > 0.1


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        config = json.loads((path / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps(config | changes))

    return change


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        tensors = load_file(path / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, path / "adapter_model.safetensors")

    return act


FAULTS = {
    "of another kind": (change_config(peft_type="IA3"), ["peft_type is IA3"]),
    "with biases": (change_config(bias="all"), ["bias is all"]),
    "with whole modules": (change_config(modules_to_save=["lm_head"]), ["modules_to_save is ['lm_head']"]),
    "with ranks of their own": (change_config(rank_pattern={"q_proj": 4}), ["rank_pattern"]),
    "with a key that nobody knows": (change_config(use_magic=True), ["use_magic is True", "never applied approx"]),
    "that changed its base": (change_config(init_lora_weights="pissa"), ["init_lora_weights is pissa", "convert"]),
    "of a rank that is none": (change_config(r="8"), ["r is 8"]),
    "of no alpha": (change_config(lora_alpha=0), ["lora_alpha is 0"]),
    "of half a flag": (change_config(use_dora="yes"), ["use_dora is yes"]),
    "for a block that is not there": (change_config(layers_to_transform=[2]), ["layers_to_transform is [2]", "0 to 1"]),
    "for blocks of another name": (
        change_config(layers_to_transform=[0], layers_pattern="h"),
        ["layers_pattern is h", "layers"],
    ),
    "of another rank": (change_config(r=4), ["q_proj.lora_A.weight is [3, 32]", "[4, 32]"]),
    "for more than is there": (change_config(use_dora=True), ["lacks", "lora_magnitude_vector", "13 more"]),
    "for less than is there": (change_config(target_modules=["q_proj"]), ["holds", "no place"]),
    "that lacks a tensor": (
        change_tensors(lambda tensors: tensors.pop(f"{Q0}.lora_B.weight")),
        [f"lacks {Q0}.lora_B.weight"],
    ),
    "with a module between": (
        change_tensors(lambda t: t.update({f"{Q0}.inner.lora_A.weight": t.pop(f"{Q0}.lora_A.weight")})),
        [f"lacks {Q0}.lora_A.weight"],
    ),
    "with a stranger's tensor": (
        change_tensors(lambda tensors: tensors.update({"model.norm.weight": torch.ones(32)})),
        ["holds model.norm.weight", "no part of a LoRA"],
    ),
    "of another shape": (
        change_tensors(lambda tensors: tensors.update({f"{Q0}.lora_B.weight": torch.ones(32, 4)})),
        [f"{Q0}.lora_B.weight is [32, 4]"],
    ),
    "of whole numbers": (
        change_tensors(lambda t: t.update({f"{Q0}.lora_B.weight": torch.ones(32, 3, dtype=torch.int8)})),
        ["no type of floating point"],
    ),
    "with a number that is none": (
        change_tensors(lambda tensors: tensors[f"{Q0}.lora_B.weight"].view(-1)[7:8].fill_(torch.nan)),
        [f"{Q0}.lora_B.weight has numbers"],
    ),
    "that learnt nothing": (
        change_tensors(lambda tensors: [v.zero_() for name, v in tensors.items() if "lora_B" in name]),
        ["changes nothing", "every lora_B is zero"],
    ),
    "that learnt nothing anybody sees": (
        change_tensors(lambda tensors: [v.mul_(1e-30) for name, v in tensors.items() if "lora_B" in name]),
        ["changes nothing", "number for number"],
    ),
    "in a pickle": (
        lambda path: (path / "adapter_model.safetensors").rename(path / "adapter_model.bin"),
        ["adapter_model.bin, a pickle"],
    ),
    "without a config": (lambda path: (path / "adapter_config.json").unlink(), ["adapter_config.json is missing"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_adapter_that_does_not_fit_is_refused_by_name(fault: str, saved: Path, base: Path) -> None:
    change, words = FAULTS[fault]
    change(saved)
    with pytest.raises(RhapsodeError) as caught:
        load_adapter(load_model(base), saved, base=digest(base))
    said = f"{caught.value.message} {caught.value.hint}"
    assert all(word in said for word in words), said
    assert caught.value.hint


def test_dora_that_learnt_lengths_alone_is_something(base: Path, tmp_path: Path) -> None:
    model = make_decoder(SPEC)
    adapt(model, KINDS["dora"], seed=0)
    with torch.no_grad():
        for name, value in learnt(model):
            if name.endswith("magnitude"):
                value.mul_(1.1)
    path = save_adapter(tmp_path / "adapter", model, KINDS["dora"], base=digest(base))
    assert load_adapter(load_model(base), path, base=digest(base)).change > 0


def test_it_is_refused_upon_another_base(saved: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", make_decoder(SPEC, seed=9), tokenizer_dir)
    with pytest.raises(RhapsodeError, match=f"trained on the model .*this one is {digest(other)[:12]}"):
        load_adapter(load_model(other), saved, base=digest(other))


def test_one_whose_maker_named_no_base_is_taken_by_its_shapes(saved: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    save_file(load_file(saved / "adapter_model.safetensors"), saved / "adapter_model.safetensors")
    other = save_model(tmp_path / "other", make_decoder(SPEC, seed=9), tokenizer_dir)
    assert load_adapter(load_model(other), saved, base=digest(other)).change > 0


def test_a_flipped_bit_in_an_adapter_of_our_own_is_found(base: Path, tmp_path: Path) -> None:
    model = make_adapted(SPEC, KINDS["lora"])
    path = tmp_path / "adapter"
    with writing(path, kind="adapter", inputs={"base": digest(base)}) as work:
        write_adapter(
            work.path, spec=SPEC, adapter=KINDS["lora"], weights=learnt(model), base=digest(base), base_name="b"
        )
    assert read_adapter(path, spec=SPEC).base == digest(base)
    flip_a_bit(path / "adapter_model.safetensors")
    with pytest.raises(VerificationMismatch, match="adapter_model"):
        read_adapter(path, spec=SPEC)


@pytest.mark.parametrize("targets", ["all-linear", r".*\.(q_proj|v_proj)", r"(a+)+$"])
def test_a_pattern_of_names_stands_for_the_tensors_that_are_there(targets: str, saved: Path, base: Path) -> None:
    change_config(target_modules=targets)(saved)
    assert load_adapter(load_model(base), saved, base=digest(base)).change > 0


def test_an_adapter_that_was_read_goes_on_learning(saved: Path, base: Path) -> None:
    model = load_model(base)
    put(model, read_adapter(saved, spec=SPEC))
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        name for name, _ in learnt(make_adapted(SPEC, KINDS["lora"]))
    }
