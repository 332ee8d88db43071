import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.conftest import make_decoder, make_spec
from tests.weights.conftest import flip_a_bit, rewrite, save_model

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import Manifest, verify
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.spec import ModelSpec
from rhapsode.weights import proof
from rhapsode.weights.directory import load_model, read_spec, stop_tokens, write_model

SPECS = {
    "qwen3 tied": make_spec(),
    "qwen3 untied": make_spec(tied=False, depth=3),
    "llama": make_spec(family="llama", kv_heads=4),
    "odd": make_spec(vocab_size=97, width=36, heads=3, kv_heads=1, head_dim=10, ffn=37),
}


@pytest.fixture
def saved(tokenizer_dir: Path, tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", make_decoder(make_spec()), tokenizer_dir)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_what_was_saved_is_loaded_bit_for_bit(
    spec: ModelSpec, dtype: torch.dtype, tokenizer_dir: Path, tmp_path: Path
) -> None:
    model = make_decoder(spec, dtype=dtype)
    loaded = load_model(save_model(tmp_path / "model", model, tokenizer_dir), dtype=dtype)
    assert loaded.spec == spec
    assert not loaded.training
    assert (loaded.head.weight is loaded.embedding.weight) is spec.tied
    for (name, value), (other, expected) in zip(loaded.named_parameters(), model.named_parameters(), strict=True):
        assert name == other
        assert value.dtype == dtype
        assert torch.equal(value, expected)


def test_loading_into_a_narrower_type_rounds_once(saved: Path) -> None:
    wide, narrow = load_model(saved), load_model(saved, dtype=torch.bfloat16)
    for value, expected in zip(narrow.parameters(), wide.parameters(), strict=True):
        assert torch.equal(value, expected.to(torch.bfloat16))


def test_names_on_disk_are_those_of_the_ecosystem(saved: Path) -> None:
    names = set(load_file(saved / "model.safetensors"))
    inner = (
        [f"self_attn.{x}.weight" for x in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")]
        + [f"mlp.{x}.weight" for x in ("gate_proj", "up_proj", "down_proj")]
        + ["input_layernorm.weight", "post_attention_layernorm.weight"]
    )
    blocks = {f"model.layers.{i}.{name}" for i in range(2) for name in inner}
    assert names == blocks | {"model.embed_tokens.weight", "model.norm.weight"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_flipped_bit_is_found_and_named(saved: Path, name: str) -> None:
    flip_a_bit(saved / name)
    with pytest.raises(VerificationMismatch, match=name):
        load_model(saved)


def test_a_directory_without_a_manifest_is_never_read(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    with pytest.raises(RhapsodeError, match="incomplete"):
        load_model(saved)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "adapter_config.json"])
def test_pickles_and_adapters_that_appear_in_a_complete_directory_are_refused(saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"")
    with pytest.raises(RhapsodeError, match=f"a(dapter| pickle)|{name}"):
        load_model(saved)


def test_a_pickle_that_the_manifest_vouches_for_lies_there_unread(saved: Path) -> None:
    with_pickle = rewrite(saved, lambda path: (path / "notes.pkl").write_bytes(b"\x80\x04."))
    assert load_model(with_pickle).spec == read_spec(saved)


@pytest.mark.parametrize("shard_bytes", [1, 5_000, 20_000])
def test_shards_are_loaded_bit_for_bit(shard_bytes: int, tokenizer_dir: Path, tmp_path: Path) -> None:
    model = make_decoder(make_spec(tied=False))
    path = save_model(tmp_path / "model", model, tokenizer_dir, max_shard_bytes=shard_bytes)
    assert not (path / "model.safetensors").exists()
    loaded = load_model(path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_weights_may_come_in_any_order_and_give_the_same_bytes(tokenizer_dir: Path, tmp_path: Path) -> None:
    model = make_decoder(make_spec())
    for name, order in (("one", 1), ("other", -1)):
        (tmp_path / name).mkdir()
        weights = iter(list(model.named_parameters())[::order])
        write_model(tmp_path / name, spec=model.spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=())
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "other/model.safetensors").read_bytes()


def test_what_is_written_keeps_every_key_of_the_config(tokenizer_dir: Path, tmp_path: Path) -> None:
    spec = make_spec()
    spec = spec_from_config({**spec.config, "use_cache": False, "torch_dtype": "float16", "architectures": None})
    save_model(tmp_path / "model", make_decoder(spec, dtype=torch.bfloat16), tokenizer_dir)
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert config == {**spec.config, "dtype": "bfloat16", "torch_dtype": "bfloat16"}


def test_a_file_that_is_replaced_while_it_is_loaded_is_found(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify_and_replace(path: Path) -> Manifest:
        manifest = verify(path)
        copy = path / "model.safetensors.new"
        copy.write_bytes((path / "model.safetensors").read_bytes())
        copy.rename(path / "model.safetensors")
        return manifest

    monkeypatch.setattr(proof, "verify", verify_and_replace)
    with pytest.raises(VerificationMismatch, match=r"model\.safetensors was changed while it was read"):
        load_model(saved)


def test_a_missing_tensor_is_named(saved: Path) -> None:
    def drop(path: Path) -> None:
        tensors = load_file(path / "model.safetensors")
        del tensors["model.layers.1.self_attn.k_proj.weight"]
        save_file(tensors, path / "model.safetensors")

    with pytest.raises(RhapsodeError, match=r"lacks model\.layers\.1\.self_attn\.k_proj\.weight"):
        load_model(rewrite(saved, drop))


def test_a_tensor_that_nothing_explains_is_named(saved: Path) -> None:
    def add(path: Path) -> None:
        tensors = load_file(path / "model.safetensors")
        tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)
        save_file(tensors, path / "model.safetensors")

    with pytest.raises(RhapsodeError, match=r"does not explain.*q_proj\.bias"):
        load_model(rewrite(saved, add))


def test_a_tensor_of_another_shape_is_named(saved: Path) -> None:
    def shrink(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))

    with pytest.raises(RhapsodeError, match=r"mlp\.gate_proj\.weight is \[48, 32\], config\.json says \[40, 32\]"):
        load_model(rewrite(saved, shrink))


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "qwen3"}'])
def test_a_config_that_is_no_model_is_refused(saved: Path, text: str) -> None:
    with pytest.raises(RhapsodeError, match=r"config\.json"):
        load_model(rewrite(saved, lambda path: (path / "config.json").write_text(text) and None))


def test_a_file_that_is_no_safetensors_is_named(saved: Path) -> None:
    with pytest.raises(RhapsodeError, match=r"model\.safetensors is damaged"):
        load_model(rewrite(saved, lambda path: (path / "model.safetensors").write_bytes(b"\x80\x04 pickle")))


def test_the_end_of_a_turn_and_the_end_of_text_both_stop_a_generation(saved: Path) -> None:
    assert stop_tokens(saved) == (1, 4)
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == [1, 4]
    assert read_spec(saved).eos == (1,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_no_config_gets_past_the_reader_as_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    config = dict(make_spec(family=data.draw(st.sampled_from(["llama", "qwen3"]))).config)
    keys = st.sampled_from([*config, "rope_scaling", "layer_types", "sliding_window", "auto_map", "head_dim"])
    changes = data.draw(st.dictionaries(keys, JSON, min_size=1, max_size=3))
    text = bytearray(json.dumps({**config, **changes}).encode())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.mktemp("fuzz")
    (path / "config.json").write_bytes(text)
    try:
        spec = read_spec(path)
    except RhapsodeError as error:
        assert "config.json" in error.message  # noqa: PT017 - whether it raises is not the point
    else:
        assert spec.parameters > 0
