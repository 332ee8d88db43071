"""The whole road as a user walks it: real commands, real directories, real signals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.recipe.bases import make_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from rhapsode.cli.app import run
from rhapsode.core.events import read_events
from rhapsode.kernels.attention import DenseAttend
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model

RECIPE = """
task: {name: ships, purpose: Sings of ships., prompts: ["The ship"]}
data:
  sources: [{path: texts, licence: CC0-1.0}]
  split: {validation: 0.2}
  tokens: {vocab_size: 300}
model: {size: 200k, context: 64}
train: {budget: 12 steps, save_every: 4, validate_every: 6}
evaluate: {samples: {count: 2, max_tokens: 8}}
"""
VERSE = """Ship number {n} left the harbour of city {n} with bread for {n} days and a crew that sang.
On day {n} the wind turned, and the helmsman told the story of the {n} gates and the kings who built them.
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ships")
    (folder / "texts").mkdir()
    for n in range(20):
        (folder / "texts" / f"{n}.txt").write_text("".join(VERSE.format(n=n * m) for m in range(2, 7)))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def walked(recipe, tmp_path_factory) -> Path:
    """`out` of a finished run; the tests do not change it."""
    out = tmp_path_factory.mktemp("walked") / "out"
    assert run(["run", str(recipe), "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(walked, tmp_path) -> Path:
    shutil.copytree(walked, tmp_path / "out")
    return tmp_path / "out"


def command(*arguments: object) -> list[str]:
    code = "import sys; from rhapsode.cli import main; sys.argv[0] = 'rhapsode'; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_the_run_leaves_what_it_promises(walked):
    here = walked / "runs" / "ships"
    names = {path.name for path in here.iterdir()}
    assert {"report.html", "report.json", "events.jsonl", "recipe.yaml", "plan.json", "tensorboard"} <= names
    assert {"step-000008", "step-000012"} <= names
    assert "step-000004" not in names  # train.keep is 2
    page = (here / "report.html").read_text()
    assert "bits per byte" in page
    assert "kneser-ney" in page
    kinds = {event.kind for event in read_events(here / "events.jsonl")}
    expected = {"stage", "corpus", "tokens", "planned", "begin", "step", "validation", "samples", "saved", "spent"}
    assert expected | {"evaluated", "end"} <= kinds
    assert all(words in page for words in ("Gradient norm", "How its words changed", "ratio", "energy"))


def test_the_recipe_of_a_run_can_be_planned_from_anywhere(walked, tmp_path, capsys):
    assert run(["plan", str(walked / "runs" / "ships" / "recipe.yaml"), "--out", str(tmp_path), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["plan"]
    assert planned == json.loads((walked / "plan" / "ships" / "plan.json").read_text())["hash"]


def test_tensorboard_reads_its_files(walked):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = accumulator.EventAccumulator(str(walked / "runs" / "ships" / "tensorboard"))
    board.Reload()
    assert [scalar.step for scalar in board.Scalars("step/loss")] == list(range(1, 13))
    assert [scalar.step for scalar in board.Scalars("validation/bits_per_byte")] == [0, 6, 12]


def test_transformers_reads_the_checkpoint_and_agrees(walked):
    directory = walked / "runs" / "ships" / "step-000012"
    text = "Ship number 3 left the harbour \U0001f6a2 of <|im_end|>"
    ours, theirs = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    plain = "Ship number 3 left the harbour \U0001f6a2"
    assert theirs(plain).input_ids == ours.ids(plain)
    assert theirs(text, split_special_tokens=True).input_ids == ours.ids(text)
    ids = torch.tensor([ours.ids(text)])
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(ids).logits
        model = load_model(directory)
        attend = DenseAttend(torch.ones_like(ids), dtype=torch.float32)
        logits = model.logits(model(ids, torch.arange(ids.shape[1])[None], attend=attend))
    assert (logits - expected).abs().max() < 1e-3


def test_a_base_is_trained_further_and_measured_before_and_after(recipe, tmp_path, capsys):
    base, out = make_base(tmp_path / "base", "gemma3_text"), tmp_path / "out"
    further = recipe.parent / "further.yaml"
    changes = {
        "name: ships": "name: further",
        "  tokens: {vocab_size: 300}\n": "",
        "size: 200k": f"base: {base}",
        "budget: 12 steps": "budget: 6 steps, learning_rate: 0.01",
    }
    text = RECIPE
    for old, new in changes.items():
        text = text.replace(old, new)
    further.write_text(text)
    assert run(["plan", str(further), "--out", str(out), "--json"]) == 0
    names = [decision["name"] for decision in json.loads(capsys.readouterr().out)["decisions"]]
    assert names[:3] == ["base", "licence", "parameters"]
    assert run(["run", str(further), "--out", str(out), "--json"]) == 0
    after = json.loads(capsys.readouterr().out)["evaluation"]["rows"]
    rows = []
    for model in ([], ["--model", str(base)]):
        assert run(["evaluate", str(further), "--out", str(out), "--json", *model]) == 0
        rows.append(json.loads(capsys.readouterr().out)["evaluation"]["rows"])
    ran, again, before = ({row["name"]: row["bits_per_byte"] for row in found} for found in (after, *rows))
    assert ran == again
    assert set(ran) == {"further", "base", "xz", "kneser-ney"}
    assert ran["base"] > ran["further"] + 0.3
    assert before == {"further": ran["base"], "xz": ran["xz"], "kneser-ney": ran["kneser-ney"]}
    assert len(list((out / "tokens").iterdir())) == 1


def test_evaluate_gives_the_same_numbers_again(walked, recipe, capsys):
    assert run(["evaluate", str(recipe), "--out", str(walked), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["evaluation"]["rows"]
    first = json.loads((walked / "runs" / "ships" / "report.json").read_text())["evaluation"]["rows"]
    assert [row["bits_per_byte"] for row in again] == [row["bits_per_byte"] for row in first]


def test_chat_completes_and_answers(walked, capsys):
    model = str(walked / "runs" / "ships")
    results = []
    for extra in ([], ["--complete"], ["--answer"]):
        assert (
            run(["chat", model, "--prompt", "Ship number", "--max-tokens", "6", "--seed", "1", "--json", *extra]) == 0
        )
        results.append(json.loads(capsys.readouterr().out)["answer"])
    assert results[0] == results[1]  # it was trained on plain text, so completion is its way
    assert results[0] != results[2]


def test_a_second_run_needs_resume_or_another_name(copied, recipe, capsys):
    assert run(["run", str(recipe), "--out", str(copied)]) == 1
    assert "--resume" in capsys.readouterr().err
    assert run(["run", str(recipe), "--out", str(copied), "--resume"]) == 0


def test_train_refuses_what_was_not_planned(copied, recipe, capsys):
    code = run(["train", str(recipe), "--out", str(copied), "--set", "train.budget=16 steps", "--resume"])
    message = capsys.readouterr().err
    assert code == 3
    assert "train.steps: 12 -> 16" in message


def test_a_gate_that_is_not_passed_ends_with_4(copied, recipe, capsys):
    arguments = ["evaluate", str(recipe), "--out", str(copied), "--set", "evaluate.gate.below_best_baseline=90%"]
    assert run(arguments) == 4
    assert "gate" in capsys.readouterr().err


def test_a_flipped_bit_is_found_and_named(copied, capsys):
    directory = copied / "runs" / "ships" / "step-000012"
    weights = bytearray((directory / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (directory / "model.safetensors").write_bytes(weights)
    assert run(["chat", str(directory), "--prompt", "Ship"]) == 5
    assert "model.safetensors has changed" in capsys.readouterr().err


def test_resume_passes_over_a_damaged_checkpoint_aloud(copied, recipe, capsys):
    directory = copied / "runs" / "ships" / "step-000012"
    before = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(before[:-1])
    assert run(["train", str(recipe), "--out", str(copied), "--resume"]) == 0
    assert "is passed over" in capsys.readouterr().err
    assert (directory / "model.safetensors").read_bytes() == before


def test_a_checkpoint_without_manifest_is_never_read(copied, capsys):
    directory = copied / "runs" / "ships" / "step-000012"
    (directory / "manifest.json").unlink()
    assert run(["chat", str(directory), "--prompt", "Ship"]) == 1
    assert "manifest.json" in capsys.readouterr().err


def test_a_second_process_on_the_same_run_is_turned_away(walked, recipe):
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import pathlib, time
from rhapsode.core.lock import locked
with locked(pathlib.Path({str(walked / "runs" / "ships")!r})):
    print("held", flush=True)
    time.sleep(60)
""",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert held.stdout is not None
        held.stdout.readline()
        code = run(["run", str(recipe), "--out", str(walked), "--resume"])
    finally:
        held.kill()
        held.communicate()
    assert code == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_resume_ends_with_the_same_bytes(walked, recipe, tmp_path, number, code):
    out, steps = tmp_path / "out", ["--set", "train.budget=60 steps", "--set", "train.save_every=1000"]
    whole = tmp_path / "whole"
    assert run(["train", str(recipe), "--out", str(whole), *steps]) == 0
    shutil.copytree(walked / "corpus", out / "corpus")
    shutil.copytree(walked / "tokens", out / "tokens")
    process = subprocess.Popen(command("train", recipe, "--out", out, *steps), stderr=subprocess.PIPE, text=True)
    journal = out / "runs" / "ships" / "events.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and '"step": 3,' in journal.read_text()):
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == code, message
    assert "--resume" in message
    assert run(["train", str(recipe), "--out", str(out), *steps, "--resume"]) == 0
    final = Path("runs") / "ships" / "step-000060"
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        assert (out / final / name).read_bytes() == (whole / final / name).read_bytes()
