"""The recipe's `train:` section to a plan: what is left out is derived, and every number comes with its reason.

Free of torch: what must be known of the machine is handed in as `Here`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rhapsode.core.errors import PlanRefused
from rhapsode.core.units import GiB, format_bytes, format_count
from rhapsode.model.narrow import narrow
from rhapsode.model.spec import ModelSpec
from rhapsode.train.config import TrainConfig
from rhapsode.train.objectives.balance import Balance
from rhapsode.train.objectives.config import (
    DistilConfig,
    GrpoConfig,
)
from rhapsode.train.plan import Decision, Teacher, TrainPlan
from rhapsode.train.rates import peak_rates
from rhapsode.train.settle_objective import settle_objective
from rhapsode.train.settle_sampled import Prompts, Sizes, own_answers, sampled_batch, sampled_sizes
from rhapsode.train.time_left import FORWARD_SHARE

SCRATCH_SCHEDULE = (0.02, 0.5)
BASE_SCHEDULE = (0.1, 0.9)
"""Shares of the steps in which the rate rises, and in which it falls; a base has no need of a long stay at the peak
(Bergsma et al. 2025)."""
BASE_SCHEDULE_REASON = ": slow while AdamW's moments fill, then down to nothing all the way"


LEAST_BATCH = 4096
"""Tokens of text a step, at least."""
LEAST_OF_EXAMPLES = 1024
"""Tokens of examples a step, at least: there are few of them, and they should make many steps."""
LOOK_SHARE = 0.1
MOST_LOOKED_AT = 65536
WHOLE_BYTES = 20
"""Of a parameter that is trained: float32 master, gradient and two moments, and a copy that computes, with its own."""
COMFORTABLE = 0.5
"""The share of a rank's memory that these may take; activations need the rest."""


class Here(NamedTuple):
    """What a plan must know of the machine it is made on.

    Attributes:
        ranks: how many processes train together.
        memory: bytes that each of them may use; None is not known.
        has_fast_bf16: whether products in bfloat16 are faster than in float32.
        tokens_at_once, bytes_at_once: what is worth computing at once, and what that may leave in memory for the way
            back.
        frozen_tokens_at_once: the same for an adapter: frozen matrices have no gradients to be added up each time, so
            fewer tokens are as fast, and need less memory (docs/experiments.md).
        tokens_per_second: how fast a step of this kind is, measured or guessed; only a budget in minutes needs it.
        flops: operations a second of a matrix product in the type that computes; only a budget in minutes without a
            model's size needs it.
    """

    ranks: int = 1
    memory: int | None = None
    has_fast_bf16: bool = True
    tokens_at_once: int = 2048
    bytes_at_once: int = GiB
    frozen_tokens_at_once: int = 1024
    tokens_per_second: float | None = None
    flops: float | None = None


ORDINARY = Here()


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
    examples: str | None = None,
    asked: Prompts | None = None,
    balance: Balance | None = None,
    prompts: Sequence[str] = (),
    teacher: Teacher | None = None,
    new_tokens: Sequence[int] = (),
    here: Here = ORDINARY,
) -> tuple[TrainPlan, list[Decision]]:
    """Derive what the recipe leaves open.

    Args:
        init_seed, base, stops, begin: as in `TrainPlan`.
        context: tokens of a row.
        num_rows: packed rows in the training data.
        num_targets: tokens to predict in one pass over it.
        examples: what the examples are made for; None is text.
        asked: where answers are sampled, what the examples ask.
        balance: of feedback, how many answers are good and how many bad.
        prompts: of the recipe, to look at the model with.
        teacher: what the objective learns from, where it names one.
        new_tokens: those that the base was given rows for: an adapter learns these too.

    Raises:
        PlanRefused: a batch would be larger than all of the data, ranks cannot divide the model as asked, or the
            objective is not what the data is made for.
    """
    is_trained, own = base is not None, _own(config, spec, here=here)
    objective, learned = settle_objective(config, examples, balance)
    _check_ranks(objective.name, here)
    sizes = Sizes(num_rows, num_targets, context)
    if isinstance(objective, GrpoConfig):
        assert asked is not None, "answers are sampled to prompts"
        sizes = sampled_sizes(objective, asked, context=context, ranks=here.ranks)
    if isinstance(objective, DistilConfig) and objective.own is not None:
        learned.append(own_answers(objective.own, asked, context=context, ranks=here.ranks))
    wanted = _wanted_tokens(config, sizes.targets, here)
    if isinstance(objective, GrpoConfig):
        rows, batch = sampled_batch(objective, sizes.rows)
    else:
        is_small = examples is not None and objective.name != "embed"  # which tells a passage from all of a step
        least = LEAST_OF_EXAMPLES if is_small else LEAST_BATCH
        read = wanted * num_rows * context / num_targets if examples else wanted
        rows, batch = _batch(config, context, read, num_rows=num_rows, least=least)
    tokens_per_step, batch_tokens = rows * sizes.targets / sizes.rows, rows * sizes.width
    steps, how_many = _steps(config, wanted, tokens_per_step=tokens_per_step, batch_tokens=batch_tokens, here=here)
    precision, computed = _precision(config, here)
    warmup, decay, schedule = _schedule(config, steps, is_trained=is_trained)
    micro, at_once = _micro_batch(config, own, sizes.width, rows, precision=precision, here=here)
    rate, embedding_rate, rates = peak_rates(config, spec.width, is_trained=is_trained, objective=objective)
    parallel, together = _parallel(config, own, here=here)
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
        precision=precision,
        order_seed=config.seed,
        validate_every=config.validate_every,
        validation_tokens=_look(config, batch_tokens, steps),
        samples=config.samples,
        prompts=tuple(prompts[: config.samples]),
        save_every=config.save_every,
        keep=config.keep,
        keep_every=config.keep_every,
        spike=config.spike,
        max_skips=config.max_skips,
        recompute=config.recompute,
        parallel=parallel,
        tensor=config.tensor,
        objective=objective.model_dump(exclude={"teacher"}),
        adapter=None if config.adapter is None else replace(config.adapter.spec, tokens=tuple(new_tokens)),
        storage=config.storage,
        teacher=teacher,
    )
    return plan, [*learned, batch, at_once, how_many, schedule, *rates, *computed, *together, _keeping(config)]


def _wanted_tokens(config: TrainConfig, num_targets: int, here: Here) -> float:
    amount, unit = config.budget
    if unit == "seconds":
        assert here.tokens_per_second is not None, "a budget in minutes needs a speed"
        return amount * here.tokens_per_second
    return {"tokens": amount, "epochs": amount * num_targets, "steps": float(num_targets)}[unit]


def _steps(
    config: TrainConfig, asked: float, *, tokens_per_step: float, batch_tokens: int, here: Here
) -> tuple[int, Decision]:
    """How many steps the budget pays for; one in minutes pays for the looks between them too."""
    amount, unit = config.budget
    if unit == "steps":
        return int(amount), Decision("steps", f"{int(amount):,}", "train.budget")
    each, why = tokens_per_step, f"{config.budget} / {tokens_per_step:,.0f} trained tokens a step"
    if unit == "seconds":
        share = tokens_per_step / batch_tokens  # a look's tokens are read, the budget's are learned
        each += _look(config, batch_tokens) * FORWARD_SHARE / config.validate_every * share
        speed = f"{format_count(here.tokens_per_second or 0)} tokens/s measured here"
        why = f"{config.budget} at {speed} / {tokens_per_step:,.0f} trained tokens a step, and the looks between them"
    steps = max(1, round(asked / each))
    return steps, Decision("steps", f"{steps:,}", why)


def _look(config: TrainConfig, batch_tokens: int, steps: float = math.inf) -> int:
    """Tokens of a look: forward alone, they take a tenth of the time that the steps between two looks take."""
    if config.validation_tokens is not None:
        return config.validation_tokens
    between = min(config.validate_every, max(1.0, steps / 2))
    return max(1, min(MOST_LOOKED_AT, int(LOOK_SHARE / FORWARD_SHARE * between * batch_tokens)))


def _precision(config: TrainConfig, here: Here) -> tuple[str, list[Decision]]:
    """The type that is computed in, and why, where nobody has said it."""
    if config.precision is not None:
        return config.precision, []
    found = "bf16" if here.has_fast_bf16 else "fp32"
    return found, [Decision("precision", found, "the faster in a matrix product on this machine; masters are fp32")]


def _check_ranks(objective: str, here: Here) -> None:
    """Raises PlanRefused: passages of one rank would have to be negatives for queries of another."""
    if objective == "embed" and here.ranks > 1:
        raise PlanRefused(
            f"train.objective embed compares all texts of a step, and {here.ranks} ranks each see their own",
            "train it with one process",
        )


def _batch(config: TrainConfig, context: int, asked: float, *, num_rows: int, least: int) -> tuple[int, Decision]:
    """Rows a step. Small budgets want small batches: about 3 sqrt(tokens), for text at least 4096."""
    if config.batch_tokens is not None:
        rows = max(1, round(config.batch_tokens / context))
        if rows > num_rows:
            raise PlanRefused(
                f"a step of {rows} rows is more than the {num_rows} rows of training data",
                "add data, or make train.batch_tokens or model.context smaller",
            )
        return rows, Decision("batch", f"{rows} x {context} tokens", "train.batch_tokens, in whole rows")
    power = 2 ** round(math.log2(max(float(least), 3 * math.sqrt(asked))))
    rows = max(1, min(power // context, num_rows))
    return rows, Decision(
        "batch",
        f"{rows} x {context} tokens",
        f"3 sqrt({asked:,.0f} tokens), a power of two, >= {least:,}, <= all rows",
    )


def _micro_batch(
    config: TrainConfig, spec: ModelSpec, context: int, rows: int, *, precision: str, here: Here
) -> tuple[int, Decision]:
    """Rows computed at once: more need more memory, and on a CPU fall out of its caches."""
    if config.micro_batch_rows is not None:
        micro, why = config.micro_batch_rows, "train.micro_batch_rows"
    else:
        token_bytes = activations(spec) * (2 if precision == "bf16" else 4)
        tokens = here.tokens_at_once if config.adapter is None else here.frozen_tokens_at_once
        micro = max(1, min(tokens, here.bytes_at_once // token_bytes) // context)
        most = f"<= {tokens} tokens and {format_bytes(here.bytes_at_once)}"
        why = f"{most}, at {format_bytes(token_bytes)} of memory a token"
    micro = min(rows, micro)
    return micro, Decision("at once", f"{micro} of its rows", why)


def activations(spec: ModelSpec) -> int:
    """Numbers that a token leaves in memory for the way back, about: counted in Gemma 3 and Qwen 3 blocks."""
    attention = 6 * spec.width + 3 * (spec.heads + 2 * spec.kv_heads) * spec.head_dim
    return sum(attention + 4 * layer.ffn * (layer.experts.per_token if layer.experts else 1) for layer in spec.layers)


def _own(config: TrainConfig, spec: ModelSpec, *, here: Here) -> ModelSpec:
    """The decoder that each rank computes.

    Raises:
        PlanRefused: so many ranks, or this model, cannot be divided so.
    """
    if here.ranks % config.tensor:
        raise PlanRefused(
            f"train.tensor {config.tensor} needs a multiple of so many ranks, and here {here.ranks} train together",
            "start them with torchrun, or leave train.tensor out",
        )
    return narrow(spec, config.tensor)


def _parallel(config: TrainConfig, own: ModelSpec, *, here: Here) -> tuple[str, list[Decision]]:
    """How ranks divide the work, each with its `own` decoder; nothing to tell where there is one alone."""
    need, groups = WHOLE_BYTES * own.parameters, here.ranks // config.tensor
    if config.parallel != "auto":
        found, why = config.parallel, "train.parallel"
    elif here.memory is None or need <= COMFORTABLE * here.memory:
        found, why = "replicate", f"{format_bytes(need)} for weights, gradients and optimizer fit on each rank"
    else:
        found, why = "shard", f"{format_bytes(need)} for weights, gradients and optimizer are too many for each rank"
    layout = found if config.tensor == 1 else f"{groups} x {config.tensor} tensor" + f", {found}" * (groups > 1)
    return found, [Decision(f"{here.ranks} ranks", layout, why)] if here.ranks > 1 else []


def _schedule(config: TrainConfig, steps: int, *, is_trained: bool) -> tuple[int, int, Decision]:
    """Steps of warm-up and of decay."""
    warmup, decay = BASE_SCHEDULE if is_trained else SCRATCH_SCHEDULE
    because = "" if (config.warmup, config.decay) != (None, None) or not is_trained else BASE_SCHEDULE_REASON
    warmup = warmup if config.warmup is None else config.warmup
    decay = decay if config.decay is None else config.decay
    rising, falling = round(warmup * steps), round(decay * steps)
    shares = f"{warmup:.0%} and {decay:.0%} of the steps"
    return rising, falling, Decision("schedule", f"warm-up {rising}, decay {falling}", shares + because)


def _keeping(config: TrainConfig) -> Decision:
    many = "the newest" if config.keep == 1 else f"the newest {config.keep}"
    if config.keep_every is None:
        return Decision("checkpoints that stay", f"{many}, the best", "train.keep; the best by bits per byte")
    because = "train.keep, train.keep_every; the best by bits per byte"
    return Decision("checkpoints that stay", f"{many}, the best, every {config.keep_every} steps", because)
