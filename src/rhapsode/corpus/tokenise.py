"""From a corpus to tokens: learn a vocabulary from the training documents, then write every document's ids.

Validation text never shapes the vocabulary. The directory's name is a hash of all that it is made from, so tokens are
never stale and never made twice.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import tokenizers

from rhapsode import __version__
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import Writing, digest, file_sha256, is_complete, read_manifest, value_sha256, writing
from rhapsode.corpus.documents import Document, iter_documents
from rhapsode.corpus.examples.encode import Encoded, encode
from rhapsode.corpus.examples.example import Example, Messages, example_of, is_said, said
from rhapsode.corpus.examples.heads import Purpose, encode_for
from rhapsode.corpus.examples.mismatch import mismatched
from rhapsode.corpus.new_tokens import extend_tokenizer, find_new_tokens, write_extended
from rhapsode.corpus.sample import Sizes, choose, measure, take
from rhapsode.corpus.token_files import Entry, TokenWriter, token_dtype
from rhapsode.corpus.tokens import KIND, MISMATCHED, SPLITS
from rhapsode.corpus.tokens_config import NEW, TokensConfig
from rhapsode.text.templates import suitable
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

REPORT = "report.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")

_FORMAT = 3  # of the directory; a change makes all cached tokens unknown
_BATCH_BYTES = 4_000_000
_TOLD_EVERY_BYTES = 1_000_000
_SOURCES_IN_REPORT = 50


def tokenise(
    corpus: Path,
    config: TokensConfig,
    *,
    root: Path,
    events: Events,
    tokenizer_dir: Path | None = None,
    stops: Sequence[int] = (),
    purpose: Purpose | None = None,
) -> Path:
    """Tokens of `corpus`, in a directory below `root`; made only if they are not there already.

    Args:
        corpus: a complete corpus directory.
        config: the size of the vocabulary and of the files.
        root: where tokens directories live, each named after its content.
        events: hears "progress" in bytes, in the stages "measure", "vocabulary" and "tokenise".
        tokenizer_dir: a vocabulary to use as it is, that of the model to be tuned; then nothing is learned,
            `vocab_size` and `sample` have no effect, and its files are copied byte for byte; but where the corpus holds
            examples, a vocabulary without a chat template is given one that it has the tokens for, and where `config`
            asks for new tokens, it gets them (see `new_tokens.py`).
        stops: where the corpus holds examples, the ids that end an answer when the model is served; those of a
            vocabulary that is learned are known.
        purpose: of examples for a model that does not write.

    Raises:
        RhapsodeError: the corpus is incomplete or has no training document, an example cannot be rendered or would be
            learned wrongly, or the disk is full.
    """
    inputs = {"corpus": digest(corpus)}
    left_out = set(config.without_effect if tokenizer_dir else ())
    recipe = config.model_dump(mode="json", exclude=left_out if config.is_extending else {*left_out, *NEW})
    if stops:
        recipe["stops"] = sorted(stops)
    if purpose is not None:
        recipe["purpose"] = purpose.as_json()
    if tokenizer_dir is not None:
        inputs["tokenizer"] = _tokenizer_digest(tokenizer_dir)
    code = {"rhapsode": __version__, "format": _FORMAT, "tokenizers": tokenizers.__version__}
    path = root / value_sha256({"inputs": inputs, "recipe": recipe, "code": code})[:16]
    if is_complete(path):
        read_manifest(path, kind=KIND)
        return path
    with writing(path, kind=KIND, inputs=inputs, recipe=recipe) as work:
        _Making(corpus, config, work, events, stops, purpose).make(tokenizer_dir)
    return path


class _Making:
    """One tokens directory being made."""

    def __init__(
        self,
        corpus: Path,
        config: TokensConfig,
        work: Writing,
        events: Events,
        stops: Sequence[int],
        purpose: Purpose | None,
    ) -> None:
        self.corpus, self.config, self.work, self.events, self.stops = corpus, config, work, events, stops
        self.purpose = purpose
        self.family = read_manifest(corpus).facts.get("examples")

    def make(self, tokenizer_dir: Path | None) -> None:
        sizes = {split: measure(self.documents(split, "measure")) for split in SPLITS}
        if not sizes["train"].total:
            raise RhapsodeError(f"{self.corpus} has no training text", "its report.json says what was dropped and why")
        tokenizer = self.take(tokenizer_dir, sizes["train"]) if tokenizer_dir else self.learn(sizes["train"])
        splits = {split: self.write(split, tokenizer, sizes[split].total) for split in SPLITS}
        notes = [] if tokenizer_dir else _notes(tokenizer, self.config)
        report = {"vocab_size": tokenizer.vocab_size, "notes": notes, "splits": splits}
        (self.work.path / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.work.facts["vocab_size"] = tokenizer.vocab_size
        self.work.facts["dtype"] = token_dtype(tokenizer.vocab_size).name
        if self.family:
            self.work.facts["examples"] = self.family
        if self.purpose:
            self.work.facts["purpose"] = self.purpose.as_json()
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
        tokenizer = train_tokenizer(self.sampled(sizes), vocab_size=self.config.vocab_size)
        tokenizer.save(self.work.path)
        return tokenizer

    def sampled(self, sizes: Sizes) -> Iterator[str]:
        """The text for training that vocabularies are learned from."""
        documents = self.documents("train", "vocabulary", total=sizes.total)
        chosen = take(documents, choose(sizes, num_bytes=self.config.sample))
        return (text for document in chosen for text in self.texts(document))

    def take(self, tokenizer_dir: Path, sizes: Sizes) -> Tokenizer:
        tokenizer = Tokenizer.load(tokenizer_dir)
        for file in _tokenizer_files(tokenizer_dir):
            shutil.copyfile(file, self.work.path / file.name)
        if self.config.is_extending:
            tokenizer = self.extend(tokenizer, sizes)
        if self.family and not tokenizer.has_chat_template:
            return self.give_template(tokenizer)
        return tokenizer

    def extend(self, tokenizer: Tokenizer, sizes: Sizes) -> Tokenizer:
        """The same vocabulary with the tokens that the recipe asks for, in the files too."""
        new = find_new_tokens(tokenizer, self.config, self.sampled(sizes))
        found = extend_tokenizer(tokenizer, new, self.config)
        write_extended(self.work.path, found, new)
        self.work.facts["new_tokens"] = len(new.words)
        return found

    def give_template(self, tokenizer: Tokenizer) -> Tokenizer:
        """The same vocabulary with a chat template, in the files too; without, where it has no tokens for turns."""
        known = suitable(tokenizer.special_names)
        if known is None:
            return tokenizer
        path = self.work.path / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"chat_template": known.template}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (self.work.path / "chat_template.jinja").write_text(known.template, encoding="utf-8")
        self.work.facts["template"] = known.name
        return Tokenizer.load(self.work.path)

    def texts(self, document: Document) -> Sequence[str]:
        """What a vocabulary is learned from."""
        return said(example_of(document)) if self.family else [document.text]

    def write(self, split: str, tokenizer: Tokenizer, total: int) -> dict[str, Any]:
        """Write the split's files; its part of the report."""
        tally = _Tally()
        has_learned = self.family is not None
        with TokenWriter(
            self.work.path,
            split,
            vocab_size=tokenizer.vocab_size,
            shard_tokens=self.config.shard_tokens,
            has_learned=has_learned,
        ) as writer:
            documents = self.documents(split, "tokenise", total=total)
            others = mismatched(iter_documents(self.corpus, split=split)) if self.family == "feedback" else {}
            for entry in self.examples(documents, tokenizer, others) if has_learned else _texts(documents, tokenizer):
                writer.add(entry)
                tally.add(entry)
        return {**tally.report(), "shards": writer.num_shards}

    def encode(
        self, example: Example, tokenizer: Tokenizer, stops: set[int], *, other: Messages | None
    ) -> list[Encoded]:
        if self.purpose is None:
            return encode(example, tokenizer=tokenizer, stops=stops, other=other)
        return encode_for(self.purpose, example, tokenizer=tokenizer, stops=stops)

    def examples(
        self, documents: Iterable[Document], tokenizer: Tokenizer, others: Mapping[str, Messages]
    ) -> Iterator[Entry]:
        """Every sequence of every example; its bytes are those that are learned, or one for a label."""
        stops = {*self.stops, tokenizer.eos, tokenizer.end_of_turn}
        for number, document in enumerate(documents):
            try:
                example = example_of(document)
                found = self.encode(example, tokenizer, stops, other=others.get(document.id))
            except RhapsodeError as error:
                raise RhapsodeError(f"{document.source}: {error.message}", error.hint) from None
            self.work.facts["chat"] = self.work.facts.get("chat", False) or is_said(example)
            for one in found:
                num_bytes = 1 if self.purpose else len(tokenizer.decode_bytes(compress(one.ids, one.learned)))
                yield Entry(one.ids, document.id, document.source, num_bytes, one.learned, number, one.role)


def _texts(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[Entry]:
    for batch in _batches(documents):
        encoded = tokenizer.encode_batch([document.text for document in batch])
        for document, ids in zip(batch, encoded, strict=True):
            whole = [tokenizer.bos, *ids, tokenizer.eos]
            yield Entry(whole, document.id, document.source, len(document.text.encode()))


class _Tally:
    """Sums for the report, by the first folder of the documents' sources. Tokens of text are those without bos and eos;
    of examples, those that are learned.
    """

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.num_bytes: Counter[str] = Counter()
        self.num_tokens: Counter[str] = Counter()
        self.num_ids = 0

    def add(self, entry: Entry) -> None:
        self.num_ids += len(entry.ids)
        if entry.role == MISMATCHED:
            return
        place = entry.source.partition("#")[0]
        folder, slash, _ = place.partition("/")
        group = folder if slash else "." if entry.learned is None else place
        self.documents[group] += 1
        self.num_bytes[group] += entry.num_bytes
        self.num_tokens[group] += len(entry.ids) - 2 if entry.learned is None else sum(entry.learned)

    def report(self) -> dict[str, Any]:
        largest = [group for group, _ in self.num_bytes.most_common(_SOURCES_IN_REPORT)]
        whole = self._row(self.documents)
        return {
            **whole,
            "tokens": self.num_ids,
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
