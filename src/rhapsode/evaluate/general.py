"""Text that has nothing to do with any task, from every installation of Python: its language reference in English
prose, and the modules of its standard library.

The same Python has the same texts, and their names hold a digest: what other texts gave is not compared with them.
"""

import hashlib
import importlib
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.config import GeneralConfig
from rhapsode.evaluate.held_out import rank
from rhapsode.text.tokenizer import Tokenizer


class GeneralText(NamedTuple):
    """A document, or a piece of one."""

    name: str
    text: str


def general_texts(config: GeneralConfig, *, seed: int) -> list[GeneralText]:
    """As many pieces as are asked for, half of prose and half of Python where there is as much, drawn by hash.

    Raises:
        RhapsodeError: this installation of Python comes without its library's text.
    """
    kinds = [sorted(kind, key=lambda text: rank(text.name, seed=seed)) for kind in (list(_prose()), list(_modules()))]
    prose = kinds[0][: config.documents - min(len(kinds[1]), config.documents // 2)]
    chosen = [*prose, *kinds[1][: config.documents - len(prose)]]
    if not chosen:
        raise RhapsodeError(
            "this Python has neither its language reference nor the source of its library, which are the general text",
            "use another Python, or set evaluate.task.general.documents: 0",
        )
    return [_piece(text, characters=config.characters) for text in chosen]


class TextTokens:
    """Texts as one model reads them, for `measure_bits`. No end of text is measured: pieces have none."""

    def __init__(self, texts: Sequence[GeneralText], tokenizer: Tokenizer) -> None:
        self._texts = [(text.name, len(text.text.encode())) for text in texts]
        before = tokenizer.prefix or [tokenizer.bos]
        self._ids = [np.array([*before, *ids]) for ids in tokenizer.encode_batch([text.text for text in texts])]

    def document(self, index: int) -> npt.NDArray[np.integer]:
        return self._ids[index]

    def learned(self, index: int) -> None:  # noqa: ARG002 - of a text, everything is measured
        return None

    def document_bytes(self, index: int) -> int:
        return self._texts[index][1]

    def document_id(self, index: int) -> str:
        return self._texts[index][0]


def _prose() -> Iterator[GeneralText]:
    """The topics of `help()`: chapters of the language reference."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        return
    for name, text in topics.items():
        yield GeneralText(f"topics/{name}", text)


def _modules() -> Iterator[GeneralText]:
    folder = Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.glob("*.py")):
        yield GeneralText(path.name, path.read_text(encoding="utf-8", errors="replace"))


def _piece(text: GeneralText, *, characters: int) -> GeneralText:
    """The beginning, in whole lines where there are several, under a name that only these characters have."""
    cut = text.text[:characters]
    if len(cut) < len(text.text):
        cut = re.sub(r"[^\n]*\Z", "", cut) or cut
    return GeneralText(f"{text.name}#{hashlib.sha256(cut.encode()).hexdigest()[:8]}", cut)
