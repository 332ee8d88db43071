"""A model answers items: all of them are given to the engine together, which fills its batches as others finish."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import explain_os_error
from rhapsode.engine.completion import Completion
from rhapsode.engine.engine import Engine
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.items import Item
from rhapsode.text.chat import render
from rhapsode.text.tokenizer import Tokenizer

_SECONDS_BETWEEN_REPORTS = 0.5


class Prompt(NamedTuple):
    """What the engine is given: ids, strings that end the answer, and how many examples stand before the question."""

    ids: list[int]
    stop: tuple[str, ...] = ()
    shots: int = 0


class Prompts(Protocol):
    """A way to ask. `name` says it for people."""

    @property
    def name(self) -> str: ...

    def __call__(self, item: Item) -> Prompt: ...

    def tidy(self, answer: str) -> str:
        """The answer without what only this way of asking puts around it."""
        ...


class AsTrained:
    """Messages through the one renderer, text as it is: what training reads and serving sends."""

    name = "as it is trained and served"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, item: Item) -> Prompt:
        """Raises: RhapsodeError: there are messages, and no chat template, or one that refuses them."""
        tokenizer = self._tokenizer
        if isinstance(item.prompt, str):
            return Prompt(tokenizer.ids(item.prompt) or [tokenizer.bos])
        return Prompt(render(item.prompt, tokenizer=tokenizer, tools=item.tools, add_generation_prompt=True).ids)

    def tidy(self, answer: str) -> str:
        return answer


class Answer(NamedTuple):
    """What the model wrote. "cut" is an answer that reached the limit of tokens before it ended."""

    text: str
    tokens: int
    ended: Literal["stopped", "cut"]
    shots: int


def answer(
    engine: Engine,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    *,
    prompts: Prompts,
    sampling: Sampling,
    events: Events,
    stage: str = "answer",
) -> list[Answer]:
    """The model's answers, in the order of the items.

    Args:
        engine: which has no other requests.
        prompts: how it is asked.
        sampling: greedy, usually, with a limit of tokens.
        events: hears progress.

    Raises:
        RhapsodeError: a prompt leaves no room for an answer (before anything is computed), or the model fails.
    """
    asked = [_checked(engine, item, prompts, sampling) for item in items]
    completions = [Completion(tokenizer, stop=prompt.stop) for prompt in asked]
    texts: list[list[str]] = [[] for _ in items]
    ends: dict[int, Literal["stopped", "cut"]] = {}
    open_ = {engine.add(prompt.ids, sampling): index for index, prompt in enumerate(asked)}
    told = -_SECONDS_BETWEEN_REPORTS
    try:
        while open_:
            for output in engine.step():
                index = open_[output.request]
                piece = completions[index].push(output)
                texts[index].append(piece.text)
                if piece.finish_reason is not None:
                    ends[index] = "stopped" if piece.finish_reason == "stop" else "cut"
                    engine.cancel(output.request)
                    del open_[output.request]
            if not open_ or time.monotonic() > told + _SECONDS_BETWEEN_REPORTS:
                told = time.monotonic()
                events.emit("progress", stage=stage, done=len(ends), total=len(items), unit="answers")
    finally:
        for request in open_:
            engine.cancel(request)
    return [
        Answer(prompts.tidy("".join(texts[i])), completions[i].num_tokens, ends[i], prompt.shots)
        for i, prompt in enumerate(asked)
    ]


def _checked(engine: Engine, item: Item, prompts: Prompts, sampling: Sampling) -> Prompt:
    """The prompt of an item. Raises: RhapsodeError: it cannot be asked; the error names the item."""
    try:
        prompt = prompts(item)
        engine.check(prompt.ids, sampling)
    except RhapsodeError as error:
        raise RhapsodeError(f"item {item.id} cannot be asked: {error.message}", error.hint) from None
    return prompt


def write_answers(path: Path, items: Sequence[Item], answers: Sequence[Answer]) -> None:
    """A line of JSON for each item: what was asked and wanted, what came, and how it ended.

    Raises:
        RhapsodeError: the place cannot be written.
    """
    write_lines(path, [json.dumps(_record(*pair), ensure_ascii=False) for pair in zip(items, answers, strict=True)])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """A file of lines, whole or not at all. Raises: RhapsodeError: the place cannot be written."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):  # the folder may be a file
            temporary.unlink(missing_ok=True)


def _record(item: Item, found: Answer) -> dict[str, Any]:
    prompt = item.prompt if isinstance(item.prompt, str) else [message.row() for message in item.prompt]
    said: dict[str, Any] = {"id": item.id, "group": item.group, "prompt": prompt, "wanted": item.wanted}
    return said | {"answer": found.text, "tokens": found.tokens, "ended": found.ended, "shots": found.shots}
