"""The formulae against what torch really keeps."""

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import make_decoder, make_spec
from torch import Tensor

from rhapsode.kernels import cross_entropy
from rhapsode.kernels.attention import Weighing
from rhapsode.launch.scale import memory as counted
from rhapsode.launch.scale.memory import arriving, block_numbers, kept_numbers, memory, state
from rhapsode.launch.scale.models import LLAMA_8B, SIZES
from rhapsode.launch.scale.setting import Layout, Task
from rhapsode.model.narrow import narrow
from rhapsode.model.spec import ModelSpec
from rhapsode.train.masters import WholeMasters
from rhapsode.train.optimizer import AdamW, Both, Muon
from rhapsode.train.settle import WHOLE_BYTES

SHAPES = [
    {"width": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 160, "depth": 3},
    {"width": 64, "heads": 4, "kv_heads": 4, "head_dim": 16, "ffn": 96, "depth": 1},
    {"width": 128, "heads": 8, "kv_heads": 2, "head_dim": 16, "ffn": 300, "depth": 2},
]
ROWS, CONTEXT = 2, 64


def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:
    """Torch's fused attention over whole rows, as a GPU has it."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=weighing.scale, enable_gqa=True)
    return out.transpose(1, 2)


def kept_bytes(spec: ModelSpec) -> int:
    """Bytes that a forward pass leaves for the way back, weights left out, each piece of memory counted once."""
    model = make_decoder(spec, dtype=torch.bfloat16)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept.setdefault(address, tensor)
        return tensor

    ids = torch.randint(0, spec.vocab_size, (ROWS, CONTEXT))
    positions = torch.arange(CONTEXT).expand(ROWS, CONTEXT)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(ids, positions, attend=attend)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("shape", SHAPES)
def test_activations_are_what_a_decoder_keeps(family, shape, monkeypatch):
    monkeypatch.setattr("rhapsode.kernels.native.suits", lambda *_: False)  # a GPU has none of the operators in C
    spec = make_spec(family=family, **shape)
    once = 2 * spec.head_dim + 4 + 1  # cosine and sine, the ids, the scale of the last norm
    of_the_loss = spec.width  # is not computed here
    numbers = kept_numbers(spec, recompute=False) - of_the_loss + once
    assert kept_bytes(spec) == counted.COMPUTE * numbers * ROWS * CONTEXT


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_state_is_what_masters_and_optimizer_hold(optimizer):
    spec = make_spec(family="llama", tied=False)
    model = make_decoder(spec)
    masters = WholeMasters(model)
    model.to(torch.bfloat16)
    if optimizer == "adamw":
        moments = AdamW(masters.weights, learning_rate=1.0, weight_decay=0.0).state()
    else:
        is_matrix = [weight.height is not None for weight in masters.weights]
        matrices = [w for w, m in zip(masters.weights, is_matrix, strict=True) if m]
        others = [w for w, m in zip(masters.weights, is_matrix, strict=True) if not m]
        muon = Muon(matrices, learning_rate=1.0, weight_decay=0.0)
        adamw = AdamW(others, learning_rate=1.0, weight_decay=0.0)
        moments = Both(muon, adamw, is_matrix=is_matrix).state()
    tensors = [*model.parameters(), *(w.value for w in masters.weights), *masters.grads, *moments.values()]
    held = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    norms = 4 * sum(w.value.numel() for w in masters.weights if w.value.ndim == 1 and w.name.startswith("layers."))
    expected = state(Task(spec, CONTEXT, optimizer), Layout())
    # the formula takes the norms of the blocks, of which AdamW remembers two numbers, for matrices
    assert held == expected + (norms if optimizer == "muon" else 0)


@pytest.mark.parametrize("model", SIZES)
def test_a_parameter_takes_what_the_plan_says(model):
    task = Task(model.spec, 4096)
    assert state(task, Layout()) + arriving(task, Layout()) == WHOLE_BYTES * model.parameters
    shares = Layout(shards=64)
    assert state(task, shares) + arriving(task, shares) == WHOLE_BYTES * model.parameters / 64


@pytest.mark.parametrize("model", [*SIZES, LLAMA_8B])
def test_shapes_have_the_published_number_of_parameters(model):
    task = Task(model.spec, 4096)
    assert model.spec.parameters == model.parameters
    assert task.blocks + task.outside == model.parameters


def test_the_chunk_is_that_of_the_loss():
    assert counted.CHUNK == cross_entropy.CHUNK


def test_recomputing_keeps_what_enters_a_block_and_one_block():
    task = Task(LLAMA_8B.spec, 4096)
    spec = task.spec
    found = memory(task, Layout(shards=8, recompute=True)).activations
    entering = len(spec.layers) * spec.width + 2 * spec.width
    assert found == 2 * 4096 * (entering + block_numbers(spec, spec.layers[0]))


def test_room_to_move_weights_can_be_the_peak():
    task = Task(LLAMA_8B.spec, 256, "muon")
    found = memory(task, Layout(shards=2, recompute=True))
    assert found.moving > 0
    assert found.activations == 0
    assert memory(task._replace(optimizer="adamw"), Layout(shards=2, recompute=True)).moving == 0


def test_a_rank_that_divides_products_has_a_narrower_decoder():
    task, layout = Task(LLAMA_8B.spec, 4096), Layout(tensor=8)
    own = narrow(LLAMA_8B.spec, 8)
    norms = 2 * own.width * len(own.layers)  # which the formula divides as well
    assert task.own(layout) == own.parameters - norms * 7 / 8
    assert block_numbers(task.spec, task.spec.layers[0], tensor=8) == block_numbers(own, own.layers[0])
