"""From directories to a table with error bars, a comparison and a gate."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.conftest import make_decoder, make_spec
from tests.evaluate.conftest import Prepared

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.tokens import Tokens
from rhapsode.evaluate import baselines, held_out
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluate import evaluate, gate
from rhapsode.evaluate.evaluation import Comparison, Evaluation, compare, from_json
from rhapsode.evaluate.xz import compressed_bytes
from rhapsode.model.decoder import Decoder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baselines")


def knows_nothing() -> Decoder:
    model = make_decoder(make_spec(vocab_size=300))
    torch.nn.init.zeros_(model.embedding.weight)
    return model


def run(prepared: Prepared, root: Path, model: Decoder | None = None, **settings: object) -> Evaluation:
    return evaluate(
        model or knows_nothing(),
        prepared.tokens,
        corpus=prepared.corpus,
        config=EvaluateConfig.model_validate({"resamples": 200, **settings}),
        root=root,
        events=Events(),
    )


def test_rows_are_of_the_same_bytes(prepared: Prepared, root: Path) -> None:
    found = run(prepared, root)
    split = Tokens.open(prepared.tokens).split("validation")
    texts = [d.text.encode() for d in iter_documents(prepared.corpus, split="validation")]
    assert [row.name for row in found.rows] == ["model", "xz", "kneser-ney"]
    assert {row.bytes for row in found.rows} == {sum(map(len, texts))} == {split.num_bytes}
    assert {row.documents for row in found.rows} == {len(texts)}
    model, xz, kneser_ney = found.rows
    targets = split.num_tokens - split.num_documents
    assert model.bits_per_byte == pytest.approx(targets * math.log2(300) / split.num_bytes)
    assert xz.bits_per_byte == pytest.approx(sum(8 * compressed_bytes(t) for t in texts) / split.num_bytes)
    assert kneser_ney.bits_per_byte < xz.bits_per_byte < model.bits_per_byte
    for row in found.rows:
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.bits_per_byte < row.high
    assert found.context == 64
    assert found.stride == 32
    assert "context 64 tokens, windows sliding by 32, float32" in model.note


def test_the_comparison_is_with_the_best_baseline_in_pairs(prepared: Prepared, root: Path) -> None:
    found = run(prepared, root, gate={"below_best_baseline": 0.1})
    assert found.comparison is not None
    assert found.comparison.other == "kneser-ney"
    mine, best = found.model.bits_per_byte, found.rows[2].bits_per_byte
    assert found.comparison.saving == pytest.approx(1 - mine / best)
    assert found.comparison.difference == pytest.approx(mine - best)
    assert found.comparison.saving_high is not None
    assert found.comparison.saving_high < 0
    assert found.gate is not None
    assert not found.gate.passed


def test_json_comes_back_the_same(prepared: Prepared, root: Path) -> None:
    found = run(prepared, root, gate={"below_best_baseline": "5%"})
    assert from_json(json.loads(json.dumps(found.as_json()))) == found


def test_baselines_are_computed_once(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(prepared, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    def never(_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(baselines, "BASELINES", {"xz": never, "kneser-ney": never})
    assert run(prepared, tmp_path).documents == first.documents
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == kept
    for changed in ({"documents": 9}, {"baseline_tokens": 1000}, {"seed": 1, "documents": 9}):
        with pytest.raises(AssertionError, match="computed again"):
            run(prepared, tmp_path, **changed)


def test_kneser_ney_says_on_how_much_it_was_counted(prepared: Prepared, tmp_path: Path) -> None:
    capped = run(prepared, tmp_path, baselines=["kneser-ney"], baseline_tokens=3000)
    whole = run(prepared, tmp_path, baselines=["kneser-ney"])
    total = Tokens.open(prepared.tokens).split("train").num_tokens
    assert f"of {total:,} training tokens" in capped.rows[1].note
    assert "all training tokens" in whole.rows[1].note
    assert whole.rows[1].bits_per_byte < capped.rows[1].bits_per_byte


def test_a_cap_draws_documents_by_their_own_hash(prepared: Prepared, root: Path) -> None:
    split = Tokens.open(prepared.tokens).split("validation")
    some, more = (set(held_out.draw(split, most=most, seed=0)) for most in (8, 12))
    assert len(some) == 8
    assert some < more
    assert some != set(held_out.draw(split, most=8, seed=1))
    assert held_out.draw(split, most=None, seed=0) == list(range(split.num_documents))
    found = run(prepared, root, documents=8, baselines=["xz"])
    assert {d.id for d in found.documents} == {split.document_id(i) for i in some}


def test_two_models_are_compared_on_the_same_documents(prepared: Prepared, root: Path) -> None:
    one = run(prepared, root, baselines=[])
    same = compare(one, run(prepared, root, baselines=[]))
    assert same == Comparison("model", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    worse = run(prepared, root, make_decoder(make_spec(vocab_size=300)), baselines=[])
    against = compare(one, worse)
    assert against.saving_low is not None
    assert against.saving_low > 0
    with pytest.raises(RhapsodeError, match="different documents"):
        compare(one, run(prepared, root, baselines=[], documents=8))


def test_each_row_is_told(prepared: Prepared, root: Path) -> None:
    heard: list[Event] = []
    evaluate(
        knows_nothing(),
        prepared.tokens,
        corpus=prepared.corpus,
        config=EvaluateConfig(resamples=200),
        root=root,
        events=Events(heard.append),
        name="tiny",
    )
    assert [e.fields["name"] for e in heard if e.kind == "evaluated"] == ["tiny", "xz", "kneser-ney"]


def test_a_vocabulary_of_another_model_is_refused(prepared: Prepared, root: Path) -> None:
    with pytest.raises(RhapsodeError, match="has token id 299, the model knows 96"):
        run(prepared, root, make_decoder(make_spec()))


def test_tokens_of_another_corpus_are_refused(prepared: Prepared, tokens: Tokens) -> None:
    split = tokens.split("validation")
    with pytest.raises(RhapsodeError, match="is not in"):
        held_out.texts(prepared.corpus, split, [0])


@pytest.mark.parametrize(("saving", "passed"), [(0.12, True), (0.1199, False), (-0.3, False)])
def test_the_gate_asks_for_the_saving_itself(saving: float, passed: bool) -> None:
    comparison = Comparison("xz", saving, saving - 0.05, saving + 0.05, 0.0, None, None)
    found = gate(comparison, below=0.12)
    assert found is not None
    assert found.passed is passed
    assert ("more" in found.sentence) == (saving < 0)
    assert "a release needs at least 12.0% fewer" in found.sentence
    assert gate(comparison, below=None) is None


def test_configurations_that_cannot_work_are_refused() -> None:
    assert EvaluateConfig.model_validate({"baselines": ["xz"]}).baselines == ("xz",)
    for wrong in (
        {"baselines": ["zip"]},
        {"baselines": ["xz", "xz"]},
        {"baselines": [], "gate": {"below_best_baseline": 0.1}},
        {"confidence": 1},
        {"documents": 0},
        {"samples": {"temperature": -1.0}},
    ):
        with pytest.raises(ValidationError):
            EvaluateConfig.model_validate(wrong)


def test_numbers_of_documents_add_up_to_the_rows(prepared: Prepared, root: Path) -> None:
    found = run(prepared, root)
    sizes = np.array([d.bytes for d in found.documents])
    assert found.model.bits_per_byte == pytest.approx(sum(d.bits for d in found.documents) / sizes.sum())
    for row in found.rows[1:]:
        bits = sum(d.baselines[row.name] for d in found.documents)
        assert row.bits_per_byte == pytest.approx(bits / sizes.sum())
