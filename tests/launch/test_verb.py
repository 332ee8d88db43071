import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.conftest import SENTENCES
from tests.launch.conftest import Machine

from rhapsode.cli.app import run

RECIPE = """\
task: {name: tales}
data: {sources: [{path: texts}]}
"""
SMALL = """\
task: {name: tales}
data: {sources: [{path: texts}], split: {validation: 0.2}, tokens: {vocab_size: 300}}
model: {size: 200k, context: 64}
train: {budget: 4 steps, batch_tokens: 512, samples: 0}
launch: {per_node: 2, cpus: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("Sing, goddess.\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return Path("recipe.yaml")


def found_on_path(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)


def test_a_job_is_written_and_how_to_submit_it_is_said(recipe, capsys):
    (recipe.parent / recipe).write_text(RECIPE + "launch: {nodes: 2, accelerator: h100, per_node: 8, storage: s}\n")
    assert run(["train", str(recipe), "--launch", "slurm", "--set", "launch.queue=night"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "written   out/launch/tales/slurm.sbatch",
        "begin it  sbatch out/launch/tales/slurm.sbatch",
        "no use    Slurm has none for launch.storage",
    ]
    assert "--partition=night" in Path("out/launch/tales/slurm.sbatch").read_text()
    assert not Path("out/runs").exists()


def test_the_result_is_for_programs_too(recipe, capsys):
    changes = ["--set", "launch.image=rhapsode:1", "--set", "launch.storage=project"]
    assert run(["train", str(recipe), "--launch", "kubernetes", "--json", *changes]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "target": "kubernetes",
        "job": "out/launch/tales/kubernetes.yaml",
        "commands": ["kubectl create --filename out/launch/tales/kubernetes.yaml"],
        "unused": [],
        "submitted": False,
    }
    assert yaml.safe_load(Path("out/launch/tales/kubernetes.yaml").read_text())["metadata"]["name"] == "tales"


def test_a_job_is_handed_over_only_when_that_is_asked_for(recipe, machine, monkeypatch, capfd):
    machine.has("sbatch", "echo Submitted batch job 7")
    found_on_path(machine, monkeypatch)
    assert run(["train", str(recipe), "--launch", "slurm"]) == 0
    assert not machine.seen.exists()
    assert run(["train", str(recipe), "--launch", "slurm", "--submit", "--json"]) == 0
    assert machine.calls("sbatch")[0][0] == "out/launch/tales/slurm.sbatch"
    shown = capfd.readouterr().out.splitlines()
    assert shown[-2] == "Submitted batch job 7"
    assert json.loads(shown[-1])["submitted"] is True


def test_a_scheduler_that_refuses_or_is_not_here_is_said(recipe, machine, monkeypatch, capsys):
    machine.has("sbatch", "exit 3")
    found_on_path(machine, monkeypatch)
    assert run(["train", str(recipe), "--launch", "slurm", "--submit"]) == 1
    assert "failed with exit code 3" in capsys.readouterr().err
    (machine.bin / "sbatch").unlink()
    assert run(["train", str(recipe), "--launch", "slurm", "--submit"]) == 1
    assert "sbatch is not on this machine; out/launch/tales/slurm.sbatch is written" in capsys.readouterr().err


def test_several_machines_are_nobodys_to_start(recipe, capsys):
    hosts = ["--set", "launch.nodes=2", "--set", "launch.hosts=[node1, node2]"]
    assert run(["train", str(recipe), "--launch", "torchrun", *hosts]) == 0
    assert capsys.readouterr().out.count("ssh node") == 2
    assert run(["train", str(recipe), "--launch", "torchrun", "--submit", *hosts]) == 1
    assert "this job starts on 2 machines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--submit"], 2, "--submit is for a job"),
        (["--launch", "slrum"], 2, "slurm"),
        (["--launch", "kubernetes"], 2, "launch.image: missing"),
        (["--launch", "slurm", "--set", "launch.time=soon"], 2, "launch.time: 'soon' is not a duration"),
        (["--launch", "slurm", "--set", "launch.time=0h"], 2, "launch.time"),
        (["--launch", "slurm", "--set", 'launch.queue="a\\nb"'], 2, "launch.queue"),
        (["--launch", "slurm", "--set", "launch.per_node=2", "--set", "sweep={model.seed: [0, 1]}"], 2, "launch has 2"),
        (["--launch", "slurm", "--set", "sweep={launch.nodes: [1, 2]}"], 2, "launch is for all of them alike"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(recipe, capsys, arguments, code, words):
    assert run(["train", str(recipe), *arguments]) == code
    assert words in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_sweep_is_one_job(recipe):
    assert run(["train", str(recipe), "--launch", "slurm", "--set", "sweep={model.seed: [0, 1]}"]) == 0
    assert "'sweep={model.seed: [0, 1]}'" in Path("out/launch/tales/slurm.sbatch").read_text().replace("'\"'\"'", "'")


def test_an_earlier_run_is_gone_on_with_only_when_that_is_asked_for(recipe, capsys):
    checkpoint = Path("out/runs/tales/step-000200")
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    assert run(["train", str(recipe), "--launch", "slurm"]) == 1
    assert "holds step-000200 of an earlier run" in capsys.readouterr().err
    assert run(["train", str(recipe), "--launch", "slurm", "--resume"]) == 0


def test_on_this_machine_the_program_becomes_the_job(recipe, machine):
    """A signal reaches torchrun, and its exit code is the program's."""
    train = [sys.executable, "-m", "rhapsode", "train", str(recipe), "--json"]
    launch = ["--launch", "torchrun", "--set", "launch.setup=export READY=yes"]
    pid = machine.seen.with_name("seen.pid")
    with subprocess.Popen(
        [*train, *launch],
        env=machine.environment(WAITS="yes"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and not pid.exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert int(pid.read_text()) == process.pid
    assert process.returncode == 1
    assert out == ""  # the one result is the training's
    assert "begin it  bash out/launch/tales/torchrun.sh" in err
    (call,) = machine.calls("torchrun")
    assert "--json" in call
    assert "saved" in machine.seen.read_text().splitlines()


def test_a_folder_that_cannot_be_written_is_said(recipe, capsys):
    Path("out").write_text("in the way")
    assert run(["train", str(recipe), "--launch", "slurm"]) == 1
    assert "--out" in capsys.readouterr().err
    assert Path("out").read_text() == "in the way"


@pytest.mark.slow
def test_two_processes_of_this_machine_train_one_model(recipe):
    """Nothing is replaced here: torchrun, gloo and the whole of the training."""
    for number in range(12):
        lines = [f"{SENTENCES[line % len(SENTENCES)]} {number * line}" for line in range(40)]
        Path("texts", f"{number}.txt").write_text("\n".join(lines))
    recipe.write_text(SMALL)
    train = [sys.executable, "-m", "rhapsode", "train", str(recipe), "--json", "--launch", "torchrun"]
    done = subprocess.run(train, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "out/runs/tales/step-000004"
    state = json.loads(Path("out/runs/tales/step-000004/training/state.json").read_text())
    assert state["machine"]["ranks"] == 2
