"""Models together: tensor by tensor from directories to a directory, or a refusal that says why."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import SENTENCES, make_decoder, make_spec
from tests.weights.conftest import flip_a_bit, rewrite, save_model
from transformers import AutoModelForCausalLM

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import digest, verify
from rhapsode.text.tokenizer import train_tokenizer
from rhapsode.weights.directory import load_model
from rhapsode.weights.merge.methods import Dare, Linear, Method, Slerp, Ties
from rhapsode.weights.merge.models import merge_models

SPEC = make_spec(vocab_size=320, tied=False)
METHODS: dict[str, Method] = {
    "linear": Linear((0.25, 0.75)),
    "slerp": Slerp(0.4),
    "ties": Ties((1.0, 0.5), density=0.3),
    "dare": Dare((0.6, 0.4), density=0.5, seed=7),
}


@pytest.fixture
def models(tokenizer_dir: Path, tmp_path: Path) -> list[Path]:
    """Two models and their base, in several files each."""
    return [
        save_model(tmp_path / name, make_decoder(SPEC, seed=seed), tokenizer_dir, max_shard_bytes=20_000)
        for seed, name in enumerate(("one", "other", "base"))
    ]


def tensors_of(directory: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in directory.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("name", METHODS)
def test_every_tensor_on_disk_is_merged_by_itself(name: str, models: list[Path], tmp_path: Path) -> None:
    method, (one, other, base) = METHODS[name], models
    given = base if method.needs_base else None
    out = merge_models([one, other], tmp_path / "merged", method=method, base=given, dtype=torch.float32)
    found, first, second, start = map(tensors_of, (out, one, other, base))
    assert found.keys() == first.keys()
    for key, value in found.items():
        expected = method.merge(key, [first[key], second[key]], start[key] if given else None)
        assert torch.equal(value, expected), key
    manifest = verify(out)
    inputs = {"model 1": digest(one), "model 2": digest(other)}
    assert manifest.inputs == (inputs | {"base": digest(base)} if given else inputs)
    assert manifest.facts["merged"]["method"] == name
    again = merge_models([one, other], tmp_path / "again", method=method, base=given, dtype=torch.float32)
    assert digest(again) == digest(out)


def test_what_was_merged_is_a_model_like_any_other(models: list[Path], tmp_path: Path) -> None:
    out = merge_models(models[:2], tmp_path / "merged", method=METHODS["linear"], max_shard_bytes=10_000)
    ours = load_model(out)
    theirs = AutoModelForCausalLM.from_pretrained(out)
    assert theirs.dtype == torch.bfloat16
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [1, 4]


def test_a_mean_of_equals_is_what_they_are(models: list[Path], tmp_path: Path) -> None:
    out = merge_models([models[0]] * 2, tmp_path / "merged", method=Linear((1.0, 1.0)), dtype=torch.float32)
    expected = tensors_of(models[0])
    assert all(torch.equal(value, expected[name]) for name, value in tensors_of(out).items())


def test_models_may_differ_in_their_reach_and_their_ends(tokenizer_dir: Path, tmp_path: Path) -> None:
    longer = make_spec(vocab_size=320, tied=False, context=128)
    paths = [
        save_model(tmp_path / name, make_decoder(spec), tokenizer_dir) for name, spec in (("a", SPEC), ("b", longer))
    ]
    merge_models(paths, tmp_path / "merged", method=Linear((1.0, 1.0)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"ffn": 64}, "layers"), ({"rope_theta": 5.0}, "layers"), ({"tied": True}, "tied"), ({"width": 64}, "width")],
)
def test_models_of_other_shapes_are_refused(
    changes: dict[str, int], words: str, models: list[Path], tokenizer_dir: Path, tmp_path: Path
) -> None:
    spec = make_spec(**{"vocab_size": 320, "tied": False, **changes})  # type: ignore[arg-type]
    other = save_model(tmp_path / "odd", make_decoder(spec), tokenizer_dir)
    with pytest.raises(RhapsodeError, match=f"odd is not of the shape of .*one: .* differ in .*{words}"):
        merge_models([models[0], other], tmp_path / "merged", method=Linear((1.0, 1.0)))
    assert not (tmp_path / "merged").exists()


def test_models_of_other_vocabularies_are_refused(models: list[Path], tmp_path: Path) -> None:
    train_tokenizer(SENTENCES[::-1][:2], vocab_size=290).save(tmp_path / "words")
    other = save_model(tmp_path / "odd", make_decoder(SPEC), tmp_path / "words")
    with pytest.raises(RhapsodeError, match="odd has another vocabulary than .*one: the token"):
        merge_models([models[0], other], tmp_path / "merged", method=Linear((1.0, 1.0)))


@pytest.mark.parametrize(
    ("count", "has_base", "name", "words"),
    [
        (1, False, "linear", "1 models are named, and linear is told of 2"),
        (3, False, "slerp", "3 models are named, and slerp is told of 2"),
        (2, False, "ties", "ties needs the base"),
        (2, True, "slerp", "slerp has no use for a base"),
    ],
)
def test_too_many_or_too_few_are_refused(
    count: int, has_base: bool, name: str, words: str, models: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(RhapsodeError, match=words):
        merge_models(models[:count], tmp_path / "merged", method=METHODS[name], base=models[2] if has_base else None)


def test_a_source_that_has_changed_leaves_nothing(models: list[Path], tmp_path: Path) -> None:
    flip_a_bit(min(models[1].glob("model-*")))
    with pytest.raises(VerificationMismatch, match="other.*has changed"):
        merge_models(models[:2], tmp_path / "merged", method=METHODS["linear"])
    assert not (tmp_path / "merged").exists()


def test_numbers_that_are_none_are_refused_by_name(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match=r"merged, model\..* infinite or none"):
        merge_models(models[:2], tmp_path / "merged", method=Linear((3e38, 3e38), is_mean=False))
    assert not (tmp_path / "merged").exists()


def test_a_licence_goes_where_the_model_goes(models: list[Path], tmp_path: Path) -> None:
    licensed = rewrite(models[1], lambda path: (path / "LICENSE").write_text("ours"))
    out = merge_models([models[0], licensed], tmp_path / "merged", method=METHODS["linear"])
    assert (out / "LICENSE").read_text() == "ours"
