"""Where directories lie below `--out`."""

from pathlib import Path
from typing import NamedTuple


class Layout(NamedTuple):
    """The rooms below the folder that everything is written to."""

    out: Path

    @property
    def corpora(self) -> Path:
        return self.out / "corpus"

    @property
    def tokens(self) -> Path:
        return self.out / "tokens"

    @property
    def bases(self) -> Path:
        return self.out / "bases"

    @property
    def plans(self) -> Path:
        return self.out / "plan"

    @property
    def runs(self) -> Path:
        return self.out / "runs"

    @property
    def merged(self) -> Path:
        return self.out / "merged"

    @property
    def evaluations(self) -> Path:
        return self.out / "evaluations"

    @property
    def baselines(self) -> Path:
        return self.out / "baselines"
