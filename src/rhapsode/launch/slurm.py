"""Slurm: a batch script that saves before its time is up and then queues again.

Slurm tells the script alone (--signal=B) that the end is near; the script tells the processes, which save and leave,
and puts itself back into the queue. Whoever cancels the job sends the same signal, so the script asks for its state
first: a job that was cancelled is no longer RUNNING, and stays away. After a failure of a machine Slurm itself queues
the job again (--requeue).
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

from rhapsode.core.units import MiB
from rhapsode.launch.job import Job
from rhapsode.launch.shell import Meeting, step
from rhapsode.launch.target import Target
from rhapsode.recipe.launch import ANY

NOTICE_SECONDS = 120
"""How long before the end the script is told: the step under way, 30 seconds to save, and room for slow disks."""

END = """\
asked=
trap 'asked=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM
{srun} &
step=$!
wait "$step"
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"
code=$?
if [ -n "$asked" ] && [ "$code" -ne 0 ]; then
  state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
  if [ "$state" = RUNNING ]; then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$code"
"""


def write(job: Job) -> str:
    """The script for sbatch."""
    config = job.config
    folder = config.folder or str(job.here)
    out = job.moved(job.out) if config.folder else str(job.out)
    body = step(
        job,
        folder=folder,
        recipe=job.moved(job.recipe) if config.folder else str(job.recipe),
        out=out,
        meeting=Meeting(rank='"$SLURM_NODEID"', head='"$HEAD"', own='"$SLURMD_NODENAME"', port='"$PORT"'),
    )
    head = [
        f"#SBATCH {option}={shlex.quote(value)}" if value else f"#SBATCH {option}" for option, value in _options(job)
    ]
    prepare = []
    if config.nodes > 1:
        prepare = [
            'HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "PORT=$((20000 + SLURM_JOB_ID % 20000))  # two jobs may share a machine",
            "export HEAD PORT",
        ]
    # srun asks for processors of its own accord, and would get one
    processors = [] if config.cpus is None else [f"--cpus-per-task={config.cpus}"]
    srun = shlex.join(["srun", "--kill-on-bad-exit=1", *processors, *_container(job, folder), "bash", "-c", body])
    return "\n".join(["#!/bin/bash", *head, *prepare, END.format(srun=srun)])


def _options(job: Job) -> Iterator[tuple[str, str]]:
    """Of sbatch; one without a value is a switch."""
    config = job.config
    directory = job.moved(job.directory) if config.folder else str(job.directory)
    yield "--job-name", job.name
    yield "--chdir", config.folder or str(job.here)
    yield "--output", f"{directory.replace('%', '%%')}/slurm-%j.log"
    yield "--open-mode", "append"  # the log of a job that was queued again goes on
    yield "--nodes", str(config.nodes)
    yield "--ntasks-per-node", "1"
    if config.accelerator is not None:
        kind = "" if config.accelerator == ANY else f"{config.accelerator}:"
        yield "--gpus-per-node", f"{kind}{config.per_node}"
    if config.cpus is not None:
        yield "--cpus-per-task", str(config.cpus)
    if config.memory is not None:
        yield "--mem", f"{-(-config.memory // MiB)}M"
    if config.time is not None:
        yield "--time", clock(config.time)
    if config.queue is not None:
        yield "--partition", config.queue
    if config.account is not None:
        yield "--account", config.account
    yield "--requeue", ""
    yield "--signal", f"B:TERM@{NOTICE_SECONDS}"


def clock(seconds: int) -> str:
    """As Slurm writes it, in whole minutes: 90000 -> "1-01:00:00"."""
    minutes = max(1, seconds // 60)
    days, hours = divmod(minutes // 60, 24)
    return f"{days}-{hours:02}:{minutes % 60:02}:00"


def _container(job: Job, folder: str) -> list[str]:
    """Options of pyxis, Slurm's plug-in for containers."""
    if job.config.image is None:
        return []
    folders = [folder] if job.config.folder or not job.out.is_absolute() else [folder, str(job.out)]
    mounts = ",".join(f"{path}:{path}" for path in folders)
    return [f"--container-image={job.config.image}", f"--container-mounts={mounts}"]


def commands(job: Job, path: Path) -> list[list[str]]:  # noqa: ARG001 - as every target's
    return [["sbatch", str(path)]]


SLURM = Target(
    title="Slurm",
    suffix=".sbatch",
    uses=frozenset(
        {"nodes", "per_node", "accelerator", "cpus", "memory", "time", "queue", "account", "image", "folder"}
        | {"setup", "restarts"}
    ),
    needs={},
    text=write,
    commands=commands,
)
