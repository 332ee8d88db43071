"""SkyPilot: a task for whichever cloud has the machines, as a managed job that survives their loss.

The folder of the command travels to the machines; what is made goes to a bucket or a volume, as machines come and go.
"""

import re
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RecipeError
from rhapsode.core.units import GiB
from rhapsode.core.yaml import write_yaml
from rhapsode.launch.job import Job
from rhapsode.launch.shell import Meeting, step
from rhapsode.launch.target import Target
from rhapsode.recipe.launch import ANY

MOUNT = "/storage"
BUCKET = re.compile(r"[a-z0-9]+://.+")
KILL_SECONDS = 60


def write(job: Job) -> str:
    """The task."""
    config = job.config
    _check(job)
    task: dict[str, Any] = {"name": job.name, "num_nodes": config.nodes, "workdir": str(job.here)}
    task["resources"] = _resources(job)
    assert config.storage is not None
    if BUCKET.fullmatch(config.storage):
        # through a disk, as files of a bucket cannot be written in the middle
        task["file_mounts"] = {MOUNT: {"source": config.storage, "mode": "MOUNT_CACHED"}}
    else:
        task["volumes"] = {MOUNT: config.storage}
    return write_yaml({**task, "run": _run(job)})


def _run(job: Job) -> str:
    time = job.config.time
    before = [] if time is None else ["timeout", "--signal=TERM", f"--kill-after={KILL_SECONDS}", str(time)]
    own = '"$(echo "$SKYPILOT_NODE_IPS" | sed -n "$((SKYPILOT_NODE_RANK + 1))p")"'
    meeting = Meeting(rank='"$SKYPILOT_NODE_RANK"', head='"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"', own=own)
    out = f"{MOUNT}/{job.moved(job.out)}"
    return step(job, folder=None, recipe=job.moved(job.recipe), out=out, meeting=meeting, before=before)


def _resources(job: Job) -> dict[str, Any]:
    config = job.config
    resources: dict[str, Any] = {}
    if config.accelerator is not None:
        resources["accelerators"] = {config.accelerator: config.per_node}
    if config.cpus is not None:
        resources["cpus"] = f"{config.cpus}+"
    if config.memory is not None:
        resources["memory"] = f"{-(-config.memory // GiB)}+"
    if config.image is not None:
        resources["image_id"] = f"docker:{config.image}"
    return resources


def _check(job: Job) -> None:
    config = job.config
    if config.accelerator == ANY:
        raise RecipeError(
            "launch.accelerator: any GPU is not enough for SkyPilot, which looks for one by its name",
            "name it: --set launch.accelerator=H100; `sky show-gpus` lists them",
        )
    if config.image is None and not config.setup.strip():
        raise RecipeError(
            "launch.setup: missing; a fresh machine has no rhapsode, and no launch.image brings it",
            "give one of them: --set launch.setup='pip install rhapsode', say",
        )
    if config.nodes > 1 and BUCKET.fullmatch(config.storage or ""):
        raise RecipeError(
            f"launch.storage: {config.nodes} machines cannot write one checkpoint into the bucket {config.storage}: "
            "each would see the others' part of it minutes later",
            "name a volume that all of them may write, or set launch.nodes to 1",
        )


def commands(job: Job, path: Path) -> list[list[str]]:
    return [["sky", "jobs", "launch", "--name", job.name, str(path)]]


SKYPILOT = Target(
    title="SkyPilot",
    suffix=".yaml",
    uses=frozenset(
        {"nodes", "per_node", "accelerator", "cpus", "memory", "time", "image", "storage", "setup", "restarts"}
    ),
    needs={"storage": "the bucket (s3://...) or volume that gets the model"},
    text=write,
    commands=commands,
)
