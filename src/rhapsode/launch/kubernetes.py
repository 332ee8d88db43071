"""Kubernetes: a JobSet (jobset.x-k8s.io/v1alpha2) of one indexed job, a pod for each machine, queued by Kueue.

The pods have names in a network of their own, so that they find each other; if one is lost all begin again together.
A pod that the cluster takes away for its own reasons, a drained machine or a more urgent job, does not count as a
failure of ours.
"""

import re
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RecipeError
from rhapsode.core.yaml import write_yaml
from rhapsode.launch.job import Job
from rhapsode.launch.shell import PORT, Meeting, step
from rhapsode.launch.target import Target
from rhapsode.recipe.launch import ANY

GRACE_SECONDS = 120
"""From SIGTERM to SIGKILL: the step under way, 30 seconds to save, and room for slow disks."""
MOUNT = "/storage"
GPU, GPU_KIND, QUEUE = "nvidia.com/gpu", "nvidia.com/gpu.product", "kueue.x-k8s.io/queue-name"
PODS = "node"
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST = 63
RANDOM = "-abcde"
"""What Kubernetes adds to the name of a pod."""


def write(job: Job) -> str:
    """The manifest."""
    config = job.config
    _check_names(job)
    if config.folder is not None and not Path(config.folder).is_relative_to(MOUNT):
        raise RecipeError(
            f"launch.folder: {config.folder} is no folder of launch.storage, which pods see as {MOUNT}",
            f"write {MOUNT}, or {MOUNT}/ and where the folder lies in it",
        )
    metadata: dict[str, Any] = {"name": job.name}
    if config.account is not None:
        metadata["namespace"] = config.account
    if config.queue is not None:
        metadata["labels"] = {QUEUE: config.queue}
    manifest = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": job.name},
            "failurePolicy": {
                "maxRestarts": config.restarts,
                "rules": [
                    _rule("timeIsUp", "FailJobSet", "DeadlineExceeded"),
                    _rule("takenAway", "RestartJobSetAndIgnoreMaxRestarts", "PodFailurePolicy"),
                ],
            },
            "replicatedJobs": [{"name": PODS, "replicas": 1, "template": {"spec": _job(job)}}],
        },
    }
    return write_yaml(manifest)


def _rule(name: str, action: str, reason: str) -> dict[str, Any]:
    return {"name": name, "action": action, "onJobFailureReasons": [reason]}


def _job(job: Job) -> dict[str, Any]:
    taken_away = {"type": "DisruptionTarget", "status": "True"}
    spec: dict[str, Any] = {
        "parallelism": job.config.nodes,
        "completions": job.config.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onPodConditions": [taken_away]}]},
    }
    if job.config.time is not None:
        spec["activeDeadlineSeconds"] = job.config.time
    return {**spec, "template": {"spec": _pod(job)}}


def _pod(job: Job) -> dict[str, Any]:
    config = job.config
    meeting = Meeting(
        rank='"$JOB_COMPLETION_INDEX"', head=f"{job.name}-{PODS}-0-0.{job.name}", own=f'"$HOSTNAME".{job.name}'
    )
    script = step(
        job,
        folder=config.folder or MOUNT,
        recipe=job.moved(job.recipe),
        out=job.moved(job.out),
        meeting=meeting,
    )
    container: dict[str, Any] = {
        "name": "rhapsode",
        "image": config.image,
        "command": ["bash", "-c", script],
        "ports": [{"containerPort": PORT}],
        "volumeMounts": [{"name": "storage", "mountPath": MOUNT}, {"name": "shared-memory", "mountPath": "/dev/shm"}],  # noqa: S108 - where processes of a pod meet
    }
    if resources := _resources(job):
        container["resources"] = resources
    pod: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE_SECONDS}
    if config.accelerator not in (None, ANY):
        pod["nodeSelector"] = {GPU_KIND: config.accelerator}
    claim = {"name": "storage", "persistentVolumeClaim": {"claimName": config.storage}}
    # NCCL and gloo meet in shared memory, of which a container has 64 MB if nobody asks for more
    shared = {"name": "shared-memory", "emptyDir": {"medium": "Memory"}}
    return {**pod, "containers": [container], "volumes": [claim, shared]}


def _resources(job: Job) -> dict[str, Any]:
    """GPUs and memory are held to, processors may be lent."""
    config = job.config
    limits: dict[str, str] = {}
    if config.accelerator is not None:
        limits[GPU] = str(config.per_node)
    if config.memory is not None:
        limits["memory"] = str(config.memory)
    requests = limits if config.cpus is None else {"cpu": str(config.cpus), **limits}
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value}


def _check_names(job: Job) -> None:
    """Kubernetes' rules for names of services and pods, before Kubernetes speaks of them."""
    config = job.config
    pod = f"{job.name}-{PODS}-0-{config.nodes - 1}{RANDOM}"
    names = {"task.name": job.name, "launch.account": config.account, "launch.storage": config.storage}
    for key, name in {**names, "launch.queue": config.queue}.items():
        if name is not None and (not LABEL.fullmatch(name) or len(name) > LONGEST):
            raise RecipeError(
                f"{key}: Kubernetes takes no {name!r}: at most {LONGEST} lower-case letters, digits and hyphens, "
                "a letter first",
                f"add --set {key}=...",
            )
    if len(pod) > LONGEST:
        raise RecipeError(
            f"task.name: {job.name} is {len(pod) - LONGEST} characters too long for the names of its pods ({pod})",
            "add --set task.name=... with a shorter one",
        )


def commands(job: Job, path: Path) -> list[list[str]]:  # noqa: ARG001 - as every target's
    # create and not apply: a job of this name that is there already is left alone, and said
    return [["kubectl", "create", "--filename", str(path)]]


KUBERNETES = Target(
    title="Kubernetes",
    suffix=".yaml",
    uses=frozenset(
        {"nodes", "per_node", "accelerator", "cpus", "memory", "time", "queue", "account", "image", "storage"}
        | {"folder", "setup", "restarts"}
    ),
    needs={
        "image": "the container image that has rhapsode in it",
        "storage": "the claim that holds this folder and gets the model",
    },
    text=write,
    commands=commands,
)
