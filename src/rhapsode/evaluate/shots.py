"""Plain text with examples before the question, and the choice of the best way to ask a model that was never tuned.

A base model knows no chat template and no task: what it is worth shows when it sees how others were answered (Brown et
al. 2020, arXiv:2005.14165). Examples come from training rows, drawn by hash; so do the rows on which the best number of
them is found. The held-out rows have no part in the choice, or the model would be measured with a prompt made for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from rhapsode.core.events import Events
from rhapsode.corpus.examples.example import Messages
from rhapsode.engine.engine import Engine
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.answers import AsTrained, Prompt, Prompts, answer
from rhapsode.evaluate.config import TaskEvaluationConfig
from rhapsode.evaluate.held_out import rank
from rhapsode.evaluate.items import Item
from rhapsode.evaluate.judging import judge
from rhapsode.evaluate.scorers.scorer import Scorer
from rhapsode.text.chatml import listed, spoken
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.text.tool_calls import writes_calls

SEPARATORS = ("\n\n", "\n\n\n", "\n\n###\n\n")
"""What may stand between examples, and ends an answer: the first that stands in no wanted answer."""
_SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool"}


class Plain:
    """Examples, then the question, as text; of examples that leave no room for the answer, as many as do.

    Messages become lines of `User:` and `Assistant:`, with what the system says, and the tools, once at the top. Text
    stands as it is.
    """

    def __init__(self, tokenizer: Tokenizer, shots: Sequence[Item], *, separator: str, room: int) -> None:
        behind = f" behind {len(shots)} example{'' if len(shots) == 1 else 's'}" if shots else ""
        self.name = f"in plain text{behind}"
        self.num_shots = len(shots)
        self._tokenizer, self._shots, self._separator, self._room = tokenizer, shots, separator, room

    def __call__(self, item: Item) -> Prompt:
        stop = (self._separator,) if isinstance(item.prompt, str) else (self._separator, "\nUser:")
        shots = self.num_shots
        while len(ids := self._ids(item, shots)) > self._room and shots:
            shots -= 1
        return Prompt(ids, stop, shots)

    def tidy(self, answer: str) -> str:
        return answer.strip()

    def _ids(self, item: Item, shots: int) -> list[int]:
        blocks = [*map(_answered, self._shots[:shots]), _asked(item)]
        return self._tokenizer.ids(_system(item) + self._separator.join(blocks)) or [self._tokenizer.bos]


@dataclass(frozen=True)
class Tried:
    """A way to ask, and the figure that it reached on training rows; None where there was no need to try."""

    prompt: str
    value: float | None


class Choice(NamedTuple):
    """The best way to ask, and all that were tried on so many training rows."""

    prompts: Prompts
    tried: tuple[Tried, ...]
    items: int


def best_prompt(
    engine: Engine,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    *,
    scorer: Scorer,
    config: TaskEvaluationConfig,
    sampling: Sampling,
    seed: int,
    events: Events,
) -> Choice:
    """The way to ask with which a model answers training items best; of equals, the one with fewest examples.

    Args:
        items: training items.
        scorer: judges; its figure decides.
        config: how many examples to try, and how many items to try them on.
        sampling: as for the held-out items.
        seed: of the draws.

    Raises:
        RhapsodeError: the model fails.
    """
    drawn = list(_apart(sorted(items, key=lambda item: rank(f"shots:{item.id}", seed=seed))))
    shots, rest = drawn[: max(config.shots)], drawn[max(config.shots) :]
    room, separator = engine.context - config.max_tokens, separator_for(drawn)
    plain = [Plain(tokenizer, shots[:k], separator=separator, room=room) for k in sorted(config.shots)]
    bare: list[Prompts] = [AsTrained(tokenizer)] if _can_ask(tokenizer, drawn) else []
    shortest = [*bare, Plain(tokenizer, (), separator=separator, room=room)]
    fitting = (item for item in rest if all(len(way(item).ids) <= room for way in shortest))
    held = list(islice(fitting, config.shots_items))
    ways = bare + [way for way in plain if way.num_shots == 0 or all(way(i).shots == way.num_shots for i in held)]
    ways = list({way.name: way for way in ways or plain[:1]}.values())
    if len(ways) == 1 or not held:
        return Choice(ways[-1], (Tried(ways[-1].name, None),), 0)
    figures: list[float] = []
    for way in ways:
        said = answer(engine, tokenizer, held, prompts=way, sampling=sampling, events=events, stage="prompts")
        judged = judge(scorer, held, [one.text for one in said])
        figures.append(float(scorer.figure(judged.counts.sum(axis=0))))
    best = ways[int(np.argmax(figures))]  # the first of equals
    return Choice(best, tuple(map(Tried, [way.name for way in ways], figures)), len(held))


def separator_for(items: Sequence[Item]) -> str:
    """What stands in no wanted answer, so that it can end one; the rarest where all do."""
    return next((s for s in SEPARATORS if all(s not in item.wanted.strip() for item in items)), SEPARATORS[-1])


def _can_ask(tokenizer: Tokenizer, items: Sequence[Item]) -> bool:
    """Whether the model can be asked as one that was trained for it: its chat template writes messages, and tools."""
    if not tokenizer.has_chat_template or any(isinstance(item.prompt, str) for item in items):
        return False
    return writes_calls(tokenizer) or not any(item.tools for item in items)


def _apart(items: Sequence[Item]) -> Iterator[Item]:
    """The first item of each group."""
    seen: set[str] = set()
    for item in items:
        if item.group not in seen:
            seen.add(item.group)
            yield item


def _system(item: Item) -> str:
    said = [] if isinstance(item.prompt, str) else [m.content for m in item.prompt if m.role == "system"]
    said += [listed(item.tools)] if item.tools else []
    return "".join(f"{text}\n\n" for text in said)


def _asked(item: Item) -> str:
    """The question up to where the answer begins; a space there would be half of the answer's first token."""
    if isinstance(item.prompt, str):
        return item.prompt.rstrip(" ")
    return f"{_turns(item.prompt)}Assistant:"


def _answered(item: Item) -> str:
    if isinstance(item.prompt, str):
        return (item.prompt + item.wanted).rstrip()
    return f"{_turns(item.prompt)}Assistant: {item.wanted.strip()}"


def _turns(messages: Messages) -> str:
    return "".join(f"{_SPEAKERS[m.role]}: {spoken(m)}\n" for m in messages if m.role in _SPEAKERS)
