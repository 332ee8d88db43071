"""`rhapsode new`: a folder that works as it is, made whole or not at all."""

import errno
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from rhapsode.catalogue.models import CATALOGUE
from rhapsode.cli.app import make_app, run
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.yaml import read_yaml
from rhapsode.corpus.examples.validate import validate
from rhapsode.tasks.pack import Pack
from rhapsode.tasks.project import BASE, new_project
from rhapsode.tasks.registry import PACKS, pack_named

FILES = [".gitignore", "README.md", "data/train.jsonl", "recipe.yaml"]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def as_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_project_has_all_that_its_recipe_names(pack: Pack, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", pack.name, "--json"]) == 0
    told = as_json(capsys)
    assert told == {
        "kind": pack.name,
        "directory": pack.name,
        "files": FILES,
        "rows": pack.num_rows,
        "base": BASE,
        "base_is_here": False,
    }
    assert files_below(here) == [f"{pack.name}/{name}" for name in FILES]
    recipe = read_yaml((here / pack.name / "recipe.yaml").read_text(encoding="utf-8"), name="recipe.yaml").value
    [source] = recipe["data"]["examples"]
    found = validate(here / pack.name / source["path"], shape=source["shape"], templates=source.get("templates"))
    assert found.num_examples == pack.num_rows
    assert recipe["evaluate"]["task"]["scorers"] == list(pack.scorers)
    assert recipe["task"]["prompts"] == list(pack.prompts)
    assert recipe["model"]["base"] in CATALOGUE


def test_the_page_has_the_steps_the_risk_and_commands_that_parse(pack: Pack, tmp_path: Path) -> None:
    new_project(pack, tmp_path / "x")
    page = (tmp_path / "x" / "README.md").read_text(encoding="utf-8")
    for part in (pack.purpose, pack.risk, pack.review, pack.checks, pack.own_rows, *pack.scorers):
        assert part in page
    commands = [line[2:] for line in page.splitlines() if line.startswith("$ ")]
    assert [command.split()[1] for command in commands] == ["models", "plan", "run", "chat", "serve"]
    for command in commands:
        make_app().parse_args(shlex.split(command, comments=True)[1:], exit_on_error=False, print_error=False)
    row = page.partition("```json\n")[2].partition("```")[0]
    rows = (tmp_path / "x" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(row) in [json.loads(line) for line in rows]


def test_two_projects_of_a_kind_are_the_same_bytes(pack: Pack, tmp_path: Path) -> None:
    for name in ("a", "b"):
        new_project(pack, tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_a_kind_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new"]) == 0
    shown = capsys.readouterr().out
    assert run(["new", "--json"]) == 0
    kinds = {kind["name"]: kind for kind in as_json(capsys)["kinds"]}
    assert list(kinds) == list(PACKS)
    for name, kind in kinds.items():
        assert f"{name} " in shown
        assert kind["line"] in shown
        assert kind["risk"] == pack_named(name).risk


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["clasify"], 2, "no kind of project called 'clasify'", "did you mean classify?"),
        (["--base", "gpt2"], 2, "--base needs a kind of project", "lists them"),
        (["draft", "x", "--base", "gemma-3-270"], 1, "gemma-3-270 is neither", "did you mean gemma-3-270m"),
        (["draft", "x", "--base", "."], 1, ". holds no model", "config.json"),
        (["draft", "full"], 1, "full is not empty: a.txt", "another folder"),
        (["draft", "full/a.txt"], 1, "full/a.txt is no folder", "another"),
        (["draft", "full/a.txt/x"], 1, "full/a.txt/x could not be made: Not a directory", "another folder"),
    ],
)
def test_what_cannot_be_made_is_refused_with_advice(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str, hint: str
) -> None:
    (here / "full").mkdir()
    (here / "full" / "a.txt").write_text("mine", encoding="utf-8")
    assert run(["new", *arguments, "--json"]) == code
    error = as_json(capsys)["error"]
    assert message in error["message"]
    assert hint in error["hint"]
    assert files_below(here) == ["full/a.txt"]
    assert (here / "full" / "a.txt").read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_and_the_one_that_one_is_in_will_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "code", "."]) == 0
    assert files_below(here) == FILES
    assert "cd " not in capsys.readouterr().out
    (here / "out").mkdir()
    assert run(["new", "code", "out", "--base", "smollm2-135m"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:] == [
        "cd out",
        "rhapsode models pull smollm2-135m",
        "rhapsode plan recipe.yaml",
        "rhapsode run recipe.yaml",
    ]


def test_a_model_directory_is_named_so_that_it_is_found_from_anywhere(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "config.json").write_text("{}", encoding="utf-8")
    made = new_project(pack_named("code"), Path("p"), base="mine")
    assert made.base == (str(here / "mine"), True)
    recipe = read_yaml((here / "p" / "recipe.yaml").read_text(encoding="utf-8"), name="r").value
    assert recipe["model"]["base"] == str(here / "mine")
    assert "models pull" not in (here / "p" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("last", ["train.jsonl", "recipe.yaml", "data", "README.md"])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, is_there: bool
) -> None:
    place = tmp_path / "p"
    if is_there:
        place.mkdir()
    original = Path.write_text, Path.rename

    def write(path: Path, *arguments: Any, **more: Any) -> int:
        if path.name == last and last != "data":
            raise OSError(errno.ENOSPC, "No space left on device")
        return original[0](path, *arguments, **more)

    def rename(path: Path, target: Path) -> Path:
        if path.name == last:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original[1](path, target)

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(RhapsodeError, match="could not be made: No space left on device"):
        new_project(pack_named("code"), place)
    assert list(tmp_path.iterdir()) == ([place] if is_there else [])
    assert not is_there or not list(place.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".p.999999999.partial"
    left.mkdir()
    (left / "recipe.yaml").write_text("half", encoding="utf-8")
    new_project(pack_named("code"), tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
