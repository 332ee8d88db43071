"""Files that llama.cpp has read: the same models there, and faults that are found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import SENTENCES
from tests.export.conftest import FAMILIES, MANY, ROWS, export, make_model
from tests.export.test_export import left_in
from tests.model.conftest import dense_logits
from tests.weights.conftest import rewrite

from rhapsode.conformance.readers.llamacpp import LlamaCpp, is_installed
from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import writing
from rhapsode.export.gguf import export as export_module
from rhapsode.export.gguf import proof, writer
from rhapsode.export.gguf.distributions import decoder_scores, distance
from rhapsode.export.gguf.encodings import encodings
from rhapsode.export.gguf.export import export_gguf
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, write_model
from rhapsode.weights.gguf import architectures

pytestmark = [pytest.mark.peers, pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_the_same_model_in_llama_cpp(family: str, words_dir: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", FAMILIES[family], words_dir)
    found = export(model, tmp_path / "out", verified=True)
    assert found.proof is not None
    assert found.proof.strings == 2000
    assert found.proof.distance.median < 1e-6
    assert found.proof.cost.median < 1e-6
    assert left_in(tmp_path / "out") == [found.path.name]
    ids = list(range(3, 43))
    expected = dense_logits(read_model(model), torch.tensor([ids]))[0]
    with LlamaCpp(found.path) as reader:
        # llama.cpp has GELU as a table of half precision
        loose = 5e-2 if family.startswith(("gemma", "gpt2", "starcoder2")) else 1e-3
        torch.testing.assert_close(torch.from_numpy(reader.all_scores(ids).copy()), expected, rtol=0, atol=loose)


@pytest.mark.parametrize("encoding", encodings())
def test_every_encoding_is_proven(encoding: str, words_dir: Path, tmp_path: Path) -> None:
    config = FAMILIES["gpt2"] | {"n_embd": 256, "n_inner": 256}
    model = make_model(tmp_path / "model", config, words_dir)
    found = export(model, tmp_path / "out", encoding=encoding, verified=True)
    assert found.proof is not None
    assert not found.fallbacks
    assert found.path.name.endswith(f"-{encoding.upper()}.gguf")
    assert found.proof.distance.median <= proof.BOUNDS.get(encoding.upper(), proof.BLOCK_BOUND)


def test_a_trained_checkpoint_speaks_in_llama_cpp(words_dir: Path, tmp_path: Path) -> None:
    model = _trained(tmp_path / "model", words_dir)
    file = export(model, tmp_path / "out", encoding="f16", verified=True).path
    tokenizer, decoder = Tokenizer.load(model), read_model(model)
    with LlamaCpp(file) as reader:
        for prompt in ("the rhapsode", "a ship came", "seven gates has"):
            ids = tokenizer.ids(prompt)
            ours = list(ids)
            for _ in range(8):
                ours.append(int(dense_logits(decoder, torch.tensor([ours]))[0, -1].argmax()))
            assert reader.encode(prompt) == ids
            assert reader.greedy(ids, 8) == ours[len(ids) :]
        said = tokenizer.decode(reader.greedy(tokenizer.ids("the rhapsode sings"), 16))
    assert said.startswith(" of the wine-dark sea")


def test_conversations_have_the_same_ids(llama_dir: Path, tmp_path: Path) -> None:
    file = export(llama_dir, tmp_path, verified=True).path
    tokenizer = Tokenizer.load(llama_dir)
    messages = [Message(role="user", content="sing"), Message(role="assistant", content="of the sea")]
    with LlamaCpp(file) as reader:
        assert reader.template == tokenizer.chat_template
        for is_asked in (True, False):
            expected = render(messages, tokenizer=tokenizer, add_generation_prompt=is_asked).ids
            assert reader.render(messages, add_generation_prompt=is_asked) == expected
        assert {tokenizer.eos, tokenizer.end_of_turn} <= reader.stops()


Break = Callable[[pytest.MonkeyPatch], None]


def _changed_metadata(**changes: Any) -> Break:
    """A writer that says something else."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        real = export_module.write_gguf

        def write(path: Path, **given: Any) -> None:
            metadata = {**given.pop("metadata"), **changes}
            real(path, metadata={key: value for key, value in metadata.items() if value is not None}, **given)

        patch.setattr(export_module, "write_gguf", write)

    return apply


def _without_changes(patch: pytest.MonkeyPatch) -> None:
    """Numbers as they lie in the directory, wherever a file is written or read."""
    real = architectures.architecture_of
    patch.setattr(architectures, "architecture_of", lambda spec: real(spec)._replace(changes={}))


def _written_without_changes(patch: pytest.MonkeyPatch) -> None:
    def numbers(link: Any, weights: Any, names: Any, *, head_dim: int) -> Any:
        return (weights.tensor(names[name]).float().numpy() for name in link.disk)

    patch.setattr(writer, "_numbers", numbers)


FAULTS: dict[str, tuple[str, Break, str]] = {
    "permutation left out": ("llama", _without_changes, "computes another model"),
    "permutation left out when writing": ("llama", _written_without_changes, r"attn_[qk]\.weight .* is not the tensor"),
    "one left out of Gemma's norms": ("gemma3", _without_changes, "computes another model"),
    "one left out when writing": ("gemma3", _written_without_changes, r"norm\.weight .* is not the tensor"),
    "another bos": ("llama", _changed_metadata(**{"tokenizer.ggml.bos_token_id": 3}), "ours are .0"),
    "no bos": ("llama", _changed_metadata(**{"tokenizer.ggml.add_bos_token": False}), "reads other ids from string 0"),
    "double end": ("llama", _changed_metadata(**{"tokenizer.ggml.add_eos_token": True}), "reads other ids"),
    "no template": ("llama", _changed_metadata(**{"tokenizer.chat_template": None}), "chat template"),
    "another rope base": ("llama", _changed_metadata(**{"llama.rope.freq_base": 2000.0}), "computes another model"),
    "another epsilon": (
        "llama",
        _changed_metadata(**{"llama.attention.layer_norm_rms_epsilon": 0.06}),
        "computes another model",
    ),
    "another window": (
        "gemma3",
        _changed_metadata(**{"gemma3.attention.sliding_window": 10}),
        "computes another model",
    ),
    "a key left out": ("llama", _changed_metadata(**{"llama.block_count": None}), "cannot load .*block_count"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_leaves_no_file(
    fault: str, words_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, apply, message = FAULTS[fault]
    model = make_model(tmp_path / "model", FAMILIES[family], words_dir)
    apply(monkeypatch)
    with pytest.raises(VerificationMismatch, match=message) as found:
        export(model, tmp_path / "out", verified=True)
    assert found.value.exit_code == 5
    assert "no file was left" in found.value.hint
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize("encoding", ["f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("fault", ["permutation left out", "one left out of Gemma's norms", "another rope base"])
def test_rounding_hides_no_fault(
    fault: str, encoding: str, words_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, apply, message = FAULTS[fault]
    model = make_model(tmp_path / "model", FAMILIES[family], words_dir)
    apply(monkeypatch)
    with pytest.raises(VerificationMismatch, match=message):
        export(model, tmp_path / "out", encoding=encoding, verified=True)


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "smollm", "tekken"])
def test_another_way_to_split_text_is_found(
    name: str, many_words_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", FAMILIES["llama"], many_words_dir, rows=MANY)
    assert export(model, tmp_path / "right", verified=True).proof is not None
    monkeypatch.setattr("rhapsode.export.gguf.tokenizer.name_of", lambda _: name)
    with pytest.raises(VerificationMismatch, match=r"reads other ids from string \d+, '.+': from id \d+ on ours"):
        export(model, tmp_path / "wrong", verified=True)
    assert left_in(tmp_path / "wrong") == []


def test_a_window_that_llama_cpp_passes_over_is_found(words_dir: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", FAMILIES["phi3"] | {"sliding_window": 9}, words_dir)
    with pytest.raises(RhapsodeError, match="window|computes another model"):
        export(model, tmp_path / "out", verified=True)
    assert left_in(tmp_path / "out") == []


def test_a_window_beyond_many_tokens_is_compared(words_dir: Path, tmp_path: Path) -> None:
    config = FAMILIES["gemma3"] | {"sliding_window": 700, "max_position_embeddings": 1024}
    heard: list[Event] = []
    model = make_model(tmp_path / "model", config, words_dir)
    found = export_gguf(model, tmp_path / "out", name="m", encoding="f32", events=Events(heard.append))
    assert found.proof is not None
    assert found.proof.distance.median < 1e-6
    assert not [event for event in heard if event.kind == "warning"]
    ids = [3 + index % 200 for index in range(1000)]
    with LlamaCpp(found.path) as reader:  # more than llama.cpp is given at once
        theirs = reader.all_scores(ids, first=480)
        assert theirs.shape == (520, ROWS)
        assert distance([decoder_scores(read_model(model), ids, last=520)], [theirs]).median < 1e-5


def test_a_window_that_is_too_long_to_compare_is_told(words_dir: Path, tmp_path: Path) -> None:
    config = FAMILIES["gemma3"] | {"sliding_window": 2300, "max_position_embeddings": 4096}
    heard: list[Event] = []
    model = make_model(tmp_path / "model", config, words_dir)
    export_gguf(model, tmp_path / "out", name="m", encoding="f32", events=Events(heard.append))
    [warning] = [event.fields["message"] for event in heard if event.kind == "warning"]
    assert warning == "the window of 2300 tokens is not proven: the longest text compared has 2304"


def test_a_merge_that_is_missing_is_found(llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = json.loads((llama_dir / "tokenizer.json").read_text())
    merges = [" ".join(merge) for merge in shape["model"]["merges"]]
    _changed_metadata(**{"tokenizer.ggml.merges": merges[1:]})(monkeypatch)
    with pytest.raises(VerificationMismatch, match="reads other ids from string"):
        export(llama_dir, tmp_path, verified=True)
    assert left_in(tmp_path) == []


def test_a_stop_token_that_llama_cpp_does_not_know_is_told(words_dir: Path, tmp_path: Path) -> None:
    def add(path: Path) -> None:
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 4, 17, 18, 19]}))

    heard: list[Event] = []
    model = rewrite(make_model(tmp_path / "model", FAMILIES["llama"], words_dir), add)
    export_gguf(model, tmp_path / "out", name="m", encoding="f32", events=Events(heard.append))
    [warning] = [event.fields["message"] for event in heard if event.kind == "warning"]
    assert "will not end an answer at" in warning
    tokenizer = Tokenizer.load(model)
    assert all(repr(tokenizer.show(token)) in warning for token in (18, 19))


def test_a_damaged_file_is_an_error_here(llama_dir: Path, tmp_path: Path) -> None:
    whole = export(llama_dir, tmp_path, verified=True).path.read_bytes()
    for name, data in {"cut": whole[: len(whole) // 2], "noise": b"GGUF" + bytes(64), "empty": b""}.items():
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(data)
        with pytest.raises(VerificationMismatch, match=f"llama.cpp cannot load {name}.gguf: .+"):
            LlamaCpp(file)


def test_a_question_that_cannot_be_answered_ends_nothing(llama_dir: Path, tmp_path: Path) -> None:
    with LlamaCpp(export(llama_dir, tmp_path).path) as reader:
        before = reader.all_scores([5, 6, 7])
        with pytest.raises(RhapsodeError, match="cannot read tokens 0 to 1"):
            reader.all_scores([10**6])
        assert (reader.all_scores([5, 6, 7]) == before).all()


def test_what_ends_llama_cpp_is_an_error_here(llama_dir: Path, tmp_path: Path) -> None:
    with LlamaCpp(export(llama_dir, tmp_path).path) as reader:
        reader._process.kill()
        with pytest.raises(VerificationMismatch, match=r"broke off \(signal 9\)"):
            reader.encode("x")


def _trained(path: Path, words_dir: Path) -> Path:
    """A checkpoint that has learned a few sentences by heart."""
    model = read_model(make_model(path.parent / "random", FAMILIES["llama"], words_dir)).train()
    _learn(model, Tokenizer.load(words_dir))
    with writing(path, kind="model") as work:
        weights = [(name, value.detach()) for name, value in model.named_parameters()]
        write_model(work.path, spec=model.spec, weights=weights, tokenizer_dir=words_dir, stops=(4,))
    return path


def _learn(model: Decoder, tokenizer: Tokenizer) -> None:
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(float(value.ndim == 1), 0.05 if value.ndim > 1 else 0.0, generator=random)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = [tokenizer.ids(text)[:48] for text in SENTENCES]
    ids = torch.tensor([row + [tokenizer.eos] * (48 - len(row)) for row in rows])
    given, wanted = ids[:, :-1], ids[:, 1:]
    for _ in range(80):
        attend = DenseAttend(torch.ones_like(given), dtype=torch.float32)
        hidden = model(given, torch.arange(given.shape[1]).expand_as(given), attend=attend)
        loss = torch.nn.functional.cross_entropy(model.logits(hidden).flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
