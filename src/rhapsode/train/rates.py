"""How fast weights are moved: the peak rates that a recipe leaves open, each with its reason. Free of torch."""

import math

from rhapsode.train.config import TrainConfig
from rhapsode.train.objectives.config import (
    FOR,
    HEADS,
    ObjectiveConfig,
)
from rhapsode.train.plan import Decision

MUON_RATE = 0.035
EMBEDDING_RATE = 0.012
ADAMW_RATE = 0.003
REFERENCE_WIDTH = 256
GENTLER = 30
"""Trained weights are moved by so much less than fresh ones: far enough to learn, not so far as to forget."""
ADAPTER_FASTER = 2
"""A change of low rank wants a higher rate than the weights beside which it stands. Ten times as high, which Schulman
2025 found best for what is learned, forgets what is not (docs/experiments.md)."""
PREFERENCE_GENTLER = 4
"""Preferences say little of how to write; steps as large as for answers would make a model forget it."""
REWARD_GENTLER = 2
"""A reward is one number for a whole answer, so most of its gradient is noise."""
JUDGED = ("preferences", "feedback")
BASE_OPTIMIZER_REASON = "the base was made by it or its like; Muon would move every direction of a matrix alike"


def peak_rates(
    config: TrainConfig, width: int, *, is_trained: bool, objective: ObjectiveConfig
) -> tuple[float, float, list[Decision]]:
    """The peak rate of the matrices or of everything, that of the embeddings beside Muon, and why."""
    scale, by_width = math.sqrt(REFERENCE_WIDTH / width), f" sqrt({REFERENCE_WIDTH}/{width})"
    gentler, less = (1 / GENTLER, f" / {GENTLER}, as the weights are trained already") if is_trained else (1.0, "")
    if config.adapter is not None:
        gentler, less = gentler * ADAPTER_FASTER, f"{less}, x {ADAPTER_FASTER} for an adapter"
    [kind, *_] = FOR[objective.name]
    if kind in JUDGED and objective.name not in HEADS:  # a head has no words to forget
        gentler, less = gentler / PREFERENCE_GENTLER, f"{less}, / {PREFERENCE_GENTLER} for {kind}"
    if objective.name == "grpo":
        gentler, less = gentler / REWARD_GENTLER, f"{less}, / {REWARD_GENTLER} for rewards"
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
