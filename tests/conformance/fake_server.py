"""An OpenAI-compatible server of one model in this process, with faults to choose from."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from rhapsode.conformance.readers.engine import EngineReader
from rhapsode.text.chat import Message
from rhapsode.text.tokenizer import Tokenizer

Body = dict[str, Any]


@dataclass
class FakeServer:
    """What it does wrong, or does not offer; and what it was asked."""

    directory: Path
    models: tuple[str, ...] = ("fake",)
    key: str | None = None
    chats_begin_twice: bool = False
    texts_begin_twice: bool = False
    reads_special_tokens: bool = False
    trims_messages: bool = False
    ends_at: frozenset[int] = frozenset({1, 4})
    has_usage: bool = True
    has_logprobs: bool = True
    has_chats: bool = True
    tokenize_key: str = ""
    breaks: bool = False
    asked: list[tuple[str, Body]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader, self._tokenizer = EngineReader(self.directory), Tokenizer.load(self.directory)

    def answer(self, path: str, body: Body) -> tuple[int, Any]:
        self.asked.append((path, body))
        if self.breaks:
            return 500, {"error": {"message": "out of order"}}
        found = self._offered(path, body)
        return found if found is not None else (404, {"error": {"message": f"{path} is not offered"}})

    def _offered(self, path: str, body: Body) -> tuple[int, Any] | None:
        if "logprobs" in body and not self.has_logprobs:
            return 400, {"error": {"message": "logprobs are not offered"}}
        match path:
            case "/v1/models":
                return 200, {"object": "list", "data": [{"id": name} for name in self.models]}
            case "/v1/completions":
                ids = self._text_ids(body["prompt"])
                return (200, self._said(ids, body, is_chat=False)) if ids else (400, {"error": "no prompt"})
            case "/v1/chat/completions" if self.has_chats:
                return 200, self._said(self._chat_ids(body["messages"]), body, is_chat=True)
            case "/tokenize" if self.tokenize_key:
                text = body.get(self.tokenize_key)
                return 200, {"tokens": [] if text is None else self._text_ids(text)}
        return None

    def _text_ids(self, text: str) -> list[int]:
        ids = self._parsed(text) if self.reads_special_tokens else self._reader.encode(text)
        return [0, *ids] if self.texts_begin_twice else ids

    def _parsed(self, text: str) -> list[int]:
        return list(tokenizers.Tokenizer.from_file(str(self.directory / "tokenizer.json")).encode(text).ids)

    def _chat_ids(self, rows: list[dict[str, str]]) -> list[int]:
        messages = [Message(role=row["role"], content=row["content"]) for row in rows]  # type: ignore[arg-type]
        if self.trims_messages:
            messages = [message.model_copy(update={"content": message.content.strip()}) for message in messages]
        ids = self._reader.render(messages, add_generation_prompt=True)
        return [0, *ids] if self.chats_begin_twice else ids

    def _said(self, ids: list[int], body: Body, *, is_chat: bool) -> Body:
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < body["max_tokens"] and not self.ends_at & {*tokens}:
            scores = self._reader.all_scores([*ids, *tokens], first=len(ids) + len(tokens) - 1)[-1]
            tokens.append(int(scores.argmax()))
            logprobs.append(float(scores.max() - np.logaddexp.reduce(scores)))
        is_ended = bool(self.ends_at & {*tokens})
        choice: Body = {"finish_reason": "stop" if is_ended else "length"}
        text = self._tokenizer.decode(tokens[: len(tokens) - is_ended])
        choice |= {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        if body.get("logprobs"):
            chat, old = {"content": [{"logprob": number} for number in logprobs]}, {"token_logprobs": logprobs}
            choice["logprobs"] = chat if is_chat else old
        usage = {"usage": {"prompt_tokens": len(ids)}} if self.has_usage else {}
        return {"choices": [choice], **usage}


@contextlib.contextmanager
def serving(fake: FakeServer) -> Iterator[str]:
    """The base URL of the server while it runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._give(*fake.answer(self.path, {}))

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            self._give(*fake.answer(self.path, json.loads(data)))

        def _give(self, status: int, value: Any) -> None:
            if fake.key is not None and self.headers.get("Authorization") != f"Bearer {fake.key}":
                status, value = 401, {"error": {"message": "who are you?"}}
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
