import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from rhapsode.cli.app import TRACEBACK, VERBS, make_app, run

HEAVY = ("torch", "numpy", "pyarrow", "tokenizers", "pydantic", "matplotlib", "fastapi")
SHARED = {
    *("--set", "--out", "--json", "--resume", "--watch", "--launch", "--submit"),
    *("--host", "--port", "--model", "--before"),
}


def rhapsode(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rhapsode", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


def verb(name: str) -> App:
    return make_app()[name]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["serve", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    script = f"""
import sys
from rhapsode.cli.app import run
code = run({arguments!r})
print("loaded:", [name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "loaded: [] 0"


def test_recipes_load_without_torch():
    script = "import sys, rhapsode.recipe.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_lists_verbs_and_exit_codes(capsys):
    assert run(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, sentence in VERBS.items():
        assert name in text
        assert sentence in text
    for code in (
        "0 ok",
        "1 error",
        "2 usage",
        "3 plan refused",
        "4 gate not passed",
        "5 verification",
        "130 interrupted",
    ):
        assert code in text


@pytest.mark.parametrize("name", VERBS)
def test_verbs_have_few_options_with_the_same_names(name):
    arguments = verb(name).assemble_argument_collection(parse_docstring=True)
    options = {argument.name for argument in arguments if argument.name.startswith("--")}
    assert len(options) <= 8
    assert "--json" in options
    assert all(argument.parameter.help for argument in arguments), "every argument is explained"
    if "RECIPE" in {argument.name for argument in arguments}:
        assert options <= SHARED


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name, capsys):
    assert run([name, "--help"]) == 0
    assert f"Usage: rhapsode {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["doctor", "--outt", "x"], "Did you mean --out?"),
        (["doctr"], 'Did you mean "doctor"?'),
        (["serve", "x", "--port", "many"], "--port"),
        (["run"], "RECIPE"),
        (["schema", "extra"], "extra"),
        (["serve", "x", "--port", "99999"], "--port: port: 99999"),
        (["chat", "x", "--json"], "--json needs --prompt"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_was_meant(arguments, words, capsys):
    assert run(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert words in shown
    assert "hint: " in shown or "--port: port" in shown
    assert "Traceback" not in shown


def test_mistakes_in_recipes_exit_2_with_file_line_and_key(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task:\n  name: x\n  porpoise: y\ndata:\n  source: z\n", encoding="utf-8")
    assert run(["prepare", str(recipe), "--out", str(tmp_path / "out"), "--json"]) == 2
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert error["exit_code"] == 2
    assert error["message"].splitlines()[0] == (
        f"{recipe}:3: task.porpoise: unknown key 'porpoise'; did you mean 'purpose'?"
    )
    assert [line.split(": ")[0].strip() for line in shown.err.splitlines()][:1] == ["error"]
    assert len(shown.err.splitlines()) == len(error["message"].splitlines()) == 2
    assert not (tmp_path / "out").exists()


def test_brackets_in_messages_are_not_markup(tmp_path, capsys):
    assert run(["prepare", str(tmp_path / "[red]x.yaml")]) == 2
    assert "[red]x.yaml does not exist" in capsys.readouterr().err


def test_defects_are_one_line_and_say_how_to_see_more(monkeypatch, capsys):
    def broken():
        raise KeyError("inside")

    monkeypatch.setattr("rhapsode.recipe.recipe.recipe_schema", broken)
    assert run(["schema"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: unexpected KeyError: 'inside'\n")
    assert f"{TRACEBACK}=1" in shown
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(KeyError):
        run(["schema"])


def test_an_interrupt_exits_130(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("rhapsode.recipe.recipe.recipe_schema", interrupt)
    assert run(["schema"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m rhapsode schema | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("environment", "has_colour"), [({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False), ({}, False)]
)
def test_colours_follow_the_environment(environment, has_colour):
    assert ("\x1b[" in rhapsode("schema", "--nope", **environment).stderr) is has_colour


def test_long_messages_are_not_wrapped_in_a_file(tmp_path):
    path = tmp_path / ("long-" * 40) / "recipe.yaml"
    assert f"error: {path} does not exist" in rhapsode("plan", str(path)).stderr.splitlines()


def test_the_schema_is_printed_for_people_and_for_programs(capsys):
    assert run(["schema"]) == 0
    pretty = capsys.readouterr().out
    assert run(["schema", "--json"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == json.loads(pretty)


def test_the_doctor_looks_and_measures(tmp_path, capsys):
    assert run(["doctor", "--json", "--out", str(tmp_path / "not" / "there")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["threads"] >= 1
    assert 0 < found["machine"]["memory_available"] <= found["machine"]["memory"]
    assert found["machine"]["disk_free"] > 0
    assert found["torch"]["peak_flops"]["fp32"] > 1e8
    assert found["packages"]["base"]["torch"]["installed"]
    assert not (tmp_path / "not").exists()


def test_the_doctor_names_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("rhapsode.cli.verbs.doctor._version", lambda package: None if package == "openai" else "1.0")
    assert run(["doctor"]) == 0
    assert "test: not installed: openai; pip install 'rhapsode[test]'" in capsys.readouterr().out


def write_recipe(folder: Path) -> Path:
    (folder / "texts").mkdir()
    for number in range(8):
        (folder / "texts" / f"{number}.md").write_text(
            f"Chapter {number}. The sea was calm that day. " * 9, encoding="utf-8"
        )
    recipe = folder / "r.yaml"
    recipe.write_text(
        "task: {name: sea}\ndata: {sources: [{path: texts}], tokens: {vocab_size: 300}, split: {validation: 30%}}\n",
        encoding="utf-8",
    )
    return recipe


def test_prepare_makes_a_corpus_and_tokens(tmp_path, capsys):
    recipe, out = write_recipe(tmp_path), str(tmp_path / "out")
    assert run(["prepare", str(recipe), "--out", out, "--json"]) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["corpus"]["documents"]["kept"] == 8
    assert (Path(result["corpus"]["path"]) / "manifest.json").is_file()
    assert (Path(result["tokens"]["path"]) / "tokenizer.json").is_file()
    assert "read: " in shown.err, "progress is told on standard error"
    assert run(["prepare", str(recipe), "--out", out]) == 0
    assert result["corpus"]["path"] in capsys.readouterr().out
