"""From a corpus to tokens: learn a vocabulary from the training documents, then write every document's ids.

Validation text never shapes the vocabulary. The directory's name is a hash of all that it is made from, so tokens are
never stale and never made twice.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers

from rhapsode import __version__
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import Writing, digest, file_sha256, is_complete, read_manifest, value_sha256, writing
from rhapsode.corpus.documents import Document, iter_documents
from rhapsode.corpus.sample import Sizes, choose, measure, take
from rhapsode.corpus.token_files import TokenWriter, token_dtype
from rhapsode.corpus.tokens import KIND, SPLITS
from rhapsode.corpus.tokens_config import LEARNED, TokensConfig
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

REPORT = "report.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")

_FORMAT = 1  # of the directory; a change makes all cached tokens unknown
_BATCH_BYTES = 4_000_000
_TOLD_EVERY_BYTES = 1_000_000
_SOURCES_IN_REPORT = 50


def tokenise(
    corpus: Path, config: TokensConfig, *, root: Path, events: Events, tokenizer_dir: Path | None = None
) -> Path:
    """Tokens of `corpus`, in a directory below `root`; made only if they are not there already.

    Args:
        corpus: a complete corpus directory.
        config: the size of the vocabulary and of the files.
        root: where tokens directories live, each named after its content.
        events: hears "progress" in bytes, in the stages "measure", "vocabulary" and "tokenise".
        tokenizer_dir: a vocabulary to use as it is, that of the model to be tuned; then nothing is learned,
            `vocab_size` and `sample` have no effect, and its files are copied byte for byte.

    Raises:
        RhapsodeError: the corpus is incomplete or has no training document, or the disk is full.
    """
    inputs = {"corpus": digest(corpus)}
    recipe = config.model_dump(mode="json", exclude=set(LEARNED) if tokenizer_dir else None)
    if tokenizer_dir is not None:
        inputs["tokenizer"] = _tokenizer_digest(tokenizer_dir)
    code = {"rhapsode": __version__, "format": _FORMAT, "tokenizers": tokenizers.__version__}
    path = root / value_sha256({"inputs": inputs, "recipe": recipe, "code": code})[:16]
    if is_complete(path):
        read_manifest(path, kind=KIND)
        return path
    with writing(path, kind=KIND, inputs=inputs, recipe=recipe) as work:
        _Making(corpus, config, work, events).make(tokenizer_dir)
    return path


class _Making:
    """One tokens directory being made."""

    def __init__(self, corpus: Path, config: TokensConfig, work: Writing, events: Events) -> None:
        self.corpus, self.config, self.work, self.events = corpus, config, work, events

    def make(self, tokenizer_dir: Path | None) -> None:
        sizes = {split: measure(self.documents(split, "measure")) for split in SPLITS}
        if not sizes["train"].total:
            raise RhapsodeError(f"{self.corpus} has no training text", "its report.json says what was dropped and why")
        tokenizer = self.take(tokenizer_dir) if tokenizer_dir else self.learn(sizes["train"])
        splits = {split: self.write(split, tokenizer, sizes[split].total) for split in SPLITS}
        notes = [] if tokenizer_dir else _notes(tokenizer, self.config)
        report = {"vocab_size": tokenizer.vocab_size, "notes": notes, "splits": splits}
        (self.work.path / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.work.facts["vocab_size"] = tokenizer.vocab_size
        self.work.facts["dtype"] = token_dtype(tokenizer.vocab_size).name
        for split in SPLITS:
            self.work.facts[f"{split}_tokens"] = splits[split]["tokens"]

    def documents(self, split: str, stage: str, *, total: int = 0) -> Iterator[Document]:
        """The split's documents, telling the listeners now and then how far it has come. A `total` of 0 is unknown."""
        done = told = 0
        for document in iter_documents(self.corpus, split=split):
            yield document
            done += len(document.text.encode())
            if done - told >= _TOLD_EVERY_BYTES:
                self.events.emit("progress", stage=stage, done=done, total=total, unit="bytes")
                told = done
        self.events.emit("progress", stage=stage, done=done, total=total or done, unit="bytes")

    def learn(self, sizes: Sizes) -> Tokenizer:
        documents = self.documents("train", "vocabulary", total=sizes.total)
        sampled = take(documents, choose(sizes, num_bytes=self.config.sample))
        tokenizer = train_tokenizer((document.text for document in sampled), vocab_size=self.config.vocab_size)
        tokenizer.save(self.work.path)
        return tokenizer

    def take(self, tokenizer_dir: Path) -> Tokenizer:
        tokenizer = Tokenizer.load(tokenizer_dir)
        for file in _tokenizer_files(tokenizer_dir):
            shutil.copyfile(file, self.work.path / file.name)
        return tokenizer

    def write(self, split: str, tokenizer: Tokenizer, total: int) -> dict[str, Any]:
        """Write the split's files; its part of the report."""
        tally = _Tally()
        with TokenWriter(
            self.work.path, split, vocab_size=tokenizer.vocab_size, shard_tokens=self.config.shard_tokens
        ) as writer:
            for documents in _batches(self.documents(split, "tokenise", total=total)):
                encoded = tokenizer.encode_batch([document.text for document in documents])
                for document, ids in zip(documents, encoded, strict=True):
                    num_bytes = len(document.text.encode())
                    writer.add(
                        [tokenizer.bos, *ids, tokenizer.eos],
                        document=document.id,
                        source=document.source,
                        num_bytes=num_bytes,
                    )
                    tally.add(document.source, num_bytes=num_bytes, num_tokens=len(ids))
        return {**tally.report(), "shards": writer.num_shards}


class _Tally:
    """Sums for the report, by the first folder of the documents' sources. Tokens of text, without bos and eos."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.num_bytes: Counter[str] = Counter()
        self.num_tokens: Counter[str] = Counter()

    def add(self, source: str, *, num_bytes: int, num_tokens: int) -> None:
        folder, slash, _ = source.partition("#")[0].partition("/")
        group = folder if slash else "."
        self.documents[group] += 1
        self.num_bytes[group] += num_bytes
        self.num_tokens[group] += num_tokens

    def report(self) -> dict[str, Any]:
        largest = [group for group, _ in self.num_bytes.most_common(_SOURCES_IN_REPORT)]
        whole = self._row(self.documents)
        return {
            **whole,
            "tokens": whole["text_tokens"] + 2 * whole["documents"],
            "sources": {group: self._row([group]) for group in largest},
            "sources_not_shown": len(self.documents) - len(largest),
        }

    def _row(self, groups: Iterable[str]) -> dict[str, Any]:
        names = list(groups)
        documents, num_bytes, num_tokens = (
            sum(counter[name] for name in names) for counter in (self.documents, self.num_bytes, self.num_tokens)
        )
        return {
            "documents": documents,
            "bytes": num_bytes,
            "text_tokens": num_tokens,
            "bytes_per_token": round(num_bytes / num_tokens, 4) if num_tokens else None,
        }


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Some megabytes of text at a time."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _notes(tokenizer: Tokenizer, config: TokensConfig) -> list[str]:
    asked, given = config.vocab_size, tokenizer.vocab_size
    if given == asked:
        return []
    return [f"the text is too little for {asked} tokens: all pairs that occur twice or more give {given}"]


def _tokenizer_digest(directory: Path) -> str:
    return value_sha256({file.name: file_sha256(file) for file in _tokenizer_files(directory)})


def _tokenizer_files(directory: Path) -> list[Path]:
    return [file for name in TOKENIZER_FILES if (file := directory / name).is_file()]
