"""Examples for models that do not write: what they read, and what stands where the next token would be.

Behind the last id that the model reads stands the number of a label, which is the only thing that is learned of the
sequence: in packed rows a target stands at the place of every sequence's last token, and nowhere else. Of rewards and
of vectors the number says nothing, and is 0.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.corpus.documents import Document
from rhapsode.corpus.examples.encode import Encoded, encode
from rhapsode.corpus.examples.example import Completion, Conversation, Example, Messages, Preference, Tools, example_of
from rhapsode.text.chat import render
from rhapsode.text.tokenizer import Tokenizer

Kind = Literal["classify", "reward", "embed"]
MOST_LABELS = 1000
LEAST_OF_A_LABEL = 2
"""Rows of a label, in the mean: where there are fewer, the answers are no labels."""
NO_LABEL = 0
REWARD = "reward"


@dataclass(frozen=True)
class Purpose:
    """What a head learns of examples; `labels` in the order of their numbers."""

    kind: Kind
    labels: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "labels": list(self.labels)}

    def shown(self, target: int) -> str:
        """What is learned at a place, for people."""
        said = {"classify": "label", "reward": "reward", "embed": "vector"}[self.kind]
        return f" -> {said}" + (f" {self.labels[target]}" if self.kind == "classify" else "")


def purpose_of(value: Mapping[str, Any]) -> Purpose:
    """The way back from `as_json`."""
    return Purpose(value["kind"], tuple(value["labels"]))


def find_purpose(kind: Kind, training: Iterable[Document]) -> Purpose:
    """What a head of this kind has to learn of training documents: the labels are the answers that stand in them.

    Raises:
        PlanRefused: there is one label, or there are so many that they are none; or there are other examples.
    """
    if kind != "classify":
        return Purpose(kind, (REWARD,) if kind == "reward" else ())
    answers = [label_of(example_of(document)) for document in training]
    labels = tuple(sorted(set(answers)))
    if len(labels) == 1:
        raise PlanRefused(
            f"every training row has the label {labels[0]!r}, so there is nothing to tell apart", "give rows of others"
        )
    if len(labels) > min(MOST_LABELS, len(answers) // LEAST_OF_A_LABEL):
        some = ", ".join(repr(label[:30]) for label in labels[:3])
        raise PlanRefused(
            f"{len(answers):,} training rows have {len(labels):,} different answers ({some}, ...), which are no labels",
            f"classify tells at most {MOST_LABELS:,} labels apart, of {LEAST_OF_A_LABEL} rows or more in the mean; to "
            "learn answers, set train.objective: sft",
        )
    return Purpose(kind, labels)


def label_of(example: Example) -> str:
    """Raises PlanRefused: the example has no answer in words."""
    answer = _asked(example).answer
    if not answer.strip():
        raise PlanRefused("a training row has an empty label", "give every row its label")
    return answer.strip()


def encode_for(purpose: Purpose, example: Example, *, tokenizer: Tokenizer, stops: Collection[int]) -> list[Encoded]:
    """The sequences of an example; behind the ids of each stands the number of its label.

    Raises:
        RhapsodeError: as `encode`; or it has a label that no training row has, or nothing to read.
    """
    match purpose.kind, example:
        case "classify", _:
            (prompt, _, tools), label = _asked(example), label_of(example)
            if label not in purpose.labels:
                raise RhapsodeError(
                    f"its label {label[:60]!r} stands on no training row", "give training rows with it, or leave it out"
                )
            return [_ended(prompt_ids(prompt, tools, tokenizer=tokenizer), purpose.labels.index(label), "answer")]
        case "reward", Preference():
            return [_ended(one.ids, NO_LABEL, one.role) for one in encode(example, tokenizer=tokenizer, stops=stops)]
        case "embed", Preference(prompt, chosen, rejected, _):
            texts = {"query": words(prompt), "passage": words(chosen), "no passage": words(rejected)}
        case _:
            asked = _asked(example)
            texts = {"query": words(asked.prompt), "passage": asked.answer}
    return [_ended(text_ids(said, tokenizer=tokenizer), NO_LABEL, role) for role, said in texts.items()]


def prompt_ids(prompt: str | Messages, tools: Tools, *, tokenizer: Tokenizer) -> list[int]:
    """What a classifier reads: text as it is, or messages up to where an answer would begin."""
    if isinstance(prompt, str):
        return text_ids(prompt, tokenizer=tokenizer)
    return render(prompt, tokenizer=tokenizer, tools=tools, add_generation_prompt=True).ids


def answered_ids(messages: Messages, tools: Tools, *, tokenizer: Tokenizer) -> list[int]:
    """What a reward model reads: a conversation up to the end of its last answer."""
    rendered = render(messages, tokenizer=tokenizer, tools=tools)
    last = max(place for place, is_learned in enumerate(rendered.mask) if is_learned)
    return rendered.ids[: last + 1]


def text_ids(text: str, *, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.ids(text) or [tokenizer.bos]


def words(said: str | Messages) -> str:
    """What is said, without who says it: a vector is one of a text."""
    return said if isinstance(said, str) else "\n".join(message.content for message in said)


class _Asked(NamedTuple):
    """What is read, and what is the answer."""

    prompt: str | Messages
    answer: str
    tools: Tools


def _asked(example: Example) -> _Asked:
    match example:
        case Completion(prompt, completion, tools):
            return _Asked(prompt, words(completion), tools)
        case Conversation(messages, tools) if messages[-1].role == "assistant":
            return _Asked(messages[:-1], messages[-1].content, tools)
        case _:
            raise RhapsodeError("it has no prompt with an answer behind it", "give prompts and completions")


def _ended(ids: Sequence[int], number: int, role: str) -> Encoded:
    return Encoded([*ids, number], [False] * len(ids) + [True], role)
