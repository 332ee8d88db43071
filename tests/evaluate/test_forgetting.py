"""General text that every Python has, and what tuning does to it."""

import math
from dataclasses import replace

import pytest
import torch
from tests.evaluate.task import questions, tokenizer_of, trained, untrained

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.evaluate import general
from rhapsode.evaluate.config import GeneralConfig
from rhapsode.evaluate.difference import difference
from rhapsode.evaluate.evaluation import Comparison
from rhapsode.evaluate.forgetting import Reader, forgetting, sentence
from rhapsode.evaluate.general import GeneralText, TextTokens, general_texts
from rhapsode.evaluate.interval import Draws

DRAWS = Draws(confidence=0.95, resamples=300, seed=0)
TEXTS = general_texts(GeneralConfig(documents=10, characters=300), seed=0)


def reader(model) -> Reader:
    return Reader(model.engine.model, model.tokenizer)


def test_half_is_prose_and_half_is_python_and_none_is_longer_than_asked():
    assert len(TEXTS) == 10
    assert sum(text.name.startswith("topics/") for text in TEXTS) == 5
    assert sum(".py#" in text.name for text in TEXTS) == 5
    assert all(0 < len(text.text) <= 300 for text in TEXTS)
    assert len({text.name for text in TEXTS}) == 10


def test_texts_are_drawn_by_the_seed_and_named_by_what_they_hold():
    assert general_texts(GeneralConfig(documents=10, characters=300), seed=0) == TEXTS
    others = general_texts(GeneralConfig(documents=10, characters=300), seed=1)
    assert {text.name for text in others} != {text.name for text in TEXTS}
    longer = general_texts(GeneralConfig(documents=10, characters=400), seed=0)
    assert {text.name for text in longer}.isdisjoint(text.name for text in TEXTS)


def test_pieces_end_with_a_line():
    assert all(text.text.endswith("\n") for text in TEXTS if len(text.text) > 250)


def test_a_python_without_prose_gives_more_of_its_library(monkeypatch):
    monkeypatch.setattr(general, "_prose", lambda: iter(()))
    found = general_texts(GeneralConfig(documents=10), seed=0)
    assert len(found) == 10
    monkeypatch.setattr(general, "_modules", lambda: iter(()))
    with pytest.raises(RhapsodeError, match="neither its language reference nor") as error:
        general_texts(GeneralConfig(documents=10), seed=0)
    assert "evaluate.task.general.documents: 0" in error.value.hint


def test_every_byte_of_a_text_is_measured_and_no_end():
    tokenizer = tokenizer_of(chat=False)
    tokens = TextTokens(TEXTS, tokenizer)
    for index, text in enumerate(TEXTS):
        ids = tokens.document(index).tolist()
        assert ids[0] == tokenizer.bos
        assert tokenizer.decode(ids[1:]) == text.text
        assert tokens.document_bytes(index) == len(text.text.encode())
        assert tokens.document_id(index) == text.name


def test_a_model_that_knows_nothing_needs_the_same_bits_before_and_after():
    model = untrained(tokenizer_of(chat=False))
    torch.nn.init.zeros_(model.engine.model.embedding.weight)
    found = forgetting(reader(model), reader(model), TEXTS, draws=DRAWS, events=Events())
    tokens = TextTokens(TEXTS, model.tokenizer)
    num_tokens = sum(len(tokens.document(i)) - 1 for i in range(10))
    num_bytes = sum(len(text.text.encode()) for text in TEXTS)
    assert found.model.bits_per_byte == pytest.approx(
        num_tokens * math.log2(model.engine.model.spec.vocab_size) / num_bytes
    )
    assert [row.name for row in found.rows] == ["after", "before"]
    assert found.comparison is not None
    assert sentence(found.comparison) == "no difference: +0.0% bits, interval +0.0% to +0.0%"


def test_a_model_that_was_tuned_until_it_knows_nothing_else_has_forgotten():
    tokenizer = tokenizer_of(chat=True)
    before, after = untrained(tokenizer), trained(tokenizer, questions(), steps=150)
    found = forgetting(reader(before), reader(after), TEXTS, draws=DRAWS, events=Events())
    assert found.comparison is not None
    assert found.comparison.saving_high is not None
    assert found.comparison.saving_high < 0
    assert sentence(found.comparison).startswith("worse: ")
    there = forgetting(reader(after), reader(before), TEXTS, draws=DRAWS, events=Events())
    assert there.comparison is not None
    assert sentence(there.comparison).startswith("better: ")
    assert difference(found, there).is_paired, "two ways to tune are compared on the same texts"


def test_models_with_other_vocabularies_are_compared_by_bytes():
    small = untrained(tokenizer_of(chat=False))
    other = replace_tokenizer()
    found = forgetting(reader(small), reader(other), TEXTS, draws=DRAWS, events=Events())
    assert {row.bytes for row in found.rows} == {sum(len(text.text.encode()) for text in TEXTS)}
    assert all(document.bits > 0 and document.baselines["before"] > 0 for document in found.documents)


def replace_tokenizer():
    from rhapsode.text.tokenizer import train_tokenizer

    return untrained(train_tokenizer([text.text for text in TEXTS], vocab_size=320))


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (Comparison("before", -0.008, -0.012, -0.004, 0.01, 0.0, 0.0), "worse: 0.8% more bits, interval 0.4% to 1.2%"),
        (Comparison("before", 0.05, 0.02, 0.08, 0.0, 0.0, 0.0), "better: 5.0% fewer bits, interval 2.0% to 8.0%"),
        (
            Comparison("before", -0.001, -0.003, 0.002, 0.0, 0.0, 0.0),
            "no difference: +0.1% bits, interval -0.2% to +0.3%",
        ),
        (Comparison("before", -0.1, None, None, 0.0, None, None), "10.0% more bits; too few documents for an interval"),
    ],
)
def test_what_became_of_general_text_in_words(comparison, words):
    assert sentence(comparison) == words
    assert sentence(replace(comparison, other="another")) == words


def test_own_texts_can_take_their_place():
    model = reader(untrained(tokenizer_of(chat=False)))
    found = forgetting(model, model, [GeneralText("mine", "the sea is blue")], draws=DRAWS, events=Events())
    assert [document.id for document in found.documents] == ["mine"]
