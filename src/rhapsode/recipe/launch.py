"""The recipe's `launch:` section: on which machines a run happens, and never what it does. Free of torch.

It is not part of the plan: the same plan may begin on a laptop and go on in a cluster.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from rhapsode.core.config import Bytes, Config, Count

DURATION = re.compile(r"([0-9]{1,9}) ?([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ANY = "any"


def parse_duration(value: Any) -> int:
    """'90s', '30m', '12h' or '2d' in seconds."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise PydanticCustomError(
            "duration", "{value} is not a duration; write for example 30m, 12h or 2d", {"value": repr(value)}
        )
    return int(match[1]) * SECONDS[match[2]]


def _check_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise PydanticCustomError("line", "{text} is not one line of visible text", {"text": repr(text)})
    return text


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(lambda seconds: f"{seconds}s", return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "pattern": DURATION.pattern, "examples": ["30m", "12h", "2d"]}),
]
Line = Annotated[str, AfterValidator(_check_line)]


class LaunchConfig(Config):
    """Read by `rhapsode train --launch`, which says what the chosen target has no use for."""

    nodes: Count = Field(default=1, ge=1, le=100_000, description="Machines.")
    per_node: Count = Field(default=1, ge=1, le=1024, description="Processes a machine: one for each of its GPUs.")
    accelerator: Line | None = Field(
        default=None,
        description="Kind of GPU, one a process, as the target calls it (Slurm: h100; SkyPilot: H100; Kubernetes, "
        "the node label nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3), or `any`; absent is a run on processors.",
    )
    cpus: Count | None = Field(default=None, ge=1, description="Processors a machine.")
    memory: Bytes | None = Field(default=None, ge=1, description="Memory a machine: 64 GB.")
    time: Duration | None = Field(
        default=None,
        description="The longest that the machines may be held at a stretch, such as 12h. The run saves before the "
        "end; on Slurm it then queues again by itself.",
    )
    queue: Line | None = Field(default=None, description="Slurm's partition, Kueue's local queue.")
    account: Line | None = Field(default=None, description="Who pays: Slurm's account, Kubernetes' namespace.")
    image: Line | None = Field(
        default=None, description="Container image that has rhapsode in it; on Slurm as pyxis reads it."
    )
    storage: Line | None = Field(
        default=None,
        description="What outlives the machines: a claim of Kubernetes that all pods may write, which holds the "
        "folder of this command; for SkyPilot a bucket (s3://...) or a volume's name, which gets `--out`.",
    )
    folder: Line | None = Field(
        default=None,
        description="The folder of this command as the job's machines see it, if they see it elsewhere.",
    )
    hosts: list[Line] = Field(
        default=[], description="The machines' names, for torchrun on several without a scheduler; the first leads."
    )
    setup: str = Field(
        default="", description="Shell commands that make rhapsode available, run on every machine before it begins."
    )
    restarts: Count = Field(
        default=3, description="How often the processes are started again after a failure, from the last checkpoint."
    )
