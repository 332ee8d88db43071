"""docs/scale.md: the figures as a page. A test insists that the page in the repository is this one."""

from collections.abc import Iterator, Sequence

from rhapsode.core.units import GiB
from rhapsode.launch.scale.choose import STEP_TOKENS, Figures, built, fastest, fewest, figures, further
from rhapsode.launch.scale.memory import WIDE, state
from rhapsode.launch.scale.models import LLAMA_8B, LLAMA_70B, SIZES, Model
from rhapsode.launch.scale.setting import Layout, Machines, Task
from rhapsode.launch.scale.traffic import operations
from rhapsode.launch.scale.words import AFTER, BEFORE, BOUNDS, CHECKS, DISK, FURTHER, HIDING, SMALLEST

CONTEXT = 4096
GPUS = (8, 32, 128, 512, 1024)
TOKENS_A_PARAMETER = 20
DAY = 86_400
MACHINES = Machines()
ONE_OF_MANY = Layout(shards=8)
PUBLISHED = {8: (77.0, 6_667), 128: (62.0, 6_514)}
"""torchtitan's Llama 3.1 8B, sharded and compiled, 2 rows of 8,192: GiB and tokens a second on each of so many GPUs."""
PUBLISHED_BYTES = 16
"""Of a parameter there: weight, gradient and two moments."""


def page() -> str:
    """The whole document."""
    machines = MACHINES
    parts = [
        BEFORE.format(
            context=CONTEXT,
            memory=machines.memory / 1e9,
            usable=machines.usable * machines.memory / 1e9,
            flops=machines.flops / 1e12,
            share=machines.compute_share,
            link=machines.link / 1e9,
            card=machines.card / 1e9,
            link_share=machines.link_share,
            hop=machines.hop * 1e6,
            step=STEP_TOKENS / 1e6,
        ),
        *(_model(model) for model in SIZES),
        BOUNDS.format(tokens=TOKENS_A_PARAMETER),
        SMALLEST.format(context=CONTEXT),
        _smallest(),
        DISK,
        _disk(),
        HIDING,
        _hiding(),
        FURTHER,
        _further(),
        AFTER,
        _checks(),
    ]
    return "\n".join(parts)


def _model(model: Model) -> str:
    task = Task(model.spec, CONTEXT)
    columns = "GPUs | layout | rows | state | gathered | activations | loss | **peak** | sent | computing | sending | "
    rows = [_row(task, gpus, fastest(task, built(gpus, MACHINES), MACHINES)) for gpus in GPUS]
    title = f"### {model.title}: {model.parameters / 1e9:.2f} billion parameters\n"
    return title + "\n" + _table(columns + "lost | tokens/s | takes", rows)


def _row(task: Task, gpus: int, found: Figures | None) -> list[str]:
    if found is None:
        every = (figures(task, layout, MACHINES) for layout in built(gpus, MACHINES))
        least = min(every, key=lambda each: each.memory.peak)
        return [f"{gpus:,}", "does not fit", "1", *_bytes(least), *["-"] * 6]
    return [
        f"{gpus:,}",
        found.layout.title,
        str(found.layout.rows),
        *_bytes(found),
        f"{sum(found.traffic) / 1e9:.1f}",
        f"{found.time.compute:.2f} s",
        f"{found.time.hiding + found.time.waiting:.2f} s",
        f"{found.time.lost:.0%}",
        _count(found.tokens_per_second),
        _duration(TOKENS_A_PARAMETER * task.spec.parameters / found.tokens_per_second),
    ]


def _bytes(found: Figures) -> list[str]:
    *parts, moving = found.memory
    assert not moving, "the table has no column for it"
    return [*(f"{each / 1e9:.1f}" for each in parts), f"**{found.memory.peak / 1e9:.1f}**"]


def _duration(seconds: float) -> str:
    if seconds < 2 * DAY:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / DAY:,.0f} days"


def _count(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}"


def _smallest() -> str:
    rows = []
    for model in SIZES:
        for optimizer, title in (("adamw", "AdamW"), ("muon", "Muon")):
            task = Task(model.spec, CONTEXT, optimizer)
            counts = (fewest(task, MACHINES, recompute=recompute) for recompute in (False, True))
            rows.append([model.title, title, *(_or_never(count) for count in counts)])
    return _table("model | optimizer | everything kept | recomputed", rows)


def _or_never(count: int | None) -> str:
    return "never: one row and two blocks are too much" if count is None else f"{count:,}"


def _disk() -> str:
    rows = []
    for model in SIZES:
        sizes = (state(Task(model.spec, CONTEXT, optimizer), ONE_OF_MANY) for optimizer in ("adamw", "muon"))
        # without the gradient, which is not saved
        saved = (ONE_OF_MANY.shards * size - WIDE * model.parameters for size in sizes)
        rows.append([model.title, *(f"{size / 1e9:,.0f}" for size in (*saved, WIDE * model.parameters))])
    return _table("model | a checkpoint, AdamW | Muon | the first machine's main memory", rows)


def _hiding() -> str:
    rows = []
    for model in SIZES:
        task = Task(model.spec, CONTEXT)
        rows.append([model.title, *(_tokens_to_hide(task, gpus) for gpus in GPUS)])
    return _table("model | " + " | ".join(f"{gpus:,} GPUs" for gpus in GPUS), rows)


def _tokens_to_hide(task: Task, gpus: int) -> str:
    """Tokens of a micro-batch on each GPU that take as long to compute as the shares take to send."""
    layout = Layout(shards=gpus)
    sending = figures(task, layout, MACHINES).time.hiding
    each = operations(task, layout) / task.context / (MACHINES.flops * MACHINES.compute_share)
    return _count(sending / each)


def _further() -> str:
    columns = "model | GPUs | built | peak | tokens/s | further | peak | tokens/s"
    rows = []
    for model in SIZES:
        task = Task(model.spec, CONTEXT)
        for gpus in (128, 1024):
            found = [fastest(task, layouts, MACHINES) for layouts in (built(gpus, MACHINES), further(gpus, MACHINES))]
            rows.append([model.title, f"{gpus:,}", *(cell for each in found for cell in _short(each))])
    return _table(columns, rows)


def _short(found: Figures | None) -> Sequence[str]:
    if found is None:
        return ("does not fit", "-", "-")
    count = found.layout.rows
    title = f"{found.layout.title}; {count} row{'s' * (count > 1)}"
    return (title, f"{found.memory.peak / 1e9:.1f}", _count(found.tokens_per_second))


def _checks() -> str:
    few, many = PUBLISHED
    spec = LLAMA_8B.spec
    ours = PUBLISHED_BYTES * spec.parameters * (1 / few - 1 / many) / GiB
    task = Task(spec, 8192)
    kept, again = (
        figures(task, Layout(shards=few, rows=2, recompute=recompute), MACHINES).memory.peak / GiB
        for recompute in (False, True)
    )
    return CHECKS.format(
        few=few,
        many=many,
        few_gib=PUBLISHED[few][0],
        many_gib=PUBLISHED[many][0],
        published=PUBLISHED[few][0] - PUBLISHED[many][0],
        bytes=PUBLISHED_BYTES,
        ours=ours,
        kept=kept,
        again=again,
        few_speed=PUBLISHED[few][1],
        many_speed=PUBLISHED[many][1],
        few_share=PUBLISHED[few][1] * spec.flops_per_token(8192) / MACHINES.flops,
        many_share=PUBLISHED[many][1] * spec.flops_per_token(8192) / MACHINES.flops,
        large=LLAMA_70B.title,
    )


def _table(columns: str, rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines(columns.split(" | "), rows)) + "\n"


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
