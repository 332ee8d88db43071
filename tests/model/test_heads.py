"""Heads give what transformers gives: the same config.json, the same tensors, the same scores and states."""

from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder
from tests.recipe.bases import make_base

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import writing
from rhapsode.engine.heads import HeadEngine, load_head
from rhapsode.engine.load import load_engine
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config, with_head
from rhapsode.model.heads import put_head
from rhapsode.model.pooling import pooled
from rhapsode.model.spec import Head, ModelSpec
from rhapsode.weights.directory import import_directory, load_model, read_spec, write_model

LABELS = ("red", "green", "blue")
TEXTS = [[5, 9, 30, 31], [7, 8], [40, 41, 42, 43, 44, 45, 46], [9]]


def write_head(path: Path, base: Path, head: Head, *, seed: int = 0) -> Decoder:
    """The model that is written to `path`: the base with this head, whose weights are drawn."""
    model = load_model(base)
    put_head(model, with_head(model.spec, head, pad=0))
    with torch.no_grad():
        if head.labels:
            model.head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(seed))
    with writing(path, kind="model", facts={}) as work:
        weights = list(model.named_parameters())
        write_model(work.path, spec=model.spec, weights=weights, tokenizer_dir=base, stops=())
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("family", ["gemma3_text", "qwen2"])
def test_transformers_gives_the_same_scores(family: str, tmp_path: Path) -> None:
    """To a batch that is padded on the right, and to single texts."""
    transformers = pytest.importorskip("transformers")
    base = make_base(tmp_path / "base", family)
    write_head(tmp_path / "head", base, Head(LABELS))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "head", dtype=torch.float32)
    assert [theirs.config.id2label[i] for i in range(3)] == list(LABELS)
    found = load_head(tmp_path / "head").engine.scores(TEXTS)
    width = max(map(len, TEXTS))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in TEXTS])
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids != 0).long()).logits
        alone = theirs(torch.tensor([TEXTS[2]])).logits
    assert (found - expected).abs().max() < 1e-3
    assert (found[2] - alone[0]).abs().max() < 1e-3


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_transformers_gives_the_same_vectors(pooling: str, tmp_path: Path) -> None:
    """Through the steps that `modules.json` names for sentence-transformers."""
    transformers = pytest.importorskip("transformers")
    base = make_base(tmp_path / "base", "gemma3_text")
    write_head(tmp_path / "head", base, Head(pooling=pooling))  # type: ignore[arg-type]
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "head", dtype=torch.float32)
    loaded = load_head(tmp_path / "head")
    found = loaded.engine.vectors(TEXTS)
    assert loaded.engine.head.pooling == pooling
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = theirs(torch.tensor([text])).last_hidden_state[0]
        expected = states.mean(0) if pooling == "mean" else states[-1]
        assert (vector - expected / expected.norm()).abs().max() < 1e-4
    config = (tmp_path / "head" / "1_Pooling" / "config.json").read_text()
    assert f'"pooling_mode_{"mean_tokens" if pooling == "mean" else "lasttoken"}": true' in config


def test_a_head_comes_back_as_it_was_written(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "qwen2")
    for number, head in enumerate((Head(LABELS), Head(("reward",)), Head(pooling="mean"), Head(pooling="last"))):
        model = write_head(tmp_path / str(number), base, head)
        again = load_model(tmp_path / str(number))
        assert again.spec.head == head
        assert read_spec(tmp_path / str(number)).parameters == sum(p.numel() for p in again.parameters())
        for (name, value), (other, found) in zip(model.named_parameters(), again.named_parameters(), strict=True):
            assert name == other
            assert torch.equal(value, found)


def test_a_strangers_head_is_taken_with_what_lies_beside_it(tmp_path: Path) -> None:
    """Or refused, where there are steps that are not built."""
    base = make_base(tmp_path / "base", "qwen2")
    for name, head in (("labels", Head(LABELS)), ("vectors", Head(pooling="last"))):
        write_head(tmp_path / name, base, head)
        (tmp_path / f"{name}-taken").mkdir()
        import_directory(tmp_path / name, tmp_path / f"{name}-taken", events=Events())
        assert read_spec(tmp_path / f"{name}-taken").head == head
    steps = '[{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Dense"}]'
    (tmp_path / "vectors" / "modules.json").write_text(steps)
    with pytest.raises(RhapsodeError, match="names the step Dense, which is not built"):
        read_spec(tmp_path / "vectors")
    (tmp_path / "vectors" / "modules.json").write_text("[3]")
    with pytest.raises(RhapsodeError, match="is damaged"):
        read_spec(tmp_path / "vectors")


def test_what_does_not_write_is_not_talked_to(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "qwen2")
    write_head(tmp_path / "labels", base, Head(LABELS))
    with pytest.raises(RhapsodeError, match="does not write: it tells 3 labels apart") as refusal:
        load_engine(tmp_path / "labels")
    assert "/classify" in refusal.value.hint
    with pytest.raises(RhapsodeError, match="holds a model that writes"):
        load_head(base)


def test_a_text_that_is_too_long_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "qwen2", context=16)
    write_head(tmp_path / "labels", base, Head(LABELS))
    engine = load_head(tmp_path / "labels").engine
    with pytest.raises(RhapsodeError, match="17 tokens; the model reads from 1 to 16"):
        engine.scores([[5], [5] * 17])
    with pytest.raises(RhapsodeError, match="0 tokens"):
        engine.scores([[]])


@pytest.mark.parametrize("named", [{"0": "a", "2": "b"}, {"0": "a", "1": "a"}, {"0": 3}, [], "ab"])
def test_labels_that_cannot_be_are_refused(named: object, tmp_path: Path) -> None:
    spec = with_head(read_spec(make_base(tmp_path / "base", "qwen2")), Head(LABELS), pad=0)
    with pytest.raises(RhapsodeError, match="id2label"):
        spec_from_config({**spec.config, "id2label": named})


def test_a_mean_counts_a_trunk_for_each_of_its_branches() -> None:
    hidden = torch.arange(14, dtype=torch.float64).view(2, 7, 1)
    documents = torch.tensor([[1, 1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 0, 0]])
    branches = torch.tensor([[0, 1, 1, 2, 1, 1, 0], [1, 1, 2, 2, 2, 0, 0]])
    ends = torch.tensor([2, 3, 5, 8, 11])
    found = pooled(hidden, documents, branches, ends_S=ends, pooling="mean").flatten()
    assert found.tolist() == [1.0, 1.5, 4.5, 7.5, 10.0]
    assert pooled(hidden, documents, branches, ends_S=ends, pooling="last").flatten().tolist() == [2, 3, 5, 8, 11]


def spec_of(head: Head, spec: ModelSpec) -> ModelSpec:
    return with_head(spec, head, pad=2)


def test_many_texts_at_once_are_as_each_alone() -> None:
    from tests.conftest import make_spec

    model = make_decoder(spec_of(Head(LABELS), make_spec()))
    engine = HeadEngine(model)
    together = engine.scores(TEXTS)
    alone = torch.cat([engine.scores([text]) for text in TEXTS])
    assert (together - alone).abs().max() < 1e-4
