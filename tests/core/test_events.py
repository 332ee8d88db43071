import json
from pathlib import Path

from rhapsode.core.events import Event, Events, JsonLines, Tail, read_events


def test_listeners_hear_every_event_in_order_until_they_leave() -> None:
    heard: list[Event] = []
    events = Events(heard.append, clock=lambda: 12.5)
    events.emit("step", loss=1.0)
    late: list[Event] = []
    events.subscribe(late.append)
    events.emit("step", loss=0.5)
    events.unsubscribe(heard.append)
    events.emit("end")
    assert heard == [Event("step", 12.5, {"loss": 1.0}), Event("step", 12.5, {"loss": 0.5})]
    assert [event.kind for event in late] == ["step", "end"]


def test_a_file_of_events_reads_back_without_progress(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with JsonLines(file) as listener:
        events = Events(listener, clock=lambda: 1.25)
        events.emit("begin", path="späti", steps=3)
        events.emit("progress", done=1, total=2)
        events.emit("step", step=1, loss=0.5)
    assert read_events(file) == [
        Event("begin", 1.25, {"path": "späti", "steps": 3}),
        Event("step", 1.25, {"step": 1, "loss": 0.5}),
    ]


def test_every_event_is_on_disk_before_emit_returns(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with JsonLines(file) as listener:
        Events(listener).emit("step", step=1)
        assert [event.kind for event in read_events(file)] == ["step"]


def test_a_torn_last_line_swallows_nothing_that_comes_after_it(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with JsonLines(file) as listener:
        Events(listener).emit("step", step=1)
        Events(listener).emit("step", step=2, text="wörter")
    whole = file.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        file.write_bytes(whole[:length])
        with JsonLines(file) as listener:
            Events(listener).emit("step", step=3)
        steps = [event.fields["step"] for event in read_events(file)]
        # a line that lacks nothing but its end is not torn
        assert steps == ([1, 2, 3] if length == len(whole) - 1 else [1, 3])


def test_line_separators_of_unicode_do_not_break_a_line(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    text = "a\u2028b\u2029c\x85d\x0be\x1cf\r\ng"
    with JsonLines(file) as listener:
        Events(listener).emit("sample", text=text)
    assert [event.fields["text"] for event in read_events(file)] == [text]


def test_lines_are_strict_json_even_when_a_loss_is_not_a_number(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    file = tmp_path / "events.jsonl"
    with JsonLines(file) as listener:
        Events(listener).emit("step", loss=float("nan"), grad_norm=float("inf"), moved=False)
    row = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    assert (row["loss"], row["grad_norm"], row["moved"]) == (None, None, False)
    with JsonLines(file) as listener:
        Events(listener).emit("validation", by_source={"code": float("inf")}, rows=[1.0, float("nan")])
    assert read_events(file)[-1].fields == {"by_source": {"code": None}, "rows": [1.0, None]}


def test_a_tail_gives_every_event_once_and_only_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with JsonLines(file) as listener:
        for step in range(3):
            Events(listener).emit("step", step=step, text="wörter")
    whole, tail, steps = file.read_bytes(), Tail(file), []
    for size in range(len(whole) + 1):  # as if another process had written so many bytes
        file.write_bytes(whole[:size])
        steps += [event.fields["step"] for event in tail.read()]
    assert steps == [0, 1, 2]
    assert tail.read() == []
    file.write_bytes(whole[: whole.index(b"\n") + 1])  # begun anew
    assert [event.fields["step"] for event in tail.read()] == [0]
