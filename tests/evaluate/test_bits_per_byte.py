"""Every token of every document is counted once, with the context that the module promises."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.corpus.tokens import Tokens, TokenSplit
from rhapsode.evaluate.bits_per_byte import Measured, measure_bits
from rhapsode.evaluate.windows import Window, batches, slide
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder


@pytest.fixture
def split(tokens: Tokens) -> TokenSplit:
    return tokens.split("validation")


def decoder(dtype: torch.dtype = torch.float64) -> Decoder:
    return make_decoder(make_spec(vocab_size=300), dtype=dtype)


def measure(
    model: Decoder,
    split: TokenSplit,
    *,
    context: int = 64,
    stride: int = 32,
    batch_tokens: int = 512,
    begin: int | None = None,
) -> Measured:
    documents = list(range(split.num_documents))
    return measure_bits(
        model,
        split,
        documents=documents,
        context=context,
        stride=stride,
        pad=2,
        begin=begin,
        batch_tokens=batch_tokens,
        events=Events(),
    )


@torch.no_grad()
def bits_of(model: Decoder, context: np.ndarray, target: int) -> float:
    """One token, one sequence, nothing shared: the definition."""
    ids = torch.from_numpy(context.astype(np.int64))[None]
    attend = DenseAttend(torch.ones_like(ids), dtype=model.embedding.weight.dtype)
    hidden = model(ids, torch.arange(ids.shape[1])[None], attend=attend)[0, -1]
    return -float(F.log_softmax(model.logits(hidden), -1)[target]) / math.log(2)


@pytest.mark.parametrize("begin", [None, 7])
def test_bits_are_those_of_every_token_by_itself(split: TokenSplit, begin: int | None) -> None:
    model, context, stride = decoder(), 24, 10
    found = measure(model, split, context=context, stride=stride, begin=begin)
    assert max(len(split.document(i)) for i in range(split.num_documents)) > context + 2 * stride
    for index in range(0, split.num_documents, 4):
        ids = np.asarray(split.document(index))
        targets, expected = len(ids) - 1, 0.0
        for place in range(1, targets + 1):
            moved = max(0, math.ceil((place - context) / stride)) * stride
            start = max(0, min(context + moved, targets) - context)
            seen = ids[start:place].copy()
            seen[0] = seen[0] if begin is None else begin
            expected += bits_of(model, seen, int(ids[place]))
        assert found.bits[index] == pytest.approx(expected, rel=1e-9)
        assert found.bytes[index] == split.document_bytes(index)


@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_the_size_of_batches_changes_nothing(split: TokenSplit, batch_tokens: int) -> None:
    model = decoder()
    assert measure(model, split, batch_tokens=batch_tokens).bits == pytest.approx(measure(model, split).bits, rel=1e-10)


def test_a_model_that_knows_nothing_needs_the_bits_of_a_choice_among_all_ids(split: TokenSplit) -> None:
    model = decoder()
    torch.nn.init.zeros_(model.embedding.weight)
    targets = np.array([len(split.document(i)) - 1 for i in range(split.num_documents)])
    assert measure(model, split).bits == pytest.approx(targets * math.log2(300))


def test_bfloat16_is_close(split: TokenSplit) -> None:
    model = decoder(torch.float32)
    wide = measure(model, split).bits.sum()
    assert measure(model.to(torch.bfloat16), split).bits.sum() == pytest.approx(wide, rel=0.02)


def test_progress_reaches_its_end(split: TokenSplit) -> None:
    heard: list[Event] = []
    measure_bits(
        decoder(),
        split,
        documents=[0, 1],
        context=16,
        stride=8,
        pad=2,
        begin=None,
        batch_tokens=64,
        events=Events(heard.append),
    )
    assert heard[-1].fields["done"] == heard[-1].fields["total"] > 0


def test_a_broken_model_is_named(split: TokenSplit) -> None:
    model = decoder()
    with torch.no_grad():
        model.norm.weight[0] = math.nan
    with pytest.raises(RhapsodeError, match=r"no finite probability to held-out document validation0"):
        measure(model, split)


@given(st.integers(1, 300), st.integers(1, 50), st.data())
def test_windows_measure_every_target_once_with_enough_context(targets: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    measured: list[int] = []
    for window in slide(targets, document=0, context=context, stride=stride):
        assert window.length <= context
        own = list(range(window.start + window.given, window.start + window.length))
        assert own
        assert window.start == 0 or window.given >= context - stride
        measured += own
    assert measured == list(range(targets))


@given(st.lists(st.integers(1, 40)), st.integers(1, 200))
def test_batches_hold_every_window_within_the_budget(lengths: list[int], batch_tokens: int) -> None:
    windows = [Window(i, 0, length, 0) for i, length in enumerate(lengths)]
    found = list(batches(windows, batch_tokens=batch_tokens))
    assert sorted(w for batch in found for w in batch) == windows
    assert all(len(batch) == 1 or len(batch) * max(w.length for w in batch) <= batch_tokens for batch in found)
