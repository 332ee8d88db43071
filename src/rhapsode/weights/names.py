"""What the directories of models and adapters in a run are called, and models by them. Free of torch."""

import re
from pathlib import Path

from rhapsode.core.manifest import is_complete

MERGED = "model"
"""In a run's folder, the last adapter in the weights of its base."""
ADAPTER = "adapter_config.json"
"""In a directory of an adapter, what PEFT knows it by."""
STEP = re.compile(r"step-\d{6,}")


def model_name(directory: Path) -> str:
    """What a model is called: by its run if it is a checkpoint of one, else by its directory."""
    directory = directory.resolve()
    is_of_run = STEP.fullmatch(directory.name) or directory.name == MERGED
    return directory.parent.name if is_of_run else directory.name


def checkpoints(run_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path for path in run_dir.glob("step-*") if STEP.fullmatch(path.name) and is_complete(path)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
