"""Bits that a model needs for held-out documents, to be divided by their bytes.

All text tokens and the end of the document are counted, given the beginning-of-text token; the bytes are those of the
text in UTF-8. So nothing is hidden: the number compares across tokenizers, and is what an arithmetic coder driven by
the model would write. Of examples, the answers alone are counted, on both sides.

Shapes: B windows of T positions, M measured tokens, D width, V vocabulary.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.evaluate.arrays import Floats, Ints
from rhapsode.evaluate.windows import Window, batches, slide
from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.scores import round_up
from rhapsode.model.decoder import Decoder

BATCH_TOKENS = 8192
CHUNK = 1024
CHUNK_SCORES = 2**26
"""Scores that exist at a time, at most: 256 MB of them; with a large vocabulary a chunk has fewer tokens."""
_SECONDS_BETWEEN_REPORTS = 0.5


class Documents(Protocol):
    """Documents by number: a split of a tokens directory, or texts in memory."""

    def document(self, index: int) -> npt.NDArray[np.integer]:
        """The ids; the first is given and not measured."""
        ...

    def learned(self, index: int) -> npt.NDArray[np.bool_] | None:
        """For each id whether it is measured; None where all are."""
        ...

    def document_bytes(self, index: int) -> int: ...
    def document_id(self, index: int) -> str: ...


class Measured(NamedTuple):
    """[documents] the bits that the model needs, and the bytes of the text."""

    bits: Floats
    bytes: Ints


@torch.inference_mode()
def measure_bits(
    model: Decoder,
    split: Documents,
    *,
    documents: Sequence[int],
    context: int,
    stride: int,
    pad: int,
    begin: int | None,
    batch_tokens: int,
    events: Events,
) -> Measured:
    """The bits of each document, computed in the model's own type and summed in float64.

    Args:
        model: on any device.
        split: where the documents are.
        documents: indices into the split.
        context: most tokens that the model sees at once.
        stride: tokens by which windows slide over longer documents, see `windows`.
        pad: the id that fills rows.
        begin: the id that every window begins with, in the place of its first; None leaves those that begin in the
            middle of a document as they are.
        batch_tokens: most tokens computed at once; a row at least.
        events: hears progress.

    Raises:
        RhapsodeError: a document gets no finite number.
    """
    assert 0 < stride <= context, "windows must move on, and not past what they cover"
    windows = list(_windows(split, documents, context=context, stride=stride))
    bits = torch.zeros(len(documents), dtype=torch.float64)
    total = sum(window.length for window in windows)
    done, reported = 0, -math.inf
    for batch in batches(windows, batch_tokens=batch_tokens):
        rows = [np.array(split.document(documents[w.document])[w.start : w.start + w.length + 1]) for w in batch]
        if begin is not None:
            for row in rows:
                row[0] = begin
        learned = [split.learned(documents[w.document]) for w in batch]
        bits += _batch_bits(model, batch, rows, learned, pad=pad, num_documents=len(documents))
        done += sum(window.length for window in batch)
        if done == total or time.monotonic() > reported + _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            events.emit("progress", stage="evaluate", done=done, total=total, unit="tokens")
    _require_finite(bits, split, documents)
    return Measured(bits.numpy(), np.array([split.document_bytes(i) for i in documents], dtype=np.int64))


def _windows(split: Documents, documents: Sequence[int], *, context: int, stride: int) -> Iterator[Window]:
    """The windows of all documents; each names its document by its place in `documents`."""
    for place, index in enumerate(documents):
        yield from slide(len(split.document(index)) - 1, document=place, context=context, stride=stride)


def _batch_bits(
    model: Decoder,
    windows: Sequence[Window],
    rows: Sequence[np.ndarray],
    learned: Sequence[np.ndarray | None],
    *,
    pad: int,
    num_documents: int,
) -> Tensor:
    """[documents] the bits that these windows add; of examples, those of what is `learned` of their documents."""
    weight = model.embedding.weight
    B, T = len(windows), windows[0].length
    ids, targets = np.full((B, T), pad), np.full((B, T), IGNORE)
    for b, (window, row, own) in enumerate(zip(windows, rows, learned, strict=True)):
        ids[b, : window.length] = row[:-1]
        targets[b, window.given : window.length] = row[1 + window.given :]
        if own is not None:
            is_asked = own[window.start + 1 : window.start + window.length + 1]
            targets[b, : window.length][~is_asked] = IGNORE
    lengths = torch.tensor([window.length for window in windows])
    positions_BT = torch.arange(T).expand(B, T)
    inside_BT = (positions_BT < lengths[:, None]).long().to(weight.device)
    ids_BT, targets_BT = (torch.from_numpy(array).to(weight.device) for array in (ids, targets))
    attend = DenseAttend(inside_BT, dtype=weight.dtype)
    hidden_BTD = model(ids_BT, positions_BT.to(weight.device), attend=attend)
    kept = targets_BT != IGNORE
    nats_M = _surprise(model, hidden_BTD[kept], targets_BT[kept])
    owner_M = torch.tensor([window.document for window in windows])[:, None].expand(B, T)[kept.cpu()]
    return torch.zeros(num_documents, dtype=torch.float64).index_add_(0, owner_M, nats_M.cpu() / math.log(2))


def _surprise(model: Decoder, hidden_MD: Tensor, targets_M: Tensor) -> Tensor:
    """[M] -ln p of each target, in float64; the scores of a chunk exist at a time."""
    size = min(CHUNK, max(1, CHUNK_SCORES // model.spec.vocab_size))
    chunks = (slice(start, start + size) for start in range(0, len(targets_M), size))
    nats = [_nats(model.logits(round_up(hidden_MD[at])), targets_M[at]) for at in chunks]
    return torch.cat(nats)


def _nats(scores_NV: Tensor, targets_n: Tensor) -> Tensor:
    """[n] of the first n rows."""
    return F.cross_entropy(scores_NV[: len(targets_n)], targets_n, reduction="none").double()


def _require_finite(bits: Tensor, split: Documents, documents: Sequence[int]) -> None:
    broken = (~bits.isfinite()).nonzero()
    if len(broken):
        name = split.document_id(documents[int(broken[0])])
        raise RhapsodeError(
            f"the model gives no finite probability to held-out document {name}",
            "its weights are damaged or its training diverged; evaluate an earlier step",
        )
