"""Real sets validate as they are: `shared/data` beside the project, or where RHAPSODE_TEST_DATA says."""

import os
from pathlib import Path

import pytest

from rhapsode.corpus.examples import fault
from rhapsode.corpus.examples.validate import validate

DATA = Path(os.environ.get("RHAPSODE_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent; RHAPSODE_TEST_DATA may name another")


@pytest.mark.parametrize(
    ("name", "shape", "num_rows"),
    [
        ("instruct/gpteacher/Toolformer_toolformer-dedupe-only-dataset", "alpaca", 7673),
        ("instruct/llamafactory-demo/alpaca_en_demo", "alpaca", 999),
        ("instruct/llamafactory-demo/identity", "alpaca", 91),
        ("instruct/llamafactory-demo/dpo_en_demo", "preference", 300),
        ("instruct/llamafactory-demo/kto_en_demo", "feedback", 300),
        ("instruct/llamafactory-demo/glaive_toolcall_en_demo", "sharegpt", 300),
        ("instruct/llamafactory-demo/c4_demo", "text", 300),
        ("instruct/schema-guided-dialogue/dev", "dialogue", 2098),
        ("instruct/taskmaster/dialogues", "dialogue", 3710),
        ("instruct/t0-p3-50k/train", "completion", 55161),
    ],
)
def test_a_set_is_recognised_and_good(name: str, shape: str, num_rows: int) -> None:
    found = validate(DATA / f"{name}.jsonl.zst")
    assert (found.shape, found.num_rows, found.num_examples) == (shape, num_rows, num_rows)


@pytest.mark.parametrize(
    ("name", "prompt", "completion", "num_rows"),
    [
        ("instruct/gsm8k/train", "question", "answer", 7473),
        ("instruct/medquad/qa", "question", "answer", 16407),
        ("task/clinc150/train", "text", "intent", 15000),
        ("task/mts-dialog/MTS_Dialog_TrainingSet", "dialogue", "section_text", 1201),
        ("task/sms-spam/sms", "text", "label", 5574),
        ("task/wikitablequestions/train", "utterance", "targetValue", 14152),
    ],
)
def test_a_set_with_names_of_its_own_is_good_when_they_are_said(
    name: str, prompt: str, completion: str, num_rows: int
) -> None:
    found = validate(DATA / f"{name}.jsonl.zst", fields={prompt: "prompt", completion: "completion"})
    assert (found.shape, found.num_examples) == ("completion", num_rows)


def test_what_is_wrong_in_real_sets_is_found() -> None:
    """Answers that were left empty, and zero bytes that came into docstrings from their escapes."""
    pairs = validate(DATA / "preference/hh-rlhf-harmless-test/harmless-base-test.jsonl.zst", drop_faults=True)
    assert pairs.counts == {fault.TWICE_IN_A_ROW: 9, fault.EMPTY_ANSWER: 4}
    assert (pairs.num_rows, pairs.num_examples) == (2312, 2299)
    fields = {"code": "prompt", "docstring": "completion"}
    written = validate(DATA / "task/docstring-gen/train.jsonl.zst", fields=fields, drop_faults=True)
    assert written.counts == {fault.BAD_CHARACTER: 3}
