"""Our own engine as a reader: its tokenizer, its paged memory, its choice of tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch

from rhapsode.conformance.readers.reader import Scores
from rhapsode.engine.cache import Cache, PagedAttend, Span
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.pages import PageId
from rhapsode.engine.sampling import Sampling
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, stop_tokens

PAGE_SIZE = 16


class EngineReader:
    """A model directory in float32. Whether its bytes are those of its manifest is for the caller to ask."""

    name = "rhapsode"

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.load(directory)
        self._model = read_model(directory)
        self._stops = frozenset(stop_tokens(directory))
        config = EngineConfig(max_requests=1, page_size=PAGE_SIZE)
        num_ids = min(self._tokenizer.vocab_size, self._model.spec.vocab_size)
        self._engine = Engine(self._model, config=config, stop_ids=frozenset(), num_ids=num_ids)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.ids(text)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[int]:
        return render(messages, tokenizer=self._tokenizer, add_generation_prompt=add_generation_prompt).ids

    @torch.inference_mode()
    def all_scores(self, ids: Sequence[int], *, first: int = 0) -> Scores:
        """Through pages: what comes before number `first` is read and kept, the rest looks back at it."""
        pages = [PageId(number) for number in range(-(-len(ids) // PAGE_SIZE))]
        cache = Cache(
            self._model.spec,
            num_pages=len(pages),
            page_size=PAGE_SIZE,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )
        hidden_ND = torch.empty(0)
        for start, stop in ((0, first), (first, len(ids))):
            if stop > start:
                attend = PagedAttend(cache, [Span(0, stop - start, stop, pages)])
                hidden_ND = self._model(torch.tensor(ids[start:stop]), torch.arange(start, stop), attend=attend)
        scores: Scores = self._model.logits(hidden_ND).numpy()
        return scores

    def greedy(self, ids: Sequence[int], n: int) -> list[int]:
        tokens = []
        for _, output in self._engine.generate([ids], Sampling(max_tokens=n, temperature=0)):
            if output.error is not None:
                raise output.error
            if output.scored is not None:
                tokens.append(output.scored.token)
        return tokens

    def stops(self) -> frozenset[int]:
        return self._stops
