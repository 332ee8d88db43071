"""What a training run will do, settled: the recipe's `train:` section with nothing left to derive. Free of torch.

The loop reads a `TrainPlan` and nothing else, so a number that is not in the plan cannot change the run.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rhapsode.core.errors import PlanRefused
from rhapsode.core.units import GiB, format_bytes
from rhapsode.model.spec import ModelSpec
from rhapsode.train.config import TrainConfig

MUON_RATE = 0.035
EMBEDDING_RATE = 0.012
ADAMW_RATE = 0.003
REFERENCE_WIDTH = 256
MICRO_BATCH_TOKENS = 8192
MICRO_BATCH_BYTES = GiB
"""What is computed at once, and what it may leave in memory for the way back."""
GENTLER = 30
"""Trained weights are moved by so much less than fresh ones: far enough to learn, not so far as to forget."""
SCRATCH_SCHEDULE = (0.02, 0.5)
BASE_SCHEDULE = (0.1, 0.9)
"""Shares of the steps in which the rate rises, and in which it falls; a base has no need of a long stay at the peak
(Bergsma et al. 2025)."""
BASE_SCHEDULE_REASON = ": slow while AdamW's moments fill, then down to nothing all the way"
BASE_OPTIMIZER_REASON = "the base was made by it or its like; Muon would move every direction of a matrix alike"


class Decision(NamedTuple):
    """A number the plan settled, and why: the formula, or that the recipe says so."""

    name: str
    value: str
    because: str


@dataclass(frozen=True)
class TrainPlan:
    """Every number of a training run; `batch_rows` rows of `context` tokens are one step.

    Attributes:
        init_seed: draws the first weights; None where they are those of a base.
        base: the digest of the model that training starts from; None is from scratch.
        stops: tokens that will end a generation.
        begin: the id that every piece of a document begins with, as in `corpus.packing.batch`.
    """

    spec: ModelSpec
    init_seed: int | None
    base: str | None
    stops: tuple[int, ...]
    begin: int | None
    context: int
    steps: int
    batch_rows: int
    micro_batch_rows: int
    optimizer: str
    learning_rate: float
    embedding_learning_rate: float
    weight_decay: float
    warmup_steps: int
    decay_steps: int
    clip: float
    precision: str
    order_seed: int
    validate_every: int
    validation_tokens: int
    save_every: int
    keep: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def settle(
    config: TrainConfig,
    spec: ModelSpec,
    *,
    init_seed: int | None,
    base: str | None,
    stops: Sequence[int],
    begin: int | None,
    context: int,
    num_rows: int,
    num_targets: int,
) -> tuple[TrainPlan, list[Decision]]:
    """Derive what the recipe leaves open.

    Args:
        init_seed, base, stops, begin: as in `TrainPlan`.
        context: tokens of a row.
        num_rows: packed rows in the training data.
        num_targets: tokens to predict in one pass over it.

    Raises:
        PlanRefused: a batch would be larger than all of the data.
    """
    is_trained = base is not None
    asked = _asked_tokens(config, num_targets)
    rows, batch = _batch(config, context, asked, num_rows=num_rows)
    tokens_per_step = rows * num_targets / num_rows
    amount, unit = config.budget
    steps = int(amount) if unit == "steps" else max(1, round(asked / tokens_per_step))
    why = "train.budget" if unit == "steps" else f"{config.budget} / {tokens_per_step:,.0f} trained tokens a step"
    warmup, decay, schedule = _schedule(config, steps, is_trained=is_trained)
    micro, at_once = _micro_batch(config, spec, context, rows)
    rate, embedding_rate, rates = _rates(config, spec.width, is_trained=is_trained)
    plan = TrainPlan(
        spec=spec,
        init_seed=init_seed,
        base=base,
        stops=tuple(stops),
        begin=begin,
        context=context,
        steps=steps,
        batch_rows=rows,
        micro_batch_rows=micro,
        optimizer=config.optimizer_for(is_trained=is_trained),
        learning_rate=rate,
        embedding_learning_rate=embedding_rate,
        weight_decay=config.weight_decay,
        warmup_steps=warmup,
        decay_steps=decay,
        clip=config.clip,
        precision=config.precision,
        order_seed=config.seed,
        validate_every=config.validate_every,
        validation_tokens=config.validation_tokens,
        save_every=config.save_every,
        keep=config.keep,
    )
    return plan, [batch, at_once, Decision("steps", f"{steps:,}", why), schedule, *rates]


def _asked_tokens(config: TrainConfig, num_targets: int) -> float:
    amount, unit = config.budget
    return {"tokens": amount, "epochs": amount * num_targets, "steps": float(num_targets)}[unit]


def _batch(config: TrainConfig, context: int, asked: float, *, num_rows: int) -> tuple[int, Decision]:
    """Rows a step. Small budgets want small batches: about 3 sqrt(tokens), at least 4096."""
    if config.batch_tokens is not None:
        rows = max(1, round(config.batch_tokens / context))
        if rows > num_rows:
            raise PlanRefused(
                f"a step of {rows} rows is more than the {num_rows} rows of training data",
                "add data, or make train.batch_tokens or model.context smaller",
            )
        return rows, Decision("batch", f"{rows} x {context} tokens", "train.batch_tokens, in whole rows")
    power = 2 ** round(math.log2(max(4096.0, 3 * math.sqrt(asked))))
    rows = max(1, min(power // context, num_rows))
    return rows, Decision(
        "batch", f"{rows} x {context} tokens", f"3 sqrt({asked:,.0f} tokens), a power of two, >= 4096, <= all rows"
    )


def _micro_batch(config: TrainConfig, spec: ModelSpec, context: int, rows: int) -> tuple[int, Decision]:
    """Rows computed at once: many are fast, but what a large model leaves for the way back is larger than itself."""
    if config.micro_batch_rows is not None:
        micro, why = config.micro_batch_rows, "train.micro_batch_rows"
    else:
        token_bytes = activations(spec) * (2 if config.precision == "bf16" else 4)
        micro = max(1, min(MICRO_BATCH_TOKENS, MICRO_BATCH_BYTES // token_bytes) // context)
        most = f"<= {MICRO_BATCH_TOKENS} tokens and {format_bytes(MICRO_BATCH_BYTES)}"
        why = f"{most}, at {format_bytes(token_bytes)} of memory a token"
    micro = min(rows, micro)
    return micro, Decision("at once", f"{micro} of its rows", why)


def activations(spec: ModelSpec) -> int:
    """Numbers that a token leaves in memory for the way back, about: counted in Gemma 3 and Qwen 3 blocks."""
    attention = 6 * spec.width + 3 * (spec.heads + 2 * spec.kv_heads) * spec.head_dim
    return sum(attention + 4 * layer.ffn * (layer.experts.per_token if layer.experts else 1) for layer in spec.layers)


def _schedule(config: TrainConfig, steps: int, *, is_trained: bool) -> tuple[int, int, Decision]:
    """Steps of warm-up and of decay."""
    warmup, decay = BASE_SCHEDULE if is_trained else SCRATCH_SCHEDULE
    because = "" if (config.warmup, config.decay) != (None, None) or not is_trained else BASE_SCHEDULE_REASON
    warmup = warmup if config.warmup is None else config.warmup
    decay = decay if config.decay is None else config.decay
    rising, falling = round(warmup * steps), round(decay * steps)
    shares = f"{warmup:.0%} and {decay:.0%} of the steps"
    return rising, falling, Decision("schedule", f"warm-up {rising}, decay {falling}", shares + because)


def _rates(config: TrainConfig, width: int, *, is_trained: bool) -> tuple[float, float, list[Decision]]:
    """The peak rate of the matrices or of everything, that of the embeddings beside Muon, and why."""
    scale, by_width = math.sqrt(REFERENCE_WIDTH / width), f" sqrt({REFERENCE_WIDTH}/{width})"
    gentler, less = (1 / GENTLER, f" / {GENTLER}, as the weights are trained already") if is_trained else (1.0, "")
    rate, beside = config.learning_rate, config.embedding_learning_rate or EMBEDDING_RATE * scale * gentler
    if config.optimizer_for(is_trained=is_trained) == "adamw":
        chosen = [Decision("optimizer", "AdamW", BASE_OPTIMIZER_REASON)] if config.optimizer is None else []
        why = "train.learning_rate" if rate else f"{ADAMW_RATE}{by_width}{less}"
        rate = rate or ADAMW_RATE * scale * gentler
        return rate, beside, [*chosen, Decision("learning rate (AdamW)", f"{rate:.4g}", why)]
    why = "train.learning_rate" if rate else f"{MUON_RATE}, the same at any width{less}"
    asked_beside = config.embedding_learning_rate is not None
    why_beside = "train.embedding_learning_rate" if asked_beside else f"{EMBEDDING_RATE}{by_width}{less}"
    rate = rate or MUON_RATE * gentler
    return (
        rate,
        beside,
        [
            Decision("learning rate (Muon, matrices)", f"{rate:.4g}", why),
            Decision("learning rate (AdamW, embeddings)", f"{beside:.4g}", why_beside),
        ],
    )
