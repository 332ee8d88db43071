"""The scripts, really run: programs of clusters are replaced by ones that note how they were called."""

import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.launch.conftest import HOSTS, SCANCEL, SRUN, Machine, make

from rhapsode.launch.targets import TARGETS

ODD = 'task.purpose=it\'s "so" $HOME; `rm`\\'


def script(target: str, project: Path, **launch: Any) -> str:
    text = TARGETS[target].text(make(here=project, changes=(ODD,), **launch))
    if target == "kubernetes":
        return yaml.safe_load(text)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][
            0
        ]["command"][-1]
    return yaml.safe_load(text)["run"] if target == "skypilot" else text


def command(*, out: str = "out") -> list[str]:
    return ["-m", "rhapsode", "train", "recipes/tales.yaml", "--set", ODD, "--out", out, "--resume"]


def slurm(machine: Machine, state: str = "RUNNING") -> None:
    machine.has("srun", SRUN)
    machine.has("scancel", SCANCEL)
    machine.has("squeue", f"echo {state}")
    machine.has("scontrol", 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; fi')


def test_slurm_starts_torchrun_on_each_machine(machine, project):
    slurm(machine)
    text = script("slurm", project, nodes=2, per_node=4, cpus=32, setup="export RESULT=$((6 * 7))\ntrue # it's fine")
    done = machine.runs(
        text, SLURM_JOB_ID="40001", SLURM_JOB_NODELIST="node[7-8]", SLURM_NODEID="1", SLURMD_NODENAME="node8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = machine.calls("torchrun")
    assert call[:3] == ["--nnodes=2", "--nproc-per-node=4", "--max-restarts=3"]
    assert "--rdzv-endpoint=node7:20001" in call
    assert "--rdzv-conf=is_host=false" in call
    assert "--local-addr=node8" in call
    assert call[-11:] == [*command(), f"in {project}", "threads 8"]
    assert [arguments[:1] for arguments in machine.calls("scontrol")] == [["show"]]


def test_the_first_machine_holds_the_store(machine, project):
    slurm(machine)
    text = script("slurm", project, nodes=2)
    machine.runs(text, SLURM_JOB_ID="1", SLURM_JOB_NODELIST="x", SLURM_NODEID="0", SLURMD_NODENAME="node7")
    assert "--rdzv-conf=is_host=true" in machine.calls("torchrun")[0]


@pytest.mark.parametrize(("state", "again"), [("RUNNING", True), ("COMPLETING", False)])
def test_slurm_saves_before_its_time_is_up_and_queues_again_unless_it_was_cancelled(machine, project, state, again):
    slurm(machine, state)
    text = script("slurm", project)
    running = subprocess.Popen(
        ["bash", "-c", text], cwd=machine.root, env=machine.environment(WAITS="yes", SLURM_JOB_ID="77")
    )
    pid = machine.seen.with_name("seen.pid")
    for _ in range(200):
        if pid.exists():
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 1
    assert machine.calls("scancel")[0][:2] == ["--signal=TERM", "77"]
    assert "saved" in machine.seen.read_text().splitlines()
    assert [call[:2] for call in machine.calls("scontrol")] == ([["requeue", "77"]] if again else [])


def test_a_failure_is_passed_on_and_is_no_reason_to_queue_again(machine, project):
    slurm(machine)
    machine.has("torchrun", "exit 3")
    assert machine.runs(script("slurm", project), SLURM_JOB_ID="5").returncode == 3
    assert "requeue" not in machine.seen.read_text()


def test_pods_find_the_first_by_name(machine, project, monkeypatch):
    monkeypatch.setattr("rhapsode.launch.kubernetes.MOUNT", str(project.parent))
    launch = {"nodes": 3, "per_node": 2, "cpus": 9, "image": "i", "storage": "s", "folder": str(project)}
    done = machine.runs(script("kubernetes", project, **launch), JOB_COMPLETION_INDEX="0", HOSTNAME="tales-node-0-0")
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = machine.calls("torchrun")
    assert "--rdzv-endpoint=tales-node-0-0.tales:29500" in call
    assert "--rdzv-conf=is_host=true" in call
    assert "--local-addr=tales-node-0-0.tales" in call
    assert call[-11:] == [*command(), f"in {project}", "threads 4"]


def test_skypilots_machines_find_the_first_by_its_address(machine, project):
    text = script("skypilot", project, nodes=2, storage="shared", setup="true", time="90m")
    done = machine.runs(text, SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2", SKYPILOT_NODE_RANK="1")
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = machine.calls("torchrun")
    assert "--rdzv-endpoint=10.0.0.1:29500" in call
    assert "--rdzv-conf=is_host=false" in call
    assert "--local-addr=10.0.0.2" in call
    assert call[-11:-2] == command(out="/storage/out")


def test_torchrun_on_named_machines_asks_which_this_is(machine, project):
    text = script("torchrun", project, nodes=2, hosts=HOSTS, setup="true")
    assert machine.runs(text, "1").returncode == 0
    (call,) = machine.calls("torchrun")
    assert "--rdzv-endpoint=node1:29500" in call
    assert "--local-addr=node2" in call
    assert call[-11:-1] == [*command(), f"in {project}"]
    for wrong in ([], ["2"]):
        refused = machine.runs(text, *wrong)
        assert refused.returncode != 0
        assert "machine" in refused.stderr
    assert len(machine.calls("torchrun")) == 1


def test_the_commands_for_named_machines_start_each_as_what_it_is(machine, project):
    job = make(here=project, nodes=2, hosts=HOSTS, setup="true")
    path = project / "out" / "launch" / "tales" / "torchrun.sh"
    path.parent.mkdir(parents=True)
    path.write_text(TARGETS["torchrun"].text(job))
    machine.has("ssh", 'shift; exec bash -c "$*"')
    for line in TARGETS["torchrun"].commands(job, path.relative_to(project)):
        assert machine.runs(shlex.join(line)).returncode == 0
    assert [call[0] for call in machine.calls("ssh")] == HOSTS
    assert ["--local-addr=node1" in call for call in machine.calls("torchrun")] == [True, False]


def test_a_setup_that_fails_ends_the_job_before_it_begins(machine, project):
    done = machine.runs(script("torchrun", project, setup="false\ntrue"))
    assert done.returncode == 1
    assert not machine.seen.exists()


def test_processors_are_shared_out_where_nobody_counted_them(machine, project):
    machine.has("nproc", "echo 6")
    assert machine.runs(script("torchrun", project, per_node=4, setup="true")).returncode == 0
    assert machine.calls("torchrun")[0][-1] == "threads 1"
    assert machine.runs(script("torchrun", project, per_node=2, setup="true")).returncode == 0
    assert machine.calls("torchrun")[1][-1] == "threads 3"
