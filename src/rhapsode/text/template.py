"""Conversations under a model's own chat template: the ids that transformers makes, and what in them is learned.

The template writes a string, `markup` reads it. Nothing in a template says what belongs to an answer, so the loss mask
is proven instead: the prompt for an answer must be how the conversation with the answer begins, and that must be how
the whole conversation begins, both as text and as ids. What stands between the two ends is the answer.

Where a tool call ends is found by rendering another call in its place: its end is behind what that changes. It is the
token that ends answers, or else the last special one that is still there when a result follows.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.dialect import ANSWER, PLAIN, dialect_of, plain_answer
from rhapsode.text.markup import Read
from rhapsode.text.renderings import Asked, Renderings

if TYPE_CHECKING:
    from rhapsode.text.chat import Message
    from rhapsode.text.markup import Place
    from rhapsode.text.tokenizer import Tokenizer

_SURROGATE = re.compile("[\ud800-\udfff]")  # UTF-8 has no bytes for it, so others could not read it


class Conversation:
    """One conversation, shielded and ready to be rendered.

    Raises:
        RhapsodeError: there are tool calls, and the template writes none.
    """

    def __init__(
        self, messages: Sequence[Message], *, tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._tokenizer, self._markup = tokenizer, tokenizer.markup
        has_calls = any(message.tool_calls or message.role == "tool" for message in messages)
        dialect = dialect_of(tokenizer.chat_template, tokenizer.names) if has_calls else PLAIN
        rows = [dialect.row(message) for message in messages]
        self._shield = self._markup.shield([tokenizer.chat_template, *_strings([*rows, *tools])])
        self._rows = [self._covered_row(row) for row in rows]
        self._calling = [index for index, row in enumerate(self._rows) if "tool_calls" in row]
        variables = {"tools": self._covered(list(tools)) or None, "documents": None, **tokenizer.names}
        self._renderings = Renderings(tokenizer.chat_template, self._rows, variables)
        self._parts: dict[str, tuple[Read, list[int]]] = {}
        self._whole = Read("", [], [])

    def text(self, stop: int | None = None, *, add_generation_prompt: bool) -> str:
        """The messages before number `stop` as the template writes them, still shielded.

        Raises:
            RhapsodeError: the template fails, refuses them, takes too long, or leaves a tool call out.
        """
        stop = len(self._rows) if stop is None else stop
        text = self._renderings.text(Asked(stop, add_generation_prompt))
        for index in self._calling:
            if index < stop and not _has_calls_of(self._rows[index], text):
                raise RhapsodeError(
                    f"messages[{index}].tool_calls: this chat template leaves out part of what is called",
                    "say nothing beside the call, or give the model another chat template",
                )
        return text

    def ids(self, text: str) -> list[int]:
        return list(self._part(text)[1])

    def _part(self, text: str) -> tuple[Read, list[int]]:
        """Read, and its ids. Many parts are the same: what stands before every answer."""
        if text not in self._parts:
            read = self._markup.read(text)
            self._parts[text] = read, self._markup.ids(read, self._shield)
        return self._parts[text]

    def mask(self, *, add_generation_prompt: bool) -> list[bool]:
        """True for each id of an answer and of the token that ends it.

        Raises:
            RhapsodeError: the template does not let them be told apart; the error says why.
        """
        self._renderings.prepare(Asked(len(self._rows), add_generation_prompt), self._needed())
        whole = self.text(add_generation_prompt=add_generation_prompt)
        self._whole, ids = self._part(whole)
        places = self._whole.places
        special = {place.token for place in places}
        at = [index for index, token in enumerate(ids) if token in special]
        mask = [False] * len(ids)
        for index, row in enumerate(self._rows):
            if row["role"] == "assistant":
                start, stop = (self._num_ids(whole, ids, at, places, end) for end in self._answer(index, whole))
                if start is None or stop is None:
                    _refuse(index, "joins an answer with the text before it in one token")
                mask[start:stop] = [True] * (stop - start)
        return mask

    def _num_ids(
        self, whole: str, ids: Sequence[int], at: Sequence[int], places: Sequence[Place], end: int
    ) -> int | None:
        """How many of the ids stand for the text before character `end`; None if no number of them does.

        Text between special tokens is encoded by itself, so only what follows the last one before `end` is in question.

        Args:
            at: where among the ids the special tokens stand, which stand in the text at `places`.
        """
        before = bisect_right(places, end, key=lambda place: place.stop)
        known, first = (at[before - 1], places[before - 1].start) if before and len(at) == len(places) else (0, 0)
        rest = self._part(whole[first:end])[1]
        return known + len(rest) if ids[known : known + len(rest)] == rest else None

    def _needed(self) -> Iterator[Asked]:
        """What the proof reads of the answers."""
        for index, row in enumerate(self._rows):
            if row["role"] == "assistant":
                yield Asked(index, add_generation_prompt=True)
                yield Asked(index + 1, add_generation_prompt=False)
                if "tool_calls" in row:
                    yield _with_other_call(index, row)

    def _answer(self, index: int, whole: str) -> tuple[int, int]:
        """From which character to which message `index` is the model's own."""
        prompt = self.text(index, add_generation_prompt=True)
        turn = self.text(index + 1, add_generation_prompt=False)
        if not turn.startswith(prompt):
            _refuse(index, "does not go on from the prompt for an answer with the answer")
        end = self._end_of_call if "tool_calls" in self._rows[index] else self._end
        stop = end(turn, start=len(prompt), index=index)
        if whole[:stop] != turn[:stop]:
            _refuse(index, "writes an answer otherwise once the conversation goes on")
        return len(prompt), stop

    def _places(self, turn: str) -> Sequence[Place]:
        """Where special tokens stand in what mostly is a beginning of the whole, which has been read."""
        is_begun = self._whole.text.startswith(turn)
        return self._markup.places_before(self._whole, len(turn)) if is_begun else self._markup.places(turn)

    def _end(self, turn: str, *, start: int, index: int) -> int:
        """Behind the special token that ends the answer, which stands in one piece between two special tokens."""
        content = self._rows[index]["content"].strip()
        ends, last = [], start
        for place in self._places(turn):
            if place.start >= start:
                if content in turn[last : place.start]:
                    ends.append(place.stop)
                last = place.stop
        if not ends:
            _refuse(index, "does not write an answer as it is and end it with a special token")
        return ends[-1] if content else ends[0]

    def _end_of_call(self, turn: str, *, start: int, index: int) -> int:
        """Behind the special token that ends an answer with tool calls; others may stand in it and behind it."""
        row = self._rows[index]
        other = self._renderings.text(_with_other_call(index, row))
        behind = max(start, len(turn) - _num_equal(turn[::-1], other[::-1]))
        places, usual = [place for place in self._places(turn) if place.start >= behind], self._usual_end()
        end = next((place for place in places if place.token == usual), None)
        if end is None:
            more = self._renderings.text(_with_result(index, row))
            common = _num_equal(turn, more)
            end = next((place for place in reversed(places) if place.stop <= common), None)
        if end is None:
            _refuse(index, "does not end a tool call with a special token")
        stop = end.stop
        answer = turn[start:stop]
        if not ((row.get("content") or "").strip() in answer and _has_calls_of(row, answer)):
            _refuse(index, "does not write all of an answer with tool calls where the answer is")
        return stop

    def _usual_end(self) -> int | None:
        """The special token behind an answer without calls, None where the template takes no such answer."""
        try:
            text = plain_answer(self._tokenizer.chat_template, self._tokenizer.names)
        except RhapsodeError:
            return None
        said = text.rfind(ANSWER)
        return next((place.token for place in self._markup.places(text) if place.start >= said >= 0), None)

    def _covered_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What others wrote is covered, not the words that templates look for."""
        covered = {key: self._covered(value) for key, value in row.items() if key not in ("role", "tool_calls")}
        calls = [
            {**call, "function": {key: self._covered(value) for key, value in call["function"].items()}}
            for call in row.get("tool_calls", ())
        ]
        return {"role": row["role"], **covered} | ({"tool_calls": calls} if calls else {})

    def _covered(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._markup.cover(_SURROGATE.sub("\ufffd", value), self._shield)
        if isinstance(value, Mapping):
            return {self._covered(key): self._covered(item) for key, item in value.items()}
        return [self._covered(item) for item in value] if isinstance(value, list | tuple) else value


def _num_equal(first: str, second: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))


def _with_other_call(index: int, row: Mapping[str, Any]) -> Asked:
    """The same message, whose last call is another; its argument is a number, which no template puts into tokens."""
    *calls, last = row["tool_calls"]
    name = "other" if last["function"]["name"] != "other" else "another"
    arguments = {name: 0}
    as_given = json.dumps(arguments) if isinstance(last["function"]["arguments"], str) else arguments
    other = {**row, "tool_calls": [*calls, {**last, "function": {"name": name, "arguments": as_given}}]}
    return Asked(index, add_generation_prompt=False, also=json.dumps([other]))


def _with_result(index: int, row: Mapping[str, Any]) -> Asked:
    """The message, and a result of its first call."""
    call = row["tool_calls"][0]
    identity = {"tool_call_id": call["id"]} if "id" in call else {}
    result = {"role": "tool", "content": "result", **identity, "name": call["function"]["name"]}
    return Asked(index + 1, add_generation_prompt=False, also=json.dumps([result]))


def _has_calls_of(row: Mapping[str, Any], text: str) -> bool:
    """Whether every name and text of the row's calls stands in `text`, perhaps as JSON spells it."""
    functions = [call["function"] for call in row.get("tool_calls", ())]
    words = [word for function in functions for word in (function["name"], *_strings(function["arguments"]))]
    return all(word in text or json.dumps(word, ensure_ascii=False)[1:-1] in text for word in words)


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _refuse(index: int, what: str) -> NoReturn:
    raise RhapsodeError(
        f"messages[{index}]: this chat template {what}, so what the model learns cannot be told from what it reads",
        "use conversations of one answer each, or give the model another chat template",
    )
