"""The options that several verbs share: one name, one type, one sentence each."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

OUT = Path("out")

Recipe = Annotated[Path, Parameter(help="The recipe, a YAML file.")]
Model = Annotated[
    Path, Parameter(help="A model directory, a run, whose newest model is taken, or a name of `rhapsode models`.")
]
Overrides = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        help="Change one value of the recipe: train.budget='300 steps'. May be repeated.",
        negative="",
        show_default=False,
        metavar="KEY=VALUE",
    ),
]
Out = Annotated[Path, Parameter(name="--out", help="The folder below which everything is written.")]
Resume = Annotated[
    bool, Parameter(name="--resume", help="Go on from the newest checkpoint.", negative="", show_default=False)
]
Json = Annotated[
    bool,
    Parameter(name="--json", help="Print the result as JSON on standard output.", negative="", show_default=False),
]
Launch = Annotated[
    Literal["torchrun", "slurm", "kubernetes", "skypilot"] | None,
    Parameter(
        name="--launch",
        help="Write it as a job for the machines of the recipe's launch section; torchrun on this machine begins.",
        show_default=False,
    ),
]
Submit = Annotated[
    bool,
    Parameter(name="--submit", help="Hand the job of --launch to its scheduler.", negative="", show_default=False),
]
Watch = Annotated[
    bool,
    Parameter(
        name="--watch",
        help="Train nothing, show what a run is doing: give its directory or its recipe. Ctrl-C leaves it alone.",
        negative="",
        show_default=False,
    ),
]
