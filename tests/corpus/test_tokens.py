"""Token files give back what was written, and every token knows where in its document it came from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import writing
from rhapsode.corpus.token_files import Entry, TokenWriter
from rhapsode.corpus.tokens import KIND, Tokens
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["The rhapsode recites. ", "", "ῥαψῳδός 👩‍👩‍👧 sings\n" * 3, "吟遊詩人", "a" * 40]


class Made(NamedTuple):
    path: Path
    tokenizer: Tokenizer


@pytest.fixture(scope="module", params=[4096, 70_000], ids=["uint16", "uint32"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Documents in shards of 30 tokens; the type of the ids is that of a vocabulary of the given size."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    tokenizer = train_tokenizer(TEXTS * 2, vocab_size=300)
    with writing(path, kind=KIND) as work:
        tokenizer.save(work.path)
        for split, texts in (("train", TEXTS), ("validation", [])):
            with TokenWriter(work.path, split, vocab_size=request.param, shard_tokens=30) as writer:
                for number, text in enumerate(texts):
                    ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
                    writer.add(Entry(ids, f"id{number}", f"poems/{number}", len(text.encode())))
        work.facts["dtype"] = "uint16" if request.param == 4096 else "uint32"
    return Made(path, tokenizer)


def test_documents_come_back(made: Made) -> None:
    split = Tokens.open(made.path).split("train")
    assert split.num_documents == len(TEXTS)
    assert split.num_bytes == len("".join(TEXTS).encode())
    assert split.num_tokens == sum(split.lengths) == sum(len(split.document(i)) for i in range(len(TEXTS)))
    for index, text in enumerate(TEXTS):
        ids = split.document(index)
        assert ids.tolist() == [made.tokenizer.bos, *made.tokenizer.encode(text), made.tokenizer.eos]
        assert made.tokenizer.decode(ids.tolist()) == text
        assert not ids.flags.writeable
        assert split.document_bytes(index) == len(text.encode())
        assert (split.document_id(index), split.document_source(index)) == (f"id{index}", f"poems/{index}")


def test_no_document_lies_in_two_files(made: Made) -> None:
    tokens = Tokens.open(made.path)
    files = sorted(made.path.glob("train-*.bin"))
    sizes = [file.stat().st_size // tokens.split("train").document(0).dtype.itemsize for file in files]
    lengths = tokens.split("train").lengths.tolist()
    assert len(files) > 2
    assert sum(sizes) == sum(lengths)
    for size in sizes:
        first = lengths.pop(0)
        assert first == size or first + lengths[0] <= 30
        while first < size:
            first += lengths.pop(0)
        assert first == size


def test_every_token_is_located(made: Made) -> None:
    split = Tokens.open(made.path).split("train")
    token = 0
    for index, text in enumerate(TEXTS):
        data, at = text.encode(), 0
        for id_ in split.document(index).tolist():
            where = split.locate(token, made.tokenizer)
            assert (where.document, where.source) == (f"id{index}", f"poems/{index}")
            own = made.tokenizer.token_bytes(id_)
            assert where.byte_span == (at, at + len(own))
            assert data[slice(*where.byte_span)] == own
            shown = text[slice(*where.char_span)].encode()
            assert own in shown
            assert len(shown) <= len(own) + 6  # at most the rest of one character at each end
            if not own:
                assert shown == b""
            at += len(own)
            token += 1
    assert token == split.num_tokens
    with pytest.raises(IndexError):
        split.locate(token, made.tokenizer)


def test_a_split_without_documents_is_empty(made: Made) -> None:
    split = Tokens.open(made.path).split("validation")
    assert (split.num_documents, split.num_tokens, split.num_bytes, split.lengths.tolist()) == (0, 0, 0, [])
    with pytest.raises(IndexError):
        split.document(0)


@pytest.mark.parametrize("index", [-1, len(TEXTS)])
def test_a_document_that_is_not_there_is_an_error(made: Made, index: int) -> None:
    split = Tokens.open(made.path).split("train")
    for look in (split.document, split.document_bytes, split.document_id, split.document_source):
        with pytest.raises(IndexError, match=f"document {index} of 5"):
            look(index)


def test_an_unknown_split_is_named(made: Made) -> None:
    with pytest.raises(RhapsodeError, match="no split 'test'"):
        Tokens.open(made.path).split("test")


def test_a_shortened_file_is_found(made: Made, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in made.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    file = copy / "train-00001.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(VerificationMismatch, match=r"train-00001.bin has \d+ bytes"):
        Tokens.open(copy).split("train")
    file.unlink()
    with pytest.raises(VerificationMismatch, match=r"train-00001.bin has 0 bytes"):
        Tokens.open(copy).split("train")


def test_something_else_is_refused(tmp_path: Path) -> None:
    with writing(tmp_path / "corpus", kind="corpus"):
        pass
    with pytest.raises(RhapsodeError, match="holds a corpus, not a tokens"):
        Tokens.open(tmp_path / "corpus")


def test_the_char_span_of_a_half_character(made: Made) -> None:
    split = Tokens.open(made.path).split("train")
    spans = {split.locate(token, made.tokenizer) for token in range(split.num_tokens)}
    inside = [where for where in spans if where.document == "id3"]
    covered = np.zeros(4, dtype=bool)
    for where in inside:
        covered[slice(*where.char_span)] = True
    assert covered.all()
