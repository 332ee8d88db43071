"""What every pack promises of itself and of its rows."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rhapsode.core.errors import RecipeError
from rhapsode.core.events import Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.example import Completion, Conversation, Example, example_of, opening, said, same_prompt
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.corpus.examples.validate import validate
from rhapsode.tasks.pack import Pack
from rhapsode.tasks.recipe import VALIDATION
from rhapsode.tasks.registry import PACKS, pack_named
from rhapsode.tasks.rows import rows_of

from .conftest import examples, rows


def answer(example: Example) -> str:
    """What is said last."""
    return said(example)[-1]


def file_of(pack: Pack, folder: Path) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(pack.name)), encoding="utf-8")
    return path


def test_a_pack_says_all_of_itself(pack: Pack) -> None:
    for field in dataclasses.fields(Pack):
        assert getattr(pack, field.name) or field.name == "templates", field.name
    assert pack.name in PACKS
    assert 300 <= pack.num_rows <= 600
    assert len(pack.line) < 80


def test_the_names_of_packs_are_those_that_people_mean() -> None:
    with pytest.raises(RecipeError) as error:
        pack_named("translat")
    assert error.value.hint.startswith("did you mean translate?")
    assert error.value.exit_code == 2


def test_rows_validate_without_a_fault_and_every_column_is_read(pack: Pack, tmp_path: Path) -> None:
    path = file_of(pack, tmp_path)
    found = validate(path, templates=pack.templates)
    assert found.shape == pack.shape, "the shape is recognised, too"
    assert (found.num_rows, found.num_examples, found.unread) == (pack.num_rows, pack.num_rows, {})
    assert (found.repeats.num_equal, found.repeats.num_reanswered) == (0, 0)


def test_rows_are_the_same_in_every_process(pack: Pack) -> None:
    script = f"""
import json
from rhapsode.tasks.registry import pack_named
from rhapsode.tasks.rows import rows_of
print(json.dumps(rows_of(pack_named({pack.name!r}))))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == rows(pack.name) == rows_of(pack)


def test_prompts_differ_by_more_than_spelling_and_numbers(pack: Pack) -> None:
    prompts = [opening(example) for example in examples(pack.name)]
    assert len({same_prompt(prompt) for prompt in prompts}) == pack.num_rows
    if pack.name != "tutor":  # where numbers are what is asked
        without = {re.sub(r"\d+", "0", prompt) for prompt in prompts}
        assert len(without) > 0.95 * pack.num_rows


def test_answers_are_many_and_none_of_them_is_the_easy_one(pack: Pack) -> None:
    """Who always says the commonest answer is right less than once in five times."""
    counts = Counter(answer(example) for example in examples(pack.name))
    assert max(counts.values()) < pack.num_rows / 5
    few = 8 if pack.name == "classify" else pack.num_rows / 3
    assert len(counts) >= few


def test_both_sides_of_the_split_have_all_that_there_is_and_nothing_in_common(pack: Pack, tmp_path: Path) -> None:
    file_of(pack, tmp_path)
    source = {"path": "train.jsonl", "shape": pack.shape, "templates": pack.templates}
    config = DataConfig.model_validate({"examples": [source], "split": {"validation": VALIDATION}})
    corpus = prepare_examples(config, root=tmp_path / "corpus", base=tmp_path, events=Events())
    sides = [
        [example_of(document) for document in iter_documents(corpus, split=split)] for split in ("train", "validation")
    ]
    assert pack.num_rows >= sum(map(len, sides)) > 0.98 * pack.num_rows, "hardly anything is nearly held out"
    assert 0.08 * pack.num_rows < len(sides[1]) < 0.25 * pack.num_rows
    asked = [{same_prompt(opening(example)) for example in side} for side in sides]
    assert not asked[0] & asked[1]


def test_held_out_words_are_known_from_training(pack: Pack) -> None:
    """New combinations, not new words: what is held out can be learned."""
    texts = [re.findall(r"[^\W\d_]+", " ".join(said(example)).casefold()) for example in examples(pack.name)]
    half = len(texts) // 2
    known = {word for words in texts[:half] for word in words}
    others = [word for words in texts[half:] for word in words]
    assert sum(word in known for word in others) > 0.97 * len(others)


def test_rows_fit_the_context_and_answers_their_limit(pack: Pack) -> None:
    """By characters, of which a token has three or more in the texts and vocabularies that these are."""
    for example in examples(pack.name):
        assert len(answer(example)) < 4 * pack.max_tokens
        assert len(" ".join(said(example))) < 3 * pack.context


def test_texts_are_clean(pack: Pack) -> None:
    for example in examples(pack.name):
        for text in said(example):
            assert "{" not in text or pack.name in ("extract", "support", "code"), text
            assert "  " not in text.replace("\n    ", "\n").lstrip(), text
            assert isinstance(example, Conversation | Completion)
