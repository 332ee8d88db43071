"""What ranks send each other in a step, and the least time that it takes.

Over N ranks, gathering or summing into shares moves (N - 1) / N of the bytes through every rank, in a ring; a sum that
all keep moves twice that. Within a machine it is as fast as its links; across machines as the network cards of all the
group's GPUs in a machine together. Besides, a ring takes a moment for every rank on its way, however little is sent,
and a tree, in which a sum for all goes, for every doubling: that is what a thousand ranks feel.
"""

import math
from typing import NamedTuple

from rhapsode.launch.scale.memory import COMPUTE, WIDE
from rhapsode.launch.scale.setting import Layout, Machines, Task

BUCKET_BYTES = 64 << 20
"""Gradients that are summed at once where every rank has the whole model, as in `train/ranks/together.py`."""


class Traffic(NamedTuple):
    """Bytes that a GPU sends in a step of one micro-batch, by what they are for.

    Attributes:
        weights: of blocks, gathered on the way there and back, and of what lies outside, once.
        shares: gradients, summed in float32 into the rows of each rank.
        sums: gradients, summed over the replicas.
        products: parts of every block's result, and of its gradient, where ranks divide products.
        parts: there also gradients of what is not divided, of which each rank has that of its positions.
        directions: Muon's: rows to the rank that makes their matrix orthogonal, and back.
    """

    weights: float
    shares: float
    sums: float
    products: float
    parts: float
    directions: float


class Time(NamedTuple):
    """Seconds of a step of one micro-batch, at least.

    Attributes:
        compute: at the share of the peak that is assumed.
        hiding: sending that goes on while blocks compute.
        waiting: sending that everything waits for.
    """

    compute: float
    hiding: float
    waiting: float

    @property
    def step(self) -> float:
        return max(self.compute, self.hiding) + self.waiting

    @property
    def lost(self) -> float:
        """The share of the step in which nothing is computed."""
        return 1 - self.compute / self.step


def traffic(task: Task, layout: Layout) -> Traffic:
    """Of one micro-batch. Further ones before a step send weights, shares and products again, and no more than that."""
    own, result = task.own(layout), COMPUTE * layout.rows * task.context * task.spec.width
    weights = shares = directions = products = parts = 0.0
    if layout.is_sharded:
        passed = _passed(layout.shards)
        weights = passed * COMPUTE * (2 * task.blocks / layout.tensor + task.outside)
        shares = passed * WIDE * own
    if task.optimizer == "muon":
        holders = layout.shards * layout.tensor
        directions = _passed(holders) * 2 * WIDE * task.blocks / holders
    sums = 2 * _passed(layout.replicas) * WIDE * own / layout.shards
    if layout.tensor > 1:
        # two sums a block on the way there and two on the way back; those on the way there again to compute again; and
        # one of the gradient that comes back from the loss
        sums_a_block = 6 if layout.recompute else 4
        products = 2 * _passed(layout.tensor) * result * (sums_a_block * len(task.spec.layers) + 1)
        parts = 2 * _passed(layout.tensor) * WIDE * task.outside / layout.shards
    return Traffic(weights, shares, sums, products, parts, directions)


def time(task: Task, layout: Layout, machines: Machines) -> Time:
    """The bound for a step of one micro-batch."""
    sent, blocks = traffic(task, layout), len(task.spec.layers)
    hiding, waiting = 0.0, (sent.products + sent.parts) / (machines.link * machines.link_share)
    neighbours = min(layout.shards, machines.together // layout.tensor)
    if layout.is_sharded:
        speed, ring = _speed(layout.shards, neighbours, machines), (layout.shards - 1) * machines.hop
        hiding += (sent.weights + sent.shares) / speed + (3 * blocks + 2) * ring
        waiting += sent.directions / speed
    else:
        waiting += sent.directions / (machines.link * machines.link_share)
    if layout.replicas > 1:
        copies = max(1, machines.together // (layout.shards * layout.tensor))
        collectives = blocks + 1 if layout.is_sharded else math.ceil(WIDE * task.spec.parameters / BUCKET_BYTES)
        tree = 2 * math.log2(layout.replicas) * machines.hop
        sums = sent.sums / _speed(layout.replicas, copies, machines) + collectives * tree
        # shares are summed block by block while others compute; a whole model's gradients when all are there
        hiding, waiting = (hiding + sums, waiting) if layout.is_sharded else (hiding, waiting + sums)
    return Time(operations(task, layout) / (machines.flops * machines.compute_share), hiding, waiting)


def tokens_per_second(task: Task, layout: Layout, machines: Machines) -> float:
    """Of all GPUs together, at most."""
    return tokens(task, layout) / time(task, layout, machines).step


def tokens(task: Task, layout: Layout) -> int:
    """Of a step of one micro-batch."""
    return layout.rows * task.context * layout.shards * layout.replicas


def operations(task: Task, layout: Layout) -> float:
    """Of one GPU in a micro-batch."""
    each = task.spec.flops_per_token(task.context)
    if layout.recompute:
        each += (each - 6 * task.projection) / 3
    return layout.rows * task.context * each / layout.tensor


def _passed(ranks: int) -> float:
    return (ranks - 1) / ranks


def _speed(ranks: int, neighbours: int, machines: Machines) -> float:
    """Bytes a second through each rank of a group that has so many members in every machine."""
    across = min(machines.link, machines.card * neighbours)
    return machines.link_share * (machines.link if ranks <= neighbours else across)
