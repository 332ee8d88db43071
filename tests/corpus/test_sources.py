"""What is found, in which order, and what is said about the rest."""

import os
from pathlib import Path

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.config import Source
from rhapsode.corpus.sources import expand, find, printable


def places(folder: Path, **fields: object) -> list[str]:
    return [file.place for file in find([Source.model_validate({"path": str(folder), **fields})], base=folder).files]


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_order_is_that_of_the_names(folder: Path) -> None:
    fill(folder, "b.txt", "a/z.txt", "a/b.md", "A.txt", "ä.txt", "a.txt")
    assert places(folder) == ["A.txt", "a.txt", "b.txt", "ä.txt", "a/b.md", "a/z.txt"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], ["a.py", "docs/a.md", "docs/deep/b.md", "test/t.py"]),
        (["*.md"], [], ["docs/a.md", "docs/deep/b.md"]),
        (["docs/*.md"], [], ["docs/a.md"]),
        (["docs/**"], ["deep"], ["docs/a.md"]),
        (["docs"], [], ["docs/a.md", "docs/deep/b.md"]),
        ([], ["test/", "**/b.md"], ["a.py", "docs/a.md"]),
        (["?.py", "[bc].md"], [], ["a.py", "docs/deep/b.md", "test/t.py"]),
        (["[!a].py"], [], ["test/t.py"]),
    ],
)
def test_globs(folder: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    fill(folder, "a.py", "docs/a.md", "docs/deep/b.md", "test/t.py")
    assert places(folder, include=include, exclude=exclude) == expected


def test_what_is_not_read_is_named_with_its_reason(folder: Path) -> None:
    fill(folder, "a.txt", "b.png", "c", ".git/config", ".hidden.txt", "node_modules/x.js", "d/e.txt")
    (folder / "link").symlink_to(folder / "d")
    (folder / "gone.txt").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.txt")
    found = find([Source(path=str(folder))], base=folder)
    assert [file.place for file in found.files] == ["a.txt", "d/e.txt"]
    assert {passed.place: passed.reason for passed in found.passed} == {
        ".git": "hidden",
        ".hidden.txt": "hidden",
        "b.png": "not a known text format",
        "c": "not a known text format",
        "gone.txt": "broken symbolic link",
        "link": "symbolic link to a folder",
        "node_modules": "folder of installed packages or caches",
        "pipe.txt": "not a regular file",
    }


def test_a_loop_of_links_ends(folder: Path) -> None:
    fill(folder, "a/b/c.txt")
    (folder / "a/b/up").symlink_to(folder)
    (folder / "x.txt").symlink_to(folder / "y.txt")
    (folder / "y.txt").symlink_to(folder / "x.txt")
    found = find([Source(path=str(folder))], base=folder)
    assert [file.place for file in found.files] == ["a/b/c.txt"]
    assert sorted(passed.reason for passed in found.passed) == [
        "broken symbolic link",
        "broken symbolic link",
        "symbolic link to a folder",
    ]


def test_a_file_that_is_named_is_read_whatever_its_suffix(folder: Path) -> None:
    fill(folder, "notes.odd")
    assert places(folder / "notes.odd") == ["notes.odd"]


def test_the_environment_and_the_standard_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, "here/a.txt")
    monkeypatch.setenv("TEXTS", str(folder))
    assert expand("${TEXTS}/here", key="data.sources[0].path", base=Path("/")) == folder / "here"
    assert (expand("${stdlib}", key="data.sources[0].path", base=folder) / "json" / "decoder.py").is_file()
    with pytest.raises(RhapsodeError, match=r"data\.sources\[3\]\.path: the environment has no variable 'NOT_THERE'"):
        expand("${NOT_THERE}", key="data.sources[3].path", base=folder)


def test_sources_that_look_alike_have_labels_of_their_own(folder: Path) -> None:
    fill(folder, "one/texts/a.txt", "two/texts/a.txt")
    sources = [Source(path="one/texts"), Source(path="two/texts"), Source(path="one/texts", name="mine")]
    assert find(sources, base=folder).labels == ["texts", "texts~2", "mine"]


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb.txt", r"a\nb.txt"), ("a\x1b[31m", r"a\x1b[31m"), (os.fsdecode(b"\xff.txt"), r"\xff.txt")]
)
def test_names_are_printable(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_missing_path_names_the_key(folder: Path) -> None:
    fill(folder, "a.txt")
    with pytest.raises(RhapsodeError, match=r"data\.sources\[1\]\.path: .*nowhere does not exist"):
        find([Source(path="."), Source(path="nowhere")], base=folder)


def test_a_source_without_text_says_what_is_there_instead(folder: Path) -> None:
    fill(folder, "a.png", "b.png")
    with pytest.raises(RhapsodeError, match=r"has no file that can be read \(2 not a known text format\)"):
        find([Source(path=str(folder))], base=folder)
