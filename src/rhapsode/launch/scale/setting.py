"""The machines, and how a model lies on them."""

from dataclasses import dataclass
from typing import NamedTuple

from rhapsode.model.spec import ModelSpec


@dataclass(frozen=True)
class Machines:
    """Assumed, not measured: an NVIDIA H100 SXM with 80 GB, eight to a machine, a 400 Gb/s network card for each.

    Attributes:
        memory: bytes of a GPU.
        usable: the share of it that a plan may count on; the rest is for the driver, NCCL and fragments.
        flops: dense bfloat16 operations a second.
        compute_share: what of them a training step reaches while it computes.
        link: bytes a second that a GPU sends to the others of its machine (NVLink; as many come in).
        card: bytes a second that it sends to other machines.
        link_share: what of both collectives reach.
        hop: seconds that a collective takes for each rank on its way, however little is sent.
        together: GPUs of a machine.
    """

    memory: float = 80e9
    usable: float = 0.9
    flops: float = 989e12
    compute_share: float = 0.5
    link: float = 450e9
    card: float = 50e9
    link_share: float = 0.8
    hop: float = 5e-6
    together: int = 8


class Layout(NamedTuple):
    """How ranks divide the work.

    Attributes:
        shards: ranks that hold a share of the rows each; 1 is the whole model on every rank.
        replicas: groups of these, each with all of the model.
        tensor: ranks that divide every matrix product, within a machine.
        recompute: blocks keep what enters them and compute the rest again on the way back.
        rows: rows of a micro-batch, on each rank or group that divides products.
    """

    shards: int = 1
    replicas: int = 1
    tensor: int = 1
    recompute: bool = False
    rows: int = 1

    @property
    def gpus(self) -> int:
        return self.shards * self.replicas * self.tensor

    @property
    def is_sharded(self) -> bool:
        return self.shards > 1

    @property
    def title(self) -> str:
        parts = []
        if self.tensor > 1:
            parts.append(f"tensor {self.tensor}")
        if self.is_sharded:
            parts.append(f"shard {self.shards}")
        if self.replicas > 1 or not parts:
            parts.append(f"replicate {self.replicas}")
        return " x ".join(parts) + (", recompute" if self.recompute else "")


class Task(NamedTuple):
    """What is trained: `optimizer` is "adamw", or "muon" for the matrices of the blocks."""

    spec: ModelSpec
    context: int
    optimizer: str = "adamw"

    @property
    def outside(self) -> int:
        """Parameters outside the blocks: embedding, projection, last norm."""
        return self.spec.parameters - self.blocks

    @property
    def blocks(self) -> int:
        """Parameters of all blocks."""
        embeddings = self.spec.vocab_size * self.spec.width * (1 if self.spec.tied else 2)
        return self.spec.parameters - embeddings - self.spec.width

    def own(self, layout: Layout) -> float:
        """Parameters of the decoder that a rank computes: what lies outside the blocks is never divided."""
        return self.blocks / layout.tensor + self.outside

    @property
    def projection(self) -> int:
        """Parameters of the vocabulary projection."""
        return self.spec.vocab_size * self.spec.width
