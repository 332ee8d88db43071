"""What the words of the vocabulary find that a few texts do not."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.conformance.conftest import altered, edit_json, save_model, source_of

from rhapsode.conformance.against import replay_here
from rhapsode.conformance.cases import questions
from rhapsode.conformance.words import MOST_WORDS, mark, marks, sampled, split, words
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer


def made_up_language() -> Tokenizer:
    random = Random(0)
    heard = ["".join(random.choice("bdgklmnprst") + random.choice("aeiou") for _ in range(4)) for _ in range(400)]
    return train_tokenizer([" ".join(heard)] * 2, vocab_size=900)


def test_every_token_of_a_small_vocabulary_is_asked_for() -> None:
    assert list(sampled(300)) == list(range(300))


def test_of_a_large_one_a_few_thousand_over_its_whole_length() -> None:
    for vocabulary in (4096, 4097, 50_257, 262_144):
        tokens = sampled(vocabulary)
        assert MOST_WORDS // 2 <= len(tokens) <= MOST_WORDS
        assert tokens[0] < vocabulary // 1000 + 1
        assert vocabulary - tokens[-1] <= tokens.step


def test_half_characters_and_special_tokens_are_no_words(tokenizer: Tokenizer) -> None:
    found = words(tokenizer)
    assert len(found) == tokenizer.vocab_size
    assert found[: tokenizer.end_of_turn + 1] == [""] * 5
    assert found[tokenizer.encode("é")[0]] == ""
    assert " the" in found


def test_digits_tell_ids_apart() -> None:
    assert list(split(marks([[1, 2], [2, 1], []]))) == [mark([1, 2]), mark([2, 1]), mark([])]
    assert len({mark([number]) for number in range(1000)}) > 980


def test_a_merge_that_no_text_uses_is_found(tmp_path: Path) -> None:
    tokenizer = made_up_language()
    texts = [asked.text for asked in questions(tokenizer) if asked.text is not None]
    source = json.loads(source_of(tokenizer))
    merges = source["model"]["merges"]

    def changed(one: int, other: int) -> Tokenizer:
        swapped = list(merges)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        model = {**source["model"], "merges": swapped}
        return Tokenizer(json.dumps({**source, "model": model}), names=tokenizer.names, chat_template="")

    unseen = (
        (one, other)
        for one in range(0, len(merges), 7)
        for other in range(one + 50, len(merges), 50)
        if changed(one, other).encode_batch(texts) == tokenizer.encode_batch(texts)
        and changed(one, other).encode_batch(words(tokenizer)) != tokenizer.encode_batch(words(tokenizer))
    )
    one, other = next(unseen)

    def swap(value: dict[str, Any]) -> None:
        found = value["model"]["merges"]
        found[one], found[other] = found[other], found[one]

    model = save_model(tmp_path / "model", tokenizer)
    faulty = altered(model, tmp_path / "faulty", lambda path: edit_json(path / "tokenizer.json", swap))
    report = replay_here(faulty)
    assert report.kinds == ["merge"]
    assert report.mismatches[0].where.startswith("word ")
    assert "texts to ids" not in [check.name for check in report.checks if check.differing]


def test_another_vocabulary_is_named_once(model_dir: Path, tmp_path: Path) -> None:
    def shorten(value: dict[str, Any]) -> None:
        last = value["model"]["merges"].pop()
        del value["model"]["vocab"]["".join(last)]

    report = replay_here(
        altered(model_dir, tmp_path / "model", lambda path: edit_json(path / "tokenizer.json", shorten))
    )
    assert report.mismatches[0].where == "the vocabulary"
    assert report.mismatches[0].what == "290 tokens expected, 289 found"
