"""`rhapsode merge`: a model of several, asked as the first of them is, with evidence of its own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.bases import make_base

from rhapsode.cli.app import run
from rhapsode.core.manifest import read_manifest

ASKED = {"objective": "sft", "chat": True, "licence": "MIT"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned model, another one, what both were made from, and a model of another shape."""
    folder = tmp_path_factory.mktemp("merged")
    make_base(folder / "tuned", "qwen2", seed=1, facts=ASKED)
    make_base(folder / "other", "qwen2", seed=2, facts={"licence": "apache-2.0"})
    make_base(folder / "base", "qwen2", facts={"licence": "apache-2.0"})
    make_base(folder / "strange", "gemma3_text")
    return folder


def merged(folder: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    told = [str(folder / word) if (folder / word).is_dir() else word for word in words]
    assert run(["merge", *told, "--out", str(folder / "out"), "--json"]) == code
    said = capsys.readouterr()
    return said.err if code else json.loads(said.out)["path"]


def weights(directory: str | Path) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in load_file(Path(directory) / "model.safetensors").items()}


def test_a_tuned_model_and_its_base_give_one_between_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = merged(folder, capsys, "tuned", "base", "--share", "0.75", "--share", "0.25")
    assert Path(path) == folder / "out" / "merged" / "tuned-and-base-linear-shares-0.75-0.25"
    found, tuned, base = map(weights, (path, folder / "tuned", folder / "base"))
    for name, value in found.items():
        torch.testing.assert_close(value, 0.75 * tuned[name] + 0.25 * base[name], rtol=2**-7, atol=1e-6)
    facts = read_manifest(Path(path)).facts
    assert {key: facts[key] for key in ("objective", "chat")} == {"objective": "sft", "chat": True}
    assert facts["licence"] == "MIT and apache-2.0"
    card = (Path(path) / "README.md").read_text()
    assert "linear (shares 0.75 0.25)" in card
    assert "tuned (licence: MIT" in card
    assert str(folder) not in card
    assert run(["verify", path]) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--method", "slerp", "--share", "1", "--share", "3"), {"method": "slerp", "way": 0.75}),
        (("--method", "ties", "--base", "base", "--density", "0.5", "--scale", "0.8"), {"density": 0.5, "scale": 0.8}),
        (("--method", "dare", "--base", "base", "--seed", "3"), {"density": 0.5, "seed": 3}),
    ],
)
def test_every_method_is_within_reach(
    options: tuple[str, ...], told: dict[str, object], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_manifest(Path(merged(folder, capsys, "tuned", "other", *options))).facts["merged"]
    assert found.items() >= told.items()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tuned",), "merging begins with two models"),
        (("tuned", "base", "--share", "1"), "2 models are named, and linear is told of 1"),
        (("tuned", "base", "--method", "slerp", "--density", "0.5"), "slerp has no use for --density"),
        (("tuned", "other", "base", "--method", "slerp"), "slerp goes from one model to another"),
        (("tuned", "other", "--method", "ties"), "ties needs the base"),
        (("tuned", "other", "--base", "base"), "linear has no use for a base"),
        (("tuned", "strange"), "is not of the shape of"),
        (("tuned", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_merged_is_refused_and_nothing_is_written(
    words: tuple[str, ...], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert said in merged(folder, capsys, *words, code=1)
    assert sorted(folder.rglob("*")) == before
