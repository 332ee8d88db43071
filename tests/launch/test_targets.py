import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.launch.conftest import HOSTS, make
from tests.launch.schemas import JobSet, SkyTask

from rhapsode.cli.options import Launch
from rhapsode.core.errors import RecipeError, RhapsodeError
from rhapsode.core.yaml import read_yaml
from rhapsode.launch.slurm import clock
from rhapsode.launch.targets import TARGETS
from rhapsode.launch.write import write_job
from rhapsode.recipe.launch import LaunchConfig

FULL: dict[str, Any] = {
    "nodes": 2,
    "per_node": 8,
    "accelerator": "H100",
    "cpus": 96,
    "memory": "512 GB",
    "time": "12h",
    "queue": "training",
    "account": "poets",
    "image": "registry.example/rhapsode:1.0",
    "storage": "project",
    "folder": "/storage/tales",
    "hosts": HOSTS,
    "setup": "source /opt/venv/bin/activate\nexport NCCL_DEBUG=WARN",
    "restarts": 3,
}
# Another value for every field; a new field needs one here.
OTHERS: dict[str, dict[str, Any]] = {
    "nodes": {"nodes": 3, "hosts": [*HOSTS, "node3"]},
    "per_node": {"per_node": 4},
    "accelerator": {"accelerator": "A100"},
    "cpus": {"cpus": 48},
    "memory": {"memory": "1 GiB"},
    "time": {"time": "30m"},
    "queue": {"queue": "night"},
    "account": {"account": "bards"},
    "image": {"image": "registry.example/rhapsode:1.1"},
    "storage": {"storage": "other"},
    "folder": {"folder": "/storage/elsewhere"},
    "hosts": {"hosts": ["node3", "node4"]},
    "setup": {"setup": "module load rhapsode"},
    "restarts": {"restarts": 0},
}


def text(target: str, **changes: Any) -> str:
    return TARGETS[target].text(make(**{**FULL, **changes}))


def jobset(**changes: Any) -> JobSet:
    return JobSet.model_validate(yaml.safe_load(text("kubernetes", **changes)))


def task(**changes: Any) -> SkyTask:
    return SkyTask.model_validate(yaml.safe_load(text("skypilot", **changes)))


def test_the_command_line_offers_every_target():
    assert set(TARGETS) == set(Launch.__args__[0].__args__[0].__args__)


def test_every_field_has_another_value():
    assert set(OTHERS) == set(FULL) == set(LaunchConfig.model_fields)


@pytest.mark.parametrize("target", TARGETS)
def test_a_field_changes_the_job_or_is_named_as_of_no_use(target):
    before = text(target)
    changing = {name for name, other in OTHERS.items() if text(target, **other) != before}
    of_no_use = set(TARGETS[target].unused(LaunchConfig.model_validate(FULL)))
    # torchrun is told of the third machine by its name
    assert changing == TARGETS[target].uses | ({"nodes"} if target == "torchrun" else set())
    assert of_no_use == set(FULL) - TARGETS[target].uses


def test_every_field_is_of_use_somewhere():
    assert frozenset().union(*(target.uses for target in TARGETS.values())) == set(LaunchConfig.model_fields)


@pytest.mark.parametrize("target", TARGETS)
def test_fields_that_nobody_set_are_not_named(target):
    assert TARGETS[target].unused(LaunchConfig()) == []


@pytest.mark.parametrize(
    "changes",
    [{}, {"nodes": 1}, dict.fromkeys(("accelerator", "cpus", "memory", "time", "queue", "account"))],
)
def test_the_jobset_is_as_kubernetes_reads_it(changes):
    jobset(**changes)
    assert read_yaml(text("kubernetes", **changes), name="job").value == yaml.safe_load(text("kubernetes", **changes))


def test_the_jobset_asks_for_what_the_recipe_says():
    found = jobset()
    assert found.metadata.namespace == "poets"
    assert found.metadata.labels == {"kueue.x-k8s.io/queue-name": "training"}
    job = found.spec.replicatedJobs[0].template.spec
    assert (job.parallelism, job.completions, job.activeDeadlineSeconds) == (2, 2, 12 * 3600)
    pod = job.template.spec
    assert pod.terminationGracePeriodSeconds >= 30
    assert pod.nodeSelector == {"nvidia.com/gpu.product": "H100"}
    resources = pod.containers[0].resources
    assert resources is not None
    assert resources.requests == {"cpu": "96", "nvidia.com/gpu": "8", "memory": str(512 * 10**9)}
    assert resources.limits == {"nvidia.com/gpu": "8", "memory": str(512 * 10**9)}


def test_any_gpu_is_no_label_of_a_machine():
    pod = jobset(accelerator="any").spec.replicatedJobs[0].template.spec.template.spec
    assert pod.nodeSelector == {}
    assert pod.containers[0].resources is not None
    assert pod.containers[0].resources.limits["nvidia.com/gpu"] == "8"


def test_pods_meet_under_the_name_that_jobset_gives_the_first():
    found = jobset()
    job, network = found.spec.replicatedJobs[0], found.spec.network
    script = job.template.spec.template.spec.containers[0].command[-1]
    assert f"--rdzv-endpoint={found.metadata.name}-{job.name}-0-0.{network.subdomain}:29500" in script


def test_a_pod_that_is_taken_away_is_no_failure_but_the_end_of_time_is_the_end():
    rules = {rule.onJobFailureReasons[0]: rule.action for rule in jobset().spec.failurePolicy.rules}
    assert rules == {"PodFailurePolicy": "RestartJobSetAndIgnoreMaxRestarts", "DeadlineExceeded": "FailJobSet"}
    assert jobset(restarts=7).spec.failurePolicy.maxRestarts == 7


def test_every_mount_has_its_volume():
    pod = jobset().spec.replicatedJobs[0].template.spec.template.spec
    assert {mount.name for mount in pod.containers[0].volumeMounts} == {volume.name for volume in pod.volumes}


@pytest.mark.parametrize("changes", [{}, {"nodes": 1, "storage": "s3://tales/runs"}, {"image": None, "time": None}])
def test_the_task_is_as_skypilot_reads_it(changes):
    found = task(**changes)
    assert bool(found.file_mounts) == (not found.volumes)
    assert read_yaml(text("skypilot", **changes), name="job").value == yaml.safe_load(text("skypilot", **changes))


def test_the_task_asks_for_what_the_recipe_says():
    found = task(nodes=1, storage="s3://tales/runs")
    assert found.resources.accelerators == {"H100": 8}
    assert found.resources.memory == "477+"  # SkyPilot counts in GiB
    assert found.file_mounts["/storage"].source == "s3://tales/runs"
    assert "--out /storage/out" in found.run
    assert "timeout --signal=TERM" in found.run


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        ("kubernetes", {"image": None, "storage": None}, ("launch.image: missing", "launch.storage: missing")),
        ("kubernetes", {"queue": "Night_Shift"}, ("launch.queue", "Night_Shift")),
        ("kubernetes", {"account": "the poets"}, ("launch.account",)),
        ("kubernetes", {"folder": "/home/anna"}, ("launch.folder", "/storage")),
        ("skypilot", {"storage": None}, ("launch.storage: missing; SkyPilot",)),
        ("skypilot", {"accelerator": "any"}, ("launch.accelerator",)),
        ("skypilot", {"image": None, "setup": ""}, ("launch.setup: missing",)),
        ("skypilot", {"storage": "s3://tales"}, ("launch.storage", "2 machines")),
        ("torchrun", {"hosts": ["node1"]}, ("launch.hosts: 1 names for 2 machines",)),
    ],
)
def test_what_a_target_must_know_is_asked_for_and_nothing_is_written(target, changes, words, tmp_path):
    job = make(here=tmp_path, **{**FULL, **changes})
    with pytest.raises(RecipeError) as refusal:
        write_job(job, target)
    assert all(word in refusal.value.message for word in words)
    assert refusal.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["3-tales", "t" * 60])
def test_a_name_that_kubernetes_would_refuse_is_refused_here(name):
    with pytest.raises(RecipeError, match=r"task\.name"):
        TARGETS["kubernetes"].text(make(name=name, **FULL))


@pytest.mark.parametrize("target", ["kubernetes", "skypilot"])
def test_what_other_machines_cannot_see_is_refused(target, tmp_path):
    job = make(here=tmp_path, **{**FULL, "folder": None})
    job = type(job)(**{**vars(job), "out": Path("/var/out")})
    with pytest.raises(RhapsodeError, match="lies outside"):
        TARGETS[target].text(job)


def test_slurm_options_say_what_the_recipe_says():
    options = dict(
        line.removeprefix("#SBATCH --").split("=", 1) if "=" in line else (line.removeprefix("#SBATCH --"), "")
        for line in text("slurm").splitlines()
        if line.startswith("#SBATCH")
    )
    assert options["nodes"] == "2"
    assert options["gpus-per-node"] == "H100:8"
    assert options["cpus-per-task"] == "96"
    assert options["mem"] == "488282M"
    assert options["time"] == "0-12:00:00"
    assert (options["partition"], options["account"]) == ("training", "poets")
    assert options["requeue"] == ""
    assert options["signal"] == "B:TERM@120"
    assert options["chdir"] == "/storage/tales"
    assert "--container-image=registry.example/rhapsode:1.0" in text("slurm")
    assert "--gpus-per-node" not in text("slurm", accelerator=None)


@pytest.mark.parametrize(("seconds", "written"), [(30, "0-00:01:00"), (1800, "0-00:30:00"), (90_000, "1-01:00:00")])
def test_time_as_slurm_writes_it(seconds, written):
    assert clock(seconds) == written


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("nodes", [1, 2])
def test_scripts_are_bash(target, nodes):
    job = make(**{**FULL, "nodes": nodes, "hosts": HOSTS[:nodes]})
    written = TARGETS[target].text(job)
    scripts = [written]
    if target == "kubernetes":
        pod = JobSet.model_validate(yaml.safe_load(written)).spec.replicatedJobs[0].template.spec.template.spec
        scripts = [pod.containers[0].command[-1]]
    elif target == "skypilot":
        scripts = [yaml.safe_load(written)["run"]]
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
