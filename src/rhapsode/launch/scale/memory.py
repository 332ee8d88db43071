"""Bytes on each GPU, as the training code allocates them.

Numbers that a token leaves in a block for the way back, by what keeps them (D width, H and K heads, C their size, F
inner width):

    4 D + 2          what enters the two norms, and the two products behind them; the scales of the norms
    (H + 2 K) C      queries, keys and values as they leave their product: values are read there
    (H + K) C        queries and keys, turned by their position
    H C + 2 H        what attention gives, and a float32 sum for each query
    3 F              gate and up, and what enters the way down
    H + K            more where queries and keys are normalised: the scales

Ranks that divide products have their part of all but the first line, which is the residual stream. A test counts these
in a real decoder.
"""

from typing import NamedTuple

from rhapsode.launch.scale.setting import Layout, Task
from rhapsode.model.spec import LayerSpec, ModelSpec

COMPUTE = 2
"""Bytes of a number that computes, bfloat16."""
WIDE = 4
"""Bytes of a number that is trained, float32."""
AT_WORK = 22
"""Bytes of a number while Muon makes matrices orthogonal: copies in float32 to and from the ranks, bfloat16 between."""
CHUNK = 1024
"""Tokens whose scores exist at once, as in `kernels/cross_entropy.py`."""


class Memory(NamedTuple):
    """Bytes at the peak of a step.

    Attributes:
        state: weights, gradients and the optimizer's memory.
        gathered: what is gathered from the other ranks, and gradients on their way to them.
        activations: kept for the way back.
        loss: the scores of a chunk, and the gradient of the projection.
        moving: what the optimizer needs for a moment, when nothing is kept any more.
    """

    state: float
    gathered: float = 0.0
    activations: float = 0.0
    loss: float = 0.0
    moving: float = 0.0

    @property
    def peak(self) -> float:
        return sum(self)


def memory(task: Task, layout: Layout) -> Memory:
    """The peak of a step: at the end of the way there, in the blocks on the way back, or while weights move."""
    spec, tensor, projection = task.spec, layout.tensor, task.projection
    tokens = layout.rows * task.context
    kept = COMPUTE * tokens * kept_numbers(spec, recompute=layout.recompute, tensor=tensor)
    again = COMPUTE * tokens * max(block_numbers(spec, layer, tensor=tensor) for layer in spec.layers)
    scores = COMPUTE * CHUNK * spec.vocab_size
    held, second = state(task, layout), arriving(task, layout)
    # the projection's gradient is summed in float32, and then there is a copy in the type that computes
    ending = Memory(held + second, gathered(task, layout), kept, scores + (WIDE + COMPUTE) * projection)
    way_back = Memory(
        held + second,
        gathered(task, layout) + returning(task, layout),
        kept + again * layout.recompute,
        COMPUTE * projection,
    )
    return max(ending, way_back, Memory(held, moving=moving(task, layout)), key=lambda each: each.peak)


def state(task: Task, layout: Layout) -> float:
    """Weight, gradient and moments in float32; where every rank has the whole model, also a copy that computes."""
    own = task.own(layout)
    moments = 2 * own - (task.blocks / layout.tensor if task.optimizer == "muon" else 0)
    copy = 0 if layout.is_sharded else COMPUTE * own
    return (WIDE * (2 * own + moments) + copy) / layout.shards


def arriving(task: Task, layout: Layout) -> float:
    """The gradient of the micro-batch under way, before it is added to that of the step."""
    each = WIDE if layout.is_sharded else COMPUTE
    return each * task.own(layout) / layout.shards


def moving(task: Task, layout: Layout) -> float:
    """AdamW's roots. Muon's momentum, and the matrices of a kind at work, about 22 bytes for each of their numbers."""
    if task.optimizer == "adamw":
        return WIDE * task.own(layout) / layout.shards
    gate_and_up = sum(2 * task.spec.width * layer.ffn for layer in task.spec.layers)
    return (WIDE * task.blocks + AT_WORK * gate_and_up) / (layout.shards * layout.tensor)


def gathered(task: Task, layout: Layout) -> float:
    """What lies outside the blocks, and two blocks: the one at work, and the next one that is fetched meanwhile."""
    if not layout.is_sharded:
        return 0.0
    block = task.blocks / len(task.spec.layers)
    return COMPUTE * (task.outside + 2 * block / layout.tensor)


def returning(task: Task, layout: Layout) -> float:
    """The gradient of a block, and the float32 copy of it that is summed over the ranks; two blocks overlap."""
    if not layout.is_sharded:
        return 0.0
    return 2 * (COMPUTE + WIDE) * task.blocks / len(task.spec.layers) / layout.tensor


def kept_numbers(spec: ModelSpec, *, recompute: bool, tensor: int = 1) -> float:
    """Numbers that a token leaves for the way back: in the blocks, in the last norm, and as the loss's gradient."""
    blocks = sum(spec.width if recompute else block_numbers(spec, layer, tensor=tensor) for layer in spec.layers)
    return blocks + 2 * spec.width


def block_numbers(spec: ModelSpec, layer: LayerSpec, *, tensor: int = 1) -> float:
    """Numbers that a token leaves in a block."""
    assert spec.gated, "only gated blocks are counted"
    assert layer.experts is None, "only dense blocks are counted"
    heads, kv_heads, size = spec.heads, spec.kv_heads, spec.head_dim
    attention = (heads + 2 * kv_heads) * size + (heads + kv_heads) * size + heads * size + 2 * heads
    if spec.qk_norm is not None:
        attention += heads + kv_heads
    return 4 * spec.width + 2 + (attention + 3 * layer.ffn) / tensor
