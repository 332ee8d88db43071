"""The five sections of a run, as one typed value; and lists of values to try in them."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from rhapsode.core.config import Config
from rhapsode.core.yaml import Key, write_yaml
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.tokens_config import LEARNED, NEW
from rhapsode.evaluate.config import ASKING, EvaluateConfig
from rhapsode.evaluate.scorers.registry import SCORERS, known
from rhapsode.model.config import FROM_SCRATCH, ModelConfig
from rhapsode.recipe.launch import LaunchConfig
from rhapsode.recipe.task import TaskConfig
from rhapsode.train.config import TrainConfig
from rhapsode.train.objectives.config import HEADS, GrpoConfig


def _check_values(values: list[Any]) -> list[Any]:
    if not values:
        raise PydanticCustomError("no_values", "no values to try; give at least one")
    return values


Values = Annotated[list[Any], AfterValidator(_check_values), WithJsonSchema({"type": "array", "minItems": 1})]

OF_EXAMPLES = ("overlap", "alike", "too_long")
"""Keys of `data` that have no effect on text."""


class Recipe(Config):
    """A whole run: what the model is for, what it is, what it reads, how it is trained and how it is judged."""

    task: TaskConfig = Field(description="What the model is for.")
    data: DataConfig = Field(description="Where text comes from, and what is done to it.")
    model: ModelConfig = Field(default=ModelConfig(), description="The model to train.")
    train: TrainConfig = Field(default=TrainConfig(), description="How it is trained.")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="How it is measured.")
    launch: LaunchConfig = Field(default=LaunchConfig(), description="Where it happens; never part of the plan.")
    sweep: dict[str, Values] = Field(
        default={},
        description="Values to try, a list for each key such as train.learning_rate: every combination is a run.",
    )

    def as_json(self) -> dict[str, Any]:
        """Every value written out, but none without an effect, and no empty sweep or launch."""
        left_out: dict[str, Any] = {} if self.sweep else {"sweep": True}
        if self.launch == LaunchConfig():
            left_out["launch"] = True
        data: dict[str, Any] = {"sources": True, "clean": True}
        if self.data.split.field is None:
            data["split"] = {"group"}
        if not self.data.examples:
            data = dict.fromkeys(["examples", *OF_EXAMPLES], True)
        if self.model.base:
            left_out["model"] = set(FROM_SCRATCH)
            data["tokens"] = set(self.data.tokens.without_effect)
        else:
            data["tokens"] = {*NEW, *(LEARNED if self.train.teacher else ())}
        left_out["data"] = data
        if (task := self.evaluate.task) is not None and task.judges != "answers":
            left_out["evaluate"] = {"task": set(ASKING)}
        return self.model_dump(mode="json", exclude=left_out)

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if found := list(self._without_effect()):
            lines = [
                InitErrorDetails(type=PydanticCustomError("without_effect", "{why}", {"why": why}), loc=key, input=None)
                for key, why in found
            ]
            raise ValidationError.from_exception_data("Recipe", lines)
        return self

    def _without_effect(self) -> Iterator[tuple[Key, str]]:
        """Keys that somebody set and nothing would read, each with the reason."""
        if self.model.base is not None:
            sections: list[tuple[Key, Config, Sequence[str]]] = [
                (("model",), self.model, FROM_SCRATCH),
                (("data", "tokens"), self.data.tokens, self.data.tokens.without_effect),
            ]
            for key, section, names in sections:
                for name in names:
                    if name in section.model_fields_set and getattr(section, name) is not None:
                        yield (*key, name), "model.base has settled this already; leave one of the two out"
        else:
            for name in LEARNED:
                if self.train.teacher is not None and name in self.data.tokens.model_fields_set:
                    yield ("data", "tokens", name), "the vocabulary is that of train.objective.teacher; leave it out"
            for name in NEW:
                if getattr(self.data.tokens, name):
                    why = "there is no model.base whose vocabulary could get more tokens; leave it out"
                    yield ("data", "tokens", name), why
        yield from self._of_examples()
        yield from self._of_likelihoods()
        optimizer = self.train.optimizer_for(is_trained=self.model.base is not None)
        if self.train.embedding_learning_rate is not None and optimizer != "muon":
            why = f"a rate beside Muon, but train.optimizer is {optimizer} here; leave it out, or set that to muon"
            yield ("train", "embedding_learning_rate"), why

    def _of_examples(self) -> Iterator[tuple[Key, str]]:
        """Keys about text where there are examples, about examples where there is text, about adapters without one."""
        data, train = self.data, self.train
        for key in ["clean"] if data.examples else OF_EXAMPLES:
            if key in data.model_fields_set:
                kind = "examples" if data.examples else "text"
                yield ("data", key), f"the data is {kind}, which this has no effect on; leave it out"
        if data.examples and "group" in data.split.model_fields_set and data.split.field is None:
            yield ("data", "split", "group"), "that is for text; name a field of the examples, or leave it out"
        if self.evaluate.task is not None and not data.examples:
            yield ("evaluate", "task"), "text asks for no answers; leave it out, or tune on data.examples"
        for name in ("task", "general"):
            if getattr(self.evaluate.gate, name) is not None and self.model.base is None:
                why = "a model from scratch has none before it to compare with; leave it out, or name model.base"
                yield ("evaluate", "gate", name), why
        yield from self._of_heads()
        if train.adapter is not None and self.model.base is None:
            yield (
                ("train", "adapter"),
                "an adapter stands beside trained weights; name model.base, or leave it out",
            )
        if isinstance(train.objective, GrpoConfig) and train.batch_tokens is not None:
            yield ("train", "batch_tokens"), "a step is train.objective.prompts prompts with answers; leave it out"
        if train.storage is not None and train.adapter is None:
            yield ("train", "storage"), "without train.adapter no weight is frozen; leave it out, or train an adapter"

    def _of_heads(self) -> Iterator[tuple[Key, str]]:
        """A head without trained weights, what only models that write have, and scorers of other models."""
        objective = "sft" if self.train.objective is None else self.train.objective.name
        if objective in HEADS:
            if self.model.base is None:
                yield ("train", "objective"), "a head stands upon trained weights; name model.base, or leave it out"
            for name, what in (("below_best_baseline", "bits per byte"), ("general", "bits on general text")):
                if getattr(self.evaluate.gate, name) is not None:
                    yield ("evaluate", "gate", name), f"a model that does not write has no {what}; leave it out"
            if self.task.prompts:
                yield ("task", "prompts"), "a model that does not write goes on with nothing; leave it out"
        for name in () if self.evaluate.task is None else self.evaluate.task.scorers:
            if why := _unfit(name, objective):
                yield ("evaluate", "task", "scorers"), why

    def _of_likelihoods(self) -> Iterator[tuple[Key, str]]:
        """Keys about answers that the model writes, where it writes none; and a comparison with nothing."""
        if (task := self.evaluate.task) is None or task.judges == "answers":
            return
        for name in ASKING:
            if name in task.model_fields_set:
                yield ("evaluate", "task", name), f"{task.scorers[0]} lets the model write nothing; leave it out"
        if task.compares and (self.model.base is None or "base" not in self.evaluate.baselines):
            why = f"{task.compares} compares with the base; name model.base, and base among evaluate.baselines"
            yield ("evaluate", "task", "scorers"), why


def _unfit(scorer: str, objective: str) -> str:
    """Why a scorer has nothing to judge in what comes of the objective; empty if it has."""
    found = known(scorer)
    if found.needs is not None:
        if found.needs == objective:
            return ""
        return f"{scorer} judges models of train.objective {found.needs}, and this is {objective}; name another scorer"
    if objective not in HEADS or (objective == "classify" and found.judges == "answers" and not found.is_of_calls):
        return ""
    own = [name for name, one in SCORERS.items() if one.needs == objective] or ["accuracy", "macro_f1"]
    what = "tool calls" if found.is_of_calls else "labels and words" if found.judges == "answers" else "likelihoods"
    return f"{scorer} judges {what}, of which train.objective {objective} makes none; name one of {', '.join(own)}"


def dump_recipe(recipe: Recipe) -> str:
    """YAML with every value written out. Reading it gives an equal recipe."""
    return write_yaml(recipe.as_json())


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file."""
    schema = Recipe.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Rhapsode recipe"}
