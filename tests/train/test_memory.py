"""When memory runs out, fewer rows are computed at once: the same step, the same gradient."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.train.conftest import CPU, Heard, make_plan, make_run

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import verify
from rhapsode.model.decoder import Decoder
from rhapsode.train.memory import OutOfMemory, is_out_of_memory
from rhapsode.train.objective import Batch, NextToken, next_token
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.checkpoint import read_state


class Greedy(NextToken):
    """Next-token training that asks the system for more than there is when it is given more than `most` rows."""

    __name__ = "next_token"

    def __init__(self, most: int, *, from_call: int = 0) -> None:
        self.most, self.left = most, from_call

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        self.left -= torch.is_grad_enabled()
        loss = next_token(model, batch)
        if torch.is_grad_enabled() and self.left < 0 and len(batch.ids) > self.most:
            torch.empty(2**60)
        return loss


def test_every_way_of_running_out_is_known() -> None:
    errors: list[BaseException] = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")]
    for ask in (lambda: torch.empty(2**60), lambda: np.empty(2**55), lambda: bytearray(2**62)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            ask()
        errors.append(caught.value)
    assert all(map(is_out_of_memory, errors))
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))


def test_rows_are_halved_once_for_all_and_a_resumed_run_begins_with_fewer(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, micro_batch_rows=8, samples=0)
    heard = Heard()
    last = make_run(plan, data, tmp_path / "a", events=Events(heard), objective=Greedy(2))(resume=False)
    said = heard.of("warning", "message")
    assert [message.split(":")[0] for message in said] == [
        f"memory ran out with {rows} rows at once" for rows in (8, 4)
    ]
    assert heard.of("step", "moved") == [True] * 6
    # what it gives is, to the byte, what two rows at once would have given from the beginning
    small = make_plan(vocab_size=data.tokenizer.vocab_size, micro_batch_rows=2, samples=0)
    expected = verify(make_run(small, data, tmp_path / "b")(resume=False)).files
    files = verify(last).files
    assert {name for name in files if files[name] != expected[name]} <= {"training/state.json"}
    assert read_state(last).micro_batch_rows == 2
    resumed = Heard()
    make_run(plan, data, tmp_path / "a", events=Events(resumed), objective=Greedy(2))(resume=True)
    assert resumed.of("warning", "message") == []
    assert resumed.of("determinism", "class") == ["same up to rounding"]


def test_in_the_middle_of_a_step_nothing_of_it_counts_twice(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, micro_batch_rows=4, precision="fp32", samples=0)
    heard, usual = Heard(), Heard()
    make_run(plan, data, tmp_path / "a", events=Events(usual))(resume=False)
    # the second micro-batch of the third step
    make_run(plan, data, tmp_path / "b", events=Events(heard), objective=Greedy(2, from_call=5))(resume=False)
    assert heard.of("step", "tokens") == usual.of("step", "tokens")
    assert heard.of("step", "loss") == pytest.approx(usual.of("step", "loss"), rel=1e-4)
    assert "from step 3 on it is 2" in heard.of("warning", "message")[0]


def test_a_single_row_that_does_not_fit_is_an_error_that_says_what_to_do(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, micro_batch_rows=3)
    with pytest.raises(RhapsodeError, match="not enough memory for a single row") as caught:
        make_run(plan, data, tmp_path, objective=Greedy(0))(resume=False)
    assert "model.context" in caught.value.hint


def test_while_the_weights_are_moved_there_is_no_second_attempt(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(make_plan(vocab_size=data.tokenizer.vocab_size), data, device=CPU)
    monkeypatch.setattr(trainer.optimizer, "step", lambda *_, **__: torch.empty(2**60))
    with pytest.raises(RhapsodeError, match="while the weights were moved"):
        trainer.step()


def test_other_errors_are_not_taken_for_it(data: Data) -> None:
    def wrong(model: Decoder, batch: Batch) -> Loss:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    wrong.measures, wrong.begin = (), next_token.begin
    trainer = Trainer(make_plan(vocab_size=data.tokenizer.vocab_size), data, device=CPU, objective=wrong)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trainer.step()
    assert not issubclass(OutOfMemory, RuntimeError)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from tests.train.conftest import Heard, load_data, make_plan, make_run
from rhapsode.core.events import Events
from rhapsode.train.objective import NextToken

data, heard = load_data(Path(sys.argv[1])), Heard()

class Hungry(NextToken):
    def __call__(self, model, batch):
        if torch.is_grad_enabled():
            torch.empty(len(batch.ids) << 28, dtype=torch.uint8)  # 256 MiB a row
        return super().__call__(model, batch)

plan = make_plan(vocab_size=data.tokenizer.vocab_size, micro_batch_rows=8, samples=0, steps=2)
run = make_run(plan, data, Path(sys.argv[2]), events=Events(heard), objective=Hungry())
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
run(resume=False)
print(len(heard.of("step", "step")), *heard.of("warning", "message"), sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that counts address space")
def test_a_limit_of_the_system_is_lived_with(data: Data, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(data.tokens.path), str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps, *said = done.stdout.splitlines()
    assert steps == "2"
    assert said[0].startswith("memory ran out with 8 rows at once")
    assert json.loads((tmp_path / "step-000002" / "training" / "state.json").read_text())["micro_batch_rows"] in (1, 2)
