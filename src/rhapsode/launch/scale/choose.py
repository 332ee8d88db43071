"""The fastest layout that fits."""

from collections.abc import Iterator
from typing import NamedTuple

from rhapsode.launch.scale.memory import Memory, memory
from rhapsode.launch.scale.setting import Layout, Machines, Task
from rhapsode.launch.scale.traffic import Time, Traffic, time, tokens, tokens_per_second, traffic

ROWS = (1, 2, 4, 8, 16)
STEP_TOKENS = 8 << 20
"""Tokens of a step at most: a larger batch learns less from each of them."""


class Figures(NamedTuple):
    """Everything about a layout."""

    layout: Layout
    memory: Memory
    traffic: Traffic
    time: Time
    tokens_per_second: float

    def fits(self, machines: Machines) -> bool:
        return self.memory.peak <= machines.usable * machines.memory


def figures(task: Task, layout: Layout, machines: Machines) -> Figures:
    return Figures(
        layout,
        memory(task, layout),
        traffic(task, layout),
        time(task, layout, machines),
        tokens_per_second(task, layout, machines),
    )


def built(gpus: int) -> Iterator[Layout]:
    """Layouts that `rhapsode train` has."""
    for recompute in (False, True):
        yield Layout(replicas=gpus, recompute=recompute)
        yield Layout(shards=gpus, recompute=recompute)


def further(gpus: int, machines: Machines) -> Iterator[Layout]:
    """Layouts that divide a machine's work otherwise than the work between machines."""
    inside, outside = machines.together, gpus // machines.together
    for recompute in (False, True):
        yield Layout(shards=inside, replicas=outside, recompute=recompute)
        yield Layout(shards=outside, tensor=inside, recompute=recompute)
        for shards in (8, 16, 32, 64):
            if shards < outside:
                yield Layout(shards=shards, replicas=outside // shards, tensor=inside, recompute=recompute)
                yield Layout(shards=inside * shards, replicas=outside // shards, recompute=recompute)


def fastest(task: Task, layouts: Iterator[Layout], machines: Machines) -> Figures | None:
    """Of those that fit, with as many rows at once as pay; None where nothing fits."""
    candidates = [
        figures(task, layout._replace(rows=rows), machines)
        for layout in layouts
        for rows in ROWS
        if tokens(task, layout._replace(rows=rows)) <= STEP_TOKENS
    ]
    fitting = [each for each in candidates if each.fits(machines)]
    return max(fitting, key=lambda each: (round(each.tokens_per_second), -each.memory.peak), default=None)


def fewest(task: Task, machines: Machines, *, recompute: bool, most: int = 1024) -> int | None:
    """The smallest power of two of GPUs on which a row fits, in shares."""
    sizes = (2**power for power in range(most.bit_length()))
    return next(
        (n for n in sizes if figures(task, Layout(shards=n, recompute=recompute), machines).fits(machines)), None
    )
