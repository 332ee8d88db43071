"""Tokens and their log-probabilities in OpenAI's two shapes: the old one of completions and the one of chats."""

from collections.abc import Iterable, Sequence
from typing import Any

from rhapsode.engine.completion import Spoken
from rhapsode.engine.output import Alternative, Scored
from rhapsode.text.tokenizer import Tokenizer


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """A token as text; `bytes:\\xe2\\x80` when it is no text by itself, `<|token 4|>` when it stands for none."""
    data = tokenizer.token_bytes(token)
    if not data:
        return f"<|token {token}|>"
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_logprobs(tokenizer: Tokenizer, tokens: Iterable[Spoken]) -> dict[str, Any]:
    """The `logprobs` of a chat choice."""

    def entry(one: Scored | Alternative) -> dict[str, Any]:
        data = tokenizer.token_bytes(one.token)
        return {"token": spelled(tokenizer, one.token), "logprob": one.logprob, "bytes": list(data)}

    content = [
        {**entry(spoken.scored), "top_logprobs": [entry(alternative) for alternative in spoken.scored.top]}
        for spoken in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokenizer: Tokenizer, tokens: Sequence[Spoken]) -> dict[str, Any]:
    """The `logprobs` of a completion choice; offsets are in characters of its text."""
    scored = [spoken.scored for spoken in tokens]
    return {
        "tokens": [spelled(tokenizer, one.token) for one in scored],
        "token_logprobs": [one.logprob for one in scored],
        "top_logprobs": [
            None if one.logprob is None else {spelled(tokenizer, token): logprob for token, logprob in one.top}
            for one in scored
        ],
        "text_offset": [spoken.offset for spoken in tokens],
    }


def prompt_tokens(tokenizer: Tokenizer, scored: Sequence[Scored]) -> list[Spoken]:
    """The tokens of a prompt, with their places in its text."""
    spoken, data = [], b""
    for one in scored:
        spoken.append(Spoken(one, len(data.decode(errors="ignore"))))
        data += tokenizer.token_bytes(one.token)
    return spoken
