"""The text that a browser would show: one pass over the tags, no tree.

No page is too deep or too broken for it, and it takes time in proportion to the page: what has once been looked for and
not found is not looked for again. What is never closed hides nothing.
"""

import html
import re
from typing import NamedTuple

# Names between spaces.
_VOID = " area base br col embed hr img input link meta param source track wbr "
_INLINE = " a abbr b bdi bdo cite code em font i kbd mark q s samp small span strong sub sup time u var "
_END_MAY_BE_LEFT_OUT = " p li dt dd tr td th thead tbody tfoot option html head body "
_HIDDEN = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "noscript", "template", "svg", "iframe", "title")
}
_TAG = re.compile("<(/?)([a-zA-Z][a-zA-Z0-9:-]*)")
_END_OR_VALUE = re.compile(r"""=\s{0,9}(["'])|>""")


class Visible(NamedTuple):
    """What a browser would show, one block a line; the title; how deep the tags are nested."""

    text: str
    title: str
    depth: int


def visible_text(page: str) -> Visible:
    scan = _Scan(page)
    scan.run()
    lines = (" ".join(line.split()) for line in "".join(scan.pieces).split("\n"))
    return Visible("\n".join(line for line in lines if line), " ".join(scan.title.split()), scan.deepest)


class _Scan:
    def __init__(self, page: str) -> None:
        self.pieces: list[str] = []
        self.title = ""
        self.deepest = 0
        self._page = page
        self._depth = 0
        self._absent: set[str] = set()

    def run(self) -> None:
        at = 0
        while (start := self._find("<", at)) >= 0:
            self._add(at, start)
            at = self._markup(start)
            if at < 0:
                self.pieces.append("<")
                at = start + 1
        self._add(at, len(self._page))

    def _markup(self, start: int) -> int:
        """Where the markup at `start` ends, or -1 when it is only a "<"."""
        if match := _TAG.match(self._page, start):
            end = self._end_of_tag(match.end())
            return self._tag(match[2].lower(), end, is_end=bool(match[1])) if end >= 0 else -1
        if self._page.startswith("<!--", start):
            end = self._find("-->", start + 4)
            return end + 3 if end >= 0 else -1
        if self._page.startswith(("<!", "<?"), start):
            return self._find(">", start) + 1 or -1
        return -1

    def _tag(self, name: str, end: int, *, is_end: bool) -> int:
        """Note a tag that ends at `end`; a hidden element is passed over as a whole."""
        if f" {name} " not in _VOID + _END_MAY_BE_LEFT_OUT:
            self._depth = max(self._depth - 1, 0) if is_end else self._depth + 1
            self.deepest = max(self.deepest, self._depth)
        if name not in _HIDDEN:
            if f" {name} " not in _INLINE:
                self.pieces.append("\n")
            return end
        if is_end or name in self._absent:
            return end
        close = _HIDDEN[name].search(self._page, end)
        behind = self._find(">", close.end()) + 1 if close else 0
        if close is None or not behind:
            self._absent.add(name)
            return end
        self._depth = max(self._depth - 1, 0)
        if name == "title" and not self.title:
            self.title = html.unescape(self._page[end : close.start()])
        return behind

    def _end_of_tag(self, at: int) -> int:
        """Behind the ">" that ends a tag; one inside a quoted value does not."""
        while "tag" not in self._absent and (match := _END_OR_VALUE.search(self._page, at)):
            if match[1] is None:
                return match.end()
            close = self._find(match[1], match.end())
            at = close + 1 if close >= 0 else match.end()
        self._absent.add("tag")
        return self._find(">", at) + 1 or -1

    def _find(self, what: str, at: int) -> int:
        if what in self._absent:
            return -1
        found = self._page.find(what, at)
        if found < 0:
            self._absent.add(what)
        return found

    def _add(self, start: int, end: int) -> None:
        if start < end:
            self.pieces.append(html.unescape(self._page[start:end]))
