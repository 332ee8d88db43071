"""Pitfalls 4, 19, 20 and 21: rows that teach nothing, are broken, are cut, or stand on both sides."""

import json

import pytest
from tests.pitfalls.conftest import Project, Row, answered, conversation

from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.trees import num_learned

BOTH = "data.examples=[{path: rows.jsonl, split: train}, {path: held.jsonl, split: validation}]"
LONG = {"prompt": "Which colour has ship 99?", "completion": " red" * 100}


def prompts(project: Project, corpus_side: str, *changes: str) -> list[str]:
    corpus = project.plan(*changes).corpus
    return [json.loads(document.text)["prompt"] for document in iter_documents(corpus, split=corpus_side)]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "Which?", "completion": "  "}, "completion: an empty completion"),
        ({"prompt": "Which?"}, "completion: missing"),
        ({"messages": [{"role": "user", "content": "Which?"}]}, "messages: nobody answers"),
    ],
)
def test_04_a_row_with_no_learned_token_is_refused_by_its_line(row: Row, what: str, project: Project) -> None:
    others = [conversation(f"Ship {n}?", "Red.") for n in range(80)] if "messages" in row else answered(80)
    project.write([*others, row])
    with pytest.raises(RhapsodeError, match=rf"rows\.jsonl:81:\d+: {what}"):
        project.plan()


def test_04_of_every_row_that_is_trained_something_is_learned(project: Project) -> None:
    for split in map(project.plan().data.tokens.split, ("train", "validation")):
        assert all(num_learned(split, number) > 1 for number in range(split.num_documents))


def test_19_a_fault_in_the_last_row_is_found_before_anything_is_spent(project: Project) -> None:
    path = project.folder / "rows.jsonl"
    path.write_text(path.read_text() * 20 + '{"prompt": "Which?", "completion": " red"\n')
    with pytest.raises(RhapsodeError, match=r"rows\.jsonl:801:\d+: ") as error:
        project.plan()
    assert "mend" in error.value.hint
    assert not list(project.layout.out.rglob("*.parquet"))


def test_20_an_answer_that_does_not_fit_is_never_cut(project: Project) -> None:
    project.write([*answered(40), LONG])
    project.write([{"prompt": "Which colour has the sea?", "completion": " blue"}], name="held")
    with pytest.raises(PlanRefused, match=r"1 of 41 examples .*rows\.jsonl#row41\): \d+ tokens .*would be lost"):
        project.plan(BOTH)
    plan = project.plan(BOTH, "data.too_long=drop", "train.objective={name: sft, learn_prompts: 0}")
    split = plan.data.tokens.split("train")
    learned = sum(num_learned(split, n) for n in range(split.num_documents) if split.document_source(n)[-5:] != "row41")
    assert plan.data.training.num_targets == learned


def test_21_rows_that_are_repeated_stay_on_one_side(project: Project) -> None:
    """Ten of each, as when a rare kind is made more frequent."""
    project.write(answered(40) * 10)
    sides = [set(prompts(project, side, "data.deduplicate=off")) for side in ("train", "validation")]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[0]) + len(sides[1]) == 40


def test_21_what_is_nearly_held_out_is_not_trained_on(project: Project) -> None:
    asked = "Please say which colour the ship has that came home to the harbour at noon with a crew of {}"
    project.write([{"prompt": asked.format(7), "completion": " red"}], name="held")
    leaked = {"prompt": asked.format(7) + " men", "completion": " red"}
    project.write([*answered(40), leaked])
    with pytest.raises(RhapsodeError, match=r"rows\.jsonl#row41 is \d+% like held\.jsonl#row1"):
        project.plan(BOTH)
    assert leaked["prompt"] not in prompts(project, "train", BOTH, "data.overlap=drop")


def test_21_a_patient_is_on_one_side(project: Project) -> None:
    project.write([{**row, "patient": f"p{n % 8}"} for n, row in enumerate(answered(40))])
    corpus = project.plan("data.split.group=patient", "data.split.validation=0.4").corpus
    sides = [{d.meta["group"] for d in iter_documents(corpus, split=side)} for side in ("train", "validation")]
    assert sides[0].isdisjoint(sides[1])
    assert sides[0]
    assert sides[1]
