"""The rewards by name. Each is a module that is imported when it is asked for; a new one is a file and a line here."""

import difflib
import importlib
from typing import Protocol, cast

from rhapsode.core.errors import RhapsodeError

_HERE = "rhapsode.train.rewards"
REWARDS = {
    "label": f"{_HERE}.label:label",
    "number": f"{_HERE}.number:number",
    "json_schema": f"{_HERE}.json_schema:json_schema",
    "unit_tests": f"{_HERE}.unit_tests:unit_tests",
}


class Reward(Protocol):
    """From 0 to 1."""

    def __call__(self, answer: str, wanted: str) -> float:
        """What an answer is worth, given what its row of the data says of the right one.

        Raises:
            RhapsodeError: what the row says cannot be used; never because of the answer.
        """
        ...


def reward(name: str) -> Reward:
    """The reward of this name.

    Raises:
        RhapsodeError: there is none.
    """
    if name not in REWARDS:
        near = difflib.get_close_matches(name, REWARDS, n=1)
        raise RhapsodeError(
            f"there is no reward called {name!r}",
            f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(REWARDS)}",
        )
    module, _, function = REWARDS[name].partition(":")
    return cast(Reward, getattr(importlib.import_module(module), function))
