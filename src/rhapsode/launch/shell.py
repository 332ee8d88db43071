"""The script that every machine of a job runs, in the shell's own words.

The machines find each other by torchrun's rendezvous: the first one holds a store at a port, all others come to it.
After a failure torchrun starts every process again, and `--resume` takes them on from the newest checkpoint.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rhapsode.launch.job import Job

PORT = 29500


@dataclass(frozen=True)
class Meeting:
    """How a machine finds the others; each a word of the shell, quoted already.

    Attributes:
        rank: the number of this machine; 0 holds the store.
        head: the address of machine 0, and the port of the store.
        own: this machine's address, as the others see it.
    """

    rank: str
    head: str
    own: str
    port: str = str(PORT)


def step(
    job: Job,
    *,
    folder: str | None,
    recipe: str,
    out: str,
    meeting: Meeting,
    torchrun: Sequence[str] = ("torchrun",),
    before: Sequence[str] = (),
) -> str:
    """What one machine does.

    Args:
        folder: where to do it; None is where the script begins.
        recipe, out: as they are called from there.
        torchrun: how torchrun is called.
        before: words in front of it.
    """
    lines = ["set -e"]
    if folder is not None:
        lines.append(f"cd {shlex.quote(folder)}")
    if job.config.setup.strip():
        lines.append(job.config.setup.strip("\n"))
    lines.append(f"export OMP_NUM_THREADS={_threads(job)}")
    words = [*before, *torchrun, f"--nnodes={job.config.nodes}", f"--nproc-per-node={job.config.per_node}"]
    words.append(f"--max-restarts={job.config.restarts}")
    called = shlex.join(words)
    if job.config.nodes == 1:
        called += " --standalone"
    else:
        lines.append(f"if [ {meeting.rank} = 0 ]; then leads=true; else leads=false; fi")
        called += f" --rdzv-backend=c10d --rdzv-id={shlex.quote(job.name)}"
        called += f" --rdzv-endpoint={meeting.head}:{meeting.port} --rdzv-conf=is_host=$leads"
        called += f" --local-addr={meeting.own}"
    lines.append(f"exec {called} {shlex.join(job.command(recipe=recipe, out=out))}")
    return "\n".join(lines) + "\n"


def _threads(job: Job) -> str:
    """Processors of a process: without a word on it torchrun would give each of them one."""
    processes = job.config.per_node
    if job.config.cpus is not None:
        return str(max(1, job.config.cpus // processes))
    return "$(nproc)" if processes == 1 else f"$(( $(nproc) / {processes} > 0 ? $(nproc) / {processes} : 1 ))"
