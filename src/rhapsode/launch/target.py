"""What a way of launching is, and the fields of the recipe that mean something to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rhapsode.core.errors import RecipeError
from rhapsode.launch.job import Job
from rhapsode.recipe.launch import LaunchConfig


@dataclass(frozen=True)
class Target:
    """A scheduler, or torchrun itself.

    Attributes:
        title: as people write it.
        suffix: of the file.
        uses: the fields of `launch:` that change what is written.
        needs: those that it cannot do without, and what they are to it.
        text: the job as a file.
        commands: what a person types to submit that file, or to start it on each machine.
    """

    title: str
    suffix: str
    uses: frozenset[str]
    needs: Mapping[str, str]
    text: Callable[[Job], str]
    commands: Callable[[Job, Path], list[list[str]]]

    def unused(self, config: LaunchConfig) -> list[str]:
        """Fields that are set and mean nothing here."""
        return sorted(
            name
            for name, field in LaunchConfig.model_fields.items()
            if name not in self.uses and getattr(config, name) != field.get_default()
        )

    def require(self, config: LaunchConfig) -> None:
        """Insist on what the target cannot do without.

        Raises:
            RecipeError: every field that is missing, a line each.
        """
        missing = [name for name in self.needs if not getattr(config, name)]
        if missing:
            raise RecipeError(
                "\n".join(f"launch.{name}: missing; {self.title} needs {self.needs[name]}" for name in missing),
                f"write it in the recipe, or add --set launch.{missing[0]}=...",
            )
