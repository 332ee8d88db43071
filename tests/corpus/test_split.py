"""The split: stable, never empty on one side, never through a group."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.corpus.conftest import Make, paragraph

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.config import DataConfig, SplitConfig
from rhapsode.corpus.split import crossing, group_of, position, side_of

POSITIONS = st.lists(st.integers(0, 2**64 - 1), max_size=8).map(lambda values: np.array(values, np.uint64))


def fill(folder: Path, count: int, *, rows: int = 1) -> None:
    for n in range(count):
        text = "\n\n".join(paragraph(n * 100 + row) for row in range(rows))
        (folder / f"{n % 4}").mkdir(exist_ok=True)
        (folder / f"{n % 4}/{n}.txt").write_text(text)


@given(st.binary(), st.integers(0, 2**31), st.floats(0, 0.99))
def test_a_side_depends_on_nothing_but_group_seed_and_share(group: bytes, seed: int, share: float) -> None:
    at = position(group, seed=seed)
    assert 0 <= at < 2**64
    assert side_of(at, validation=share) == ("validation" if at / 2**64 < share else "train")


def test_the_share_is_met() -> None:
    sides = [side_of(position(str(n).encode(), seed=1), validation=0.1) for n in range(20_000)]
    assert sides.count("validation") == pytest.approx(2000, abs=150)


def test_another_seed_holds_out_others() -> None:
    groups = [str(n).encode() for n in range(1000)]
    held = [{g for g in groups if side_of(position(g, seed=seed), validation=0.5) == "validation"} for seed in (0, 1)]
    assert 150 < len(held[0] & held[1]) < 350


@given(POSITIONS, POSITIONS)
def test_what_crosses_over_leaves_both_sides_full(train: np.ndarray, validation: np.ndarray) -> None:
    group = crossing(train, validation, share=0.5)
    if group is not None:
        assert not len(train) or not len(validation)
        everything = np.concatenate([train, validation])
        assert (everything == np.uint64(group)).any()
        assert (everything != np.uint64(group)).any()
    elif not len(train) or not len(validation):
        assert len(np.unique(np.concatenate([train, validation]))) < 2


@pytest.mark.parametrize(
    ("group", "expected"), [("document", b"digest"), ("source_file", b"s/a/b.txt"), ("folder", b"s/a")]
)
def test_groups(group: str, expected: bytes) -> None:
    config = SplitConfig.model_validate({"group": group})
    assert group_of(config, place="a/b.txt", label="s", text_digest=b"digest") == expected


def test_a_file_at_the_top_is_a_folder_of_its_own() -> None:
    config = SplitConfig(group="folder")
    assert group_of(config, place="b.txt", label="s", text_digest=b"") == b"s/b.txt"


@pytest.mark.parametrize("group", ["document", "source_file", "folder"])
def test_no_group_is_on_both_sides(make: Make, folder: Path, group: str) -> None:
    fill(folder, 40)
    made = make(folder, split={"validation": 0.3, "group": group})
    folders = [{d.source.partition("/")[0] for d in side} for side in (made.train, made.validation)]
    assert made.train
    assert made.validation
    assert group != "folder" or not folders[0] & folders[1]
    assert made.report["split"]["texts_on_both_sides"] == 0


def test_adding_documents_moves_none(make: Make, folder: Path) -> None:
    fill(folder, 60)
    before = {d.source for d in make(folder, split={"validation": 0.2}).validation}
    fill(folder, 120)
    after = {d.source for d in make(folder, split={"validation": 0.2}).validation}
    old = {f"{n % 4}/{n}.txt" for n in range(60)}
    assert after & old == before
    assert after - old


def test_renaming_a_file_does_not_move_a_document_that_stands_alone(make: Make, folder: Path) -> None:
    fill(folder, 60)
    before = {d.text for d in make(folder, split={"validation": 0.2, "group": "document"}).validation}
    for number, path in enumerate(sorted(folder.rglob("*.txt"))):
        path.rename(folder / f"renamed-{number}.md")
    assert {d.text for d in make(folder, split={"validation": 0.2, "group": "document"}).validation} == before


@pytest.mark.parametrize(("share", "small_side"), [(0.000001, "validation"), (0.999999, "train")])
def test_no_side_is_empty(make: Make, folder: Path, share: float, small_side: str) -> None:
    fill(folder, 5, rows=2)
    made = make(folder, split={"validation": share, "group": "source_file"})
    assert len({d.source for d in getattr(made, small_side)}) == 1
    assert len(made.kept) == 5
    assert made.report["split"]["group_moved_to_fill_a_side"]
    assert made.report["split"][small_side]["text_bytes"] == len(getattr(made, small_side)[0].text.encode())


def test_one_group_cannot_be_held_out(make: Make, folder: Path) -> None:
    (folder / "a.jsonl").write_text("".join(f'{{"text": "{paragraph(n)}"}}\n' for n in range(9)))
    with pytest.raises(RhapsodeError, match="cannot hold anything out") as caught:
        make(folder, split={"validation": 0.1, "group": "source_file"})
    assert "data.split.group: document" in caught.value.hint
    made = make(folder, split={"validation": 0.1, "group": "document"})
    assert made.validation


def test_one_group_that_shows_only_at_the_end(make: Make, folder: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(paragraph(1))
    with pytest.raises(RhapsodeError, match="cannot hold anything out"):
        make(folder, split={"validation": 0.1, "group": "source_file"})


def test_texts_on_both_sides_are_counted_when_duplicates_stay(make: Make, folder: Path) -> None:
    for n in range(40):
        (folder / f"{n}.txt").write_text(paragraph(1))
    made = make(folder, deduplicate="off", split={"validation": 0.5, "group": "source_file"})
    assert len(made.kept) == 40
    assert made.report["split"]["texts_on_both_sides"] == 1


def test_text_stays_together_by_what_text_has():
    with pytest.raises(ValidationError, match=r"split\.group: text stays together by document, folder, source_file"):
        DataConfig.model_validate({"sources": [{"path": "texts"}], "split": {"group": "patient"}})
    assert DataConfig.model_validate({"examples": [{"path": "a.jsonl"}], "split": {"group": "patient"}})
