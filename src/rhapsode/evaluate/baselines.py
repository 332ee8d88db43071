"""What yardsticks reach on the same held-out documents. A result is kept, and found again by its inputs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rhapsode import __version__
from rhapsode.core.events import Events
from rhapsode.core.manifest import digest, is_complete, value_sha256, verify, writing
from rhapsode.corpus.tokens import Tokens, TokenSplit
from rhapsode.evaluate import held_out, kneser_ney, xz
from rhapsode.evaluate.arrays import Floats, Ids, Ints
from rhapsode.evaluate.bits_per_byte import BATCH_TOKENS, measure_bits
from rhapsode.evaluate.config import BaselineName, EvaluateConfig
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model

ORDER = 5


class Baseline(NamedTuple):
    """`bits` [documents] that the baseline needs; `note` says what it is, in a sentence."""

    name: BaselineName
    bits: Floats
    note: str


class Before(NamedTuple):
    """The model that training started from, measured as what came of it is."""

    directory: Path
    context: int
    stride: int
    begin: int | None


class _Material(NamedTuple):
    tokens: Tokens
    corpus: Path
    documents: Sequence[int]
    config: EvaluateConfig
    before: Before | None
    events: Events


def baseline(
    name: BaselineName,
    tokens: Path,
    *,
    corpus: Path,
    documents: Sequence[int],
    config: EvaluateConfig,
    root: Path,
    events: Events,
    before: Before | None = None,
) -> Baseline:
    """Measure a baseline, or read what was measured before from the same inputs.

    Args:
        name: one of BASELINES.
        tokens: a tokens directory; the baseline sees the same tokens as the model.
        corpus: the corpus that the tokens were made from.
        documents: indices into the validation split.
        config: caps and seed; they are part of the key.
        root: where results are kept, in a directory each.
        events: hears progress.
        before: what "base" is.
    """
    inputs = {"tokens": digest(tokens), "corpus": digest(corpus)}
    part: dict[str, Any] = {"name": name, "documents": list(documents), "order": ORDER}
    part |= {"baseline_tokens": config.baseline_tokens, "seed": config.seed}
    if name == "base" and before is not None:
        inputs["base"] = digest(before.directory)
        part |= {"context": before.context, "stride": before.stride, "begin": before.begin}
    path = root / f"{name}-{value_sha256([inputs, part, __version__])[:16]}"
    file = path / "bits.json"
    if is_complete(path):
        verify(path)
    else:
        material = _Material(Tokens.open(tokens), corpus, documents, config, before, events)
        bits, note = BASELINES[name](material)
        with writing(path, kind="baseline", inputs=inputs, recipe=part) as work:
            (work.path / file.name).write_text(json.dumps({"note": note, "bits": bits.tolist()}), encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    return Baseline(name, np.array(found["bits"]), found["note"])


def _base(material: _Material) -> tuple[Floats, str]:
    before = material.before
    assert before is not None, "there is a base"
    measured = measure_bits(
        load_model(before.directory),
        material.tokens.split("validation"),
        documents=material.documents,
        context=before.context,
        stride=before.stride,
        pad=Tokenizer.load(material.tokens.tokenizer_dir).pad,
        begin=before.begin,
        batch_tokens=BATCH_TOKENS,
        events=material.events,
    )
    return measured.bits, "the model that training started from, measured in the same way"


def _xz(material: _Material) -> tuple[Floats, str]:
    split = material.tokens.split("validation")
    texts = held_out.texts(material.corpus, split, material.documents)
    bits = np.empty(len(texts))
    for i, text in enumerate(texts):
        bits[i] = 8 * xz.compressed_bytes(text)
        if i % 16 == 0:
            material.events.emit("progress", stage="xz", done=i, total=len(texts), unit="documents")
    material.events.emit("progress", stage="xz", done=len(texts), total=len(texts), unit="documents")
    return bits, "the compressor xz -9e, each document by itself, its container included"


def _kneser_ney(material: _Material) -> tuple[Floats, str]:
    train, validation = material.tokens.split("train"), material.tokens.split("validation")
    chosen = _within(train, most=material.config.baseline_tokens, seed=material.config.seed)
    vocab_size = Tokenizer.load(material.tokens.tokenizer_dir).vocab_size

    def report(done: int) -> None:
        material.events.emit("progress", stage="kneser-ney", done=done, total=2, unit="steps")

    report(0)
    ids, starts = _join(train, chosen)
    model = kneser_ney.train(ids, starts, vocab_size=vocab_size, order=ORDER)
    report(1)
    held_ids, held_starts = _join(validation, material.documents)
    bits = np.add.reduceat(-np.log2(model.probabilities(held_ids, held_starts)), held_starts)
    report(2)
    share = "all" if len(ids) == train.num_tokens else f"{len(ids):,} of {train.num_tokens:,}"
    return bits, f"interpolated modified Kneser-Ney, {ORDER}-gram, same tokens, counted on {share} training tokens"


def _within(split: TokenSplit, *, most: int, seed: int) -> list[int]:
    """As many whole documents, drawn by hash, as fit into `most` tokens; one at least."""
    if split.num_tokens <= most:
        return list(range(split.num_documents))
    order = held_out.shuffled(split, seed=seed)
    total = np.cumsum([len(split.document(i)) for i in order])
    return sorted(order[: max(1, int(np.searchsorted(total, most, side="right")))])


def _join(split: TokenSplit, documents: Sequence[int]) -> tuple[Ids, Ints]:
    """The ids of documents one after the other, and where each begins."""
    arrays = [split.document(i) for i in documents]
    ends = np.cumsum([len(array) for array in arrays])
    return np.concatenate(arrays).astype(np.int32), np.concatenate([[0], ends[:-1]])


BASELINES: dict[BaselineName, Callable[[_Material], tuple[Floats, str]]] = {
    "base": _base,
    "xz": _xz,
    "kneser-ney": _kneser_ney,
}
