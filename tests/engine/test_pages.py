from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rhapsode.engine.pages import PageId, Pages, chain

COUNT = 6


class Ownership(RuleBasedStateMachine):
    """Random takes, shares and releases against a plain list of who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(COUNT, page_size=4)
        self.held: list[PageId] = []
        self.named: dict[PageId, bytes] = {}

    @rule()
    def take(self) -> None:
        if self.pages.num_free == 0:
            with pytest.raises(KeyError):
                self.pages.take()
            return
        page = self.pages.take()
        assert page not in self.held
        self.named.pop(page, None)
        self.held.append(page)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.held:
            page = data.draw(st.sampled_from(self.held))
            self.held.remove(page)
            self.pages.release(page)

    @rule(data=st.data(), name=st.binary(min_size=1, max_size=1))
    def remember(self, data: st.DataObject, name: bytes) -> None:
        if self.held and name not in self.named.values():
            page = data.draw(st.sampled_from(self.held))
            if page not in self.named:
                self.pages.remember(page, name)
                self.named[page] = name

    @rule(data=st.data())
    def find_and_share(self, data: st.DataObject) -> None:
        if self.named:
            page, name = data.draw(st.sampled_from(sorted(self.named.items())))
            assert self.pages.find(name) == page
            self.pages.share(page)
            self.held.append(page)

    @invariant()
    def every_page_is_owned_as_often_as_it_is_held(self) -> None:
        counts = Counter(self.held)
        assert all(self.pages.owners(PageId(page)) == counts[PageId(page)] for page in range(COUNT))
        assert self.pages.num_free == COUNT - len(counts)

    def teardown(self) -> None:
        for page in self.held:
            self.pages.release(page)
        assert self.pages.num_free == COUNT


TestOwnership = Ownership.TestCase


def test_blank_pages_are_taken_before_known_ones_and_known_ones_oldest_first() -> None:
    pages = Pages(3, page_size=4)
    first, second, blank = pages.take(), pages.take(), pages.take()
    pages.remember(first, b"1")
    pages.remember(second, b"2")
    for page in (second, first, blank):
        pages.release(page)
    assert [pages.take() for _ in range(3)] == [blank, second, first]
    assert pages.find(b"1") is None
    assert pages.find(b"2") is None


@given(
    st.lists(st.integers(0, 2**40), min_size=1),
    st.lists(st.integers(0, 2**40), min_size=1),
    st.binary(max_size=64),
    st.binary(max_size=64),
)
def test_a_name_depends_on_the_tokens_and_on_all_before_them(
    left: list[int], right: list[int], parent: bytes, other: bytes
) -> None:
    assert (chain(parent, left) == chain(other, right)) == ((parent, left) == (other, right))
