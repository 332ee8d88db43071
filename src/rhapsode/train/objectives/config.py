"""The recipe's `train.objective`: what an answer is worth. Free of torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rhapsode.core.config import Config, Count, Share
from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.registry import SCORERS, known


class NextTokenConfig(Config):
    """Every token of a text."""

    name: Literal["next_token"] = Field(description="Continue text.")


class SftConfig(Config):
    """Every token of an answer (supervised fine-tuning)."""

    name: Literal["sft"] = Field(description="Learn the answers as they are written.")
    learn_prompts: Share = Field(
        default=0.05,
        description="Share of the prompts' tokens, drawn by hash, that are learned beside the answers: who only ever "
        "learns short answers forgets how text goes on.",
    )
    noise: float | None = Field(
        default=None,
        gt=0,
        description="Of NEFTune (arXiv:2310.05914), on what is read while training; the paper's are 5 to 15.",
    )


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


class KtoConfig(Config):
    """Kahneman-Tversky optimisation (arXiv:2402.01306)."""

    name: Literal["kto"] = Field(description="Make good answers likelier and bad ones less so, relative to the base.")
    beta: float = Field(default=0.1, gt=0, description="How dear it is to leave the base.")
    good_weight: float | None = Field(
        default=None, gt=0, description="Of the loss of good answers; if absent, by how many there are."
    )
    bad_weight: float | None = Field(
        default=None, gt=0, description="Of the loss of bad answers; if absent, by how many there are."
    )


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


OF_WRITERS = [name for name, scorer in SCORERS.items() if scorer.needs is None]


class RewardConfig(Config):
    """A scorer of answers, and what its score counts for."""

    scorer: str = Field(description=f"What judges an answer: {', '.join(OF_WRITERS)}.")
    weight: float = Field(default=1.0, gt=0, description="What its score, from 0 to 1, is multiplied with.")

    @model_validator(mode="after")
    def _scorer_judges_every_answer(self) -> Self:
        try:
            needs = known(self.scorer).needs
        except RhapsodeError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        if needs is not None:
            raise ValueError(f"{self.scorer} judges models of train.objective {needs}, and this one writes")
        if self.scorer.startswith("recall:"):
            raise ValueError("recall of one label judges the rows of that label alone; take accuracy")
        return self


def _scorers(value: Any) -> Any:
    """One name, or several, or with their weights."""
    given = [value] if isinstance(value, str | dict) else value
    return [{"scorer": one} if isinstance(one, str) else one for one in given] if isinstance(given, list) else value


class GrpoConfig(Config):
    """Group relative policy optimisation (arXiv:2402.03300), on its own policy: answers are learned from once."""

    name: Literal["grpo"] = Field(description="Sample answers, judge them, and make the better ones likelier.")
    reward: Annotated[list[RewardConfig], BeforeValidator(_scorers)] = Field(
        min_length=1, description="What judges answers: the name of a scorer, or a list of them with their weights."
    )
    prompts: Count = Field(default=16, ge=1, description="Prompts a step.")
    answers: Count = Field(default=8, ge=2, description="Answers to each, judged against each other.")
    max_tokens: Count = Field(default=64, ge=1, description="Longest answer, in tokens; what is longer is cut.")
    temperature: float = Field(default=1.0, gt=0, description="At which answers are sampled, and learned from.")
    divergence_cost: float = Field(
        default=0.0, ge=0, description="How dear it is to leave the base; above 0 it is computed too."
    )
    spread: Literal["group", "batch", "none"] = Field(
        default="group",
        description="What rewards are divided by: their deviation among a prompt's answers, or among all of the step, "
        "or nothing (Dr. GRPO).",
    )
    per: Literal["answer", "token", "limit"] = Field(
        default="token",
        description="What has the same weight: every answer (GRPO), every token (DAPO), or every token over max_tokens "
        "(Dr. GRPO).",
    )

    @model_validator(mode="after")
    def _scorers_differ(self) -> Self:
        if len({one.scorer for one in self.reward}) < len(self.reward):
            raise ValueError("reward names a scorer twice")
        return self


class OwnConfig(Config):
    """Answers of the model itself, to the prompts of the rows, in place of those that are given."""

    share: Share = Field(gt=0, description="Share of the steps that learn from them.")
    max_tokens: Count = Field(default=128, ge=1, description="Longest such answer, in tokens; what is longer is cut.")


def _own(value: Any) -> Any:
    """The share alone; 0 is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"share": value} if value else None
    return value


class DistilConfig(Config):
    """Distillation from a larger model with the same tokenizer (arXiv:1503.02531, arXiv:2306.13649)."""

    name: Literal["distil"] = Field(description="Learn all that a teacher holds for likely, at every learned token.")
    teacher: str = Field(
        min_length=1,
        description="A model with the student's tokenizer: a pulled model's name, or a model directory, relative to "
        "the recipe.",
    )
    beta: Share = Field(
        default=0.0,
        description="0: the divergence that covers all the teacher would say; 1: the one that avoids what it would "
        "not; between them Jensen and Shannon's.",
    )
    temperature: float = Field(default=1.0, gt=0, description="The scores of both are divided by it.")
    next_token: Share = Field(default=0.0, lt=1, description="Share of the ordinary loss, of the tokens as they stand.")
    own: Annotated[OwnConfig | None, BeforeValidator(_own)] = Field(
        default=None,
        description="Share of the steps in which the teacher judges answers that the model itself samples (GKD), or "
        "that share with the most tokens of an answer; absent: only given ones.",
    )

    @model_validator(mode="after")
    def _nobody_learns_its_own_words_by_heart(self) -> Self:
        if self.own is not None and self.next_token:
            raise ValueError("next_token learns answers as they stand, and own answers are the model's; leave one out")
        return self


class ClassifyConfig(Config):
    """Cross-entropy of the labels, which are the answers of the training rows."""

    name: Literal["classify"] = Field(description="Tell labels apart by a head; the model no longer writes.")


class RewardModelConfig(Config):
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
    | KtoConfig
    | GrpoConfig
    | DistilConfig
    | ClassifyConfig
    | RewardModelConfig
    | EmbedConfig
)


ObjectiveField = Annotated[ObjectiveConfig, Field(discriminator="name"), BeforeValidator(_named)]

DEFAULTS: dict[str | None, ObjectiveConfig] = {
    None: NextTokenConfig(name="next_token"),
    "answers": SftConfig(name="sft"),
    "preferences": DpoConfig(name="dpo"),
    "feedback": KtoConfig(name="kto"),
}
"""By what the examples are made for (None: text), what is learned where the recipe does not say."""
FOR: dict[str, tuple[str | None, ...]] = {
    "next_token": (None,),
    "sft": ("answers",),
    "kto": ("feedback",),
    "grpo": ("answers",),
    "distil": ("answers", None),
    **dict.fromkeys(("dpo", "ipo", "orpo", "simpo"), ("preferences",)),
    "classify": ("answers",),
    "reward": ("preferences",),
    "embed": ("answers", "preferences"),
}
"""What each objective learns from: what examples are made for, or None for text."""
HEADS: dict[str, Literal["classify", "reward", "embed"]] = {
    "classify": "classify",
    "reward": "reward",
    "embed": "embed",
}
"""Objectives of models that do not write."""
BY_TOKEN = ("sft",)
"""Those of examples to which every learned token counts by itself, whatever else stands in its tree."""
