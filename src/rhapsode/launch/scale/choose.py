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


def built(gpus: int, machines: Machines) -> Iterator[Layout]:
    """Layouts that `rhapsode train` has; those who divide products are in one machine."""
    for recompute in (False, True):
        for tensor in (1, 2, 4, 8):
            if tensor <= machines.together and gpus % tensor == 0:
                yield Layout(replicas=gpus // tensor, tensor=tensor, recompute=recompute)
                yield Layout(shards=gpus // tensor, tensor=tensor, recompute=recompute)


def further(gpus: int, machines: Machines) -> Iterator[Layout]:
    """Layouts in which several groups of ranks hold the model in shares."""
    for layout in built(gpus, machines):
        for shards in (1 << power for power in range(2, gpus.bit_length())):
            if shards < layout.shards:
                yield layout._replace(shards=shards, replicas=layout.shards // shards)


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
    """The smallest power of two of GPUs on which a row fits."""
    for gpus in (1 << power for power in range(most.bit_length())):
        layouts = (layout for layout in built(gpus, machines) if layout.recompute == recompute)
        if any(figures(task, layout, machines).fits(machines) for layout in layouts):
            return gpus
    return None
