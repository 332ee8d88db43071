"""How likely a model finds answers that people wrote, each given its prompt, which answers to one prompt share.

Shapes: S sequences, B rows of T places.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.packing import Rows, batch
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.corpus.trees import num_learned, pack_split
from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.bits_per_byte import BATCH_TOKENS
from rhapsode.evaluate.scorers.likelihoods import Likelihoods
from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.log_probs import chunked_log_probs
from rhapsode.model.decoder import Decoder

_SECONDS_BETWEEN_REPORTS = 0.5


def likelihoods(
    model: Decoder, split: TokenSplit, sequences: Sequence[int], *, context: int, pad: int, events: Events, stage: str
) -> Likelihoods:
    """Of sequences of a split, in their order, computed in the model's own type and summed in float64.

    Args:
        sequences: those of one example follow each other; each fits into `context`.
        pad: the id that fills rows.
        events: hears progress in rows, as `stage`.

    Raises:
        RhapsodeError: a sequence gets no finite number, or has an id that the model has no row for.
    """
    if split.largest >= model.spec.vocab_size:
        raise RhapsodeError(
            f"the examples have token {split.largest:,}, a model to compare has {model.spec.vocab_size:,}",
            "compare with a model that reads the same tokens, or take base out of evaluate.baselines",
        )
    packing = pack_split(split, context=context, documents=sequences)
    found = np.zeros(split.num_documents)
    at_once, told = max(1, BATCH_TOKENS // context), -math.inf
    for start in range(0, packing.num_rows, at_once):
        wanted = range(start, min(start + at_once, packing.num_rows))
        log_probs_BT = _log_probs(model, batch(split, packing, wanted, pad=pad))
        for own_T, row in zip(log_probs_BT, wanted, strict=True):
            place = 0
            for piece in packing.row(row):
                found[piece.document] += own_T[place : place + piece.length].sum()
                place += piece.length
        if wanted.stop == packing.num_rows or time.monotonic() > told + _SECONDS_BETWEEN_REPORTS:
            told = time.monotonic()
            events.emit("progress", stage=stage, done=wanted.stop, total=packing.num_rows, unit="rows")
    log_probs_S = found[list(sequences)]
    _require_finite(log_probs_S, split, sequences)
    return Likelihoods(log_probs_S, np.array([num_learned(split, index) for index in sequences], dtype=np.int64))


@torch.no_grad()
def _log_probs(model: Decoder, rows: Rows) -> Floats:
    """[B,T] of every target; 0 where there is none."""
    weight = model.embedding.weight
    ids, targets, positions, documents, branches = (torch.from_numpy(array).to(weight.device) for array in rows)
    attend = DenseAttend(documents, branches, dtype=weight.dtype)
    hidden = model(ids, positions, attend=attend)
    if model.spec.logit_scale != 1:
        hidden = hidden * model.spec.logit_scale
    found: Floats = (
        chunked_log_probs(hidden, model.head.weight, targets, softcap=model.spec.logit_softcap).cpu().numpy()
    )
    return found.astype(np.float64)


def _require_finite(log_probs_S: Floats, split: TokenSplit, sequences: Sequence[int]) -> None:
    broken = np.flatnonzero(~np.isfinite(log_probs_S))
    if len(broken):
        raise RhapsodeError(
            f"the model gives no finite probability to an answer of {split.document_source(sequences[broken[0]])}",
            "its weights are damaged or its training diverged; evaluate an earlier step",
        )
