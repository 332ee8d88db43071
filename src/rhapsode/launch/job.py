"""What is to run somewhere else: one command, on so many machines, by so many processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.recipe.launch import LaunchConfig


@dataclass(frozen=True)
class Job:
    """`rhapsode train`, as it was called here.

    Attributes:
        name: that of the run.
        here: the folder in which the command was given; `recipe` and `out` start from it, or are absolute.
        changes: of --set.
        as_json: whether the training prints its result for a program.
    """

    name: str
    here: Path
    recipe: Path
    out: Path
    changes: tuple[str, ...]
    config: LaunchConfig
    as_json: bool = False

    def moved(self, path: Path) -> str:
        """`path` as it is called from a folder that stands for `here` on other machines.

        Raises:
            RhapsodeError: it lies elsewhere, where those machines would not find it.
        """
        here = self.here.resolve()
        target = (here / path).resolve()
        if not target.is_relative_to(here):
            raise RhapsodeError(
                f"{path} lies outside of {self.here}, and the job's machines see that folder alone",
                "give the command in a folder that holds the recipe and --out",
            )
        return str(target.relative_to(here))

    def command(self, *, recipe: str, out: str) -> list[str]:
        """The arguments of torchrun that name what it starts; a first start and a later one are the same."""
        changes = [word for change in self.changes for word in ("--set", change)]
        json = ["--json"] if self.as_json else []
        return ["-m", "rhapsode", "train", recipe, *changes, "--out", out, "--resume", *json]

    @property
    def directory(self) -> Path:
        """Where the job is written."""
        return self.out / "launch" / self.name


def make_job(
    config: LaunchConfig,
    *,
    name: str,
    runs: Sequence[str],
    here: Path,
    recipe: Path,
    out: Path,
    changes: Sequence[str] = (),
    resume: bool = False,
    as_json: bool = False,
) -> Job:
    """A job for `recipe`; every start of it goes on from the newest checkpoint.

    Args:
        runs: the names of what it trains: one, or those of a sweep.

    Raises:
        RhapsodeError: there is a checkpoint already, and nobody asked to go on from it.
    """
    for run in (out / "runs" / run for run in runs):
        if not resume and (found := sorted(run.glob("step-*/manifest.json"))):
            raise RhapsodeError(
                f"{run} holds {found[-1].parent.name} of an earlier run",
                "go on with --resume, choose another task.name, or remove the directory",
            )
    return Job(name, here, recipe, out, tuple(changes), config, as_json)
