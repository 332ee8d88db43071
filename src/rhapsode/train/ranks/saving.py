"""One checkpoint of many ranks: rank 0 makes the directory, every rank writes its pieces, rank 0 finishes it.

They agree by words in the common store and not by collectives, since this happens in a thread beside the training,
which has collectives of its own under way.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.train.ranks.ranks import Ranks
from rhapsode.train.ranks.together import Together, wait_for
from rhapsode.weights.rows import Shares

FAILED = "failed: "
Fill = Callable[[Path], torch.dtype]


class Party:
    """One save after another, in the same order on all who write: the first ranks, so many as have a whole model."""

    def __init__(self, ranks: Ranks, *, writers: int) -> None:
        assert isinstance(ranks, Together)
        self._store = ranks.branch()
        self._rank, self._writers, self._number = ranks.rank, writers, 0

    def save(self, mine: Shares, *, lead: Callable[[Fill], Path]) -> Path:
        """This rank's part; gives the checkpoint once it is finished.

        Args:
            lead: makes the checkpoint, with what it is given to fill it with tensors; for rank 0 alone.

        Raises:
            RhapsodeError: it could not be written, by whomever.
        """
        self._number += 1
        return self._lead(mine, lead) if self._rank == 0 else self._follow(mine)

    def _lead(self, mine: Shares, lead: Callable[[Fill], Path]) -> Path:
        try:
            path = lead(lambda directory: self._fill(directory, mine))
        except BaseException as error:
            self._say("where", "")
            self._say("end", FAILED + str(error).partition("\n")[0])
            raise
        self._say("end", str(path))
        return path

    def _follow(self, mine: Shares) -> Path:
        if where := self._hear("where"):
            problem = ""
            try:
                mine.write(Path(where))
            except (OSError, RhapsodeError) as error:
                problem = str(error)
            self._say(f"rank {self._rank}", problem)
        end = self._hear("end")
        if end.startswith(FAILED):
            raise RhapsodeError(end.removeprefix(FAILED))
        return Path(end)

    def _fill(self, directory: Path, mine: Shares) -> torch.dtype:
        mine.plan(directory)
        self._say("where", str(directory.absolute()))
        mine.write(directory)
        for rank in range(1, self._writers):
            if problem := self._hear(f"rank {rank}"):
                raise RhapsodeError(
                    f"rank {rank} could not write its part of the checkpoint: {problem}",
                    "all ranks must see the same directory, and be allowed to write there",
                )
        return mine.dtype

    def _say(self, what: str, text: str) -> None:
        self._store.set(f"save/{self._number}/{what}", text)

    def _hear(self, what: str) -> str:
        return wait_for(self._store, f"save/{self._number}/{what}")
