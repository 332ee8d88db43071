"""Examples that are learned together are of one kind, and asked in one way."""

import json
from pathlib import Path
from typing import Any

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.example import Conversation, example_of
from rhapsode.corpus.examples.prepare import prepare_examples

CHAT = [{"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}]} for n in range(9)]
PLAIN = [{"prompt": f"plain {n}", "completion": "yes"} for n in range(9)]
TEXT = [{"text": f"a text {n}"} for n in range(9)]
PAIRS = [{"prompt": f"which {n}?", "chosen": "yes", "rejected": "no"} for n in range(9)]


def prepared(folder: Path, *parts: list[dict[str, Any]], **first: Any) -> Path:
    for number, rows in enumerate(parts):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    examples = [{"path": f"{number}.jsonl"} for number in range(len(parts))]
    examples[0] |= first
    config = DataConfig.model_validate({"examples": examples, "split": {"validation": 0.3}})
    return prepare_examples(config, root=folder / "corpora", base=folder, events=Events())


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (CHAT, PLAIN, r"1\.jsonl#row1 is text as it is, the examples before it are conversations"),
        (PLAIN, CHAT, r"1\.jsonl#row1 is a conversation, the examples before it are text"),
        (PLAIN, PAIRS, r"1\.jsonl#row1 is for preferences, the examples before it are for answers"),
    ],
)
def test_what_is_asked_in_another_way_or_teaches_something_else_is_refused(
    one: list[dict[str, Any]], other: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RhapsodeError, match=said):
        prepared(tmp_path, one, other)
    assert not any((tmp_path / "corpora").glob("*"))


@pytest.mark.parametrize("asked", [CHAT, PLAIN])
def test_text_that_asks_for_nothing_goes_with_both(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    assert list(iter_documents(prepared(tmp_path, asked, TEXT), split="train"))
    assert list(iter_documents(prepared(tmp_path, TEXT, asked), split="train"))


def test_columns_become_conversations_as_the_hint_says(tmp_path: Path) -> None:
    columns = [{"question": f"what {n}?", "answer": "that"} for n in range(9)]
    corpus = prepared(tmp_path, columns, CHAT, fields={"question": "instruction", "answer": "output"})
    found = [
        example_of(document) for split in ("train", "validation") for document in iter_documents(corpus, split=split)
    ]
    assert len(found) == len(columns) + len(CHAT)
    assert all(isinstance(example, Conversation) for example in found)
