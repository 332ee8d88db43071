"""What a release must reach in its answers, and what it may forget for that.

Better means more than chance: the whole interval is above nothing. A number of points must be reached by the difference
itself, on top of that.
"""

from collections.abc import Iterator, Sequence

from rhapsode.evaluate.config import GateConfig
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.forgetting import sentence
from rhapsode.evaluate.paired import Change
from rhapsode.evaluate.task_evaluation import TaskGate


def task_gate(changes: Sequence[Change], general: Evaluation | None, config: GateConfig) -> TaskGate | None:
    """Whether the first of the changes, which decides, and general text are what is asked; None where nothing is."""
    found = [*_of_task(changes, config), *_of_general(general, config)]
    if not found:
        return None
    return TaskGate(all(passed for passed, _ in found), "; ".join(said for _, said in found))


def _of_task(changes: Sequence[Change], config: GateConfig) -> Iterator[tuple[bool, str]]:
    if config.task is None:
        return
    least = 0.0 if config.task == "better" else float(config.task)
    asked = "to be better" if config.task == "better" else f"to be better by at least {least:g} points"
    if not changes:
        yield False, f"there is no model before to compare with; a release needs {asked}"
        return
    first = changes[0]
    passed = first.low is not None and first.low > 0 and 100 * first.difference >= least
    yield passed, f"{first.scorer}: {first.verdict}; a release needs {asked}"


def _of_general(general: Evaluation | None, config: GateConfig) -> Iterator[tuple[bool, str]]:
    if config.general is None:
        return
    asked = f"a release may need at most {config.general:.1%} more bits"
    if general is None or general.comparison is None:
        yield False, f"general text was not measured before and after; {asked}"
        return
    yield -general.comparison.saving <= config.general, f"general text: {sentence(general.comparison)}; {asked}"
