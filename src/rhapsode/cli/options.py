"""The options that several verbs share: one name, one type, one sentence each."""

from pathlib import Path
from typing import Annotated

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
