import contextlib
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.model.cases import CASES, GEMMA, GEMMA2, GPT2, LLAMA, STABLELM, STARCODER2, of, slides
from tests.model.conftest import dense_logits, their_model
from tests.weights.gguf.official import write_official
from tests.weights.gguf.vocabularies import say_bytes, say_pieces, trained
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, read_spec, stop_tokens
from rhapsode.weights.gguf import convert
from rhapsode.weights.gguf.convert import convert_gguf

LENGTH = 24
BYTES = 560
PIECES = 1210
TOLERANCE = 1e-3

EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2}
MODELS = {
    "llama": of("llama", LLAMA),
    "llama, biased, tied": of("llama", LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama, linear": CASES["llama, linear"],
    "llama, llama3": CASES["llama, llama3"],
    "mistral": of("mistral", LLAMA, head_dim=16),
    "mixtral": of("mixtral", LLAMA, num_local_experts=5, num_experts_per_tok=2),
    "smollm3": of("smollm3", LLAMA, num_hidden_layers=4),
    "granite": CASES["granite"],
    "qwen2": of("qwen2", LLAMA),
    "qwen3": of("qwen3", LLAMA, head_dim=16),
    "qwen3_moe": of("qwen3_moe", LLAMA, **EXPERTS, head_dim=16, moe_intermediate_size=24, norm_topk_prob=True),
    "olmoe": of("olmoe", LLAMA, **EXPERTS, num_key_value_heads=4, norm_topk_prob=False),
    "olmo2": of("olmo2", LLAMA),
    "olmo3": of("olmo3", LLAMA, sliding_window=9, layer_types=slides("sfs"), rope_theta=500_000.0),
    "gemma": of("gemma", GEMMA, rope_theta=None, tie_word_embeddings=None),
    "gemma2": of(
        "gemma2",
        GEMMA2,
        rope_theta=None,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=4.0,
    ),
    "gemma3": of("gemma3_text", GEMMA2, query_pre_attn_scalar=16, num_hidden_layers=7, rope_local_base_freq=100.0),
    "phi3": of("phi3", LLAMA, sliding_window=13),
    "phi3, longrope on a part of each head": of(
        "phi3",
        LLAMA,
        hidden_size=64,
        partial_rotary_factor=0.5,
        rope_scaling={"type": "longrope", "short_factor": [1.0, 1.3, 1.9, 2.5], "long_factor": [1.0, 4.0, 8.0, 16.0]},
        original_max_position_embeddings=48,
        max_position_embeddings=1536,
    ),
    "stablelm": of("stablelm", STABLELM, hidden_size=64, use_qkv_bias=True, rope_theta=None),
    "starcoder2": of("starcoder2", STARCODER2),
    "gpt2": of("gpt2", GPT2),
}


class Official(NamedTuple):
    """transformers' model, and what it makes of `ids`."""

    config: dict[str, Any]
    tensors: dict[str, np.ndarray[Any, np.dtype[np.float32]]]
    ids: Tensor
    logits: Tensor


@functools.cache
@torch.no_grad()
def official(case: str, *, size: int = BYTES) -> Official:
    config = MODELS[case] | {"vocab_size": size}
    theirs = their_model(config)
    random = torch.Generator().manual_seed(0)
    for name, weight in theirs.named_parameters():
        middle = float(weight.ndim == 1 and not name.endswith("bias") and "gemma" not in config["model_type"])
        weight.normal_(middle, 0.3, generator=random)
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory)
        tensors = {n: value.numpy() for n, value in load_file(Path(directory) / "model.safetensors").items()}
    ids = torch.randint(3, size, (2, LENGTH), generator=random)
    return Official(config, tensors, ids, theirs(ids).logits)


def write(path: Path, case: str, **changes: Any) -> Path:
    model = official(case)
    say: Callable[[gguf.GGUFWriter], None] = lambda w: say_bytes(w, "qwen2", size=BYTES)  # noqa: E731
    return write_official(path, model.config, model.tensors, say_vocabulary=say, **changes)


def converted(path: Path, into: Path, **options: Any) -> Path:
    convert_gguf(path, into, events=Events(), **options)
    return into


@pytest.mark.parametrize("case", MODELS)
@torch.no_grad()
def test_a_converted_model_computes_what_transformers_did(case: str, tmp_path: Path) -> None:
    model = official(case)
    into = converted(write(tmp_path / "a.gguf", case), tmp_path / "model")
    assert model.logits.std() > 0.5
    torch.testing.assert_close(dense_logits(read_model(into), model.ids), model.logits, rtol=0, atol=TOLERANCE)
    again = AutoModelForCausalLM.from_pretrained(into, attn_implementation="eager")
    torch.testing.assert_close(again(model.ids).logits, model.logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["llama, biased, tied", "mixtral", "gpt2", "gemma3"])
def test_blocks_of_a_few_rows_give_the_same_bytes(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.gguf", case)
    whole = (converted(path, tmp_path / "whole") / "model.safetensors").read_bytes()
    monkeypatch.setattr(convert, "BLOCK", 100)
    assert (converted(path, tmp_path / "blocks") / "model.safetensors").read_bytes() == whole


def test_the_tokenizer_and_the_ids_with_a_meaning_go_with_the_model(tmp_path: Path) -> None:
    model, pieces = official("llama", size=PIECES), trained(has_space_before=False)
    path = write_official(
        tmp_path / "a.gguf",
        model.config,
        model.tensors,
        say_vocabulary=lambda w: say_pieces(w, pieces, has_space_before=False, size=PIECES),
    )
    into = converted(path, tmp_path / "model")
    text = "sing, goddess,  of the man\n\n of many turns 🚀"
    ids = [1, *pieces.processor.encode(text)]
    assert Tokenizer.load(into).ids(text) == AutoTokenizer.from_pretrained(into)(text)["input_ids"] == ids
    assert read_spec(into).eos == (2,)
    assert stop_tokens(into) == (2, pieces.tokens.index("<end_of_turn>"))
    config = json.loads((into / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert not (into / "chat_template.jinja").exists()
    assert not (into / "manifest.json").exists()


def test_a_chat_template_lies_where_readers_look_for_it(tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    model = official("qwen2")

    def say(writer: gguf.GGUFWriter) -> None:
        say_bytes(writer, "qwen2", size=BYTES)
        writer.add_chat_template(template)

    path = write_official(tmp_path / "a.gguf", model.config, model.tensors, say_vocabulary=say)
    into = converted(path, tmp_path / "model")
    assert (into / "chat_template.jinja").read_text() == template
    assert json.loads((into / "tokenizer_config.json").read_text())["chat_template"] == template


def test_templates_for_other_uses_are_told_of(tmp_path: Path) -> None:
    model, heard = official("qwen2"), list[Event]()

    def say(writer: gguf.GGUFWriter) -> None:
        say_bytes(writer, "qwen2", size=BYTES)
        writer.add_chat_template([{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}])

    path = write_official(tmp_path / "a.gguf", model.config, model.tensors, say_vocabulary=say)
    convert_gguf(path, tmp_path / "model", events=Events(heard.append))
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == "a"
    [warning] = [event.fields["message"] for event in heard if event.kind == "warning"]
    assert "tokenizer.chat_template.tool_use" in warning


def test_a_router_in_full_does_not_widen_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", "mixtral", kind=gguf.GGMLQuantizationType.F16, keep=("ffn_gate_inp",))
    stored = load_file(converted(path, tmp_path / "model") / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}


TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "Q8_0": "bfloat16", "Q4_0": "bfloat16"}


@pytest.mark.parametrize("kind", TYPES)
def test_weights_keep_their_type_and_quantised_ones_become_bfloat16(kind: str, tmp_path: Path) -> None:
    config = of("qwen3", LLAMA, hidden_size=64, intermediate_size=64, head_dim=32, vocab_size=BYTES)
    theirs = their_model(config)
    tensors = {n: v.numpy() for n, v in theirs.state_dict().items()}
    path = write_official(
        tmp_path / "a.gguf",
        config,
        tensors,
        say_vocabulary=lambda w: say_bytes(w, "qwen2", size=BYTES),
        kind=gguf.GGMLQuantizationType[kind],
    )
    into = converted(path, tmp_path / "model")
    stored = load_file(into / "model.safetensors")
    assert {str(value.dtype).removeprefix("torch.") for value in stored.values()} == {TYPES[kind]}
    config = json.loads((into / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == (TYPES[kind],) * 2
    full = load_file(converted(path, tmp_path / "full", dtype="float32") / "model.safetensors")
    for name, value in full.items():
        assert torch.equal(stored[name], value.to(stored[name].dtype))
        np.testing.assert_allclose(value.numpy(), tensors[name], atol=0.15 * np.abs(tensors[name]).max())


def test_what_float16_has_no_room_for_is_refused(tmp_path: Path) -> None:
    model = official("qwen2")
    tensors = model.tensors | {"model.norm.weight": np.full(48, 1e6, np.float32)}
    path = write_official(
        tmp_path / "a.gguf",
        model.config,
        tensors,
        say_vocabulary=lambda w: say_bytes(w, "qwen2", size=BYTES),
        kind=gguf.GGMLQuantizationType.F16,
    )
    with pytest.raises(RhapsodeError, match=r"output_norm\.weight is too large for float16"):
        converted(path, tmp_path / "model")


def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path) -> None:
    heard: list[Event] = []
    convert_gguf(write(tmp_path / "a.gguf", "llama"), tmp_path / "model", events=Events(heard.append))
    steps = [event.fields for event in heard if event.kind == "progress"]
    assert {(step["stage"], step["unit"]) for step in steps} == {("convert", "bytes")}
    assert (steps[0]["done"], steps[-1]["done"]) == (0, steps[-1]["total"])
    assert steps[-1]["total"] == sum(value.nbytes for value in official("llama").tensors.values())


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.pop(name)


def another(name: str, shape: tuple[int, ...]) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: np.ones(shape, np.float32)})


NORM, QUERY = "model.layers.1.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight"
DAMAGED = {
    "a tensor is missing": (without(NORM), "there is no tensor 'blk.1.attn_norm.weight'"),
    "the embedding is missing": (without("model.embed_tokens.weight"), "there is no tensor 'token_embd.weight'"),
    "a tensor is of another shape": (another(NORM, (47,)), "tensor 'blk.1.attn_norm.weight' is [47]; it must be [48]"),
    "a matrix is of another shape": (another(QUERY, (48, 32)), "tensor 'blk.0.attn_q.weight' is [48, 32]"),
    "a tensor is left over": (
        another("model.layers.0.self_attn.q_norm.weight", (12,)),
        "tensors that are not understood for llama: blk.0.attn_q_norm.weight",
    ),
    "a bias that only some have": (another("model.layers.1.mlp.up_proj.bias", (40,)), "blk.1.ffn_up.bias"),
    "numbers that are none": (
        lambda tensors: tensors.update({NORM: np.full(48, np.nan, np.float32)}),
        "tensor 'blk.1.attn_norm.weight' holds infinity or NaN",
    ),
    "fewer rows than tokens": (
        lambda tensors: tensors.update({n: tensors[n][:500] for n in ("model.embed_tokens.weight", "lm_head.weight")}),
        "there are 560 tokens, and the embedding has 500 rows",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_file_that_does_not_hold_the_whole_model_is_refused_by_name(case: str, tmp_path: Path) -> None:
    damage, complaint = DAMAGED[case]
    model = official("llama")
    tensors = dict(model.tensors)
    damage(tensors)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 3)  # it has names for norms of queries too
    path = tmp_path / "a.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "get_tensor_name_map", lambda arch, layers: names)
        write_official(path, model.config, tensors, say_vocabulary=lambda w: say_bytes(w, "qwen2", size=BYTES))
    with pytest.raises(RhapsodeError) as caught:
        converted(path, tmp_path / "model")
    assert complaint in caught.value.message
    assert str(path) in caught.value.message


def test_nothing_is_written_before_the_file_is_understood(tmp_path: Path) -> None:
    model = official("llama")
    path = write_official(
        tmp_path / "a.gguf", model.config, model.tensors, say_vocabulary=lambda w: say_bytes(w, "default", size=BYTES)
    )
    with pytest.raises(RhapsodeError, match=r"tokenizer\.ggml\.pre"):
        converted(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_type_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="weights cannot be written as 'int8'"):
        converted(write(tmp_path / "a.gguf", "llama"), tmp_path / "model", dtype="int8")


@settings(max_examples=60)
@given(data=st.data())
def test_no_change_of_a_few_bytes_brings_anything_but_our_errors(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp()
    whole = directory / "whole.gguf"
    if not whole.exists():
        write(whole, "llama")
    content = bytearray(whole.read_bytes())
    header = content.index(b"token_embd.weight")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, header + 2000))
        content[place] = data.draw(st.integers(0, 255))
    path = directory / "fuzz.gguf"
    path.write_bytes(content)
    with contextlib.suppress(RhapsodeError):
        assert convert_gguf(path, directory / "fuzz", events=Events()) == read_spec(directory / "fuzz")
