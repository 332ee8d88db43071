"""The page of a run tells how it learned, what went wrong, and what it cost."""

import math
from typing import Any

import pytest

from rhapsode.core.events import Event
from rhapsode.core.report import Block, Chart, Code, Heading, Note, Report, Table
from rhapsode.recipe.report_cost import cost, spent_of
from rhapsode.recipe.report_learning import learning, smoothed, spread

FORECAST = {
    "seconds": 100.0,
    "tokens_per_second": 2000.0,
    "memory_bytes": 10**9,
    "disk_bytes": 2 * 10**8,
    "joules": 1000.0,
    "joules_are": "estimate",
}
SPENT = {
    "seconds": 130.0,
    "seconds_by": {"steps": 110.0, "looks": 15.0, "saves": 5.0},
    "tokens": 200_000,
    "tokens_per_second": 1800.0,
    "memory_bytes": 11 * 10**8,
    "disk_bytes": 10**8,
    "joules": 1100.0,
    "joules_are": "measured",
    "joules_how": "counters of package-0",
}


def event(kind: str, **fields: Any) -> Event:
    return Event(kind, 0.0, fields)


def step(number: int, **changes: Any) -> Event:
    fields = {
        "step": number,
        "loss": 8.0 / number,
        "grad_norm": 0.5,
        "learning_rate": 0.01,
        "tokens_per_second": 2000.0,
        "moved": True,
        "seconds_spent": 2.0 * number,
        "joules": 10.0 * number,
    }
    return event("step", **fields | changes)


def charts(blocks: list[Block]) -> dict[str, Chart]:
    return {block.title.partition(":")[0]: block for block in blocks if isinstance(block, Chart)}


def test_curves_of_loss_gradient_and_every_source() -> None:
    events = [step(n, grad_norm=2.0 if n < 11 else 0.5) for n in range(1, 101)]
    for at in (0, 50, 100):
        by_source = {"prose": 2.0 - at / 100, "code": 3.0 - at / 100}
        events.append(event("validation", step=at, bits_per_byte=2.2 - at / 100, by_source=by_source))
    drawn = charts(learning(events, clip=1.0))
    assert list(drawn) == ["Held-out text while training", "Training loss", "Gradient norm"]
    held_out = drawn["Held-out text while training"]
    assert [key.name for key in held_out.keys] == ["all held-out text", "prose", "code"]
    assert [list(row) for row in held_out.table.rows] == [
        ["0", "2.2", "2", "3"],
        ["50", "1.7", "1.5", "2.5"],
        ["100", "1.2", "1", "2"],
    ]
    assert drawn["Gradient norm"].title == "Gradient norm: above 1 in 10 of 100 steps, and scaled down there"
    assert "clipped above 1" in drawn["Gradient norm"].wide
    assert "Triangles" not in drawn["Training loss"].note


def test_one_source_needs_no_line_of_its_own() -> None:
    looks = [event("validation", step=n, bits_per_byte=2.0, by_source={"prose": 2.0}) for n in (0, 1)]
    assert len(charts(learning(looks, clip=1.0))["Held-out text while training"].keys) == 1


def test_steps_that_were_left_out_are_marked_and_told() -> None:
    events = [step(n) for n in range(1, 21)]
    events[6] = step(7, loss=None, grad_norm=None, moved=False)
    events.insert(7, event("skipped", step=7, reason="its loss is not finite"))
    events.insert(14, event("rolled_back", step=13, to=10, message="3 steps in a row were left out"))
    blocks = learning(events, clip=1.0)
    for title in ("Training loss", "Gradient norm"):
        note = charts(blocks)[title].note
        assert note == "Triangles mark steps that were left out, and from which the run went back: 7, 13."
    notes = {block.title: block.text for block in blocks if isinstance(block, Note)}
    assert notes["Steps left out"] == (
        "1 of 20 steps were left out and moved nothing. For example: its loss is not finite."
    )
    assert notes["The run went back"] == "3 steps in a row were left out."
    Report("t", blocks).html()


def test_a_run_without_a_single_step_has_a_page_too() -> None:
    assert learning([event("begin", step=0)], clip=1.0) == [Heading("How it learned")]
    assert cost([event("planned", forecast=FORECAST), event("begin", step=0)]) == []


def test_words_are_shown_from_the_first_look_to_the_last() -> None:
    events = [
        event("samples", step=n, samples=[{"prompt": p, "completion": f"{p} {n}\n  x"} for p in ("a", "b\n", "c")])
        for n in range(0, 1001, 50)
    ]
    blocks = learning(events, clip=1.0)
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [block.text for block in blocks if isinstance(block, Code)] == ["a", "b\n"]
    assert [row[0] for row in tables[0].rows] == ["0", "100", "150", "300", "550", "1,000"]
    assert tables[1].rows[-1] == ("1,000", "b\n 1000\n  x")
    assert "b\n 1000\n  x</pre>" in Report("t", blocks).html()


@pytest.mark.parametrize(
    ("length", "places"), [(2, [0, 1]), (6, list(range(6))), (7, [0, 1, 2, 3, 4, 6]), (1000, [0, 4, 16, 63, 251, 999])]
)
def test_what_is_shown_of_many_looks_begins_and_ends_with_them(length: int, places: list[int]) -> None:
    assert spread(length, count=6) == places


def test_smoothing_follows_without_lag_and_steps_over_gaps() -> None:
    line = [10.0 - n / 100 for n in range(500)]
    assert smoothed(line)[:460] == pytest.approx(line[:460])
    assert smoothed(line) == pytest.approx(line, abs=0.25)
    noisy = [value + (-1) ** n for n, value in enumerate(line)]
    assert smoothed(noisy)[250] == pytest.approx(line[250], abs=0.05)
    gap = [math.nan if 100 <= n < 103 else value for n, value in enumerate(line)]
    assert smoothed(gap)[101] == pytest.approx(line[101], abs=0.05)
    assert math.isnan(smoothed([math.nan, 1.0])[0])


def test_what_was_spent_stands_beside_the_forecast() -> None:
    [table] = cost([event("planned", forecast=FORECAST), event("begin", step=0), step(1), event("spent", **SPENT)])
    assert isinstance(table, Table)
    assert [list(row) for row in table.rows] == [
        ["time of the steps", "1 min 40 s", "1 min 50 s", "1.10"],
        ["time of the looks", "", "15.0 s", ""],
        ["time waited for checkpoints", "", "5.0 s", ""],
        ["tokens a second", "2.0k", "1.8k", "0.90"],
        ["memory at most", "1.0 GB", "1.1 GB", "1.10"],
        ["disk for checkpoints at most", "200.0 MB", "100.0 MB", "0.50"],
        ["energy", "1.0 kJ (0.3 Wh)", "1.1 kJ (0.3 Wh)", "1.10"],
    ]
    assert table.caption == "What it took. The energy is measured: counters of package-0."


def test_all_parts_of_a_run_count_also_those_that_were_killed() -> None:
    begin = event("begin", step=0)
    estimate = {**SPENT, "joules_are": "estimate", "joules_how": "20 s of processor time x 5 W a thread"}
    events = [begin, step(1), step(20), begin, step(11), event("spent", **SPENT), begin, event("spent", **estimate)]
    spent = spent_of(events)
    assert spent is not None
    assert (spent.parts, spent.torn, spent.seconds, spent.joules) == (3, 1, 40.0 + 260.0, 200.0 + 2200.0)
    assert spent.seconds_by == {"steps": 40.0 + 220.0, "looks": 30.0, "saves": 10.0}
    [table] = cost([event("planned", forecast={**FORECAST, "joules": None}), *events])
    assert isinstance(table, Table)
    assert "an estimate: 20 s" in table.caption
    assert "in 3 parts" in table.caption
    assert "1 of them ended without a word" in table.caption
    assert table.rows[-1] == ("energy", "", "2.4 kJ (0.7 Wh)", "")
