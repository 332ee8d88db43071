"""TensorBoard reads back what a run told: numbers by step, sources apart, words as they were written."""

from pathlib import Path

import pytest

from rhapsode.core.events import Events
from rhapsode.train.tensorboard import TensorBoard

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_tensorboard_has_numbers_sources_energy_and_words(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    events = Events(board, clock=lambda: 12.5)
    for step in (1, 2):
        events.emit("step", step=step, loss=4.0 / step, learning_rate=0.1, joules=50.0 * step, grad_norm=None)
    events.emit("validation", step=2, bits_per_byte=2.5, by_source={"prose": 2.0, "code": 3.0})
    events.emit("samples", step=2, samples=[{"prompt": "def f():\n", "completion": "    return <b>\n# x"}])
    events.emit("saved", step=2, path="somewhere")
    board.close()
    found = accumulators.EventAccumulator(str(tmp_path))
    found.Reload()
    assert {tag: [(s.step, s.value) for s in found.Scalars(tag)] for tag in found.Tags()["scalars"]} == {
        "step/loss": [(1, 4.0), (2, 2.0)],
        "step/learning_rate": [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))],
        "step/joules": [(1, 50.0), (2, 100.0)],
        "validation/bits_per_byte": [(2, 2.5)],
        "validation/by_source/prose": [(2, 2.0)],
        "validation/by_source/code": [(2, 3.0)],
    }
    [text] = found.Tensors("samples/1/text_summary")
    assert text.step == 2
    words = text.tensor_proto.string_val[0].decode()
    assert words.splitlines() == ["      def f():", "", "    +     return <b>", "    + # x"]
