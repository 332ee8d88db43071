"""`rhapsode merge`: several models of one shape into one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rhapsode.weights.merge.methods import Method

Kind = Literal["linear", "slerp", "ties", "dare"]
KNOWS = {"linear": set[str](), "slerp": set[str](), "ties": {"density", "scale"}, "dare": {"density", "seed"}}
"""The options of each method, beside the shares."""
LEAST = 2


def merge(
    *models: options.Model,
    method: Annotated[
        Kind,
        Parameter(
            name="--method",
            help="linear: a weighted mean. slerp: along the arc between two. ties, dare: what each has learned beyond "
            "--base, without what contradicts or at random without a part, added up.",
        ),
    ] = "linear",
    shares: Annotated[
        tuple[float, ...],
        Parameter(
            name="--share",
            help="Of each model, in their order: --share 0.6 --share 0.4. Equal if unset.",
            negative="",
            show_default=False,
        ),
    ] = (),
    base: Annotated[
        Path | None, Parameter(name="--base", help="What all were trained from, for ties and dare.", show_default=False)
    ] = None,
    density: Annotated[
        float | None,
        Parameter(
            name="--density", help="How much of each difference counts: 0.2 in ties, 0.5 in dare.", show_default=False
        ),
    ] = None,
    scale: Annotated[
        float | None,
        Parameter(name="--scale", help="What the difference of ties is multiplied with: 1.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None, Parameter(name="--seed", help="Of what dare leaves out: 0.", show_default=False)
    ] = None,
    out: options.Out = options.OUT,
    json: options.Json = False,
) -> None:
    """Make one model of several that were trained from the same base; nothing is trained.

    It is asked as the first one is. A tuned model and its base, in this order, give one between them that forgot less:
    rhapsode merge out/runs/support gemma-3-270m --share 0.7 --share 0.3
    """
    from rhapsode.cli.models import find_model
    from rhapsode.core.errors import RhapsodeError
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.merged import merge as merge_models
    from rhapsode.recipe.merged import told
    from rhapsode.weights.names import model_name

    if len(models) + (base is not None) < LEAST:
        raise RhapsodeError("merging begins with two models", "name another, or --base for ties and dare")
    chosen = {"density": density, "scale": scale, "seed": seed}
    how = _method(method, shares or (1.0,) * len(models), {key: n for key, n in chosen.items() if n is not None})
    directories = [find_model(model) for model in models]
    name = "-and-".join(map(model_name, directories)) + re.sub(r"[^\w.]+", "-", f" {told(how)}").rstrip("-")
    path = merge_models(
        directories, Layout(out).merged / name, method=how, base=None if base is None else find_model(base)
    )
    result = {"path": str(path), "method": told(how), "models": [str(directory) for directory in directories]}
    give(result, as_json=json, show=lambda console: console.print(f"{told(how)}\nmodel  {path}", soft_wrap=True))


def _method(kind: Kind, shares: Sequence[float], numbers: Mapping[str, Any]) -> Method:
    """The method with its numbers.

    Raises:
        RhapsodeError: it has no use for one of them, or one is no number that it can use.
    """
    from rhapsode.core.errors import RhapsodeError
    from rhapsode.weights.merge.methods import Dare, Linear, Slerp, Ties

    if strange := sorted(numbers.keys() - KNOWS[kind]):
        raise RhapsodeError(f"{kind} has no use for --{strange[0]}", "leave it out, or choose another --method")
    if kind == "slerp":
        if len(shares) != Slerp.num_models or sum(shares) <= 0:
            raise RhapsodeError(f"slerp goes from one model to another, and has the shares {list(shares)}", "name two")
        return Slerp(shares[1] / sum(shares))
    own = tuple(shares)
    if kind == "linear":
        return Linear(own)
    return Ties(own, **numbers) if kind == "ties" else Dare(own, **numbers)
