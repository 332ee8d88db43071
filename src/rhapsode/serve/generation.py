"""All the answers to one HTTP request, as they grow."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.completion import Completion, Piece
from rhapsode.engine.output import Output, Scored
from rhapsode.engine.worker import Job, Work, Worker
from rhapsode.serve.errors import from_engine
from rhapsode.text.tokenizer import Tokenizer


class Growth(NamedTuple):
    """What was added to answer number `choice`. `prompt` is there once, if the prompt's tokens were to be scored."""

    choice: int
    piece: Piece
    prompt: Sequence[Scored] | None


class Usage(NamedTuple):
    """Tokens of the prompts, counted once each, and of all answers."""

    prompt: int
    cached: int
    completion: int

    def as_json(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Generation:
    """Iterate over `growth`; `close` in the end, whatever happened.

    Args:
        works: `per_prompt` of them for each prompt, one after another.
        timeout: seconds from now until everything must be finished.
    """

    def __init__(
        self,
        worker: Worker,
        tokenizer: Tokenizer,
        works: Sequence[Work],
        *,
        per_prompt: int,
        stop: Sequence[str],
        timeout: float,
    ) -> None:
        self._completions = [Completion(tokenizer, stop=stop) for _ in works]
        self._prompt_tokens = sum(len(work.prompt) for work in works[::per_prompt])
        self._per_prompt = per_prompt
        self._cached: dict[int, int] = {}
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._job: Job = worker.submit(works)

    @property
    def usage(self) -> Usage:
        written = sum(completion.num_tokens for completion in self._completions)
        return Usage(self._prompt_tokens, sum(self._cached.values()), written)

    async def growth(self) -> AsyncIterator[Growth]:
        """Until every answer is finished.

        Raises:
            ApiError: an answer failed.
            TimeoutError: the time is over.
        """
        async for choice, output in self._job.outputs(deadline=self._deadline):
            try:
                piece = self._completions[choice].push(output)
            except RhapsodeError as error:
                raise from_engine(error) from error
            self._note_cached(choice, output)
            if piece.finish_reason is not None:
                self._job.stop(choice)
            yield Growth(choice, piece, output.prompt)

    def close(self) -> None:
        """Free what the answers hold; those that are not finished are cancelled."""
        self._job.close()

    def _note_cached(self, choice: int, output: Output) -> None:
        """A prompt is counted once, so of its answers only the first says how much of it was known."""
        if choice % self._per_prompt == 0:
            self._cached.setdefault(choice, output.num_cached)
