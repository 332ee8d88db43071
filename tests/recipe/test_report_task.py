"""The page and the card say what was found: the verdict first, in words, and nothing that breaks out."""

from dataclasses import replace
from pathlib import Path

import pytest

from rhapsode.core.report import Bars, Block, Code, Details, Figures, Heading, Note, Report, Table
from rhapsode.evaluate.evaluation import Comparison, Evaluation, HeldOutDocument, Row
from rhapsode.evaluate.jackknife import Spread
from rhapsode.evaluate.paired import Change, verdict
from rhapsode.evaluate.shots import Tried
from rhapsode.evaluate.task_evaluation import (
    Answered,
    Confusion,
    ItemScores,
    LabelScore,
    Score,
    SideBySide,
    TaskEvaluation,
)
from rhapsode.recipe.report_task import MOST_BARS, task_blocks, task_section

BETTER, WORSE = Spread(0.31, 0.269, 0.351, 200), Spread(-0.05, -0.08, -0.02, 200)
NONE, FEW = Spread(0.004, -0.012, 0.02, 200), Spread(0.2, None, None, 5)
GENERAL = Evaluation(
    (Row("after", 1.31, 1.2, 1.4, 9000, 12, 1.0, ""), Row("before", 1.3, 1.2, 1.4, 9000, 12, 1.0, "")),
    Comparison("before", -0.008, -0.012, -0.004, 0.01, 0.005, 0.015),
    None,
    (HeldOutDocument("topics/assert#1a2b", 800, 900.0, {"before": 800.0}),),
    context=64, stride=32, precision="float32", confidence=0.95, resamples=200, seed=0,
)  # fmt: skip


def change_of(scorer: str, found: Spread) -> Change:
    return Change(scorer, *found, wins=70, losses=8, ties=122, p_value=0.001, verdict=verdict(found))


def answered(prompt: str, value: float, **more) -> Answered:
    scores = (Score("accuracy", value, value - 0.04, value + 0.04, 200), Score("recall:oos|x", value, None, None, 5))
    given = {"shots": 0.0, "tried": (), "tried_items": 0, "tokens": 3.5, "cut": 4, "empty": 1, "unknown": 2, **more}
    return Answered(prompt, scores=scores, **given)


def found_of(first: Spread = BETTER, **more) -> TaskEvaluation:
    tried = (Tried("in plain text", 0.1), Tried("in plain text behind 3 examples", 0.4))
    given = {
        "after": answered("as it is trained and served", 0.81),
        "before": answered("in plain text behind 3 examples", 0.5, tried=tried, tried_items=60),
        "changes": (change_of("accuracy", first), change_of("recall:oos|x", FEW)),
        "labels": (LabelScore("refund", 20, 4, 19), LabelScore("card_lost", 10, 9, 8)),
        "confusions": (Confusion("refund", "card_lost", 9, 1), Confusion("refund", "", 7, 0)),
        "examples": (
            SideBySide("q1", "user: <b>where</b> is my refund", "refund", "card_lost", "refund", 1.0),
            SideBySide("q2", "user: " + "my card is gone " * 20, "card_lost", "card_lost", "refund", -1.0),
        ),
        "general": GENERAL,
        "items": tuple(ItemScores(f"q{i}", f"g{i}", (0.0, None), (1.0, None)) for i in range(200)),
        "max_tokens": 16,
        "temperature": 0.0,
        "confidence": 0.95,
        "seed": 0,
    }
    return TaskEvaluation(**{**given, **more})


def alone() -> TaskEvaluation:
    examples = tuple(replace(e, before=None, gain=None) for e in found_of().examples)
    labels = tuple(replace(label, before=None) for label in found_of().labels)
    return found_of(before=None, changes=(), examples=examples, labels=labels, confusions=(), general=None)


def of_kind(blocks: list[Block], kind: type) -> list:
    flat = [inner for block in blocks for inner in ([block, *block.blocks] if isinstance(block, Details) else [block])]
    return [block for block in flat if isinstance(block, kind)]


@pytest.mark.parametrize(
    ("first", "title", "tone", "words"),
    [
        (BETTER, "Better", "good", "accuracy: better by 31.0 points ± 4.1"),
        (WORSE, "Worse", "bad", "accuracy: worse by 5.0 points ± 3.0"),
        (NONE, "No difference", "plain", "accuracy: no difference: 0.4 points, interval -1.2 to 2.0"),
        (FEW, "Too few to tell", "plain", "accuracy: 20.0 points higher; 5 independent items are too few"),
    ],
)
def test_the_verdict_comes_first_in_words(first, title, tone, words):
    note = task_blocks(found_of(first))[0]
    assert isinstance(note, Note)
    assert (note.title, note.tone) == (title, tone)
    assert note.text.startswith(words)
    assert note.text.endswith("general text: worse: 0.8% more bits, interval 0.4% to 1.2%")
    assert f"**{words}" in task_section(found_of(first))


def test_without_a_model_before_nothing_is_claimed():
    blocks = task_blocks(alone())
    note = blocks[0]
    assert isinstance(note, Note)
    assert (note.title, note.tone) == ("Nothing to compare with", "plain")
    scores = of_kind(blocks, Table)[0]
    assert scores.columns == ["scorer", "points of 100"]
    assert scores.rows[0] == ["accuracy", "81.0 ± 4.0"]
    assert "before" not in Report("x", blocks).html().lower().split("<body>")[1]


def test_every_number_stands_beside_its_interval():
    scores = of_kind(task_blocks(found_of()), Table)[0]
    assert scores.columns == ["scorer", "before", "after", "difference", "verdict", "won : lost"]
    assert scores.rows[0] == ["accuracy", "50.0 ± 4.0", "81.0 ± 4.0", "+31.0 ± 4.1", "better", "70 : 8"]
    assert scores.rows[1] == ["recall:oos|x", "50.0", "81.0", "+20.0", "too few to tell", "70 : 8"]
    assert of_kind(task_blocks(found_of(NONE)), Table)[0].rows[0][3:5] == ["+0.4 ± 1.6", "no difference"]
    assert of_kind(task_blocks(found_of(WORSE)), Table)[0].rows[0][3:5] == ["-5.0 ± 3.0", "worse"]
    figures = of_kind(task_blocks(found_of()), Figures)[0].figures
    assert [(f.label, f.value) for f in figures] == [
        ("accuracy", "81.0"), ("before", "50.0"), ("difference", "+31.0"), ("questions", "200"),
    ]  # fmt: skip
    assert figures[0].detail == "interval 77.0 to 85.0"


def test_both_models_are_drawn_for_every_scorer():
    bars = of_kind(task_blocks(found_of()), Bars)[0].bars
    assert [(b.label, b.value, b.is_marked) for b in bars] == [
        ("accuracy, before", 0.5, False), ("accuracy, after", 0.81, True),
        ("recall:oos|x, before", 0.5, False), ("recall:oos|x, after", 0.81, True),
    ]  # fmt: skip


def test_labels_are_bars_and_mistakes_a_table():
    blocks = task_blocks(found_of())
    _, bars = of_kind(blocks, Bars)
    assert [(b.label, b.value, b.text, b.detail, b.is_marked) for b in bars.bars] == [
        ("card_lost", 0.8, "8 of 10", "before 9", False),
        ("refund", 0.95, "19 of 20", "before 4", True),
    ]
    mistakes = next(table for table in of_kind(blocks, Table) if table.columns[0] == "wanted")
    assert mistakes.rows == [("refund", "card_lost", "9", "1"), ("refund", "no label", "7", "0")]
    many = tuple(LabelScore(f"label{i:03d}", 10, 5, 5 + (i % 50 == 0)) for i in range(151))
    _, bars = of_kind(task_blocks(found_of(labels=many)), Bars)
    assert len(bars.bars) == MOST_BARS
    assert {"label000", "label050", "label100", "label150"} < {bar.label for bar in bars.bars}
    assert f"the {MOST_BARS} that changed most of 151" in bars.caption


def test_what_changed_in_the_answers_themselves():
    table = next(t for t in of_kind(task_blocks(found_of()), Table) if t.caption == "What changed")
    assert table.rows == [
        ("asked", "in plain text behind 3 examples", "as it is trained and served"),
        ("tokens of an answer", "3.5", "3.5"),
        ("cut at 16 tokens", "4 (2.0%)", "4 (2.0%)"),
        ("without a word", "1 (0.5%)", "1 (0.5%)"),
        ("that name no label", "2 (1.0%)", "2 (1.0%)"),
    ]
    tried = next(t for t in of_kind(task_blocks(found_of()), Table) if t.columns[0] == "prompt")
    assert tried.rows == [("in plain text", "10.0"), ("in plain text behind 3 examples", "40.0")]
    assert tried.strong == 1


def test_answers_stand_side_by_side_to_the_character():
    blocks = task_blocks(found_of())
    first, second = (b for b in blocks if isinstance(b, Details) and isinstance(b.blocks[0], Code))
    assert first.summary == "+100.0 points: user: <b>where</b> is my refund"
    assert first.is_open
    assert not second.is_open
    assert second.summary.startswith("-100.0 points: ... ")
    table = first.blocks[1]
    assert isinstance(table, Table)
    assert table.rows == [("wanted", "refund"), ("before", "card_lost"), ("after", "refund")]
    assert table.written == ("text",)


def test_what_was_forgotten_has_numbers_and_documents():
    blocks = task_blocks(found_of())
    assert Heading("What it forgot") in blocks
    table = next(t for t in of_kind(blocks, Table) if "documents of English" in t.caption)
    assert table.rows == [("after", "1.3100", "1.200 to 1.400"), ("before", "1.3000", "1.200 to 1.400")]
    most = next(t for t in of_kind(blocks, Table) if t.columns[0] == "document")
    assert most.rows == [("topics/assert", "1.000", "1.125")]
    assert Heading("What it forgot") not in task_blocks(found_of(general=None))


def test_the_page_stands_and_holds_no_markup_of_the_questions(tmp_path: Path):
    path = tmp_path / "report.html"
    Report("a task", task_blocks(found_of())).write(path)
    text = path.read_text()
    assert "&lt;b&gt;where&lt;/b&gt;" in text
    assert "<b>where" not in text


def test_the_card_is_a_section_of_markdown_that_names_cannot_break():
    lines = task_section(found_of()).splitlines()
    assert lines[0] == "## What its answers are worth"
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| scorer | before | after | difference | verdict | won : lost |"
    assert table[3].startswith("| recall:oos\\|x | 50.0 |")
    assert {line.replace("\\|", "").count("|") for line in table} == {7}
    assert "200 held-out questions, answers of at most 16 tokens, the likeliest token." in lines[-1]
    only = task_section(alone())
    assert "| accuracy | 81.0 ± 4.0 |" in only
    assert "there is nothing to compare it with" in only
