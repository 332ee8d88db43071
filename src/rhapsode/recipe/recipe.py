"""The five sections of a run, as one typed value."""

from typing import Any

from pydantic import Field

from rhapsode.core.config import Config
from rhapsode.core.yaml import write_yaml
from rhapsode.corpus.config import DataConfig
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.model.config import ModelConfig
from rhapsode.recipe.task import TaskConfig
from rhapsode.train.config import TrainConfig


class Recipe(Config):
    """A whole run: what the model is for, what it is, what it reads, how it is trained and how it is judged."""

    task: TaskConfig = Field(description="What the model is for.")
    data: DataConfig = Field(description="Where text comes from, and what is done to it.")
    model: ModelConfig = Field(default=ModelConfig(), description="The model to train.")
    train: TrainConfig = Field(default=TrainConfig(), description="How it is trained.")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="How it is measured.")


def dump_recipe(recipe: Recipe) -> str:
    """YAML with every value written out. Reading it gives an equal recipe."""
    return write_yaml(recipe.model_dump(mode="json"))


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file."""
    schema = Recipe.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Rhapsode recipe"}
