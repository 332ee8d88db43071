"""Each format, read through the whole road, and what is said about what cannot be read."""

import csv
import gzip
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.corpus.conftest import Make, paragraph

from rhapsode.corpus.config import Source
from rhapsode.corpus.readers.registry import FORMATS, format_of, reader_of
from rhapsode.corpus.readers.visible import visible_text
from rhapsode.corpus.reading import records
from rhapsode.corpus.sources import find

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
HTML = """<html><head><title>The  Anger</title>
<style>p {{ color: red }}</style><script>var x = "<p>no</p>";</script>
</head><body><nav><a href="/">Home</a> <a href="/about">About</a></nav>
<article><h1>The Anger</h1><p>{}</p><p>{}</p></article>
<footer>All rights reserved</footer></body></html>"""


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst"])
def test_text_files(make: Make, folder: Path, name: str, suffix: str) -> None:
    (folder / (name + suffix)).write_bytes(COMPRESS[suffix]((paragraph(1) + "\r\n").encode()))
    (document,) = make(folder).kept
    assert document.text == paragraph(1) + "\n"
    assert document.source == name + suffix
    assert document.licence == "unknown"


def test_code_is_code_by_its_suffix_and_stays_as_it_was(make: Make, folder: Path) -> None:
    text = 'NAME = "cafe\u0301 voil\xc3\xa0"\nprint(NAME)  # with some more to make it long enough\n'
    (folder / "a.py").write_text(text, encoding="utf-8")
    (document,) = make(folder).kept
    assert document.text == text


def test_the_kind_can_be_said(make: Make, folder: Path) -> None:
    text = "cafe\u0301 and other words that make the text long enough to be kept by the rules\n"
    (folder / "a.txt").write_text(text, encoding="utf-8")
    assert make(folder, source={"kind": "code"}).texts == [text]
    assert make(folder, source={"kind": "prose"}).texts == [text.replace("e\u0301", "é")]


def test_every_format_has_a_reader() -> None:
    for format_ in set(FORMATS.values()):
        assert callable(reader_of(format_))
    assert format_of("a/b/Makefile") is not None
    assert format_of("a/b.TXT.GZ") == format_of("b.txt")
    assert format_of("a.png") is None


@pytest.mark.parametrize("suffix", COMPRESS)
def test_jsonl_rows_flaws_and_spans(make: Make, folder: Path, suffix: str) -> None:
    messages = [{"role": "user", "content": paragraph(2)}, {"role": "assistant", "content": paragraph(3)}]
    lines = [
        json.dumps({"text": paragraph(1), "title": "One", "year": 1, "licence": "MIT", "tags": ["x"]}),
        '{"text": "' + paragraph(9),
        json.dumps({"messages": messages}),
        "",
        json.dumps({"title": "no text"}),
        json.dumps([1, 2]),
        json.dumps({"text": 7}),
        "[" * 100_000,
        json.dumps({"text": "half a pair \ud83d, " + paragraph(4)}),
    ]
    (folder / f"rows.jsonl{suffix}").write_bytes(COMPRESS[suffix]("\n".join(lines).encode()))
    made = make(folder, source={"licence": "CC0"})
    name = f"rows.jsonl{suffix}"
    assert [(d.source, d.licence) for d in made.kept] == [
        (f"{name}#L1", "MIT"),
        (f"{name}#L3", "CC0"),
        (f"{name}#L9", "CC0"),
    ]
    assert made.kept[0].meta == {"title": "One", "year": 1}
    assert made.kept[1].text == paragraph(2) + "\n\n" + paragraph(3)
    assert made.kept[1].meta == {"messages": messages}
    assert made.kept[2].text == "half a pair \ufffd, " + paragraph(4)
    assert [(row["source"], row["stage"], row["reason"], row["detail"]) for row in made.dropped] == [
        (f"{name}#L2", "read", "not valid JSON", "column 212: Invalid control character at"),
        (f"{name}#L5", "read", "no text field", "no field 'text'; the row has title"),
        (f"{name}#L6", "read", "no text field", "the row is a list, not an object"),
        (f"{name}#L7", "read", "no text field", "'text' is a number, not text"),
        (f"{name}#L8", "read", "not valid JSON", "nested too deeply"),
    ]
    assert made.dropped[0]["text"] == lines[1] + "\n"


def test_another_field_may_hold_the_text(make: Make, folder: Path) -> None:
    (folder / "rows.jsonl").write_text(json.dumps({"text": "no", "body": paragraph(1)}))
    assert make(folder, source={"text_field": "body"}).texts == [paragraph(1)]


def test_a_row_that_names_a_source_file_is_code(make: Make, folder: Path) -> None:
    text = "word = 'cafe\u0301'\nprint(word, 'and something more to be long enough')\n"
    rows = [{"text": text, "path": "a/b.py"}, {"text": text + "#", "path": "a/b.md"}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert make(folder).texts == sorted([text, text.replace("e\u0301", "é") + "#"])


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_json_list_is_streamed(make: Make, folder: Path, indent: int | None, encoding: str) -> None:
    rows = [{"text": paragraph(n)} for n in range(9)]
    (folder / "rows.json").write_text(json.dumps(rows, indent=indent), encoding=encoding)
    made = make(folder)
    assert [d.text for d in made.kept] == [paragraph(n) for n in range(9)]
    assert [d.source for d in made.kept][:2] == ["rows.json#R1", "rows.json#R2"]


def test_a_json_list_longer_than_its_buffer(make: Make, folder: Path) -> None:
    rows = [{"text": paragraph(n) + "é" * (n % 7) + " word" * (40_000 if n == 50 else n)} for n in range(300)]
    off = {"clean": {"prose": {"max_repeated_ngram_share": None}}}
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert [d.text for d in make(folder, **off).kept] == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("tail", "detail"),
    [
        (', {"text": ', "element 2: column"),
        (', {"text": "x"} oops', "element 3: expected ',' or ']', got 'o'"),
        ("", "the file ends inside the list"),
        ("] and more", "something follows the list"),
    ],
)
def test_a_json_list_that_breaks_keeps_what_came_before(make: Make, folder: Path, tail: str, detail: str) -> None:
    (folder / "rows.json").write_text("[" + json.dumps({"text": paragraph(1)}) + tail)
    made = make(folder)
    assert made.texts == [paragraph(1)]
    assert made.dropped[-1]["reason"] == "the rest of the file cannot be read"
    assert detail in made.dropped[-1]["detail"]


def test_json_may_be_one_object_or_lines(make: Make, folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps({"text": paragraph(1)}, indent=2))
    (folder / "lines.json").write_text("".join(json.dumps({"text": paragraph(n)}) + "\n" for n in (2, 3)))
    assert make(folder).texts == [paragraph(1), paragraph(2), paragraph(3)]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_delimited(make: Make, folder: Path, name: str, delimiter: str) -> None:
    rows = [
        ["id", "text", "note"],
        ["1", paragraph(1), "x"],
        ["2", f'two\nlines, "quoted"; and\ttabs. {paragraph(2)}', "y"],
        ["3", f"nul \0 inside {paragraph(3)}", "z"],
    ]
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
        file.write("only one field\r\n")
    made = make(folder)
    assert [d.source for d in made.kept] == [f"{name}#L2", f"{name}#L3", f"{name}#L5"]
    assert [d.text for d in made.kept] == [rows[1][1], rows[2][1], rows[3][1].replace("\0", "")]
    assert made.kept[0].meta == {"id": "1", "note": "x"}
    assert [(row["source"], row["reason"]) for row in made.dropped] == [(f"{name}#L6", "not valid CSV")]


def test_a_table_without_the_column_is_skipped_with_its_columns(make: Make, folder: Path) -> None:
    (folder / "a.csv").write_text("id,body\n1,x\n")
    pq.write_table(pa.table({"id": [1], "body": ["x"]}), folder / "b.parquet")
    (folder / "c.txt").write_text(paragraph(1))
    made = make(folder)
    assert made.skipped == {"no column of that name": 2}
    examples = made.report["files"]["skipped_by_reason"]["no column of that name"]["examples"]
    assert [e["detail"] for e in examples] == [
        "no column 'text'; the header has id, body",
        "no column 'text'; there are id, body",
    ]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_parquet_with_nested_and_odd_types(make: Make, folder: Path, suffix: str) -> None:
    table = pa.table(
        {
            "text": pa.array([paragraph(1), None, paragraph(3)], pa.large_string()),
            "messages": [None, [{"role": "user", "content": paragraph(2)}], None],
            "score": [0.5, None, float("nan")],
            "label": pa.array(["a", "b", "a"]).dictionary_encode(),
            "when": [date(2020, 1, 1)] * 3,
            "nested": [{"a": [{"b": 1}]}] * 3,
            "blob": [b"\xff\x00"] * 3,
            "licence": ["MIT", None, ""],
        }
    )
    path = folder / "a.parquet"
    pq.write_table(table, path)
    data = path.read_bytes()
    path.unlink()
    (folder / f"a.parquet{suffix}").write_bytes(COMPRESS[suffix](data))
    made = make(folder)
    assert [d.text for d in made.kept] == [paragraph(1), paragraph(2), paragraph(3)]
    assert [d.meta for d in made.kept] == [
        {"score": 0.5, "label": "a"},
        {"label": "b", "messages": [{"role": "user", "content": paragraph(2)}]},
        {"label": "a"},
    ]
    assert [d.licence for d in made.kept] == ["MIT", "unknown", "unknown"]
    assert made.kept[2].source == f"a.parquet{suffix}#R3"


def test_binary_text_columns_are_decoded(make: Make, folder: Path) -> None:
    pq.write_table(pa.table({"text": [paragraph(1).encode()]}), folder / "a.parquet")
    assert make(folder).texts == [paragraph(1)]


def test_the_main_text_of_a_page(make: Make, folder: Path) -> None:
    (folder / "a.html").write_text(HTML.format(paragraph(1) * 3, paragraph(2) * 3))
    (document,) = make(folder).kept
    assert paragraph(1) in document.text
    assert "All rights reserved" not in document.text
    assert "var x" not in document.text
    assert document.meta["title"] == "The Anger"
    assert document.meta["extraction"] == "main text"


def test_a_page_without_a_main_text_is_kept_whole(make: Make, folder: Path) -> None:
    links = "".join(f"<li><a href='{n}'>Chapter {n} of the long story of the ship</a></li>" for n in range(40))
    (folder / "a.html").write_text(f"<html><body><nav><ul>{links}</ul></nav></body></html>")
    (document,) = make(folder).kept
    assert "Chapter 0 of" in document.text
    assert "Chapter 39 of" in document.text


def test_a_page_with_nothing_to_read_is_put_aside(make: Make, folder: Path) -> None:
    (folder / "a.html").write_text("<html><body><script>alert('x')</script></body></html>")
    (folder / "b.txt").write_text(paragraph(1))
    assert make(folder).reasons == {"no text on the page": 1}


def test_visible_text_leaves_out_what_is_hidden() -> None:
    page = "<title>T</title><p>one<b>two</b> three<br>four<script>no()</script><style>no</style>&amp;<p>five"
    assert visible_text(page) == ("onetwo three\nfour&\nfive", "T", 1)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("a < b and c > d", "a < b and c > d"),
        ("<p title='a > b'>one</p><p title=it's>two", "one\ntwo"),
        ("<head><p>no end of head", "no end of head"),
        ("<script>never closed", "never closed"),
        ("one <!-- never closed", "one <!-- never closed"),
        ("<!DOCTYPE html><?xml?><P>loud</P><SCRIPT>x</Script >after", "loud\nafter"),
        ("<a href='never closed>text", "text"),
        ("one<", "one<"),
        ("AT&amp;T &copy; &#8212; &unknown;", "AT&T © — &unknown;"),
    ],
)
def test_visible_text_of_broken_pages(page: str, text: str) -> None:
    assert visible_text(page).text == text


@given(st.lists(st.sampled_from(["<", ">", "<!--", "-->", "<p ", "='", "'", "</", "script>", "<b>", "&lt;", "word"])))
def test_visible_text_of_anything(parts: list[str]) -> None:
    visible = visible_text("".join(parts))
    assert visible.depth <= len(parts)
    assert len(visible.text) <= len("".join(parts))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ROW = st.dictionaries(st.sampled_from(["text", "messages", "licence", "path", "x"]), JSON, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW | JSON, max_size=5), junk=st.binary(max_size=30))
def test_any_rows_are_read_or_put_aside(folder: Path, rows: list[Any], junk: bytes) -> None:
    junk = junk.replace(b"\n", b" ").replace(b"\0", b" ")
    lines = [json.dumps({"text": paragraph(1)}).encode(), *(json.dumps(row).encode() for row in rows), junk]
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines))
    source = Source(path=str(folder))
    (file,) = find([source], base=folder).files
    found = list(records(file, source=source, max_bytes=10_000, count=lambda _: None))
    assert found[0][0] == paragraph(1)
    assert len(found) == 1 + len(rows) + bool(junk.strip(b" \t\r"))
