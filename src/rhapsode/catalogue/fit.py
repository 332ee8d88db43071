"""What a model needs on this machine, and how fast it would be: estimates from its shape and measured figures.

P parameters, of which M take part in the matrix products of one token (a mixture's idle experts do not); V D the
vocabulary projection; L layers of H query and K key/value heads of size C, feed-forward F; T = ROW tokens of training.

    chat      memory   4 P + the engine's room for keys and values (2 L K C a token, 4 bytes each) + TOKEN_BYTES V
                       for the tokenizer + RUNTIME
              seconds  bytes read for a token, 4 (M + V D) + keys and values of CHAT_TOKENS tokens, divided by
                       READ_EFFICIENCY bandwidth, + LAYER_SECONDS L for small operators
    training  memory   2 P + (16 + 2) trained + 2 T L (5 D + 2 (H + K) C + 3 F) + the projection's share + RUNTIME
              speed    TRAIN_UTILISATION peak / operations of a token (6 (M + V D) + attention); LoRA leaves out the
                       gradient of the frozen matrices, a third of them

The engine computes in float32, training in bfloat16 with float32 master weights. The constants were measured on two
virtual processors of AMD Zen 5 with SmolLM2 135M, Gemma 3 270M and Qwen3 0.6B: for these the estimates were within 12%
of the speed of chats and within 5% of the memory of chats and of full training.
"""

from typing import Literal, NamedTuple

from rhapsode.core.machine import Figures, Machine
from rhapsode.core.units import GiB, MiB
from rhapsode.model.spec import ModelSpec

Verdict = Literal["fits", "tight", "does not fit"]

CHAT_BYTES = 4
CHAT_TOKENS = 1_024
CACHE_BYTES, REQUESTS = GiB, 32
"""What the engine gives to keys and values at most, and for how many requests at their longest."""
TOKEN_BYTES = 1_000
READ_EFFICIENCY = 0.79
LAYER_SECONDS = 0.3e-3
ROW = 1_024
RUNTIME = 250 * MiB
"""The program itself, with torch."""
TRAIN_UTILISATION = 0.48
MASTER_BYTES = 16
"""Float32 weight, gradient and two moments of a parameter that is trained."""
COMPUTE_BYTES = 2
"""The bfloat16 copy that computes, and as much again for its own gradient where it has one."""
LORA_RANK = 16
SPARE = 0.9
"""The share of the free memory that may be counted on."""


class Use(NamedTuple):
    """Bytes of memory, tokens a second, and whether that is to be had."""

    memory: int
    tokens_per_second: float
    verdict: Verdict


class Fit(NamedTuple):
    """What can be done with a model on a machine."""

    chat: Use
    lora: Use
    full: Use


def fit(spec: ModelSpec, *, machine: Machine, figures: Figures) -> Fit:
    """Estimate everything for one model."""

    def use(memory: int, speed: float) -> Use:
        return Use(memory, speed, _verdict(memory, machine))

    operations = spec.flops_per_token(min(ROW, spec.context))
    training = TRAIN_UTILISATION * figures.bf16_flops / operations
    return Fit(
        chat=use(chat_memory(spec), decode_speed(spec, bandwidth=figures.bandwidth)),
        lora=use(training_memory(spec, is_full=False), training * 3 / 2),
        full=use(training_memory(spec, is_full=True), training),
    )


def chat_memory(spec: ModelSpec) -> int:
    """Bytes that `rhapsode chat` and `rhapsode serve` take, whose engine makes room for keys and values at once."""
    cache = min(CACHE_BYTES, REQUESTS * spec.context * _kept_bytes(spec))
    return CHAT_BYTES * spec.parameters + cache + TOKEN_BYTES * spec.vocab_size + RUNTIME


def decode_speed(spec: ModelSpec, *, bandwidth: float) -> float:
    """Tokens a second of one answer: every weight that computes is read once for each."""
    read = CHAT_BYTES * (spec.matrix_parameters + spec.vocab_size * spec.width)
    read += min(CHAT_TOKENS, spec.context) * _kept_bytes(spec)
    small = LAYER_SECONDS * len(spec.layers)
    return 1 / (read / (READ_EFFICIENCY * bandwidth) + small)


def training_memory(spec: ModelSpec, *, is_full: bool) -> int:
    """Bytes for one row of ROW tokens, in full or with LoRA."""
    tokens = min(ROW, spec.context)
    trained = spec.parameters if is_full else lora_parameters(spec)
    per_token = sum(
        5 * spec.width
        + 2 * (spec.heads + spec.kv_heads) * spec.head_dim
        + 3 * layer.ffn * (layer.experts.per_token if layer.experts else 1)
        for layer in spec.layers
    )
    scores = 3 * COMPUTE_BYTES * tokens * spec.vocab_size  # themselves, their gradient, and its transpose
    head = (4 + 3 * COMPUTE_BYTES) * spec.vocab_size * spec.width if is_full else 0  # its gradient in both precisions
    weights = COMPUTE_BYTES * spec.parameters + (MASTER_BYTES + COMPUTE_BYTES) * trained
    return weights + COMPUTE_BYTES * per_token * tokens + scores + head + RUNTIME


def lora_parameters(spec: ModelSpec) -> int:
    """Two thin matrices of rank LORA_RANK beside every projection of attention and feed-forward."""
    width, heads, kv_heads = spec.width, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    attention = 2 * (width + heads) + 2 * (width + kv_heads)
    return LORA_RANK * sum(
        attention + (3 if spec.gated else 2) * (width + layer.ffn) * (layer.experts.count if layer.experts else 1)
        for layer in spec.layers
    )


def _kept_bytes(spec: ModelSpec) -> int:
    """Bytes of keys and values a token."""
    return CHAT_BYTES * 2 * len(spec.layers) * spec.kv_heads * spec.head_dim


def _verdict(memory: int, machine: Machine) -> Verdict:
    if memory <= SPARE * machine.memory_available:
        return "fits"
    return "tight" if memory <= SPARE * machine.memory else "does not fit"
