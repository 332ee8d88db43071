"""torchrun itself, on this machine or on several that no scheduler looks after."""

import shlex
import sys
from pathlib import Path

from rhapsode.core.errors import RecipeError
from rhapsode.launch.job import Job
from rhapsode.launch.shell import Meeting, step
from rhapsode.launch.target import Target


def write(job: Job) -> str:
    """A script for bash; on several machines its argument is the machine's number."""
    config = job.config
    if len(config.hosts) != config.nodes and not is_here(job):
        raise RecipeError(
            f"launch.hosts: {len(config.hosts)} names for {config.nodes} machines; torchrun needs the name of each",
            "write launch.hosts as a list such as [node1, node2], or let a scheduler choose the machines",
        )
    lines = ["#!/bin/bash"]
    meeting = Meeting(rank='"$1"', head='"${hosts[0]}"', own='"${hosts[$1]}"')
    if config.hosts:
        lines.append(f"hosts=({shlex.join(config.hosts)})")
        lines.append(
            ': "${hosts[${1:?which machine is this? 0 is the first of launch.hosts}]:?there is no such machine}"'
        )
    # without a setup it is the program that writes this which is to run, whether a shell would find it or not
    torchrun = ("torchrun",) if config.setup.strip() else (sys.executable, "-m", "torch.distributed.run")
    body = step(
        job,
        folder=config.folder or str(job.here),
        recipe=job.moved(job.recipe) if config.folder else str(job.recipe),
        out=job.moved(job.out) if config.folder else str(job.out),
        meeting=meeting,
        torchrun=torchrun,
    )
    return "\n".join(lines) + "\n" + body


def is_here(job: Job) -> bool:
    """Whether this machine is the one that is meant."""
    return job.config.nodes == 1 and not job.config.hosts


def commands(job: Job, path: Path) -> list[list[str]]:
    """One on this machine, or one for each of the others."""
    if is_here(job):
        return [["bash", str(path)]]
    folder = job.config.folder or str(job.here)
    script = job.moved(path) if job.config.folder else str(path)
    run = f"cd {shlex.quote(folder)} && bash {shlex.quote(script)}"
    return [["ssh", host, f"{run} {rank}"] for rank, host in enumerate(job.config.hosts)]


TORCHRUN = Target(
    title="torchrun",
    suffix=".sh",
    uses=frozenset({"nodes", "per_node", "cpus", "folder", "hosts", "setup", "restarts"}),
    needs={},
    text=write,
    commands=commands,
)
