"""Models that do not write: many sequences read at once, each to the scores of its labels, or to its vector.

Sequences are packed into one row, within which attention stays in each of them: nothing is padded.

Shapes: S sequences, T tokens of a row, L labels, D width.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import with_head
from rhapsode.model.heads import put_head
from rhapsode.model.pooling import pooled
from rhapsode.model.spec import Head
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model

ROW = 4096
"""Tokens that are read at once, unless one sequence has more."""


class HeadEngine:
    """A decoder with a head."""

    def __init__(self, model: Decoder) -> None:
        assert model.spec.head is not None, "a model that writes has an engine of its own"
        self.model, self.head = model.eval(), model.spec.head

    @property
    def context(self) -> int:
        return self.model.spec.context

    def scores(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """[S,L] in float32.

        Raises:
            RhapsodeError: a sequence is empty or longer than the model reads; nothing has been computed.
        """
        states_SD = self._states(sequences)
        return F.linear(states_SD, self.model.head.weight.detach().to(states_SD.dtype)).cpu()

    def vectors(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """[S,D] in float32, each of length 1. Raises as `scores`."""
        return F.normalize(self._states(sequences), dim=-1).cpu()

    def check(self, ids: Sequence[int]) -> None:
        """Raises RhapsodeError: the sequence is empty or longer than the model reads."""
        if not 1 <= len(ids) <= self.context:
            raise RhapsodeError(
                f"a text has {len(ids):,} tokens; the model reads from 1 to {self.context:,}", "cut it, or divide it"
            )

    @torch.inference_mode()
    def _states(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        for ids in sequences:
            self.check(ids)
        states = torch.zeros(len(sequences), self.model.spec.width, device=self.model.embedding.weight.device)
        for chosen in _rows([len(ids) for ids in sequences]):
            states[chosen] = self._row([sequences[index] for index in chosen])
        return states

    def _row(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        device = self.model.embedding.weight.device
        lengths = torch.tensor([len(ids) for ids in sequences])
        ids_1T = torch.tensor([[token for ids in sequences for token in ids]]).to(device)
        positions_1T = torch.cat([torch.arange(int(length)) for length in lengths])[None].to(device)
        documents_1T = torch.repeat_interleave(torch.arange(1, len(sequences) + 1), lengths)[None].to(device)
        attend = DenseAttend(documents_1T, dtype=self.model.embedding.weight.dtype)
        hidden_1TD = self.model(ids_1T, positions_1T, attend=attend)
        ends_S = (lengths.cumsum(0) - 1).to(device)
        branches_1T = torch.ones_like(documents_1T)
        return pooled(hidden_1TD, documents_1T, branches_1T, ends_S=ends_S, pooling=self.head.pooling)


class LoadedHead(NamedTuple):
    """Ready to read."""

    engine: HeadEngine
    tokenizer: Tokenizer


def load_head(
    directory: Path, *, head: Head | None = None, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> LoadedHead:
    """Read a model that does not write, and its tokenizer.

    Args:
        head: put in place of what the model has.

    Raises:
        RhapsodeError: the directory is not a complete model, or it writes.
    """
    model, tokenizer = load_model(directory, dtype=dtype), Tokenizer.load(directory)
    if head is not None:
        put_head(model, with_head(model.spec, head, pad=tokenizer.pad))
    if model.spec.head is None:
        raise RhapsodeError(f"{directory} holds a model that writes", "name one that classifies, rewards or embeds")
    return LoadedHead(HeadEngine(model.to(device)), tokenizer)


def refuse_head(head: Head | None, directory: Path) -> None:
    """Raises RhapsodeError: the model in `directory` does not write; says what it is for."""
    if head is None:
        return
    hint = (
        "`rhapsode serve` offers it at /v1/embeddings" if not head.labels else "`rhapsode serve` offers it at /classify"
    )
    raise RhapsodeError(f"the model in {directory} does not write: it {head.purpose}", hint)


def _rows(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The sequences of each row, long ones first."""
    row: list[int] = []
    size = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if row and size + lengths[index] > ROW:
            yield row
            row, size = [], 0
        row.append(index)
        size += lengths[index]
    if row:
        yield row
