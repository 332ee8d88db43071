import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import digest, is_complete, read_manifest, value_sha256, verify, writing


def make(path: Path, *, text: str = "hello", kind: str = "corpus") -> Path:
    with writing(path, kind=kind, inputs={"b": "2", "a": "1"}, recipe={"n": 3}, facts={"rows": 2}) as work:
        (work.path / "a.txt").write_text(text)
        (work.path / "sub").mkdir()
        (work.path / "sub" / "b.bin").write_bytes(bytes(range(256)))
        work.facts["bytes"] = len(text)
    return path


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_manifest_says_what_is_there_and_what_it_was_made_from(tmp_path: Path) -> None:
    manifest = read_manifest(make(tmp_path / "x"), kind="corpus")
    assert set(manifest.files) == {"a.txt", "sub/b.bin"}
    assert manifest.files["a.txt"] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert (manifest.inputs, manifest.recipe) == ({"a": "1", "b": "2"}, {"n": 3})
    assert manifest.facts == {"rows": 2, "bytes": 5}
    assert verify(tmp_path / "x") == manifest


def test_equal_content_gives_an_equal_digest_at_any_time_and_place(tmp_path: Path) -> None:
    first = make(tmp_path / "x")
    second = make(tmp_path / "deep" / "er" / "y")
    os.utime(second / "a.txt", (1, 1))
    assert digest(first) == digest(second)
    assert digest(make(tmp_path / "z", text="hallo")) != digest(first)


def test_the_hash_of_a_value_does_not_depend_on_the_order_of_keys() -> None:
    assert value_sha256({"a": 1, "b": [1, 2]}) == value_sha256({"b": [1, 2], "a": 1})
    assert value_sha256({"a": 1}) != value_sha256({"a": 1.5})


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="holds a corpus, not a model"):
        read_manifest(make(tmp_path / "x"), kind="model")


def test_a_directory_without_a_manifest_is_never_read(tmp_path: Path) -> None:
    (make(tmp_path / "x") / "manifest.json").unlink()
    assert not is_complete(tmp_path / "x")
    for read in (read_manifest, verify, digest):
        with pytest.raises(RhapsodeError, match="incomplete"):
            read(tmp_path / "x")
    with pytest.raises(RhapsodeError, match="does not exist"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "corpus"}', "\x00"])
def test_a_damaged_manifest_is_a_mismatch(tmp_path: Path, text: str) -> None:
    (make(tmp_path / "x") / "manifest.json").write_text(text)
    with pytest.raises(VerificationMismatch, match="manifest.json is damaged"):
        read_manifest(tmp_path / "x")


def test_verify_names_the_file_that_changed(tmp_path: Path) -> None:
    path = make(tmp_path / "x")
    data = bytearray((path / "sub" / "b.bin").read_bytes())
    data[100] ^= 1
    (path / "sub" / "b.bin").write_bytes(data)
    with pytest.raises(VerificationMismatch, match=r"sub/b\.bin has changed"):
        verify(path)
    (path / "a.txt").unlink()
    with pytest.raises(VerificationMismatch, match=r"a\.txt is missing"):
        verify(path)


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_leaves_nothing_and_goes_on(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with writing(tmp_path / "x", kind="corpus") as work:
            (work.path / "a.txt").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_what_was_there_before(tmp_path: Path) -> None:
    before = digest(make(tmp_path / "x"))
    with pytest.raises(ValueError, match="boom"), writing(tmp_path / "x", kind="corpus"):
        raise ValueError("boom")
    assert digest(tmp_path / "x") == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_writing_again_replaces_the_whole_directory(tmp_path: Path) -> None:
    make(tmp_path / "x")
    with writing(tmp_path / "x", kind="corpus") as work:
        (work.path / "c.txt").write_text("new")
        assert (tmp_path / "x" / "a.txt").read_text() == "hello"  # the old one stays until the new one is complete
    assert set(verify(tmp_path / "x").files) == {"c.txt"}
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["c.txt", "manifest.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="disk is full") as caught, writing(tmp_path / "x", kind="corpus"):
        raise OSError(errno.ENOSPC, "No space left on device", "a.txt")
    assert str(tmp_path / "x") in caught.value.message
    assert "MB free" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(RhapsodeError, match="file"), writing(tmp_path / "file" / "x", kind="corpus"):
        pass


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_kept(tmp_path: Path) -> None:
    dead, living = dead_process(), os.getppid()
    leftovers = {f".x.{dead}.partial": False, f".x.{dead}.old": False, f".x.{living}.partial": True}
    foreign = {f".xy.{dead}.partial": True, f".x.y.{dead}.partial": True, ".x.notes.partial": True}
    for name in leftovers | foreign:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    make(tmp_path / "x")
    for name, kept in (leftovers | foreign).items():
        assert (tmp_path / name).exists() == kept, name


@pytest.mark.parametrize("name", ["plain", "step-[1]", "with space", "dots.in.name"])
def test_a_killed_writer_leaves_no_directory_under_the_final_name(tmp_path: Path, name: str) -> None:
    script = """
import os, pathlib, signal, sys
from rhapsode.core.manifest import writing
with writing(pathlib.Path(sys.argv[1]), kind="corpus") as work:
    (work.path / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=False)
    assert not (tmp_path / name).exists()
    assert len(list(tmp_path.iterdir())) == 1
    make(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_manifest_is_plain_sorted_json(tmp_path: Path) -> None:
    text = (make(tmp_path / "x") / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    with writing(tmp_path / "x", kind="corpus") as work:
        (work.path / "a.txt").write_text("precious")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "x").rename(tmp_path / f".x.{gone.pid}.old")
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "x", kind="corpus"):
        raise ZeroDivisionError
    assert (tmp_path / "x" / "a.txt").read_text() == "precious"
