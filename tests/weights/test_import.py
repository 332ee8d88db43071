"""Model directories that somebody else made: what is taken, what is refused, and why."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import make_decoder, make_spec
from tests.weights.conftest import save_model

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import writing
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import import_directory, load_model, read_model, stop_tokens


@pytest.fixture
def model(tokenizer: Tokenizer) -> Decoder:
    return make_decoder(make_spec(vocab_size=tokenizer.vocab_size + 20), dtype=torch.bfloat16)


@pytest.fixture
def source(model: Decoder, tokenizer_dir: Path, tmp_path: Path) -> Path:
    """As a publisher leaves it: no manifest."""
    path = save_model(tmp_path / "source", model, tokenizer_dir)
    (path / "manifest.json").unlink()
    return path


def take(source: Path, **options: Any) -> tuple[Path, list[Event]]:
    heard: list[Event] = []
    into = source.parent / "taken"
    into.mkdir()
    import_directory(source, into, events=Events(heard.append), **options)
    return into, heard


def warnings(heard: list[Event]) -> list[str]:
    return [event.fields["message"] for event in heard if event.kind == "warning"]


def edit_json(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**found, **values}.items() if value is not None}))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


def same(one: Decoder, other: Decoder) -> bool:
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(name == other_name and torch.equal(a, b) for (name, a), (other_name, b) in pairs)


def test_a_model_is_taken_as_it_is_and_told_of(model: Decoder, source: Path) -> None:
    into, heard = take(source)
    assert same(read_model(into, dtype=torch.bfloat16), model)
    assert warnings(heard) == []
    for stage in ("check", "copy"):
        told = [event.fields for event in heard if event.fields["stage"] == stage]
        assert told[0]["done"] == 0
        assert told[-1]["done"] == told[-1]["total"] > 0
        assert told[-1]["unit"] == "bytes"


def test_it_loads_once_its_maker_has_added_the_manifest(model: Decoder, source: Path) -> None:
    with writing(source.parent / "whole", kind="model") as work:
        spec = import_directory(source, work.path, events=Events())
    assert spec == model.spec
    assert same(load_model(source.parent / "whole", dtype=torch.bfloat16), model)


def test_weights_are_linked_and_all_else_is_copied(source: Path) -> None:
    into, _ = take(source)
    linked = {path.name for path in into.iterdir() if path.stat().st_ino == (source / path.name).stat().st_ino}
    assert linked == {"model.safetensors"}


def test_what_cannot_be_linked_is_copied(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    into, heard = take(source)
    name = "model.safetensors"
    assert (into / name).stat().st_ino != (source / name).stat().st_ino
    assert (into / name).read_bytes() == (source / name).read_bytes()
    assert [event.fields["done"] for event in heard if event.fields["stage"] == "copy"][-1] > 0


def test_weights_of_another_owner_are_copied(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    into, _ = take(source)
    assert (into / "model.safetensors").stat().st_ino != (source / "model.safetensors").stat().st_ino


def test_a_link_that_its_other_owner_writes_into_is_found_by_the_manifest(source: Path) -> None:
    with writing(source.parent / "whole", kind="model") as work:
        import_directory(source, work.path, events=Events())
    with (source / "model.safetensors").open("r+b") as out:
        out.seek(-2, os.SEEK_END)
        out.write(b"xx")
    with pytest.raises(VerificationMismatch, match=r"model\.safetensors has changed"):
        load_model(source.parent / "whole")


def test_a_snapshot_of_a_hub_cache_is_made_of_links_to_blobs(model: Decoder, source: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots"
    source.rename(blobs)
    snapshot.mkdir()
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    into, _ = take(snapshot)
    assert same(read_model(into, dtype=torch.bfloat16), model)
    assert not any(path.is_symlink() for path in into.iterdir())


class Trap:
    """Unpickled, it would make a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"mkdir {self.path}",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl"])
def test_a_pickle_is_refused_with_the_way_out_and_never_opened(name: str, source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for read in (take, read_model):
        with pytest.raises(RhapsodeError, match=f"{name}, a pickle: to read one is to run") as caught:
            read(source)
        assert "safe_serialization=True" in caught.value.hint
    assert not (tmp_path / "sprung").exists()


def test_pickles_beside_safetensors_stay_behind_and_that_is_said(source: Path, tmp_path: Path) -> None:
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    (source / "consolidated.safetensors").write_bytes(b"the same again")
    (source / "modeling.py").write_text("raise SystemExit")
    into, heard = take(source)
    [message] = warnings(heard)
    assert message.endswith("left behind and never opened: consolidated.safetensors, modeling.py, pytorch_model.bin")
    assert {"pytorch_model.bin", "modeling.py"}.isdisjoint(path.name for path in into.iterdir())
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_is_refused_by_name(name: str, source: Path) -> None:
    (source / name).write_text("{}")
    with pytest.raises(RhapsodeError, match=f"holds an adapter \\({name}\\)"):
        take(source)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused_or_taken_with_a_warning(
    value: float, dtype: torch.dtype, source: Path
) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: value_there.to(dtype) for name, value_there in tensors.items()}
        tensors["model.norm.weight"][-1] = value
        tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = value

    edit_weights(source, spoil)
    what = r"infinite or no number: model\.layers\.1\.mlp\.down_proj\.weight, model\.norm\.weight"
    into = source.parent / "taken"
    with pytest.raises(RhapsodeError, match=what):
        take(source)
    into.rmdir()  # nothing was put there
    _, heard = take(source, allow_not_finite=True)
    assert [message.partition(" has weights that are ")[2][:22] for message in warnings(heard)] == [
        "infinite or no number:"
    ]


def test_mixed_types_are_taken_as_they_are(model: Decoder, source: Path) -> None:
    def mix(tensors: dict[str, torch.Tensor]) -> None:
        for name, dtype in zip(sorted(tensors), [torch.float32, torch.float16, torch.float64] * 99, strict=False):
            tensors[name] = tensors[name].to(dtype)

    edit_weights(source, mix)
    assert same(read_model(take(source)[0]), model.float())


def test_quantised_weights_are_refused_by_name(source: Path) -> None:
    edit_weights(source, lambda t: t.update({"model.norm.weight": t["model.norm.weight"].to(torch.float8_e4m3fn)}))
    with pytest.raises(RhapsodeError, match=r"model\.norm\.weight is of the type F8_E4M3"):
        take(source)


def test_a_tied_head_that_is_there_must_be_the_embedding(model: Decoder, source: Path) -> None:
    edit_weights(source, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    into, _ = take(source)
    assert same(read_model(into, dtype=torch.bfloat16), model)
    edit_weights(source, lambda t: t["lm_head.weight"][-1].neg_())
    (into / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    with pytest.raises(RhapsodeError, match=r"lm_head\.weight is not the embedding"):
        read_model(into)
    with pytest.raises(RhapsodeError, match=r"lm_head\.weight is not the embedding"):
        import_directory(source, into, events=Events())


@pytest.mark.parametrize("extra", ["rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq"])
def test_what_follows_from_the_config_may_lie_there_too(extra: str, model: Decoder, source: Path) -> None:
    edit_weights(source, lambda t: t.update({extra: torch.ones(4)}))
    assert same(read_model(take(source)[0], dtype=torch.bfloat16), model)


@pytest.mark.parametrize(
    "extra", ["model.layers.0.self_attn.q_proj.bias", "model.layers.2.mlp.up_proj.weight", "inv_freq"]
)
def test_anything_else_is_refused_by_name(extra: str, source: Path) -> None:
    edit_weights(source, lambda t: t.update({extra: torch.ones(4)}))
    with pytest.raises(RhapsodeError, match=f"does not explain: {extra}"):
        take(source)


GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 320,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 16,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def test_gpt2_as_it_was_published_has_shorter_names_and_masks(tokenizer_dir: Path, tmp_path: Path) -> None:
    model = make_decoder(spec_from_config(GPT2))
    source = save_model(tmp_path / "source", model, tokenizer_dir)

    def as_published(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 16, 16)
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    edit_weights(source, as_published)
    assert same(read_model(take(source)[0]), model)


def test_a_model_without_layers_of_its_config_is_refused(source: Path) -> None:
    edit_json(source / "config.json", num_hidden_layers=3)
    with pytest.raises(RhapsodeError, match=r"lacks model\.layers\.2\."):
        take(source)


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 10_000}, {"num_hidden_layers": 10**9}, {"hidden_size": 2**30}]
)
def test_a_config_may_promise_what_no_memory_holds(changes: dict[str, int], source: Path) -> None:
    edit_json(source / "config.json", **changes)
    with pytest.raises(RhapsodeError, match=r"config\.json"):
        take(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[" * 100_000),
        ("config.json", b" " * (2 << 20)),
        ("config.json", b'{"model_type": "qwen3", "model_type": "llama"}'),
        ("config.json", b"\xff\xfe"),
        ("generation_config.json", b'{"eos_token_id": "1"}'),
        ("generation_config.json", b'{"eos_token_id": [true]}'),
        ("generation_config.json", b'{"eos_token_id": -1}'),
        ("generation_config.json", b"nothing"),
        ("tokenizer_config.json", b'{"chat_template": 3}'),
        ("tokenizer_config.json", b'{"chat_template": [{"name": "other", "template": "x"}]}'),
        ("chat_template.jinja", b"\xff"),
        ("chat_template.jinja", b"x" * (2 << 20)),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, source: Path) -> None:
    (source / name).write_bytes(content)
    with pytest.raises(RhapsodeError, match=name.replace(".", r"\.")):
        take(source)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, source: Path) -> None:
    (source / name).unlink()
    with pytest.raises(RhapsodeError, match=name.replace(".", r"\.")):
        take(source)


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="does not exist"):
        take(tmp_path / "nowhere")


def test_a_vocabulary_may_be_padded_and_never_cut(tokenizer: Tokenizer, source: Path) -> None:
    rows = tokenizer.vocab_size + 20
    into, _ = take(source)
    assert json.loads((into / "config.json").read_text())["vocab_size"] == rows
    edit_json(source / "config.json", vocab_size=tokenizer.vocab_size - 1)
    edit_weights(source, lambda t: t.update({"model.embed_tokens.weight": torch.zeros(tokenizer.vocab_size - 1, 32)}))
    with pytest.raises(RhapsodeError, match=f"tokenizer has {tokenizer.vocab_size} tokens, the model"):
        import_directory(source, into, events=Events())


@pytest.mark.parametrize("ends", [5, [5], [7, 5]])
def test_the_ends_of_a_generation_are_one_id_or_several(ends: Any, source: Path) -> None:
    edit_json(source / "generation_config.json", eos_token_id=ends, top_k=64)
    into, _ = take(source)
    assert stop_tokens(into) == tuple(ends if isinstance(ends, list) else [ends])
    assert json.loads((into / "generation_config.json").read_text())["top_k"] == 64


def test_without_a_generation_config_the_ends_are_those_of_the_config(source: Path) -> None:
    (source / "generation_config.json").unlink()
    into, _ = take(source)
    assert stop_tokens(source) == stop_tokens(into) == (1,)
    assert json.loads((into / "generation_config.json").read_text()) == {
        "bos_token_id": 0,
        "pad_token_id": 2,
        "eos_token_id": [1],
    }


def templates(directory: Path) -> tuple[str, str]:
    inside = json.loads((directory / "tokenizer_config.json").read_text()).get("chat_template")
    return (directory / "chat_template.jinja").read_bytes().decode(), inside


TEMPLATE = "{% for m in messages %}\r\n{{ m.content }} é{% endfor %}"


@pytest.mark.parametrize(
    "inside", [TEMPLATE, [{"name": "tools", "template": "t"}, {"name": "default", "template": TEMPLATE}]]
)
def test_a_template_in_the_older_place_gets_a_file(inside: Any, source: Path) -> None:
    (source / "chat_template.jinja").unlink()
    edit_json(source / "tokenizer_config.json", chat_template=inside)
    into, heard = take(source)
    assert templates(into) == (TEMPLATE, TEMPLATE)
    assert [message.endswith("not used: tools") for message in warnings(heard)] == [True] * isinstance(inside, list)


def test_a_template_in_a_file_is_written_into_the_older_place(source: Path) -> None:
    (source / "chat_template.jinja").write_bytes(TEMPLATE.encode())
    edit_json(source / "tokenizer_config.json", chat_template=None, model_max_length=77)
    into, heard = take(source)
    assert templates(into) == (TEMPLATE, TEMPLATE)
    assert json.loads((into / "tokenizer_config.json").read_text())["model_max_length"] == 77
    assert warnings(heard) == []


def test_of_two_templates_the_file_wins_aloud(source: Path) -> None:
    edit_json(source / "tokenizer_config.json", chat_template="another")
    (source / "chat_template.jinja").write_bytes(TEMPLATE.encode())
    into, heard = take(source)
    assert templates(into) == (TEMPLATE, TEMPLATE)
    assert ["differ; the first is used" in message for message in warnings(heard)] == [True]


def test_a_model_without_a_template_stays_without_one(source: Path) -> None:
    (source / "chat_template.jinja").unlink()
    edit_json(source / "tokenizer_config.json", chat_template=None)
    into, _ = take(source)
    assert not (into / "chat_template.jinja").exists()
    assert "chat_template" not in json.loads((into / "tokenizer_config.json").read_text())


def test_the_licence_goes_where_the_model_goes(source: Path) -> None:
    (source / "LICENSE").write_text("terms")
    (source / "NOTICE.txt").write_text("notice")
    into, _ = take(source)
    assert (into / "LICENSE").read_text() == "terms"
    assert (into / "NOTICE.txt").read_text() == "notice"
