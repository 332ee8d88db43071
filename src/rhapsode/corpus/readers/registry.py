"""A suffix names a format, a format names its reader. Readers are imported when a file needs them.

A new format is one module and one line here.
"""

import importlib
from typing import NamedTuple, cast

from rhapsode.corpus.documents import Kind
from rhapsode.corpus.readers.record import Reader, RowReader


class Format(NamedTuple):
    """`reader` and `rows` are "module:function". A file that holds many documents can be read by rows."""

    name: str
    kind: Kind
    reader: str
    rows: str = ""

    @property
    def has_rows(self) -> bool:
        return bool(self.rows)


_HERE = "rhapsode.corpus.readers"

_PROSE = {
    "text": "txt text",
    "markdown": "md markdown mdx mdown qmd rmd",
    "restructured text": "rst rest",
    "asciidoc": "adoc asciidoc",
    "org": "org",
    "latex": "tex ltx",
    "troff": "man 1 2 3 4 5 6 7 8",
    "subtitles": "srt vtt",
}
_CODE = {
    "python": "py pyi pyw pyx pxd",
    "c": "c h",
    "c++": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp",
    "cuda": "cu cuh",
    "c#": "cs csx",
    "f#": "fs fsi fsx",
    "java": "java",
    "kotlin": "kt kts",
    "scala": "scala sc sbt",
    "groovy": "groovy gradle",
    "clojure": "clj cljs cljc edn",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts tsx",
    "vue": "vue",
    "svelte": "svelte",
    "css": "css scss sass less",
    "go": "go",
    "rust": "rs",
    "swift": "swift",
    "objective-c": "m mm",
    "zig": "zig",
    "nim": "nim",
    "d": "d",
    "dart": "dart",
    "ruby": "rb rake gemspec",
    "php": "php",
    "perl": "pl pm t",
    "lua": "lua",
    "r": "r",
    "julia": "jl",
    "haskell": "hs lhs",
    "ocaml": "ml mli",
    "elixir": "ex exs",
    "erlang": "erl hrl",
    "lisp": "lisp cl el scm ss rkt",
    "fortran": "f f77 f90 f95 f03 f08",
    "pascal": "pas pp",
    "ada": "adb ads",
    "assembly": "asm s",
    "verilog": "v sv svh vhd vhdl",
    "solidity": "sol",
    "shell": "sh bash zsh fish ksh",
    "powershell": "ps1 psm1 psd1",
    "batch": "bat cmd",
    "sql": "sql",
    "graphql": "graphql gql",
    "protobuf": "proto thrift",
    "terraform": "tf hcl",
    "nix": "nix",
    "cmake": "cmake",
    "make": "mk mak",
    "diff": "diff patch",
    "vim": "vim",
    "awk": "awk",
    "tcl": "tcl",
    "lean": "lean",
    "coq": "coq",
    "prolog": "pro",
    "xml": "xml xsd xsl xslt",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg conf properties",
}
_NAMES = {
    "readme": "text",
    "licence": "text",
    "license": "text",
    "copying": "text",
    "authors": "text",
    "changelog": "text",
    "changes": "text",
    "news": "text",
    "todo": "text",
    "makefile": "make",
    "gnumakefile": "make",
    "dockerfile": "docker",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "jenkinsfile": "groovy",
}
_ROWS = {
    "json": (f"{_HERE}.jsonlines:read_json", f"{_HERE}.jsonlines:json_rows"),
    "jsonl": (f"{_HERE}.jsonlines:read_jsonl", f"{_HERE}.jsonlines:jsonl_rows"),
    "ndjson": (f"{_HERE}.jsonlines:read_jsonl", f"{_HERE}.jsonlines:jsonl_rows"),
    "csv": (f"{_HERE}.delimited:read", f"{_HERE}.delimited:rows"),
    "tsv": (f"{_HERE}.delimited:read", f"{_HERE}.delimited:rows"),
    "parquet": (f"{_HERE}.columnar:read", f"{_HERE}.columnar:rows"),
}

PLAIN = Format("text", "prose", f"{_HERE}.whole:read")
FORMATS: dict[str, Format] = {
    **{suffix: Format(name, "prose", PLAIN.reader) for name, all_ in _PROSE.items() for suffix in all_.split()},
    **{suffix: Format(name, "code", PLAIN.reader) for name, all_ in _CODE.items() for suffix in all_.split()},
    **{suffix: Format("html", "prose", f"{_HERE}.web:read") for suffix in ("html", "htm", "xhtml")},
    **{suffix: Format(suffix, "prose", reader, rows) for suffix, (reader, rows) in _ROWS.items()},
}
COMPRESSIONS = {"gz": "gzip", "zst": "zstd"}


def compression_of(name: str) -> str:
    """By the last suffix: "gzip", "zstd", or "" for none."""
    return COMPRESSIONS.get(_suffix(name), "")


def without_compression(name: str) -> str:
    return name.rpartition(".")[0] if compression_of(name) else name


def format_of(name: str) -> Format | None:
    """The format of a file by its name, or None for one that is not known as text."""
    name = without_compression(name.rpartition("/")[2])
    if (suffix := _suffix(name)) in FORMATS:
        return FORMATS[suffix]
    language = _NAMES.get(name.lower())
    if language is None:
        return None
    return Format(language, "prose" if language in _PROSE else "code", PLAIN.reader)


def reader_of(format_: Format) -> Reader:
    return cast("Reader", _function(format_.reader))


def row_reader_of(format_: Format) -> RowReader:
    assert format_.has_rows
    return cast("RowReader", _function(format_.rows))


def _function(place: str) -> object:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def _suffix(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return suffix.lower() if stem else ""
