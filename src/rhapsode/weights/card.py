"""The card of a model that is complete already: what was found out about it goes where the model goes."""

import os
import shutil
from pathlib import Path

from rhapsode.core.manifest import verify, writing

CARD = "README.md"


def write_card(directory: Path, text: str) -> None:
    """Give a complete model directory another README.md; it is replaced as a whole, or stays as it was.

    Raises:
        RhapsodeError: it is not complete, or cannot be written.
        VerificationMismatch: a file has changed since it was written.
    """
    known = verify(directory)
    with writing(directory, kind=known.kind, inputs=known.inputs, recipe=known.recipe, facts=known.facts) as work:
        for name in known.files:
            if name != CARD:
                _take(directory / name, work.path / name)
        (work.path / CARD).write_text(text, encoding="utf-8")


def _take(file: Path, to: Path) -> None:
    """Linked where the file system can: weights are large."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
