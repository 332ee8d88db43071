"""Small models and token corpora that several packages' tests share."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from rhapsode.core.manifest import writing
from rhapsode.corpus.tokens import KIND, Tokens
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.size import Ids, own_config
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

# A busy machine is not a defect, and a change is judged by the same examples every time it is tested.
settings.register_profile("rhapsode", deadline=None, derandomize=True)
settings.load_profile("rhapsode")

SENTENCES = (
    "the rhapsode sings of the wine-dark sea",
    "a ship came home to the sandy shore",
    "seven gates has the city and seven kings",
    "sing, goddess, of the man of many turns",
    "the fire is low and the night is long",
)


def make_spec(
    *,
    family: str = "qwen3",
    vocab_size: int = 96,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    ffn: int = 48,
    tied: bool = True,
    context: int = 64,
    rope_theta: float = 10_000.0,
) -> ModelSpec:
    """A decoder small enough to look at; the ids are those of our own tokenizers."""
    return spec_from_config(
        own_config(
            family,
            ids=Ids(vocab_size, bos=0, eos=1, pad=2),
            width=width,
            depth=depth,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            ffn=ffn,
            context=context,
            tied=tied,
            theta=rope_theta,
        )
    )


def make_decoder(spec: ModelSpec, *, std: float = 0.3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Decoder:
    """Every weight with a large spread, norms around one: with a small one, a wrong position hides in the tolerance."""
    model = Decoder(spec).to(dtype)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(float(weight.ndim == 1), std, generator=random)
    return model


def random_documents(shape: tuple[int, int], *, seed: int) -> Tensor:
    """Document numbers [B,T]: runs of 1, 2, 3, ... of random lengths and, in some rows, padding (0) at the end."""
    random = np.random.default_rng(seed)
    rows = np.cumsum(random.random(shape) < 0.15, axis=1) + 1
    for row in rows[random.random(shape[0]) < 0.5]:
        row[shape[1] - int(random.integers(0, shape[1])) :] = 0
    return torch.from_numpy(rows)


class Trees(NamedTuple):
    """Rows [B,T] of sequences that begin alike: tree numbers, 0 or the branch's number, and positions in a sequence."""

    documents: Tensor
    branches: Tensor
    positions: Tensor

    def sequences(self, row: int) -> Iterator[list[int]]:
        """The places of each sequence of a row: a trunk and a branch of it, or a trunk that has no branches."""
        numbers = list(zip(self.documents[row].tolist(), self.branches[row].tolist(), strict=True))
        for tree in sorted({tree for tree, _ in numbers}):
            branches = sorted({branch for other, branch in numbers if other == tree})
            for branch in [b for b in branches if b > 0] or [0]:
                yield [place for place, number in enumerate(numbers) if number in ((tree, 0), (tree, branch))]


def make_trees(rows: Sequence[Sequence[Sequence[int]]], *, width: int) -> Trees:
    """Of the trees of each row: the length of the trunk, and then of each branch. What does not fit is cut off."""
    trees = Trees(*(torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3)))
    for row, lengths in enumerate(rows):
        places = [
            (number, branch, place + (branch > 0) * of_tree[0])
            for number, of_tree in enumerate(lengths, 1)
            for branch, length in enumerate(of_tree)
            for place in range(length)
        ][:width]
        for field, values in zip(trees, zip(*places, strict=True), strict=False):
            field[row, : len(values)] = torch.tensor(values)
    return trees


def random_trees(shape: tuple[int, int], *, seed: int) -> Trees:
    """Some rows of many small trees and some of few large ones, without trunk or branches too, and with padding."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(shape[0]):
        longest, end = int(random.integers(2, shape[1] + 2)), int(random.integers(1, 2 * shape[1]))
        row: list[list[int]] = []
        while sum(map(sum, row)) < end:
            row.append([int(random.integers(0, longest)), *random.integers(1, longest, random.integers(0, 5)).tolist()])
        rows.append(row)
    return make_trees(rows, width=shape[1])


def positions_of(documents: Tensor) -> Tensor:
    """Positions [B,T] that restart with each document."""
    places = torch.arange(documents.shape[1]).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(starts, places, 0).cummax(1).values


def write_tokens(path: Path, tokenizer: Tokenizer, texts: dict[str, Sequence[str]]) -> Path:
    """A complete tokens directory of these documents, one shard a split."""
    with writing(path, kind=KIND, facts={"dtype": "uint16"}) as work:
        tokenizer.save(work.path)
        for split, documents in texts.items():
            ids = [[tokenizer.bos, *tokenizer.encode(text), tokenizer.eos] for text in documents]
            np.array([i for document in ids for i in document], dtype="<u2").tofile(work.path / f"{split}-00000.bin")
            stops = np.cumsum([len(document) for document in ids])
            index = {
                "document": [f"{split}{i}" for i in range(len(ids))],
                "source": [f"{split}.txt"] * len(ids),
                "shard": np.zeros(len(ids), np.int64),
                "start": stops - [len(document) for document in ids],
                "stop": stops,
                "num_bytes": [len(text.encode()) for text in documents],
            }
            pq.write_table(pa.table(index), work.path / f"{split}.index.parquet")
    return path


def make_texts(count: int, *, seed: int) -> list[str]:
    """Documents of one to six of the sentences, in random order: easy to learn."""
    random = np.random.default_rng(seed)
    return ["\n".join(random.choice(SENTENCES, int(random.integers(1, 7)))) for _ in range(count)]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes what the person who runs it keeps."""
    path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RHAPSODE_HOME", str(path))
        yield path


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(SENTENCES, vocab_size=300)


@pytest.fixture(scope="session")
def tokenizer_dir(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(path)
    return path


@pytest.fixture(scope="session")
def tokens(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """About 4000 training tokens and 1000 held-out ones of the same easy language."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    texts = {"train": make_texts(80, seed=1), "validation": make_texts(20, seed=2)}
    return Tokens.open(write_tokens(path, tokenizer, texts))
