"""`rhapsode chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give, print_error, stderr

if TYPE_CHECKING:
    from rhapsode.engine.load import Loaded
    from rhapsode.engine.sampling import Sampling
    from rhapsode.text.chat import Message


def chat(
    model: options.Model,
    /,
    *,
    prompt: Annotated[str | None, Parameter(name="--prompt", help="Answer this and end.", show_default=False)] = None,
    complete: Annotated[
        bool, Parameter(name="--complete", help="Go on with the text instead of answering it.", negative="")
    ] = False,
    max_tokens: Annotated[int, Parameter(name="--max-tokens", help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, Parameter(name="--temperature", help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int | None, Parameter(name="--seed", help="The same seed gives the same answer.")] = None,
    json: options.Json = False,
) -> None:
    """Read lines and answer each one; an empty line ends. A model that never learned to chat wants --complete."""
    from rhapsode.cli.models import find_model
    from rhapsode.core.errors import RecipeError
    from rhapsode.engine.load import load_engine
    from rhapsode.engine.sampling import Sampling

    if json and prompt is None:
        raise RecipeError("--json needs --prompt", "give the text to answer: --prompt 'Once upon a time'")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    speaker = Speaker(load_engine(find_model(model)), sampling, is_chat=not complete)
    if prompt is None:
        _talk(speaker)
    elif json:
        answer = "".join(speaker.answer(prompt))
        give({"prompt": prompt, "answer": answer, "finish_reason": speaker.finish_reason}, as_json=True, show=_nothing)
    else:
        _print(speaker.answer(prompt))


class Speaker:
    """A conversation: it remembers what was said. Where `is_chat` is off, every text stands alone."""

    def __init__(self, loaded: Loaded, sampling: Sampling, *, is_chat: bool) -> None:
        self.finish_reason: str | None = None
        self._loaded, self._sampling, self._is_chat = loaded, sampling, is_chat
        self._said: list[Message] = []

    def answer(self, text: str) -> Iterator[str]:
        """The answer, piece by piece; it joins the conversation when it is complete."""
        from rhapsode.engine.completion import complete
        from rhapsode.text.chat import Message, render

        engine, tokenizer = self._loaded
        asked = [*self._said, Message(role="user", content=text)]
        ids = (
            render(asked, tokenizer=tokenizer, add_generation_prompt=True).ids if self._is_chat else tokenizer.ids(text)
        )
        pieces = []
        for piece in complete(engine, tokenizer, ids, sampling=self._sampling):
            pieces.append(piece.text)
            self.finish_reason = piece.finish_reason
            yield piece.text
        if self._is_chat:
            self._said = [*asked, Message(role="assistant", content="".join(pieces))]


def _talk(speaker: Speaker) -> None:
    from rhapsode.core.errors import RhapsodeError

    while line := _read():
        try:
            _print(speaker.answer(line))
        except RhapsodeError as error:
            print_error(error)


def _read() -> str:
    """A line of the person, or "" at the end."""
    if sys.stdin.isatty():
        stderr().print("> ", end="")
    return sys.stdin.readline().rstrip("\n")


def _print(pieces: Iterator[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _nothing(console: Any) -> None:
    """Nothing is shown: the result is for a program."""
