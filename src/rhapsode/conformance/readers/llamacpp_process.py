"""llama.cpp itself, in the process that `LlamaCpp` starts: one question a line on standard input, as JSON.

Every answer is a line of JSON; where it says `bytes`, that many follow. Everything is computed as exactly as llama.cpp
can: one sequence, keys and values in float32, no flash attention.
"""

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

BATCH = 512
"""Tokens that are computed together."""
FLOAT32 = 0
"""ggml's number of the type."""
ERROR, CONTINUED = 4, 5
"""ggml's levels of what it says: an error, and more of what was said before."""


class Answer(NamedTuple):
    """What is told back: fields, and an array where there is one."""

    fields: dict[str, Any]
    array: np.ndarray[Any, np.dtype[np.float32]] | None = None


class Errors:
    """Passes on to standard error what llama.cpp says, if it is an error."""

    def __init__(self) -> None:
        self._level = 0

    def __call__(self, level: int, text: bytes, data: int | None) -> None:  # noqa: ARG002 - C's signature
        self._level = self._level if level == CONTINUED else level
        if self._level == ERROR:
            os.write(2, text)


class Model:
    """A GGUF file in llama.cpp."""

    def __init__(self, path: str, *, threads: int) -> None:
        """Load it.

        Raises:
            ValueError: llama.cpp cannot; it has said why on standard error.
        """
        self._lib: Any = importlib.import_module("llama_cpp")
        self._hear = self._lib.llama_log_callback(Errors())  # kept here, since C holds no reference
        self._lib.llama_log_set(self._hear, None)
        self._lib.llama_backend_init()
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = self._lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise ValueError("cannot load it")
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self._threads = threads
        self._context: Any = None
        self._length = 0
        self.vocab_size: int = self._lib.llama_vocab_n_tokens(self._vocab)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "surrogatepass")
        room = len(data) + 8
        while True:
            ids = (self._lib.llama_token * room)()
            count = self._lib.llama_tokenize(self._vocab, data, len(data), ids, room, add_special, parse_special)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def scores(self, ids: Sequence[int], *, first: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Scores [len(ids) - first, V] of what follows each token from number `first` on."""
        self._begin(ids)
        rows = []
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            rows.append(self._decode(part, start=start, asked=[start + i >= first for i in range(len(part))]))
        return np.concatenate(rows)

    def greedy(self, ids: Sequence[int], *, count: int) -> list[int]:
        """The `count` likeliest tokens, one after the other."""
        self._begin(ids, more=count)
        for start in range(0, len(ids) - 1, BATCH):
            part = ids[start : min(start + BATCH, len(ids) - 1)]
            self._decode(part, start=start, asked=[False] * len(part))
        found = [ids[-1]]
        while len(found) <= count:
            place = len(ids) + len(found) - 2
            found.append(int(self._decode(found[-1:], start=place, asked=[True])[-1].argmax()))
        return found[1:]

    def stops(self) -> list[int]:
        """Every token that ends an answer."""
        return [token for token in range(self.vocab_size) if self._lib.llama_vocab_is_eog(self._vocab, token)]

    def controls(self) -> list[int]:
        """Every token that is no text, whatever the file says of it."""
        return [token for token in range(self.vocab_size) if self._lib.llama_vocab_is_control(self._vocab, token)]

    def about(self) -> dict[str, Any]:
        """What the file says besides its weights: size of the vocabulary, chat template, and what that may name."""
        named = {"bos_token": self._lib.llama_vocab_bos, "eos_token": self._lib.llama_vocab_eos}
        tokens = {name: ask(self._vocab) for name, ask in named.items()}
        return {
            "vocab_size": self.vocab_size,
            "template": self._text("tokenizer.chat_template"),
            "names": {name: self._spelling(token) for name, token in tokens.items() if token >= 0},
        }

    def _spelling(self, token: int) -> str:
        text: bytes = self._lib.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    def _text(self, key: str) -> str:
        """A metadata value, "" where the file has none."""
        size = self._lib.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return ""
        buffer = ctypes.create_string_buffer(size + 1)
        self._lib.llama_model_meta_val_str(self._model, key.encode(), buffer, size + 1)
        return buffer.value.decode("utf-8", "replace")

    def _begin(self, ids: Sequence[int], *, more: int = 0) -> None:
        """An empty context with room for these tokens and `more`."""
        if not ids:
            raise ValueError("needs a token to begin with")
        length = len(ids) + more
        if length > self._length:
            if self._context:
                self._lib.llama_free(self._context)
            self._length = max(256, 1 << (length - 1).bit_length())
            self._context = self._lib.llama_init_from_model(self._model, self._context_params(self._length))
            if not self._context:
                raise ValueError(f"has no room for {length} tokens")
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)  # noqa: FBT003 - a C function

    def _context_params(self, length: int) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = length, BATCH, BATCH
        params.n_threads = params.n_threads_batch = self._threads
        params.type_k = params.type_v = FLOAT32
        params.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.offload_kqv = params.op_offload = False
        params.no_perf = True
        return params

    def _decode(
        self, ids: Sequence[int], *, start: int, asked: Sequence[bool]
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Read tokens at positions from `start` on; scores of those that are asked for."""
        batch = self._lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for index, (token, is_asked) in enumerate(zip(ids, asked, strict=True)):
                batch.token[index], batch.pos[index], batch.logits[index] = token, start + index, is_asked
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            code = self._lib.llama_decode(self._context, batch)
        finally:
            self._lib.llama_batch_free(batch)
        if code:
            raise ValueError(f"cannot read tokens {start} to {start + len(ids)} (llama_decode gives {code})")
        shape = (sum(asked), self.vocab_size)
        if not shape[0]:
            return np.empty(shape, np.float32)
        return np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), shape).copy()


def answer(model: Model, question: dict[str, Any]) -> Answer:
    match question["ask"]:
        case "encode":
            ids = model.encode(question["text"], add_special=question["add"], parse_special=question["parse"])
            return Answer({"ids": ids})
        case "scores":
            return Answer({}, model.scores(question["ids"], first=question["first"]))
        case "greedy":
            return Answer({"ids": model.greedy(question["ids"], count=question["count"])})
        case "stops":
            return Answer({"ids": model.stops()})
        case "controls":
            return Answer({"ids": model.controls()})
        case other:
            raise ValueError(f"does not know how to {other}")


def tell(out: BinaryIO, told: Answer) -> None:
    data = b"" if told.array is None else told.array.tobytes()
    shape = [] if told.array is None else list(told.array.shape)
    out.write(json.dumps({**told.fields, "shape": shape, "bytes": len(data)}).encode() + b"\n" + data)
    out.flush()


def main(path: str, threads: str) -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever C prints must not come between the answers
    try:
        model = Model(path, threads=int(threads))
        tell(out, Answer(model.about()))
    except ValueError:
        tell(out, Answer({"vocab_size": 0}))
        return
    for line in sys.stdin.buffer:
        try:
            tell(out, answer(model, json.loads(line)))
        except ValueError as error:
            tell(out, Answer({"refused": str(error)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
