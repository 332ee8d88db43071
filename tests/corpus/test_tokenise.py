"""From a corpus directory to a tokens directory: complete, deterministic, never stale."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import digest, verify, writing
from rhapsode.corpus import tokenise as module
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.tokenise import tokenise
from rhapsode.corpus.tokens import Tokens
from rhapsode.corpus.tokens_config import TokensConfig
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

COLUMNS = ("id", "text", "source", "licence", "meta")
WORDS = ["Sing, goddess, the anger of Achilles", "ἄνδρα μοι ἔννεπε, μοῦσα", "arma virumque cano <|im_end|>", ""]
TRAIN = [f"{WORDS[n % 4]}\n{n}\n{WORDS[n % 3]}" for n in range(60)]
VALIDATION = ["zzqqzzqqzzqq " * 200, "Sing, goddess"]


def write_corpus(path: Path, splits: Mapping[str, Sequence[str]]) -> Path:
    with writing(path, kind="corpus") as work:
        for split, texts in splits.items():
            rows = [(f"{split}{n}", text, f"folder{n % 3}/{n}.md#L1", "CC0", "{}") for n, text in enumerate(texts)]
            columns = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(COLUMNS)}
            pq.write_table(pa.table(columns), work.path / f"{split}-00000.parquet")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", {"train": TRAIN, "validation": VALIDATION})


CONFIG = TokensConfig(vocab_size=300, sample=10**6, shard_tokens=400)


def test_every_document_of_every_split_is_written(corpus: Path, tmp_path: Path) -> None:
    path = tokenise(corpus, CONFIG, root=tmp_path, events=Events())
    tokens = Tokens.open(path)
    tokenizer = Tokenizer.load(tokens.tokenizer_dir)
    for name in ("train", "validation"):
        split = tokens.split(name)
        documents = list(iter_documents(corpus, split=name))
        assert split.num_documents == len(documents)
        for index, document in enumerate(documents):
            ids = split.document(index).tolist()
            assert ids == [tokenizer.bos, *tokenizer.encode(document.text), tokenizer.eos]
            assert tokenizer.decode(ids) == document.text
            assert split.document_id(index) == document.id
            assert split.document_bytes(index) == len(document.text.encode())
    assert len(list(path.glob("train-*.bin"))) > 2


def test_the_vocabulary_never_sees_validation_text(corpus: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenise(corpus, CONFIG, root=tmp_path, events=Events()))
    assert tokenizer.encode("zzqq") == [tokenizer.encode(letter)[0] for letter in "zzqq"]
    assert len(tokenizer.encode("goddess")) < len("goddess")


def test_the_same_inputs_give_the_same_bytes_wherever_made(corpus: Path, tmp_path: Path) -> None:
    first, second = (tokenise(corpus, CONFIG, root=tmp_path / name, events=Events()) for name in ("a", "b"))
    assert first.name == second.name
    assert digest(first) == digest(second)
    verify(second)


def test_what_is_there_is_not_made_again(corpus: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    path = tokenise(corpus, CONFIG, root=tmp_path, events=Events(heard.append))
    assert [event.fields["stage"] for event in heard] == ["measure"] * 2 + ["vocabulary"] + ["tokenise"] * 2
    assert all(event.fields["done"] == event.fields["total"] for event in heard)
    heard.clear()
    assert tokenise(corpus, CONFIG, root=tmp_path, events=Events(heard.append)) == path
    assert heard == []


@pytest.mark.parametrize(
    "change", [{"vocab_size": 301}, {"sample": 500}, {"shard_tokens": 200}], ids=lambda change: next(iter(change))
)
def test_every_field_changes_the_key_and_the_files(corpus: Path, tmp_path: Path, change: dict[str, int]) -> None:
    before = tokenise(corpus, CONFIG, root=tmp_path, events=Events())
    after = tokenise(corpus, CONFIG.model_copy(update=change), root=tmp_path, events=Events())
    assert after != before
    assert verify(after).files != verify(before).files


def test_another_corpus_has_another_key(corpus: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other", {"train": [*TRAIN[:-1], TRAIN[-1] + "!"], "validation": VALIDATION})
    assert len({tokenise(path, CONFIG, root=tmp_path, events=Events()) for path in (corpus, other)}) == 2


def test_the_report_adds_up(corpus: Path, tmp_path: Path) -> None:
    path = tokenise(corpus, CONFIG, root=tmp_path, events=Events())
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    tokens = Tokens.open(path)
    assert report["vocab_size"] == tokens.manifest.facts["vocab_size"] == 300
    assert report["notes"] == []
    for name, texts in (("train", TRAIN), ("validation", VALIDATION)):
        split, told = tokens.split(name), report["splits"][name]
        assert (
            (told["documents"], told["tokens"])
            == (split.num_documents, split.num_tokens)
            == (
                len(texts),
                tokens.manifest.facts[f"{name}_tokens"],
            )
        )
        assert told["bytes"] == split.num_bytes
        assert told["text_tokens"] == split.num_tokens - 2 * len(texts)
        assert told["bytes_per_token"] == pytest.approx(told["bytes"] / told["text_tokens"], abs=1e-4)
        assert told["shards"] == len(list(path.glob(f"{name}-*.bin")))
        for key in ("documents", "bytes", "text_tokens"):
            assert sum(source[key] for source in told["sources"].values()) == told[key]
    assert sorted(report["splits"]["train"]["sources"]) == ["folder0", "folder1", "folder2"]


def test_the_report_shows_the_largest_sources(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SOURCES_IN_REPORT", 1)
    path = tokenise(corpus, CONFIG, root=tmp_path, events=Events())
    told = json.loads((path / "report.json").read_text(encoding="utf-8"))["splits"]["validation"]
    assert list(told["sources"]) == ["folder0"]
    assert told["sources_not_shown"] == 1


def test_too_little_text_is_said(corpus: Path, tmp_path: Path) -> None:
    path = tokenise(corpus, CONFIG.model_copy(update={"vocab_size": 5000}), root=tmp_path, events=Events())
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    assert 261 < report["vocab_size"] < 5000
    assert "too little for 5000 tokens" in report["notes"][0]
    assert Tokenizer.load(path).vocab_size == report["vocab_size"]


def test_a_sample_depends_on_ids_and_not_on_the_order(tmp_path: Path) -> None:
    vocabularies = set()
    for name, order in (("up", 1), ("down", -1)):
        path = tmp_path / name
        with writing(path, kind="corpus") as work:
            rows = [(f"train{n}", text, "a", "CC0", "{}") for n, text in enumerate(TRAIN)][::order]
            columns = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(COLUMNS)}
            pq.write_table(pa.table(columns), work.path / "train-00000.parquet")
            pq.write_table(pa.table(columns).slice(0, 0), work.path / "validation-00000.parquet")
        tokens = tokenise(path, CONFIG.model_copy(update={"sample": 700}), root=tmp_path, events=Events())
        vocabularies.add((tokens / "tokenizer.json").read_bytes())
        assert Tokens.open(tokens).split("validation").num_documents == 0
    assert len(vocabularies) == 1
    whole = train_tokenizer(TRAIN, vocab_size=300)
    whole.save(tmp_path / "whole")
    assert vocabularies != {(tmp_path / "whole" / "tokenizer.json").read_bytes()}


def test_a_sample_smaller_than_any_document_takes_one(corpus: Path, tmp_path: Path) -> None:
    path = tokenise(corpus, CONFIG.model_copy(update={"sample": 1}), root=tmp_path, events=Events())
    assert Tokenizer.load(path).vocab_size >= 261


def test_a_given_tokenizer_is_used_as_it_is(corpus: Path, tmp_path: Path) -> None:
    models = [tmp_path / name for name in ("one", "two")]
    for model, text in zip(models, ("Sing, goddess", "zzqq"), strict=True):
        train_tokenizer([text] * 3, vocab_size=300).save(model, model_max_length=64)
    first, second = (tokenise(corpus, CONFIG, root=tmp_path, events=Events(), tokenizer_dir=model) for model in models)
    assert first != second
    assert (first / "tokenizer.json").read_bytes() == (models[0] / "tokenizer.json").read_bytes()
    assert "tokenizer" in Tokens.open(first).manifest.inputs


@pytest.mark.parametrize("train", [[], ["", ""]])
def test_a_corpus_without_training_text_is_refused_and_leaves_nothing(tmp_path: Path, train: list[str]) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": train, "validation": VALIDATION})
    with pytest.raises(RhapsodeError, match="has no training text"):
        tokenise(corpus, CONFIG, root=tmp_path / "root", events=Events())
    assert list((tmp_path / "root").iterdir()) == []


def test_an_incomplete_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    (corpus / "manifest.json").unlink()
    with pytest.raises(RhapsodeError, match="incomplete"):
        tokenise(corpus, CONFIG, root=tmp_path, events=Events())
