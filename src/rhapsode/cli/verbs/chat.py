"""`rhapsode chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give, print_error, stderr

if TYPE_CHECKING:
    from rhapsode.corpus.examples.example import Tools
    from rhapsode.engine.load import Loaded
    from rhapsode.engine.sampling import Sampling
    from rhapsode.text.chat import Function, Message


def chat(
    model: options.Model,
    /,
    *,
    prompt: Annotated[str | None, Parameter(name="--prompt", help="Answer this and end.", show_default=False)] = None,
    complete: Annotated[
        bool | None,
        Parameter(
            name="--complete",
            help="Go on with the text instead of answering it; the default for a model that never learned to chat.",
            negative="--answer",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[int, Parameter(name="--max-tokens", help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, Parameter(name="--temperature", help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int | None, Parameter(name="--seed", help="The same seed gives the same answer.")] = None,
    tools: Annotated[
        Path | None,
        Parameter(name="--tools", help="A JSON list of tools that it may call; you say what came of a call."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Talk to a model: answers come as they are made, Ctrl-C stops one, Ctrl-D ends the talk."""
    from rhapsode.cli.models import find_model
    from rhapsode.cli.tools import read_tools_file
    from rhapsode.core.errors import RecipeError
    from rhapsode.engine.load import load_engine
    from rhapsode.engine.sampling import Sampling

    if json and prompt is None:
        raise RecipeError("--json needs --prompt", "give the text to answer: --prompt 'Once upon a time'")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    directory = find_model(model)
    is_completing = only_completes(directory) if complete is None else complete
    if tools is not None and is_completing:
        raise RecipeError("tools are for answers, and this model completes text", "leave --tools out, or say --answer")
    offered = () if tools is None else read_tools_file(tools)
    speaker = Speaker(load_engine(directory), sampling, is_chat=not is_completing, tools=offered)
    if prompt is None:
        _talk(speaker)
    elif json:
        answer = "".join(speaker.answer(prompt))
        result: dict[str, Any] = {"prompt": prompt, "answer": answer, "finish_reason": speaker.finish_reason}
        if tools is not None:
            result["tool_calls"] = [call.model_dump() for call in speaker.calls]
        give(result, as_json=True, show=_nothing)
    else:
        _print(speaker.answer(prompt))


def only_completes(directory: Path) -> bool:
    """Whether the model was trained on plain text alone, as its manifest says."""
    from rhapsode.core.manifest import read_manifest

    facts = read_manifest(directory).facts
    return facts.get("objective") == "next_token" or facts.get("chat") is False


class Speaker:
    """A conversation: it remembers what was said. Where `is_chat` is off, every text stands alone.

    `calls` are those of the last answer; where there are some, their results are what it waits for.
    """

    def __init__(self, loaded: Loaded, sampling: Sampling, *, is_chat: bool, tools: Tools = ()) -> None:
        """Raises: RhapsodeError: there are tools, and nobody here can read the calls of this model."""
        from rhapsode.text.tool_calls import require_calls

        self.finish_reason: str | None = None
        self.is_chat = is_chat
        self.calls: tuple[Function, ...] = ()
        self._loaded, self._sampling, self._tools = loaded, sampling, tools
        self._said: list[Message] = []
        if tools:
            require_calls(loaded.tokenizer)

    def answer(self, text: str) -> Generator[str]:
        """The answer, piece by piece; what was given of it joins the conversation, also when it is stopped."""
        from rhapsode.text.chat import Message

        return self._speak([*self._said, Message(role="user", content=text)], text)

    def go_on(self, results: Sequence[str]) -> Generator[str]:
        """The answer to the results of the calls, in their order."""
        from rhapsode.text.chat import Message

        return self._speak([*self._said, *(Message(role="tool", content=result) for result in results)], "")

    def _speak(self, asked: list[Message], text: str) -> Generator[str]:
        from rhapsode.engine.completion import complete
        from rhapsode.text.chat import render

        engine, tokenizer = self._loaded
        ids = (
            render(asked, tokenizer=tokenizer, add_generation_prompt=True, tools=self._tools).ids
            if self.is_chat
            else tokenizer.ids(text)
        )
        pieces: list[str] = []
        try:
            for piece in complete(engine, tokenizer, ids, sampling=self._sampling):
                pieces.append(piece.text)
                self.finish_reason = piece.finish_reason
                yield piece.text
        finally:
            if self.is_chat:
                self._said = [*asked, self._heard("".join(pieces))]

    def _heard(self, text: str) -> Message:
        """The answer as a message, with the calls in it."""
        from rhapsode.text.chat import Message, ToolCall
        from rhapsode.text.tool_calls import Said, read_calls

        said = read_calls(text) if self._tools else Said(text, ())
        self.calls = said.calls
        calls = tuple(ToolCall(function=call) for call in said.calls)
        return Message(role="assistant", content=said.content, tool_calls=calls)


def _talk(speaker: Speaker) -> None:
    from rhapsode.core.errors import RhapsodeError

    if sys.stdin.isatty():
        what = "Every line is answered" if speaker.is_chat else "Write the beginning of a text; the model goes on"
        stderr().print(f"{what}. Ctrl-C stops an answer, Ctrl-D ends. A line that ends in \\ goes on in the next.")
    while (text := _read()) is not None:
        if not text.strip():
            continue
        try:
            _print(speaker.answer(text))
            while speaker.calls:
                results = [_result_of(call) for call in speaker.calls]
                if None in results:
                    return
                _print(speaker.go_on([result or "" for result in results]))
        except RhapsodeError as error:
            print_error(error)


def _result_of(call: Function) -> str | None:
    """What the person says that came of a call, None at the end."""
    stderr().print(f"{call.name}({call.arguments}) gave:", style="dim", soft_wrap=True)
    return _read()


def _read() -> str | None:
    """What the person writes, None at the end. Ctrl-C forgets the line."""
    lines: list[str] = []
    while True:
        try:
            line = _line("> " if not lines else "… ")
        except EOFError:
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            stderr().print()
            lines = []
            continue
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines)


def _line(mark: str) -> str:
    """A line from the keyboard, where it can be edited, or from a pipe."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - importing it gives `input` a line that can be edited

        return input(mark)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _print(pieces: Generator[str]) -> None:
    """Write the answer as it comes. Ctrl-C stops the answer, not the program."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pieces.close()  # its request is cancelled
        stderr().print(" (stopped)", style="dim", end="")
    sys.stdout.write("\n")
    sys.stdout.flush()


def _nothing(console: Any) -> None:
    """Nothing is shown: the result is for a program."""
