"""What must hold of an example before anything is learned from it.

Each of these is silent in training: the loss falls as usual, and the model has learned to say nothing, to speak twice,
or to call tools that are not there.
"""

import json
import re
from collections.abc import Callable, Iterator

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import (
    Completion,
    Conversation,
    Example,
    Feedback,
    Messages,
    Preference,
    Text,
    Tools,
)
from rhapsode.corpus.examples.fault import (
    BAD_CHARACTER,
    CALL_WITHOUT_RESULT,
    EMPTY_ANSWER,
    EMPTY_MESSAGE,
    HALF_CHARACTER,
    LATE_SYSTEM,
    NO_ANSWER,
    NO_PROMPT,
    RESULT_WITHOUT_CALL,
    SAME_ANSWERS,
    TWICE_IN_A_ROW,
    UNLISTED_TOOL,
    Problem,
)
from rhapsode.text.chat import Message

_BAD = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_BEHIND = {"user": "an answer", "assistant": "a question"}

Where = Callable[[int], Key]


def problems(example: Example) -> Iterator[Problem]:
    """Everything that is wrong with an example. Keys are those of its canonical value."""
    match example:
        case Conversation():
            yield from _conversation(example)
        case Completion():
            yield from _completion(example)
        case Preference():
            yield from _preference(example)
        case Feedback():
            yield from _answered(example.prompt, example.completion, "completion", example.tools)
        case Text():
            if not example.text.strip():
                yield Problem(EMPTY_ANSWER, ("text",), "an empty text", "remove the row")
            yield from _characters(example.text, ("text",))
    if isinstance(example, Conversation | Completion):
        yield from _characters(example.check, ("check",))
    if not isinstance(example, Text) and example.tools:
        yield from _characters(json.dumps(example.tools, ensure_ascii=False), ("tools",))


def _conversation(example: Conversation) -> Iterator[Problem]:
    messages = example.messages
    if not any(message.role == "assistant" for message in messages):
        yield Problem(NO_ANSWER, ("messages",), "nobody answers", "add a message of the assistant, or remove the row")
    yield from _turns(messages, lambda index: ("messages", index), example.tools)


def _completion(example: Completion) -> Iterator[Problem]:
    prompt, completion = example.prompt, example.completion
    if not isinstance(prompt, str) and not isinstance(completion, str):
        yield from _answered(prompt, completion, "completion", example.tools)
        return
    assert isinstance(prompt, str)
    assert isinstance(completion, str)
    if not prompt.strip():
        yield Problem(EMPTY_MESSAGE, ("prompt",), "an empty prompt", "write the prompt, or make it a row of text")
    if not completion.strip():
        yield Problem(EMPTY_ANSWER, ("completion",), "an empty completion", "write what is to be learned")
    yield from _characters(prompt, ("prompt",))
    yield from _characters(completion, ("completion",))


def _preference(example: Preference) -> Iterator[Problem]:
    yield from _answered(example.prompt, example.chosen, "chosen", example.tools)
    for problem in _answered(example.prompt, example.rejected, "rejected", example.tools):
        if problem.key[0] == "rejected":
            yield problem
    if example.chosen == example.rejected:
        mend = "remove the row: nothing can be learned from it"
        yield Problem(SAME_ANSWERS, ("rejected",), "the same as chosen", mend)


def _answered(prompt: Messages, answer: Messages, name: str, tools: Tools) -> Iterator[Problem]:
    """A prompt and what is said to it, as one conversation."""
    if not prompt:
        yield Problem(NO_PROMPT, ("prompt",), "no message", "write what is answered")
    if not answer or answer[0].role != "assistant" or answer[-1].role == "user":
        yield Problem(NO_ANSWER, (name,), "no answer of the assistant", "write one message of the assistant")
    size = len(prompt)
    yield from _turns(
        (*prompt, *answer), lambda index: ("prompt", index) if index < size else (name, index - size), tools
    )


def _turns(messages: Messages, where: Where, tools: Tools) -> Iterator[Problem]:
    before = ""
    waiting: list[str | None] = []
    for index, message in enumerate(messages):
        role = message.role
        if role == "tool":
            yield from _result(message, waiting, where, index)
        elif role == "system":
            if index:
                mend = "move it to the front, or make it user"
                yield Problem(LATE_SYSTEM, (*where(index), "role"), "a system message that is not the first", mend)
        else:
            if waiting:
                what = "a tool is called and no result follows"
                yield Problem(CALL_WITHOUT_RESULT, (*where(index - 1), "role"), what, "add the message of the tool")
            elif role == before:
                mend = f"join them, or add {_BEHIND[role]} between them"
                yield Problem(TWICE_IN_A_ROW, (*where(index), "role"), f"a second {role} in a row", mend)
            waiting = [call.id for call in message.tool_calls]
            if waiting:
                yield from _calls(message, where(index), tools)
        before = role
        if not message.content or message.content.isspace():
            yield from _empty(message, where, index)
        elif _BAD.search(message.content):
            yield from _characters(message.content, (*where(index), "content"))


def _empty(message: Message, where: Where, index: int) -> Iterator[Problem]:
    key = (*where(index), "content")
    if message.role == "assistant" and not message.tool_calls:
        yield Problem(EMPTY_ANSWER, key, "an empty answer", "write the answer, or remove the row")
    elif message.role in ("user", "system"):
        yield Problem(EMPTY_MESSAGE, key, f"an empty message of the {message.role}", "write it, or leave it out")


def _result(message: Message, waiting: list[str | None], where: Where, index: int) -> Iterator[Problem]:
    """A result answers the call that it names, or else the next one."""
    name = message.tool_call_id
    if not waiting:
        mend = "put it behind the assistant's message that calls the tool"
        yield Problem(RESULT_WITHOUT_CALL, (*where(index), "role"), "the result of a call that nobody made", mend)
    elif name is None or None in waiting:
        waiting.pop(0)
    elif name in waiting:
        waiting.remove(name)
    else:
        what = f"{name!r:.60} is the id of no call that waits"
        yield Problem(RESULT_WITHOUT_CALL, (*where(index), "tool_call_id"), what, f"say {waiting.pop(0)!r:.60}")


def _calls(message: Message, key: Key, tools: Tools) -> Iterator[Problem]:
    listed = [tool["function"]["name"] for tool in tools]
    for number, call in enumerate(message.tool_calls):
        place = (*key, "tool_calls", number, "function")
        if call.function.name not in listed:
            mend = f"the tools are {', '.join(listed)}"[:200] if listed else "add the field tools"
            yield Problem(
                UNLISTED_TOOL, (*place, "name"), f"{call.function.name!r:.60} is not in the row's tools", mend
            )
        yield from _characters(call.function.arguments, (*place, "arguments"))


def _characters(text: str, key: Key) -> Iterator[Problem]:
    found = _BAD.search(text)
    if found is None:
        return
    what = f"U+{ord(found[0]):04X} at character {found.start() + 1}"
    if found[0] >= "\ud800":
        mend = "it is half of a character; write the whole, or remove it"
        yield Problem(HALF_CHARACTER, key, what, mend)
    else:
        yield Problem(BAD_CHARACTER, key, what, "remove it")
