"""Who listens to a run besides the terminal and events.jsonl: TensorBoard always, MLflow where a server is named."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rhapsode.core.events import Events, Listener
from rhapsode.train.mlflow import TRACKING_URI, MLflow, server_of
from rhapsode.train.tensorboard import TensorBoard


@contextlib.contextmanager
def trackers(
    run_dir: Path, *, events: Events, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Listener, ...]]:
    """Listeners to subscribe; they are closed at the end, when everything has been heard.

    Args:
        environment: variables that MLflow's own clients read; those of this process if not given.
    """
    environment = os.environ if environment is None else environment
    with contextlib.ExitStack() as stack:
        board = TensorBoard(run_dir / "tensorboard")
        stack.callback(board.close)
        found: list[Listener] = [board]
        if environment.get(TRACKING_URI):
            server = server_of(environment)
            if server is None:
                where = environment[TRACKING_URI]
                message = f"{TRACKING_URI} is {where}: only servers (http://..., https://...) are told of a run"
                events.emit("warning", message=message)
            else:
                mlflow = MLflow(server, run_dir=run_dir, events=events)
                stack.callback(mlflow.close)
                found.append(mlflow)
        yield tuple(found)
