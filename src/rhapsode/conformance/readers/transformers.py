"""Hugging Face transformers as a reader of a model directory: its own code for the config, the weights, the tokenizer.

Nothing of the directory is run and nothing is fetched: a family that transformers does not know is not read.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from rhapsode.conformance.readers.reader import CannotAnswer, Scores
from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.text.chat import Message

T = TypeVar("T")


class TransformersReader:
    """A model directory in float32, with attention as it is written down: no fused kernel, no cache for scores."""

    name = "transformers"

    def __init__(self, directory: Path) -> None:
        """Load `directory`.

        Raises:
            RhapsodeError: transformers is not installed.
            VerificationMismatch: transformers cannot read the directory.
        """
        library = _library()
        files = {"pretrained_model_name_or_path": str(directory), "local_files_only": True, "trust_remote_code": False}
        self._tokenizer = self._read("the tokenizer", lambda: library.AutoTokenizer.from_pretrained(**files))
        # where `_tokenizer` sees a special token, this one sees the characters that somebody wrote
        self._plain = self._read(
            "the tokenizer", lambda: library.AutoTokenizer.from_pretrained(**files, split_special_tokens=True)
        )
        self._model = self._read(
            "the model",
            lambda: library.AutoModelForCausalLM.from_pretrained(
                **files, dtype=torch.float32, attn_implementation="eager"
            ).eval(),
        )

    def encode(self, text: str) -> list[int]:
        return list(self._plain(text)["input_ids"])

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[int]:
        if not self._tokenizer.chat_template:
            raise CannotAnswer("transformers finds no chat template")
        rows = [message.row() for message in messages]
        try:
            return list(
                self._tokenizer.apply_chat_template(
                    rows, tokenize=True, add_generation_prompt=add_generation_prompt, return_dict=False
                )
            )
        except Exception as error:  # noqa: BLE001 - a template is a program and may raise anything
            raise RhapsodeError(f"{type(error).__name__}: {error}") from None

    @torch.inference_mode()
    def all_scores(self, ids: Sequence[int], *, first: int = 0) -> Scores:
        scores: Scores = self._model(torch.tensor([ids]), use_cache=False).logits[0, first:].float().numpy()
        return scores

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], n: int) -> list[int]:
        said = self._model(torch.tensor([ids]), use_cache=True)
        tokens = [int(said.logits[0, -1].argmax())]
        while len(tokens) < n:
            said = self._model(torch.tensor([tokens[-1:]]), past_key_values=said.past_key_values, use_cache=True)
            tokens.append(int(said.logits[0, -1].argmax()))
        return tokens

    def stops(self) -> frozenset[int]:
        ends = self._model.generation_config.eos_token_id
        return frozenset([] if ends is None else ends if isinstance(ends, list) else [ends])

    def _read(self, what: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - whatever it raises, it does not read the directory
            raise VerificationMismatch(
                f"transformers cannot read {what}: {type(error).__name__}: {error}",
                "a newer transformers may know the family; else the directory is not one that it reads",
            ) from None


def _library() -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise RhapsodeError("transformers is not installed", "install it with `pip install transformers`")
    library = importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library
