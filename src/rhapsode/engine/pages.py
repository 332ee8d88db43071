"""Paged key-value memory: who owns which page, and which pages still hold a known beginning.

A page holds `page_size` tokens of every layer. Requests own lists of pages; full pages may be shared. A full page is
known by the hash of everything up to its end, so a request that begins alike finds it. A released page keeps what it
holds until it is taken again: blank pages go first, then the least recently used (Kwon et al. 2023, PagedAttention).
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import NewType

PageId = NewType("PageId", int)


def chain(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a full page: a hash of its tokens and of the name of the page before it."""
    return hashlib.blake2b(array("q", tokens).tobytes(), key=parent, digest_size=32).digest()


class Pages:
    """Reference counts, a free list with every operation O(1), and the names of full pages."""

    def __init__(self, count: int, *, page_size: int) -> None:
        self.count = count
        self.page_size = page_size
        self._owners = [0] * count
        self._free = OrderedDict[PageId, None]((PageId(page), None) for page in range(count))
        self._names: dict[PageId, bytes] = {}
        self._known: dict[bytes, PageId] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    def owners(self, page: PageId) -> int:
        return self._owners[page]

    def take(self) -> PageId:
        """The least recently used free page. Forgets what it held. `KeyError` when there is none."""
        page, _ = self._free.popitem(last=False)
        self.forget(page)
        self._owners[page] = 1
        return page

    def share(self, page: PageId) -> None:
        """One more owner. A free page that was found by `find` becomes owned again."""
        self._free.pop(page, None)
        self._owners[page] += 1

    def release(self, page: PageId) -> None:
        """One owner less. The last owner leaves the page free, its content still to be found."""
        assert self._owners[page] > 0, f"page {page} has no owner"
        self._owners[page] -= 1
        if self._owners[page] == 0:
            self._free[page] = None
            if page not in self._names:
                self._free.move_to_end(page, last=False)

    def remember(self, page: PageId, name: bytes) -> None:
        """The page is full and holds what `name` stands for. The first page of a name stays the one that is found."""
        if name not in self._known:
            self._known[name] = page
            self._names[page] = name

    def find(self, name: bytes) -> PageId | None:
        """The page that holds what `name` stands for; the caller must `share` it before anything is taken."""
        return self._known.get(name)

    def forget(self, page: PageId) -> None:
        """Nobody finds this page any more."""
        name = self._names.pop(page, None)
        if name is not None:
            del self._known[name]
