"""The fixed mix of texts that quality is measured on: novels, textbooks and code, in equal parts.

Which documents train and which are held out follows from a hash of their text alone, so every machine that has the
sets makes the same tokens. Held out are whole documents; of a novel only its beginning is measured, so that one long
book does not speak for all.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from rhapsode.core.manifest import is_complete, value_sha256, writing
from rhapsode.corpus.token_files import Entry, TokenWriter, token_dtype
from rhapsode.corpus.tokens import KIND
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

SETS = ("novels", "openstax-textbooks", "python-code")
WINDOW = 2**27
SHARD_TOKENS = 100_000_000
FORMAT = 1
"""Of the mix; a change of what it holds makes those that were made before unknown."""


class Mix(NamedTuple):
    """How much of each set: characters to train on and to hold out, and the most of one held-out document."""

    train: int = 20_000_000
    held_out: int = 250_000
    excerpt: int = 60_000
    vocab: int = 8192


class Text(NamedTuple):
    """A document; equal texts have equal keys."""

    source: str
    key: str
    text: str


def make_mix(data: Path, mix: Mix, *, root: Path) -> Path:
    """The tokens directory of the mix below `root`, made if it is not there.

    Args:
        data: the folder with NAME.jsonl.zst of every set, one object with a "text" a line.
    """
    path = root / f"mix-{value_sha256({**mix._asdict(), 'sets': list(SETS), 'format': FORMAT})[:12]}"
    if is_complete(path):
        return path
    training, held_out = _chosen(data, mix)
    tokenizer = train_tokenizer((text.text for text in training), vocab_size=mix.vocab)
    facts = {"dtype": token_dtype(tokenizer.vocab_size).name, "sets": list(SETS)}
    with writing(path, kind=KIND, recipe=mix._asdict(), facts=facts) as work:
        tokenizer.save(work.path)
        for split, texts in (("train", training), ("validation", held_out)):
            _write(work.path, split, texts, tokenizer)
    return path


def _chosen(data: Path, mix: Mix) -> tuple[list[Text], list[Text]]:
    """By the order of their hashes: the first are held out, the next train."""
    training: list[Text] = []
    held_out: list[Text] = []
    for name in SETS:
        size = {"held_out": 0, "train": 0}
        for text in sorted({text.key: text for text in _read(data, name)}.values(), key=lambda text: text.key):
            if size["held_out"] < mix.held_out:
                excerpt = _beginning(text.text, mix.excerpt)
                held_out.append(text._replace(text=excerpt))
                size["held_out"] += len(excerpt)
            elif size["train"] < mix.train:
                piece = _beginning(text.text, mix.train - size["train"])
                training.append(text._replace(text=piece))
                size["train"] += len(piece)
        if size["train"] < mix.train:
            raise SystemExit(f"{data / name}.jsonl.zst has {size['train']:,} characters to train on, not {mix.train:,}")
    return training, held_out


def _read(data: Path, name: str) -> Iterator[Text]:
    path = data / f"{name}.jsonl.zst"
    if not path.is_file():
        raise SystemExit(f"{path} is not here: --data is the folder of the sets {', '.join(SETS)}")
    with path.open("rb") as file:
        lines = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(file)
        for line in io.TextIOWrapper(lines, "utf-8"):
            text = json.loads(line)["text"]
            yield Text(name, hashlib.sha256(text.encode()).hexdigest(), text)


def _beginning(text: str, most: int) -> str:
    """Whole lines, unless there is only one."""
    if len(text) <= most:
        return text
    cut = text.rfind("\n", 0, most) + 1
    return text[: cut or most]


def _write(directory: Path, split: str, texts: list[Text], tokenizer: Tokenizer) -> None:
    with TokenWriter(directory, split, vocab_size=tokenizer.vocab_size, shard_tokens=SHARD_TOKENS) as writer:
        for text, ids in zip(texts, tokenizer.encode_batch([text.text for text in texts]), strict=True):
            row = [tokenizer.bos, *ids, tokenizer.eos]
            writer.add(Entry(row, text.key[:16], text.source, len(text.text.encode())))
