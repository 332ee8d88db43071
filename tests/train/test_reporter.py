"""What a run tells of its speed, its energy, its end and what it has spent."""

from pathlib import Path

import pytest
from tests.train.conftest import CPU, Heard, make_plan

from rhapsode.core.energy import Energy
from rhapsode.core.events import Events
from rhapsode.train.plan import TrainPlan
from rhapsode.train.reporter import Reporter, checkpoint_sizes
from rhapsode.train.step import StepResult
from rhapsode.train.time_left import Clock
from rhapsode.weights.checkpoint import TrainingState


class FakeTime:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class FakeMeter:
    """Ten watts."""

    def __init__(self, time: FakeTime) -> None:
        self.time, self.start = time, time.now

    def read(self) -> Energy:
        return Energy(10.0 * (self.time.now - self.start), "measured", "a meter")


class Scene:
    """A reporter of a run of ten steps with looks at 5 and 10 and a checkpoint at 4 and 8."""

    def __init__(self, run_dir: Path) -> None:
        self.time, self.heard, self.dir = FakeTime(), Heard(), run_dir
        self.plan: TrainPlan = make_plan(vocab_size=96, steps=10, validate_every=5, save_every=4)
        clock = Clock(steps=10, look_every=(5,), save_every=(4,), look_share=1.0, now=self.time)
        self.report = Reporter(
            self.plan,
            Events(self.heard),
            operations=2e6,
            peak_flops=1e9,
            run_dir=run_dir,
            device=CPU,
            clock=clock,
            meter=FakeMeter(self.time),
        )

    def step(self, number: int, *, seconds: float = 2.0, loss: float = 4.0, moved: bool = True) -> None:
        self.time.now += seconds
        state = TrainingState(step=number, tokens=number * 100, skipped=0, plan="")
        result = StepResult(loss, 100, 1.0, moved)
        self.report.step(state, result, seconds=seconds, learning_rate=0.1)

    def checkpoint(self, name: str, size: int) -> None:
        path = self.dir / name
        (path / "training").mkdir(parents=True)
        (path / "manifest.json").write_bytes(b"{}")
        (path / "training" / "optimizer.safetensors").write_bytes(bytes(size - 2))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_steps_tell_speed_energy_and_the_time_left(scene: Scene) -> None:
    scene.report.begin()
    for number in range(1, 5):
        scene.step(number)
    fields = scene.heard[-1].fields
    assert fields["tokens_per_second"] == 50.0
    expected = 50.0 * 2e6 / 1e9
    assert fields["utilisation"] == pytest.approx(expected, abs=1e-4)
    assert (fields["seconds_spent"], fields["joules"]) == (8.0, 80.0)
    assert fields["seconds_left"] == pytest.approx(6 * 2.0 + 2 * 2.0 / 3, abs=0.1)  # two looks, forward only


def test_the_smoothed_loss_leaves_out_what_did_not_count(scene: Scene) -> None:
    scene.report.begin()
    scene.step(1, loss=4.0)
    scene.step(2, loss=3.0)
    scene.step(3, loss=float("nan"), moved=False)
    assert scene.heard.of("step", "smooth_loss") == [4.0, 3.5, 3.5]


def test_at_the_end_everything_that_was_spent_is_told_by_kind(scene: Scene) -> None:
    scene.time.now += 30.0  # before the run
    scene.report.begin()
    scene.time.now += 1.0
    scene.report.looked(0)
    for number in range(1, 5):
        scene.step(number)
    scene.checkpoint("step-000004", 1000)
    scene.time.now += 0.5
    scene.report.saved(4)
    scene.checkpoint("step-000008", 1200)
    (scene.dir / "step-000004" / "manifest.json").unlink()  # superfluous: it is being removed
    scene.time.now += 3.0  # the last checkpoint is waited for
    scene.report.end()
    fields = scene.heard[-1].fields
    assert fields["seconds"] == 12.5
    assert fields["seconds_by"] == {"steps": 8.0, "looks": 1.0, "saves": 3.5}
    assert (fields["tokens"], fields["tokens_per_second"]) == (400, 50.0)
    assert fields["disk_bytes"] == 2200  # both lay there for a moment
    assert (fields["joules"], fields["joules_are"], fields["joules_how"]) == (425.0, "measured", "a meter")
    assert fields["memory_bytes"] > 10**6


def test_a_part_that_had_nothing_to_do_says_nothing(scene: Scene) -> None:
    scene.report.begin()
    scene.report.end()
    assert scene.heard == []


def test_only_complete_checkpoints_are_weighed(scene: Scene) -> None:
    scene.checkpoint("step-000004", 100)
    (scene.dir / "step-000008").mkdir()
    (scene.dir / "tensorboard").mkdir()
    assert checkpoint_sizes(scene.dir) == {"step-000004": 100}
