"""What models answer that do not write: a classifier with a label, a reward model with the answer that it prefers, one
that embeds with the passages nearest to the question, as a list. So they are judged as any answers are.
"""

import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.examples.example import Messages
from rhapsode.corpus.examples.heads import answered_ids, prompt_ids, text_ids, words
from rhapsode.engine.heads import LoadedHead
from rhapsode.evaluate.answers import Answer
from rhapsode.evaluate.items import Item
from rhapsode.text.chat import Message

NEAREST = 10
AT_ONCE = 256
"""Items between two reports of progress."""


def picks(loaded: LoadedHead, items: Sequence[Item], *, events: Events, stage: str) -> list[Answer]:
    """The answers, in the order of the items.

    Raises:
        RhapsodeError: an item is longer than the model reads, or has no two answers where one is to be preferred.
    """
    labels = loaded.engine.head.labels
    if not labels:
        texts = _nearest(loaded, items, events=events, stage=stage)
    elif len(labels) == 1:
        both = [ids for item in items for ids in _two(loaded, item)]
        rewards_I2 = _read(loaded.engine.scores, both, events=events, stage=stage).view(-1, 2)
        texts = [
            item.wanted if a > b else item.rejected for item, (a, b) in zip(items, rewards_I2.tolist(), strict=True)
        ]
    else:
        prompts = [prompt_ids(item.prompt, item.tools, tokenizer=loaded.tokenizer) for item in items]
        scores_IL = _read(loaded.engine.scores, prompts, events=events, stage=stage)
        texts = [labels[number] for number in scores_IL.argmax(-1).tolist()]
    return [Answer(text, 0, "stopped", 0) for text in texts]


def way_of(loaded: LoadedHead) -> str:
    """How it is asked, for people."""
    if not loaded.engine.head.labels:
        return "by the nearest vectors among all held-out passages"
    return "by the highest of its scores" if len(loaded.engine.head.labels) > 1 else "by the higher of two rewards"


def _nearest(loaded: LoadedHead, items: Sequence[Item], *, events: Events, stage: str) -> list[str]:
    """Of each question the nearest among all passages that any item wants, or does not want, each of them once."""
    passages = list(dict.fromkeys(text for item in items for text in (item.wanted, item.rejected) if text))
    texts = [*(words(item.prompt) for item in items), *passages]
    ids = [text_ids(text, tokenizer=loaded.tokenizer) for text in texts]
    vectors_SD = _read(loaded.engine.vectors, ids, events=events, stage=stage)
    queries_ID, passages_PD = vectors_SD[: len(items)], vectors_SD[len(items) :]
    best_IK = (queries_ID @ passages_PD.T).topk(min(NEAREST, len(passages))).indices
    return [json.dumps([passages[number] for number in row], ensure_ascii=False) for row in best_IK.tolist()]


def _two(loaded: LoadedHead, item: Item) -> tuple[list[int], list[int]]:
    if not item.rejected:
        raise RhapsodeError(f"item {item.id} has no two answers, of which one is preferred", "give pairs of answers")
    prompt: Messages = () if isinstance(item.prompt, str) else item.prompt
    said = ((*prompt, Message(role="assistant", content=answer)) for answer in (item.wanted, item.rejected))
    chosen, rejected = (answered_ids(one, item.tools, tokenizer=loaded.tokenizer) for one in said)
    return chosen, rejected


def _read(
    read: Callable[[Sequence[Sequence[int]]], Tensor],
    sequences: Sequence[Sequence[int]],
    *,
    events: Events,
    stage: str,
) -> Tensor:
    parts = []
    for start in range(0, len(sequences), AT_ONCE):
        parts.append(read(sequences[start : start + AT_ONCE]))
        done = min(start + AT_ONCE, len(sequences))
        events.emit("progress", stage=stage, done=done, total=len(sequences), unit="texts")
    return torch.cat(parts)
