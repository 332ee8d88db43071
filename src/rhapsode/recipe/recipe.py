"""The five sections of a run, as one typed value; and lists of values to try in them."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from rhapsode.core.config import Config
from rhapsode.core.yaml import Key, write_yaml
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.tokens_config import LEARNED
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.scorers.registry import SCORERS, known
from rhapsode.model.config import FROM_SCRATCH, ModelConfig
from rhapsode.recipe.launch import LaunchConfig
from rhapsode.recipe.task import TaskConfig
from rhapsode.train.config import TrainConfig
from rhapsode.train.objectives.config import HEADS


def _check_values(values: list[Any]) -> list[Any]:
    if not values:
        raise PydanticCustomError("no_values", "no values to try; give at least one")
    return values


Values = Annotated[list[Any], AfterValidator(_check_values), WithJsonSchema({"type": "array", "minItems": 1})]


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
        data: dict[str, Any] = {"sources": True, "clean": True, "split": {"group"}}
        if not self.data.examples:
            data = {"examples": True, "overlap": True, "too_long": True}
        if self.model.base:
            left_out["model"] = set(FROM_SCRATCH)
            data["tokens"] = set(LEARNED)
        left_out["data"] = data
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
                (("data", "tokens"), self.data.tokens, LEARNED),
            ]
            for key, section, names in sections:
                for name in names:
                    if name in section.model_fields_set and getattr(section, name) is not None:
                        yield (*key, name), "model.base has settled this already; leave one of the two out"
        yield from self._of_examples()
        optimizer = self.train.optimizer_for(is_trained=self.model.base is not None)
        if self.train.embedding_learning_rate is not None and optimizer != "muon":
            why = f"a rate beside Muon, but train.optimizer is {optimizer} here; leave it out, or set that to muon"
            yield ("train", "embedding_learning_rate"), why

    def _of_examples(self) -> Iterator[tuple[Key, str]]:
        """Keys about text where there are examples, about examples where there is text, about adapters without one."""
        data, train = self.data, self.train
        for key in [("clean",), ("split", "group")] if data.examples else [("overlap",), ("too_long",)]:
            section: Config = data if len(key) == 1 else data.split
            if key[-1] in section.model_fields_set:
                kind = "examples" if data.examples else "text"
                yield ("data", *key), f"the data is {kind}, which this has no effect on; leave it out"
        if self.evaluate.task is not None and not data.examples:
            yield ("evaluate", "task"), "text asks for no answers; leave it out, or tune on data.examples"
        yield from self._of_heads()
        if train.adapter is not None and self.model.base is None:
            yield (
                ("train", "adapter"),
                "an adapter stands beside trained weights; name model.base, or leave it out",
            )
        if train.storage is not None and train.adapter is None:
            yield ("train", "storage"), "without train.adapter no weight is frozen; leave it out, or train an adapter"

    def _of_heads(self) -> Iterator[tuple[Key, str]]:
        """A head without trained weights, and scorers of other models than the one that is made."""
        objective = "sft" if self.train.objective is None else self.train.objective.name
        if objective in HEADS:
            if self.model.base is None:
                yield ("train", "objective"), "a head stands upon trained weights; name model.base, or leave it out"
            if self.evaluate.gate.below_best_baseline is not None:
                why = "a model that does not write has no bits per byte; leave it out"
                yield ("evaluate", "gate", "below_best_baseline"), why
            if self.task.prompts:
                yield ("task", "prompts"), "a model that does not write goes on with nothing; leave it out"
        for name in () if self.evaluate.task is None else self.evaluate.task.scorers:
            needs = known(name).needs
            if needs not in (None, objective):
                why = f"{name} judges models of train.objective {needs}, and this is {objective}; name another scorer"
                yield ("evaluate", "task", "scorers"), why
            elif needs is None and objective in ("reward", "embed"):
                why = f"{name} judges labels and words, of which train.objective {objective} makes none; name one of "
                yield (
                    ("evaluate", "task", "scorers"),
                    why + ", ".join(n for n in SCORERS if known(n).needs == objective),
                )


def dump_recipe(recipe: Recipe) -> str:
    """YAML with every value written out. Reading it gives an equal recipe."""
    return write_yaml(recipe.as_json())


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file."""
    schema = Recipe.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Rhapsode recipe"}
