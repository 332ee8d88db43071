"""HTML: the main text of a page, and never less than that in silence.

trafilatura finds the main text (Barbaresi 2021). Where it finds nothing, fails, or keeps less than a tenth of what a
reader would see, the whole visible text is taken instead; `meta.extraction` says which it was and `meta.share` how much
of the visible text was kept.
"""

from collections.abc import Iterator

from rhapsode.corpus.encoding import decode
from rhapsode.corpus.readers.record import Flaw, Opened, Record, read_whole
from rhapsode.corpus.readers.visible import visible_text

NO_TEXT_ON_PAGE = "no text on the page"
_LEAST_SHARE = 0.1
# libxml2 cuts a tree off at 256 levels, without a word.
_DEEPEST_TREE = 200


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


def _main_text(page: str) -> str:
    import trafilatura

    try:
        return trafilatura.extract(page, include_comments=False, favor_recall=True, deduplicate=False) or ""
    except Exception:  # noqa: BLE001 - whatever a page does to the extractor, its visible text is still there
        return ""
