"""A small vocabulary, learned once."""

import argparse
import json.decoder
from pathlib import Path

import pytest

from rhapsode.text.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    sources = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (argparse, json.decoder)]
    words = "Der Rhapsode trägt vor. Ο ραψωδός τραγουδά. 吟遊詩人は歌う。 Рапсод поёт. 👩‍👩‍👧 🎶\r\n\t" * 3
    return train_tokenizer([*sources, words], vocab_size=1000)


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "model", model_max_length=512)
    return tmp_path / "model"
