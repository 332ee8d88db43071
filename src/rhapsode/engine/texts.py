"""Texts that a model writes from nothing: what it takes for ordinary.

Learned again beside the examples of a task they keep a model what it was, where nobody has the text that it was trained
on (rehearsal of what it writes itself, as in Huang et al. 2024, arXiv:2403.01244, who have it write examples).
"""

import hashlib
import time
from typing import NamedTuple

from rhapsode.core.events import Events
from rhapsode.engine.completion import Completion
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.load import Loaded
from rhapsode.engine.sampling import Sampling

AT_ONCE = EngineConfig(max_requests=128)
"""More fill products no better."""
_SECONDS_BETWEEN_REPORTS = 0.5


class Written(NamedTuple):
    """A text. `is_cut`: it reached the most tokens before it ended."""

    text: str
    is_cut: bool


def write_texts(
    loaded: Loaded, *, count: int, max_tokens: int, temperature: float, seed: int, events: Events
) -> list[Written]:
    """So many texts, in their order; each follows from the seed and its number alone.

    Raises:
        RhapsodeError: the model fails on one.
    """
    engine, tokenizer = loaded
    prompt = tokenizer.prefix or [tokenizer.bos]
    seeds = [_drawn(seed, number) for number in range(count)]
    asked = [Sampling(max_tokens=max_tokens, temperature=temperature, seed=drawn) for drawn in seeds]
    written, texts, is_cut = [Completion(tokenizer) for _ in asked], [""] * count, [False] * count
    done, told = 0, time.monotonic()
    for number, output in engine.generate([prompt] * count, asked):
        texts[number] += written[number].push(output).text
        is_cut[number] = output.finish_reason == "length"
        done += output.finish_reason is not None
        if done == count or time.monotonic() > told + _SECONDS_BETWEEN_REPORTS:
            told = time.monotonic()
            events.emit("progress", stage="write", done=done, total=count, unit="texts")
    return [Written(*one) for one in zip(texts, is_cut, strict=True)]


def _drawn(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest(), "little")
