"""The whole road: exact accounts, equal bytes, and a key that knows all inputs."""

import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.corpus.conftest import Make, paragraph, read_back

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import read_manifest
from rhapsode.corpus import pipeline, shards
from rhapsode.corpus.config import CleanConfig, CodeRules, DataConfig, ProseRules
from rhapsode.corpus.documents import document_id, iter_documents
from rhapsode.corpus.filters import RULES
from rhapsode.corpus.prepare import prepare

STAGES = {"read", "clean", "deduplicate"}


def fill(folder: Path) -> None:
    """Something of everything."""
    for n in range(6):
        (folder / f"{n}.txt").write_text(paragraph(n % 4))
    (folder / "short.md").write_text("no")
    (folder / "empty.py").write_text(" \n")
    (folder / "binary.txt").write_bytes(b"\0\1\2" * 99)
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "rows.jsonl").write_text(f'{{"text": "{paragraph(9)}"}}\n{{"text": \n')


def test_accounts_add_up_and_the_dropped_are_kept_aside(make: Make, folder: Path) -> None:
    fill(folder)
    made = make(folder)
    assert made.texts == sorted([*map(paragraph, range(4)), paragraph(9)])
    assert made.reasons == {"exact duplicate": 2, "empty": 1, "not valid JSON": 1, "too short": 1}
    assert made.skipped == {"binary": 1, "not a known text format": 1}
    assert {row["source"]: (row["stage"], row["reason"], row["text"]) for row in made.dropped} == {
        "4.txt": ("deduplicate", "exact duplicate", paragraph(0)),
        "5.txt": ("deduplicate", "exact duplicate", paragraph(1)),
        "empty.py": ("clean", "empty", " \n"),
        "rows.jsonl#L2": ("read", "not valid JSON", '{"text": \n'),
        "short.md": ("clean", "too short", "no"),
    }
    rows = made.report["sources"]
    assert [(row["format"], row["read"], row["kept"], row["dropped"]) for row in rows if row["read"]] == [
        ("jsonl", 2, 1, 1),
        ("markdown", 1, 0, 1),
        ("python", 1, 0, 1),
        ("text", 6, 4, 2),
    ]


def test_ids_follow_place_and_text(make: Make, folder: Path) -> None:
    fill(folder)
    first = {d.source: d.id for d in make(folder).kept}
    assert len(set(first.values())) == len(first)
    assert first["rows.jsonl#L1"] == document_id("texts/rows.jsonl", "L1", paragraph(9))
    (folder / "0.txt").write_text(paragraph(0) + " More.")
    second = {d.source: d.id for d in make(folder).kept}
    assert {source for source in first if second.get(source) != first[source]} == {"0.txt"}


def test_a_duplicate_names_the_document_that_stays(make: Make, folder: Path) -> None:
    (folder / "a.txt").write_text(paragraph(1))
    (folder / "b.txt").write_text(paragraph(1).replace(" ", "  ") + "\n\n")
    made = make(folder)
    assert made.dropped[0]["detail"] == f"of document {made.kept[0].id}"


def test_equal_input_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    fill(folder)
    config = DataConfig.model_validate({"sources": [{"path": "texts"}], "split": {"validation": 0.3}})
    paths = [prepare(config, root=tmp_path / name, base=tmp_path, events=Events()) for name in ("one", "two")]
    assert paths[0].name == paths[1].name
    names = [sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()) for path in paths]
    assert names[0] == names[1]
    assert filecmp.cmpfiles(*paths, names[0], shallow=False)[0] == names[0]


def test_what_is_there_is_used_again_and_any_change_makes_another(make: Make, folder: Path) -> None:
    fill(folder)
    first = make(folder)
    again = make(folder)
    assert first.path == again.path
    assert [event.fields["reused"] for event in (first.events[-1], again.events[-1])] == [False, True]
    changed = [
        make(folder, clean={"min_chars": 33}),
        make(folder, source={"licence": "MIT"}),
        make(folder, deduplicate="off"),
    ]
    (folder / "0.txt").write_text(paragraph(77))
    changed.append(make(folder))
    (folder / "0.txt").rename(folder / "00.txt")
    changed.append(make(folder))
    assert len({made.path for made in [first, *changed]}) == 6


def test_tokens_have_no_part_in_the_key(make: Make, folder: Path) -> None:
    fill(folder)
    assert make(folder).path == make(folder, tokens={"vocab_size": 1000}).path


def test_every_other_field_changes_the_key(folder: Path, tmp_path: Path) -> None:
    fill(folder)

    def key(**fields: Any) -> str:
        config = DataConfig.model_validate({"sources": [{"path": "texts"}], "split": {"group": "document"}} | fields)
        return prepare(config, root=tmp_path / "out", base=tmp_path, events=Events()).name

    off = [{rule.field: None} for rule in RULES if rule.field in CleanConfig.model_fields]
    kinds = {"prose": ProseRules, "code": CodeRules}
    off += [{kind: {name: None}} for kind, rules in kinds.items() for name in rules.model_fields]
    variants = [
        *({"clean": clean} for clean in [{"repair_unicode": False}, *off]),
        {"split": {"group": "document", "seed": 5}},
        {"split": {"group": "source_file"}},
        {"split": {"group": "document", "validation": 0.2}},
        {"deduplicate": "off"},
        {"max_document_bytes": "1 MB"},
        {"sources": [{"path": "texts", "text_field": "body"}]},
        {"sources": [{"path": "texts", "kind": "prose"}]},
        {"sources": [{"path": "texts", "name": "mine"}]},
    ]
    assert len({key(), *(key(**variant) for variant in variants)}) == len(variants) + 1


def test_several_sources_are_told_apart(make: Make, folder: Path, tmp_path: Path) -> None:
    fill(folder)
    other = tmp_path / "other" / "texts"
    shutil.copytree(folder, other)
    (other / "0.txt").write_text(paragraph(50))
    made = make(folder, other)
    assert [d.source for d in made.kept][-1] == "texts~2/0.txt"
    assert {row["source"] for row in made.report["sources"]} == {"texts", "texts~2"}
    assert sorted(read_manifest(made.path).inputs) == ["texts", "texts~2"]


def test_many_shards_and_row_groups_hold_the_same(make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(200):
        (folder / f"{n:03d}.txt").write_text(paragraph(n))
    one = make(folder)
    shutil.rmtree(one.path)
    monkeypatch.setattr(shards, "GROUP_BYTES", 2000)
    monkeypatch.setattr(shards, "FILE_BYTES", 9000)
    many = make(folder)
    assert len(list(many.path.glob("train-*.parquet"))) > 5
    assert many.kept == one.kept


def test_progress_ends_at_its_total(make: Make, folder: Path) -> None:
    fill(folder)
    events = make(folder).events
    total = sum(f.stat().st_size for f in folder.iterdir() if f.suffix != ".png")
    for stage in ("hash", "read"):
        steps = [e.fields for e in events if e.kind == "progress" and e.fields["stage"] == stage]
        assert steps[0]["done"] == 0
        assert (steps[-1]["done"], steps[-1]["total"], steps[-1]["unit"]) == (total, total, "bytes")
    assert events[-1].kind == "corpus"
    assert events[-1].fields["kept"] == 5


def test_nothing_left_says_why(make: Make, folder: Path) -> None:
    (folder / "a.txt").write_text("no")
    (folder / "b.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(RhapsodeError) as caught:
        make(folder)
    assert caught.value.message.splitlines() == [
        "nothing is left of 2 documents:",
        "  1 no text field (for example b.jsonl#L1: no field 'text'; the row has body)",
        "  1 too short (for example a.txt: 2, the least is 32)",
    ]
    assert "text_field" in caught.value.hint


def test_an_interruption_leaves_nothing(make: Make, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    fill(folder)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.Pipeline, "_keep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(folder)
    assert list((tmp_path / "corpora").iterdir()) == []


def test_a_split_that_is_not_there(make: Make, folder: Path) -> None:
    fill(folder)
    with pytest.raises(RhapsodeError, match="no split 'test'"):
        list(iter_documents(make(folder).path, split="test"))
    with pytest.raises(RhapsodeError, match="incomplete"):
        list(iter_documents(folder, split="train"))


FILES = st.dictionaries(
    st.from_regex(r"[a-c]{1,2}\.(txt|py|jsonl|json|csv|html|md|gz|txt\.gz|txt\.zst)", fullmatch=True),
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
        st.integers(0, 3).map(lambda n: paragraph(n).encode()),
        st.integers(0, 3).map(lambda n: json.dumps({"text": paragraph(n)}).encode()),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES)
def test_read_is_kept_and_dropped_whatever_lies_there(folder: Path, tmp_path: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "good.txt").write_text(paragraph(99))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    config = DataConfig.model_validate({"sources": [{"path": "texts"}], "split": {"validation": 0}})
    made = read_back(prepare(config, root=tmp_path / "out", base=tmp_path, events=Events()), [])
    assert made.report["files"]["found"] == len(files) + 1
    assert {row["stage"] for row in made.dropped} <= STAGES
    assert len({d.text for d in made.kept}) == len(made.kept)
