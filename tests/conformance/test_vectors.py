"""The evidence itself: made from a directory alone, the same every time, and true."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conformance.conftest import altered, edit_json, save_model, with_template
from tests.conformance.faults import write_template
from tests.conftest import make_decoder, make_spec

from rhapsode.conformance.against import replay_here
from rhapsode.conformance.evidence import FOLDER, LAST, Evidence, read_evidence
from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.kernels.attention import DenseAttend
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, write_model


def evidence_of(directory: Path) -> Evidence:
    evidence = read_evidence(directory)
    assert evidence is not None
    return evidence


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / FOLDER).iterdir())}


def test_the_same_directory_gives_the_same_bytes(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "again", ignore=shutil.ignore_patterns(FOLDER))
    add_conformance(tmp_path / "again")
    assert bytes_of(tmp_path / "again") == bytes_of(model_dir)


def test_a_model_in_memory_need_not_be_read_again(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "again", ignore=shutil.ignore_patterns(FOLDER, "model.safetensors"))
    add_conformance(tmp_path / "again", model=read_model(model_dir))
    assert bytes_of(tmp_path / "again") == bytes_of(model_dir)


@pytest.mark.parametrize("context", [16, 17, 40, 512])
def test_evidence_holds_in_our_own_engine_however_short_the_context(
    context: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    report = replay_here(save_model(tmp_path / "short", tokenizer, context=context))
    assert report.mismatches == ()
    assert report.notes == ()
    assert {check.name: check.compared for check in report.checks} == {check.name: check.of for check in report.checks}
    assert len(report.checks) == 6


@torch.no_grad()
def test_scores_are_those_of_each_prompt_alone(model_dir: Path) -> None:
    model, evidence = read_model(model_dir), evidence_of(model_dir)
    for case, rows in evidence.scored():
        ids = torch.tensor([evidence.vectors.prompt(case)])
        attend = DenseAttend(torch.ones_like(ids), dtype=torch.float32)
        scores = model.logits(model(ids, torch.arange(ids.shape[1])[None], attend=attend))[0, -LAST:]
        scores = scores[:, : evidence.vectors.vocabulary]
        assert len(rows.ids) == len(scores)
        np.testing.assert_allclose(rows.scores, scores.gather(1, torch.from_numpy(rows.ids).long()), atol=1e-4)
        np.testing.assert_allclose(rows.scores, scores.topk(rows.scores.shape[1]).values, atol=1e-4)
        np.testing.assert_allclose(rows.log_sums, scores.logsumexp(-1), atol=1e-4)


def test_it_asks_about_what_readers_get_wrong(model_dir: Path, tokenizer: Tokenizer) -> None:
    vectors = evidence_of(model_dir).vectors
    texts = [case.text for case in vectors.cases if case.text is not None]
    assert {"", "a"} <= set(texts)
    assert any(text.startswith(" ") for text in texts)
    assert any("\t" in text and "\r\n" in text for text in texts)
    assert [case for case in vectors.cases if case.text and case.is_look_alike and "<|im_end|>" in case.text]
    conversations = [case.messages for case in vectors.cases if case.messages]
    assert [len(messages) for messages in conversations] == [1, 2, 3, 1]
    assert vectors.prefix == (tokenizer.bos,)
    assert set(vectors.stops) == {tokenizer.eos, tokenizer.end_of_turn}
    assert sum(1 for case in vectors.cases if case.greedy) == 7


def test_what_is_said_ends_where_an_answer_ends(model_dir: Path, tokenizer: Tokenizer) -> None:
    for case in evidence_of(model_dir).vectors.cases:
        stop = next((n for n, token in enumerate(case.greedy) if token in (1, 4)), len(case.greedy))
        assert case.says == tokenizer.decode(case.greedy[:stop])


def test_a_model_without_a_template_is_asked_about_texts_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    plain = with_template(tokenizer, "")
    directory = save_model(tmp_path / "base", plain)
    assert not any(case.messages for case in evidence_of(directory).vectors.cases)
    assert [check.name for check in replay_here(directory).checks][:3] == [
        "texts to ids",
        "words of the vocabulary",
        "scores of last positions",
    ]


def test_a_conversation_that_the_template_refuses_is_left_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    template = "{% if messages|length != 1 %}{{ raise_exception('one at a time') }}{% endif %}{{ messages[0].content }}"
    picky = with_template(tokenizer, template)
    directory = save_model(tmp_path / "picky", picky)
    assert [len(case.messages) for case in evidence_of(directory).vectors.cases if case.messages] == [1, 1]
    assert replay_here(directory).mismatches == ()


def test_a_template_that_takes_no_conversation_is_told_of(tokenizer: Tokenizer, tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model", with_template(tokenizer, "{{ raise_exception('not today') }}"))
    heard: list[Event] = []
    add_conformance(directory, events=Events(heard.append))
    (warning,) = [event for event in heard if event.kind == "warning"]
    assert "its chat template takes none of the conversations" in warning.fields["message"]


def test_a_template_that_writes_the_date_holds_on_another_day(tokenizer: Tokenizer, tmp_path: Path) -> None:
    then, now = "1 Jan 1999 {{ messages[0].content }}", "{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}"
    written = with_template(tokenizer, then)
    model = save_model(tmp_path / "model", written)

    def is_another_day(directory: Path) -> None:
        write_template(directory, now)
        edit_json(directory / FOLDER / "vectors.json", lambda value: value.update(is_dated=True))

    report = replay_here(altered(model, tmp_path / "dated", is_another_day))
    assert report.mismatches == ()
    assert "conversations were compared as of today" in report.notes[0]
    report = replay_here(altered(model, tmp_path / "changed", lambda directory: write_template(directory, now)))
    assert report.kinds == ["template"]


def test_whether_a_template_writes_the_date_is_noticed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    dated = with_template(tokenizer, "{{ strftime_now('%d') }}")
    assert evidence_of(save_model(tmp_path / "model", dated)).vectors.is_dated


def test_numbers_that_are_not_finite_are_no_evidence(tokenizer: Tokenizer, tmp_path: Path) -> None:
    spec = make_spec(vocab_size=tokenizer.vocab_size)
    model = make_decoder(spec)
    with torch.no_grad():
        model.layers[0].ffn.writer.weight[0, 0] = float("inf")
    tokenizer.save(tmp_path / "tokenizer")
    write_model(
        tmp_path, spec=spec, weights=list(model.named_parameters()), tokenizer_dir=tmp_path / "tokenizer", stops=[4]
    )
    with pytest.raises(RhapsodeError, match="not finite"):
        add_conformance(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_a_tokenizer_that_is_too_large_is_refused(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "wrong")
    smaller = make_decoder(make_spec(vocab_size=128))
    with pytest.raises(RhapsodeError, match="the tokenizer has"):
        add_conformance(tmp_path / "wrong", model=smaller)


def test_progress_is_told(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "again")
    heard: list[Event] = []
    add_conformance(tmp_path / "again", events=Events(heard.append))
    assert [(event.fields["stage"], event.fields["done"]) for event in heard] == [
        ("evidence", 0),
        ("evidence", 1),
        ("evidence", 2),
    ]
