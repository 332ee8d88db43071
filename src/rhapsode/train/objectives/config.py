"""The recipe's `train.objective`: what an answer is worth. Free of torch."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rhapsode.core.config import Config, Share


class NextTokenConfig(Config):
    """Every token of a text."""

    name: Literal["next_token"] = Field(description="Continue text.")


class SftConfig(Config):
    """Every token of an answer (supervised fine-tuning)."""

    name: Literal["sft"] = Field(description="Learn the answers as they are written.")


class DpoConfig(Config):
    """Direct preference optimisation (arXiv:2305.18290)."""

    name: Literal["dpo"] = Field(description="Prefer the chosen answer, relative to the base model.")
    beta: float = Field(default=0.1, gt=0, description="How dear it is to leave the base.")
    label_smoothing: Share = Field(default=0.0, lt=0.5, description="Share of pairs taken to be the wrong way round.")


class IpoConfig(Config):
    """Identity preference optimisation (arXiv:2310.12036)."""

    name: Literal["ipo"] = Field(description="Prefer the chosen answer by a fixed margin, relative to the base model.")
    beta: float = Field(default=0.1, gt=0, description="The margin is 1 / (2 beta) a token.")


class OrpoConfig(Config):
    """Odds ratio preference optimisation (arXiv:2403.07691)."""

    name: Literal["orpo"] = Field(description="Learn the chosen answer, and raise its odds against the rejected one.")
    weight: float = Field(default=0.1, gt=0, description="Of the odds, beside the chosen answer's loss of 1.")


class SimpoConfig(Config):
    """Simple preference optimisation (arXiv:2405.14734)."""

    name: Literal["simpo"] = Field(description="Prefer the chosen answer by its mean log-probability, without a base.")
    beta: float = Field(default=2.0, gt=0, description="What a token's mean log-probability is multiplied with.")
    margin: float = Field(default=1.0, ge=0, description="By how much the chosen answer is to win.")
    label_smoothing: Share = Field(default=0.0, lt=0.5, description="Share of pairs taken to be the wrong way round.")


class ClassifyConfig(Config):
    """Cross-entropy of the labels, which are the answers of the training rows."""

    name: Literal["classify"] = Field(description="Tell labels apart by a head; the model no longer writes.")


class RewardConfig(Config):
    """A reward model (Ouyang et al. 2022, arXiv:2203.02155)."""

    name: Literal["reward"] = Field(description="Give the chosen answer the higher reward; the model no longer writes.")
    centre: float = Field(default=0.01, ge=0, description="Cost of the square of a pair's summed rewards.")


class EmbedConfig(Config):
    """Contrastive learning of vectors (InfoNCE, arXiv:1807.03748), against all other passages of a step."""

    name: Literal["embed"] = Field(description="Bring a query's vector near its passage's; the model no longer writes.")
    temperature: float = Field(default=0.05, gt=0, description="What similarities from -1 to 1 are divided by.")
    pooling: Literal["mean", "last"] = Field(
        default="mean", description="The tokens whose mean is a text's vector: all of them, or the last one alone."
    )


ObjectiveConfig = (
    NextTokenConfig
    | SftConfig
    | DpoConfig
    | IpoConfig
    | OrpoConfig
    | SimpoConfig
    | ClassifyConfig
    | RewardConfig
    | EmbedConfig
)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


ObjectiveField = Annotated[ObjectiveConfig, Field(discriminator="name"), BeforeValidator(_named)]

DEFAULTS: dict[str | None, ObjectiveConfig] = {
    None: NextTokenConfig(name="next_token"),
    "answers": SftConfig(name="sft"),
    "preferences": DpoConfig(name="dpo"),
}
"""By what the examples are made for (None: text), what is learned where the recipe does not say."""
FOR: dict[str, tuple[str | None, ...]] = {
    "next_token": (None,),
    "sft": ("answers",),
    **dict.fromkeys(("dpo", "ipo", "orpo", "simpo"), ("preferences",)),
    "classify": ("answers",),
    "reward": ("preferences",),
    "embed": ("answers", "preferences"),
}
"""What each objective needs examples for; None is text."""
HEADS: dict[str, Literal["classify", "reward", "embed"]] = {
    "classify": "classify",
    "reward": "reward",
    "embed": "embed",
}
"""Objectives of models that do not write."""
