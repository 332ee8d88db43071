"""What a chat template writes of the beginnings of one conversation: asked for together, remembered one by one.

A proof of what is learned needs a rendering or two for each answer. Together they cost one exchange with the worker, to
which the messages are told once, and which answers with a length where a beginning's text begins the whole's. A
rendering that fails is not remembered, so whoever asks for it meets its error as if it had been asked for alone.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.sandbox import SANDBOX


class Asked(NamedTuple):
    """The messages before number `stop`, `also` behind them: a JSON list of others."""

    stop: int
    add_generation_prompt: bool
    also: str = "[]"


class Renderings:
    """Of the beginnings of `rows` under one template.

    Args:
        variables: what the template reads beside the messages.
    """

    def __init__(self, template: str, rows: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> None:
        self._template, self._rows, self._variables = template, rows, variables
        self._known: dict[Asked, str | int] = {}
        self._whole = ""

    def text(self, asked: Asked) -> str:
        """The rendering, as the template writes it.

        Raises:
            RhapsodeError: the template fails, refuses the messages or takes too long.
        """
        if asked not in self._known:
            messages = [*self._rows[: asked.stop], *json.loads(asked.also)]
            told = {"messages": messages, "add_generation_prompt": asked.add_generation_prompt}
            self._known[asked] = SANDBOX.render(self._template, {**self._variables, **told})
        found = self._known[asked]
        return self._whole[:found] if isinstance(found, int) else found

    def prepare(self, whole: Asked, wanted: Iterable[Asked]) -> None:
        """Have these ready, most of which begin as the whole does."""
        wanted, variables = [whole, *wanted], {**self._variables, "messages": self._rows}
        with contextlib.suppress(RhapsodeError):  # whoever asks will hear of it
            first, *others = SANDBOX.render_beginnings(self._template, variables, wanted)
            if isinstance(first, str):
                self._whole = first
                found = zip(wanted, [first, *others], strict=True)
                self._known = {asked: text for asked, text in found if text is not None}
