"""Any OpenAI-compatible server as a reader: ours, vLLM, llama.cpp's, Ollama, SGLang.

A server seldom shows ids, never scores. What it does show is how many tokens a prompt has, the text it goes on with and
how likely that was, and that is enough to tell a second BOS or another template. It answers for as much as it offers;
the rest is `CannotAnswer`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urlsplit

from pydantic import ValidationError

from rhapsode.conformance.readers.http_json import HttpJson, Reply
from rhapsode.conformance.readers.openai import Answer, Models, error_words
from rhapsode.conformance.readers.reader import CannotAnswer
from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message

KEY = "OPENAI_API_KEY"
SHOWN = 200
"""Characters of what a server says about an error."""


class Heard(NamedTuple):
    """An answer: its text, how many tokens the prompt had, and how likely each token was; None is not told.

    Attributes:
        is_ended: the model ended it, and not the limit.
    """

    text: str
    num_prompt: int | None
    logprobs: tuple[float, ...] | None
    is_ended: bool


class Endpoint:
    """One model of one server."""

    def __init__(self, url: str, *, name: str) -> None:
        """Find the server and its model.

        Args:
            url: its address, with /v1 or without; "#NAME" at the end chooses among several models.
            name: which of several models is meant if the address does not say.

        Raises:
            RhapsodeError: the address is none, nobody answers there, or several models are offered and none is `name`.
        """
        address, chosen = urldefrag(url)
        if urlsplit(address).scheme not in ("http", "https"):
            raise RhapsodeError(f"{url} is no address of a server", "give one such as http://127.0.0.1:8000/v1")
        self._http = HttpJson(key=os.environ.get(KEY))
        self._base, offered = self._find(address.rstrip("/"))
        self._root = self._base.removesuffix("/v1")
        self._tokenize_keys: tuple[str, ...] = ("content", "prompt")
        self._model = _choose(offered, chosen or name, url=address)
        self.name = f"{self._model} at {self._base}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, where the server has /tokenize in the shape of llama.cpp or of vLLM."""
        shapes: Mapping[str, Mapping[str, Any]] = {
            "content": {"content": text, "add_special": True, "parse_special": False},
            "prompt": {"model": self._model, "prompt": text, "add_special_tokens": True},
        }
        for key in self._tokenize_keys:
            reply = self._http.ask(f"{self._root}/tokenize", shapes[key])
            tokens = reply.value.get("tokens") if reply.status == 200 and isinstance(reply.value, dict) else None
            if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
                continue
            if tokens or not text:  # none for a text is what llama.cpp says to the other shape
                self._tokenize_keys = (key,) if tokens else self._tokenize_keys
                return tokens
        self._tokenize_keys = ()
        raise CannotAnswer("this server does not show token ids")

    def complete(self, text: str, n: int) -> Heard:
        """Go on with a text for `n` tokens, the likeliest each time."""
        answer = self._answer("completions", {"prompt": text, "max_tokens": n, "logprobs": 1})
        return _heard(answer, answer.choices[0].text)

    def answer(self, messages: Sequence[Message], n: int) -> Heard:
        """Answer a conversation with at most `n` tokens, the likeliest each time."""
        rows = [message.row() for message in messages]
        answer = self._answer("chat/completions", {"messages": rows, "max_tokens": n, "logprobs": True})
        return _heard(answer, answer.choices[0].message.content or "")

    def _find(self, address: str) -> tuple[str, list[str]]:
        """The base address and the models; people leave out the /v1."""
        reply = Reply(0, None)
        for base in (address, f"{address}/v1"):
            reply = self._http.ask(f"{base}/models")
            if reply.status == 200:
                try:
                    return base, [model.id for model in Models.model_validate(reply.value).data]
                except ValidationError:
                    continue
        raise RhapsodeError(
            f"{address}/models gives HTTP {reply.status} and no list of models",
            "name the base address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1",
        )

    def _answer(self, path: str, asked: Mapping[str, Any]) -> Answer:
        """Without log-probabilities where the server has none to give."""
        url, asked = f"{self._base}/{path}", {"model": self._model, "temperature": 0, **asked}
        reply = self._http.ask(url, asked)
        if reply.status in (400, 422):
            reply = self._http.ask(url, {key: value for key, value in asked.items() if key != "logprobs"})
        if 400 <= reply.status < 500:
            raise CannotAnswer(f"the server refuses it (HTTP {reply.status}: {error_words(reply.value)[:SHOWN]})")
        if reply.status != 200:
            what = f"HTTP {reply.status}: {error_words(reply.value)[:SHOWN]}"
            raise RhapsodeError(f"{url} fails: {what}", "see what the server itself says about it")
        try:
            return Answer.model_validate(reply.value)
        except ValidationError as error:
            what = " ".join(str(error).split())[:SHOWN]
            raise RhapsodeError(f"{url} does not answer as OpenAI's API does: {what}") from None


def _heard(answer: Answer, text: str) -> Heard:
    choice = answer.choices[0]
    num_prompt = None if answer.usage is None else answer.usage.prompt_tokens
    logprobs = None if choice.logprobs is None else choice.logprobs.numbers
    return Heard(text, num_prompt, logprobs, choice.finish_reason == "stop")


def _choose(offered: Sequence[str], wanted: str, *, url: str) -> str:
    if wanted in offered:
        return wanted
    if len(offered) == 1:
        return offered[0]
    names = ", ".join(offered[:10]) or "none"
    raise RhapsodeError(f"{url} does not offer {wanted!r}; its models: {names}", f"choose one: {url}#NAME")
