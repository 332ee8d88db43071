"""A small corpus of prose and Python, prepared and tokenised as a user's would be."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rhapsode.core.events import Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.prepare import prepare
from rhapsode.corpus.tokenise import tokenise

WORDS = ("sing", "goddess", "anger", "ship", "sea", "king", "city", "shore", "wine", "dark", "home", "night", "fire")


class Prepared(NamedTuple):
    corpus: Path
    tokens: Path


def prose(random: np.random.Generator) -> str:
    return "\n".join(" ".join(random.choice(WORDS, 12)) + "." for _ in range(int(random.integers(8, 30))))


def module(random: np.random.Generator) -> str:
    name, *others = random.choice(WORDS, 4)
    return f'''"""A module about the {name}."""

import math


def {name}(value, scale=1.0):
    """The {name} of a {others[0]}.

    Scaled.
    """
    total = 0
    for {others[1]} in range(value):
        total += {others[1]} * scale
    return math.sqrt(total)


class {others[2].title()}:
    """Holds a {name}."""

    def {name}_of(
        self,
        value,
    ):
        found = {name}(value)
        if found > 1:
            return found
        return 1

    def short(self): return None
'''


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """About 60 files, a third of them Python; about 20 held out."""
    base, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(40):
        (base / f"song{i}.txt").write_text(prose(random), encoding="utf-8")
    for i in range(20):
        (base / f"module{i}.py").write_text(module(random), encoding="utf-8")
    config = DataConfig.model_validate(
        {"sources": [{"path": str(base)}], "split": {"validation": 0.35}, "tokens": {"vocab_size": 300}}
    )
    corpus = prepare(config, root=base / "corpora", base=base, events=Events())
    return Prepared(corpus, tokenise(corpus, config.tokens, root=base / "tokens", events=Events()))
