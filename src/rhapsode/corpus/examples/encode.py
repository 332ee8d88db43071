"""An example as the sequences of ids that are trained, each with what is learned of it.

Ids come from `text.chat.render` alone, as they do where a model is evaluated and served; a prompt and an answer that
are plain text are encoded one by one, for that is how the model meets the prompt later. Behind the last learned token
nothing is kept: nobody would learn from it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples.example import Completion, Conversation, Example, Feedback, Messages, Preference
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer

Tools = Sequence[Mapping[str, Any]]


class Encoded(NamedTuple):
    """Ids, whether each is learned, and what the sequence is to its example.

    That is answer, chosen, rejected, good, bad, or mismatched: what of the last is called learned is only looked at.
    """

    ids: list[int]
    learned: list[bool]
    role: str


def encode(
    example: Example, *, tokenizer: Tokenizer, stops: Collection[int], other: Messages | None = None
) -> list[Encoded]:
    """The sequences of an example; of a preference the chosen one first.

    Args:
        other: an answer to something else, which feedback is followed by as the answer to its own prompt.
        stops: the ids that end an answer where the model is served.

    Raises:
        RhapsodeError: the chat template refuses it, nothing of it would be learned, or an answer does not end with one
            of the `stops`, so that the model would learn not to stop where it is told to.
    """
    found: list[Encoded]
    match example:
        case Conversation(messages, tools):
            found = [_conversation(messages, tools, "answer", tokenizer)]
        case Completion(str() as prompt, str() as completion, _):
            found = [_plain(prompt, completion, tokenizer)]
        case Completion(prompt, completion, tools):
            found = [_answer(_turns(prompt, "user"), _turns(completion, "assistant"), tools, "answer", tokenizer)]
        case Preference(prompt, chosen, rejected, tools):
            pair = (("chosen", chosen), ("rejected", rejected))
            found = [_answer(prompt, answer, tools, role, tokenizer) for role, answer in pair]
        case Feedback(prompt, completion, label, tools):
            found = [_answer(prompt, completion, tools, "good" if label else "bad", tokenizer)]
            if other is not None:
                found.append(_answer(prompt, other, tools, "mismatched", tokenizer))
        case _:
            end = [] if example.is_cut else [tokenizer.eos]
            ids = [*tokenizer.prefix, *tokenizer.encode(example.text), *end]
            return [Encoded(ids, [False, *[True] * (len(ids) - 1)], "answer")]
    return [_checked(one, stops, tokenizer) for one in found]


def _conversation(messages: Messages, tools: Tools, role: str, tokenizer: Tokenizer) -> Encoded:
    rendered = render(messages, tokenizer=tokenizer, tools=tools)
    return Encoded(rendered.ids, rendered.mask, role)


def _answer(prompt: Messages, answer: Messages, tools: Tools, role: str, tokenizer: Tokenizer) -> Encoded:
    """Of a conversation, only what follows the prompt is learned."""
    ids, mask, _ = _conversation((*prompt, *answer), tools, role, tokenizer)
    start = len(render(prompt, tokenizer=tokenizer, tools=tools, add_generation_prompt=True).ids)
    return Encoded(ids, [is_learned and place >= start for place, is_learned in enumerate(mask)], role)


def _plain(prompt: str, completion: str, tokenizer: Tokenizer) -> Encoded:
    before = tokenizer.ids(prompt) or [tokenizer.bos]
    after = [*tokenizer.encode(completion), tokenizer.eos]
    return Encoded([*before, *after], [False] * len(before) + [True] * len(after), "answer")


def _turns(said: str | Messages, role: str) -> Messages:
    return (Message.model_validate({"role": role, "content": said}),) if isinstance(said, str) else said


def _checked(one: Encoded, stops: Collection[int], tokenizer: Tokenizer) -> Encoded:
    ids, learned, role = one
    ends = [place for place, is_last in enumerate(_is_last(learned)) if is_last]
    if not ends:
        raise RhapsodeError("nothing of it would be learned: no answer stands in it", "give it an answer")
    for place in ends:
        if ids[place] not in stops:
            raise RhapsodeError(
                f"an answer ends with {tokenizer.show(ids[place])!r}, at which the served model would not stop",
                "use a chat template that ends answers with a token of generation_config.json's eos_token_id",
            )
    return Encoded(ids[: ends[-1] + 1], learned[: ends[-1] + 1], role)


def _is_last(learned: Sequence[bool]) -> list[bool]:
    """Whether a place is the last learned one of its run."""
    return [now and not then for now, then in zip(learned, [*learned[1:], False], strict=True)]
