"""HTML: the main text of a page, and never less than that in silence.

trafilatura finds the main text (Barbaresi 2021). Where it finds nothing, fails, or keeps less than a tenth of what a
reader would see, the whole visible text is taken instead; `meta.extraction` says which it was and `meta.share` how much
of the visible text was kept.
"""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import NamedTuple

from rhapsode.corpus.encoding import decode
from rhapsode.corpus.readers.record import Flaw, Opened, Record, read_whole

NO_TEXT_ON_PAGE = "no text on the page"
_LEAST_SHARE = 0.1
# libxml2 cuts a tree off at 256 levels, without a word.
_DEEPEST_TREE = 200
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
        "p",
        "li",
        "dt",
        "dd",
        "tr",
        "td",
        "th",
        "option",
    ]
)
_HIDDEN = frozenset(["script", "style", "noscript", "template", "svg", "head"])
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "cite",
        "code",
        "em",
        "font",
        "i",
        "kbd",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "time",
        "u",
        "var",
    ]
)


def read(opened: Opened) -> Iterator[Record | Flaw]:
    data = read_whole(opened)
    if isinstance(data, Flaw):
        yield data
        return
    page, encoding = decode(data, name=opened.name)
    visible, title, depth = visible_text(page)
    if not visible:
        yield Flaw(NO_TEXT_ON_PAGE, "", "", page[:4000])
        return
    main = _main_text(page) if depth <= _DEEPEST_TREE else ""
    share = len("".join(main.split())) / len("".join(visible.split()))
    is_main = share >= _LEAST_SHARE
    meta = {
        "title": title,
        "extraction": "main text" if is_main else "all visible text",
        "share": round(min(share, 1.0), 3) if is_main else 1.0,
        **({} if encoding == "utf-8" else {"encoding": encoding}),
    }
    yield Record(main if is_main else visible, opened.kind, "", "", meta)


class Visible(NamedTuple):
    """What a browser would show, one block a line; the title; how deep the tags are nested."""

    text: str
    title: str
    depth: int


def visible_text(page: str) -> Visible:
    parser = _Visible()
    parser.feed(page)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.pieces).split("\n"))
    title = " ".join("".join(parser.title).split())
    return Visible("\n".join(line for line in lines if line), title, parser.deepest)


def _main_text(page: str) -> str:
    import trafilatura

    try:
        return trafilatura.extract(page, include_comments=False, favor_recall=True, deduplicate=False) or ""
    except Exception:  # noqa: BLE001 - whatever a page does to the extractor, its visible text is still there
        return ""


class _Visible(HTMLParser):
    """Collects text. It keeps no tree, so no nesting is too deep for it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title: list[str] = []
        self._hidden: list[str] = []
        self.deepest = 0
        self._depth = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._in_title = tag == "title"
        if tag not in _VOID:
            self._depth += 1
            self.deepest = max(self.deepest, self._depth)
        if tag == "body":
            self._hidden.clear()
        elif tag in _HIDDEN:
            self._hidden.append(tag)
        if tag not in _INLINE and tag not in _HIDDEN:
            self.pieces.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag not in _VOID:
            self._depth -= 1
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        if tag not in _INLINE and tag not in _HIDDEN:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._hidden:
            self.pieces.append(data)
