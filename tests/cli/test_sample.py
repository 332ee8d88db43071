"""`rhapsode sample`: a model's own texts, as a file that a recipe learns beside its examples."""

import json
from pathlib import Path

import pytest
from tests.recipe.bases import make_base

from rhapsode.cli.app import run

RECIPE = """
task: {name: kept}
data:
  examples:
    - {path: asked.jsonl}
    - {path: own.jsonl, split: train, licence: MIT}
  split: {validation: 0.2}
model: {base: base, context: 64}
train: {budget: 2 steps, batch_tokens: 128, precision: fp32, adapter: {rank: 4}}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("sampled") / "base", "qwen2")


def sampled(base: Path, to: Path, *options: str) -> list[dict[str, object]]:
    assert run(["sample", str(base), "--texts", "12", "--max-tokens", "9", "--to", str(to), *options]) == 0
    return [json.loads(line) for line in to.read_text().splitlines()]


def test_the_same_seed_writes_the_same_texts(base: Path, tmp_path: Path) -> None:
    first, again, other = (
        sampled(base, tmp_path / f"{number}.jsonl", "--seed", seed) for number, seed in enumerate("778")
    )
    assert first == again
    assert not {row["text"] for row in first} & {row["text"] for row in other}
    assert 4 <= len({row["text"] for row in first}) <= 12
    assert any(row.get("is_cut") for row in first)
    more = tmp_path / "more.jsonl"
    assert run(["sample", str(base), "--texts", "20", "--max-tokens", "9", "--to", str(more), "--seed", "7"]) == 0
    assert [json.loads(line) for line in more.read_text().splitlines()][: len(first)] == first


def test_a_recipe_learns_them_beside_its_examples(base: Path, tmp_path: Path) -> None:
    texts = sampled(base, tmp_path / "own.jsonl")
    rows = [{"prompt": f"Which colour has ship {number}?", "completion": " red"} for number in range(20)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "base").symlink_to(base)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert run(["plan", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 0
    (report,) = (tmp_path / "out" / "corpus").glob("*/report.json")
    by_file = {one["file"]: one for one in json.loads(report.read_text())["examples"]}
    assert by_file["own.jsonl"]["shape"] == "text"
    assert by_file["own.jsonl"]["rows"] == len(texts)


def test_a_file_that_is_there_is_not_written_over(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text("mine")
    assert run(["sample", str(base), "--to", str(kept)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert run(["sample", str(base), "--texts", "0", "--to", str(tmp_path / "new.jsonl")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.jsonl"]
    assert kept.read_text() == "mine"
