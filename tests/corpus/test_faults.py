"""What may lie in a folder or happen on the way. Each is survived and counted, or stops with its place and cause."""

import gzip
import os
import resource
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from tests.corpus.conftest import Make, paragraph

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus import decompress, reading, shards
from rhapsode.corpus.readers import lines
from rhapsode.corpus.sources import InputFile

ROWS = "".join(f'{{"text": "{paragraph(n)}"}}\n' for n in range(50)).encode()
SMALL = {"max_document_bytes": "10 kB"}


@pytest.fixture
def good(folder: Path) -> Path:
    """A folder in which one file is as it should be."""
    (folder / "good.txt").write_text(paragraph(1000))
    return folder


def test_an_empty_folder(make: Make, folder: Path) -> None:
    with pytest.raises(RhapsodeError, match=r"data\.sources\[0\]\.path: .*texts has no file that can be read"):
        make(folder)


def test_a_missing_path(make: Make, folder: Path) -> None:
    with pytest.raises(RhapsodeError, match=r"data\.sources\[0\]\.path: .*texts/nowhere does not exist"):
        make(folder / "nowhere")


def test_a_document_that_is_too_large_is_put_aside_unread(make: Make, good: Path) -> None:
    (good / "large.txt").write_text("word " * 4000)
    (good / "large.txt.gz").write_bytes(gzip.compress(b"word " * 4000))
    made = make(good, **SMALL)
    assert made.reasons == {"larger than max_document_bytes": 2}
    assert [(row["source"], row["stage"], row["text"], row["detail"]) for row in made.dropped] == [
        ("large.txt", "read", "", "20000 bytes, the most is 10000"),
        ("large.txt.gz", "read", "", "more than 10000 bytes, the most is 10000"),
    ]


def test_a_row_that_is_too_large_is_passed_over(make: Make, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_STEP", 1000)
    rows = ROWS.splitlines(keepends=True)
    (good / "rows.jsonl").write_bytes(rows[0] + b'{"text": "' + b"word " * 40_000 + b'"}\n' + rows[1] + b"x" * 30_000)
    made = make(good, **SMALL)
    assert made.texts == sorted([paragraph(0), paragraph(1), paragraph(1000)])
    assert [(row["source"], len(row["text"])) for row in made.dropped] == [
        ("rows.jsonl#L2", 1000),
        ("rows.jsonl#L4", 1000),
    ]
    assert made.reasons == {"larger than max_document_bytes": 2}


@pytest.mark.parametrize("name", ["rows.jsonl.zst", "rows.jsonl.gz", "text.txt.zst", "text.txt.gz"])
@pytest.mark.parametrize("fault", ["truncated", "trailing junk", "flipped", "nothing"])
def test_a_damaged_compressed_file_is_skipped_whole(make: Make, good: Path, name: str, fault: str) -> None:
    text = ROWS if "rows" in name else paragraph(1).encode()
    data = bytearray(
        zstandard.ZstdCompressor(write_checksum=True).compress(text) if name.endswith("zst") else gzip.compress(text)
    )
    if fault == "flipped":
        data[len(data) // 2] ^= 0xFF
    damaged = {"truncated": data[:-9], "trailing junk": data + b"junk!", "flipped": data, "nothing": b"\x1f"}[fault]
    (good / name).write_bytes(damaged)
    made = make(good)
    assert made.texts == [paragraph(1000)]
    assert made.skipped == {"damaged compressed file": 1}
    assert made.report["files"]["skipped_by_reason"]["damaged compressed file"]["examples"][0]["source"] == name


def test_frames_one_after_another_are_one_file(make: Make, good: Path) -> None:
    half = len(ROWS.splitlines()) // 2
    parts = [b"".join(ROWS.splitlines(keepends=True)[part]) for part in (slice(half), slice(half, None))]
    (good / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.ZstdCompressor().compress, parts)))
    assert len(make(good).kept) == 51


@pytest.mark.parametrize("name", ["bomb.txt.gz", "bomb.txt.zst", "bomb.jsonl.gz", "bomb.jsonl.zst"])
def test_a_bomb_does_not_fill_the_memory(make: Make, good: Path, name: str) -> None:
    expanded = b"\n" * 10 + b"a" * (200 << 20)
    data = zstandard.ZstdCompressor().compress(expanded) if name.endswith("zst") else gzip.compress(expanded, 1)
    (good / name).write_bytes(data)
    del expanded, data
    tracemalloc.start()
    made = make(good, max_document_bytes="1 MB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.reasons == {"larger than max_document_bytes": 1}
    assert peak < 40 << 20


def test_things_that_are_not_files_never_block(make: Make, good: Path) -> None:
    os.mkfifo(good / "pipe.txt")
    (good / "folder.txt").mkdir()
    (good / "device.txt").symlink_to("/dev/zero")
    (good / "gone.txt").symlink_to("nothing")
    made = make(good)
    assert made.texts == [paragraph(1000)]
    assert made.skipped == {"not a regular file": 2, "broken symbolic link": 1}


def test_a_file_that_becomes_a_pipe_does_not_block(good: Path) -> None:
    os.mkfifo(good / "pipe")
    with (
        pytest.raises(decompress.ReadError, match="not a regular file"),
        decompress.opened(str(good / "pipe"), size=9),
    ):
        pass


def test_a_file_that_may_not_be_read(make: Make, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (good / "secret.txt").write_text(paragraph(1))
    real = os.open

    def refuse(path: Any, *args: Any, **fields: Any) -> int:
        if str(path).endswith("secret.txt"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **fields)

    monkeypatch.setattr(os, "open", refuse)
    made = make(good)
    assert made.texts == [paragraph(1000)]
    assert made.skipped == {"cannot be read": 1}
    example = made.report["files"]["skipped_by_reason"]["cannot be read"]["examples"][0]
    assert example == {"source": "secret.txt", "detail": "Permission denied"}


def test_a_disk_that_fails_in_the_middle(make: Make, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows before the failure stand; the rest is said to be missing."""
    (good / "rows.jsonl").write_bytes(ROWS * 200)
    monkeypatch.setattr(decompress, "_BUFFER", 4096)
    is_broken = False
    real = decompress._Prefix.readinto

    def readinto(self: Any, buffer: Any) -> int:
        if is_broken and self._position > 100_000:
            raise OSError(5, "Input/output error")
        return real(self, buffer)

    def break_it() -> None:
        nonlocal is_broken
        is_broken = True

    monkeypatch.setattr(decompress._Prefix, "readinto", readinto)
    on_each_reading(monkeypatch, break_it)
    made = make(good)
    assert len(made.kept) == 51
    assert made.reasons["the rest of the file cannot be read"] == 1
    assert "Input/output error" in made.dropped[-1]["detail"]


def test_names_with_line_feeds_and_bytes_that_are_no_text(make: Make, good: Path) -> None:
    (good / "two\nlines.txt").write_text(paragraph(1))
    Path(os.fsdecode(os.fsencode(good) + b"/\xff\xfe.txt")).write_text(paragraph(2))
    assert [d.source for d in make(good).kept] == ["good.txt", r"two\nlines.txt", r"\xff\xfe.txt"]


def test_everything_is_a_duplicate(make: Make, folder: Path) -> None:
    for n in range(200):
        (folder / f"{n:03d}.txt").write_text(paragraph(1) + "\n" * n)
    made = make(folder)
    assert [d.source for d in made.kept] == ["000.txt"]
    assert made.reasons == {"exact duplicate": 199}


def test_a_file_that_grows_while_it_is_read(make: Make, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there at the beginning is read, and nothing more."""
    log = good / "log.jsonl"
    log.write_bytes(ROWS)

    def grow() -> None:
        with log.open("ab") as file:
            file.write(f'{{"text": "{paragraph(77)}"}}\n'.encode())

    on_each_reading(monkeypatch, grow)
    made = make(good)
    assert len(made.kept) == 51
    assert made.reasons == {}


def test_a_file_that_is_rewritten_while_it_is_read(make: Make, good: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def rewrite() -> None:
        (good / "good.txt").write_text(paragraph(1) + "something else")
        os.utime(good / "good.txt", ns=(1, time.time_ns()))

    on_each_reading(monkeypatch, rewrite)
    with pytest.raises(RhapsodeError, match=r"good\.txt changed while it was read"):
        make(good)
    assert list((tmp_path / "corpora").iterdir()) == []


def test_a_file_that_vanishes(make: Make, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (good / "other.txt").write_text(paragraph(1))
    on_each_reading(monkeypatch, lambda: (good / "other.txt").unlink(missing_ok=True))
    with pytest.raises(RhapsodeError, match=r"other\.txt changed while it was read"):
        make(good)


def on_each_reading(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Between its digest and its reading, something happens to a file."""
    real = reading.records

    def records(file: InputFile, **fields: Any) -> Iterator[Any]:
        act()
        return real(file, **fields)

    monkeypatch.setattr("rhapsode.corpus.pipeline.records", records)


@pytest.mark.parametrize("broken", [b"", b"PAR1", b"PAR1" + b"\0" * 99 + b"PAR1", b"no"])
def test_a_broken_table(make: Make, good: Path, broken: bytes) -> None:
    (good / "a.parquet").write_bytes(broken)
    assert make(good).skipped == {"not valid Parquet": 1}


def test_a_table_that_breaks_in_the_middle(make: Make, good: Path) -> None:
    texts = [paragraph(n) for n in range(400)]
    pq.write_table(pa.table({"text": texts}), good / "a.parquet", row_group_size=128, use_dictionary=False)
    data = bytearray((good / "a.parquet").read_bytes())
    start = pq.ParquetFile(good / "a.parquet").metadata.row_group(2).column(0).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    (good / "a.parquet").write_bytes(data)
    made = make(good)
    assert len(made.kept) == 257
    assert made.reasons == {"the rest of the file cannot be read": 1}


def test_a_quote_that_is_never_closed(make: Make, good: Path) -> None:
    (good / "a.csv").write_text('id,text\n1,"' + "word\n" * 9000)
    made = make(good, **SMALL)
    assert made.texts == [paragraph(1000)]
    assert set(made.reasons) == {"not valid CSV"}


def test_a_page_of_nested_tags(make: Make, good: Path) -> None:
    (good / "deep.html").write_text("<div>" * 100_000 + paragraph(1) + "</div>" * 100_000)
    (good / "open.html").write_text("<table><tr><td><b>" * 30_000 + paragraph(2))
    made = make(good)
    assert [d.text for d in made.kept] == [paragraph(1), paragraph(1000), paragraph(2)]
    assert made.kept[0].meta["extraction"] == "all visible text"


@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", "<![", "&", "<p>", "<script>", "<a b='", "</", "<title>x</title>", "<style></style"]
)
def test_a_page_of_nonsense_is_done_in_time(make: Make, good: Path, piece: str) -> None:
    (good / "a.html").write_text(piece * 50_000)
    start = time.process_time()
    make(good)
    assert time.process_time() - start < 10


def test_a_full_disk_says_so_and_leaves_nothing(make: Make, good: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.pq.ParquetWriter, "write_table", full)
    with pytest.raises(RhapsodeError, match="the disk is full"):
        make(good)
    assert list((tmp_path / "corpora").iterdir()) == []


def test_a_disk_that_is_really_full(make: Make, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        for n in range(40):
            (folder / f"{n}.txt").write_bytes(os.urandom(60_000).hex().encode())
        with pytest.raises(RhapsodeError, match="the disk is full") as caught:
            make(folder, clean={"max_encoded_share": None})
        assert str(root) in caught.value.message
        assert list(root.iterdir()) == []
    finally:
        subprocess.run(["umount", str(root)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one.txt", "one.jsonl", "one.json", "one.csv"])
def test_a_line_of_a_gigabyte_in_bounded_memory(make: Make, good: Path, name: str) -> None:
    head = {"one.txt": b"", "one.jsonl": b'{"text": "', "one.json": b'[{"text": "', "one.csv": b"id,text\n1,"}[name]
    with (good / name).open("wb") as file:
        file.write(head)
        for _ in range(1000):
            file.write(b"word " * 200_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = make(good, max_document_bytes="8 MB")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert made.texts == [paragraph(1000)]
    assert made.report["documents"]["dropped"] + made.report["files"]["skipped"] == 1
    assert grown < 400_000  # kB


@pytest.mark.slow
def test_a_hundred_thousand_small_files(make: Make, folder: Path) -> None:
    for n in range(100_000):
        if n % 1000 == 0:
            (folder / f"{n // 1000}").mkdir()
        (folder / f"{n // 1000}/{n}.txt").write_text(paragraph(n))
    start = time.monotonic()
    made = make(folder, split={"validation": 0.05})
    assert time.monotonic() - start < 60
    assert len(made.kept) == 100_000
    assert len(made.validation) == pytest.approx(5000, rel=0.1)
