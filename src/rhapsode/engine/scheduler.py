"""Which tokens of which requests are computed in the next step. Free of torch.

A request is a list of token ids of which some already have keys and values in pages. A step gives tokens to requests
under a budget; reading a prompt and writing an answer are the same thing, only that the one needs many tokens and the
other one. When pages run out the youngest request gives its pages back and is computed again later; the
oldest can always finish, because one request alone fits. So nothing waits for ever.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

from rhapsode.engine.pages import PageId, Pages, chain

RequestId = NewType("RequestId", int)


@dataclass(slots=True, eq=False)
class Request:
    """What the scheduler knows of a request.

    Attributes:
        ids: the prompt and what was generated so far.
        root: where its hash chain starts; only requests of one root share pages.
        use_cache: false when every token must be computed, to be scored.
        num_computed: how many of `ids` have keys and values in `pages`.
        num_cached: how many of them were found when the request first ran.
        names: the hash chain over the full pages of `ids`, as far as it was needed.
    """

    id: RequestId
    ids: list[int]
    root: bytes
    use_cache: bool = True
    num_computed: int = 0
    num_cached: int | None = None
    pages: list[PageId] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)


class Turn(NamedTuple):
    """`request` computes the tokens start .. stop of its ids in this step."""

    request: Request
    start: int
    stop: int


class Scheduler:
    """Requests wait, run and leave. Owns the page lists of all running requests."""

    def __init__(self, pages: Pages, *, tokens_per_step: int, max_requests: int) -> None:
        assert tokens_per_step >= max_requests, "every running request needs a token a step"
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._pages = pages
        self._tokens_per_step = tokens_per_step
        self._max_requests = max_requests

    def add(self, request: Request) -> None:
        self.waiting.append(request)

    def next(self) -> list[Turn]:
        """The turns of the next step; takes pages for them. Empty only when no request is left."""
        decoding = sum(len(request.ids) - request.num_computed == 1 for request in self.running)
        budget = self._tokens_per_step - decoding
        turns: list[Turn] = []
        num_running = len(self.running)
        for index, request in enumerate(list(self.running)):
            if index >= len(self.running):
                break  # it and all younger ones gave way
            need = len(request.ids) - request.num_computed
            num_tokens = need if need == 1 else min(need, budget)
            if num_tokens and self._reserve(request, num_tokens):
                turns.append(_turn(request, num_tokens))
                budget -= num_tokens if need > 1 else 0
        if len(self.running) == num_running:
            self._admit(turns, budget)
        return turns

    def _admit(self, turns: list[Turn], budget: int) -> None:
        """Let waiting requests run, oldest first, while there is budget and their whole text so far fits."""
        while self.waiting and budget > 0 and len(self.running) < self._max_requests:
            request = self.waiting[0]
            self._adopt(request)
            if not self._fits(request, len(request.ids)):
                self._release(request)
                return
            self.running.append(self.waiting.popleft())
            if request.num_cached is None:
                request.num_cached = request.num_computed
            num_tokens = min(len(request.ids) - request.num_computed, budget)
            self._reserve(request, num_tokens)
            turns.append(_turn(request, num_tokens))
            budget -= num_tokens

    def done(self, turn: Turn) -> None:
        """The keys and values of a turn are in its pages; full pages may now be found by others."""
        request = turn.request
        request.num_computed = turn.stop
        for index in range(turn.start // self._pages.page_size, turn.stop // self._pages.page_size):
            self._pages.remember(request.pages[index], self._name(request, index))

    def remove(self, request: Request) -> None:
        """The request leaves, wherever it is."""
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        self._release(request)

    def _reserve(self, request: Request, num_tokens: int) -> bool:
        """Take the pages that `num_tokens` more tokens need, from younger requests if it must be."""
        while not self._fits(request, request.num_computed + num_tokens):
            youngest = self.running.pop()
            self._release(youngest)
            self.waiting.appendleft(youngest)
            if youngest is request:
                return False
        while len(request.pages) * self._pages.page_size < request.num_computed + num_tokens:
            request.pages.append(self._pages.take())
        return True

    def _fits(self, request: Request, num_tokens: int) -> bool:
        num_pages = -(-num_tokens // self._pages.page_size)
        return num_pages - len(request.pages) <= self._pages.num_free

    def _adopt(self, request: Request) -> None:
        """Share the pages that already hold the beginning. The last token is always computed: its scores are needed."""
        if not request.use_cache:
            return
        for index in range((len(request.ids) - 1) // self._pages.page_size):
            page = self._pages.find(self._name(request, index))
            if page is None:
                break
            self._pages.share(page)
            request.pages.append(page)
        request.num_computed = len(request.pages) * self._pages.page_size

    def _release(self, request: Request) -> None:
        """Last pages first, so that they are also taken first and the beginning stays longest."""
        for page in reversed(request.pages):
            self._pages.release(page)
        request.pages.clear()
        request.num_computed = 0

    def _name(self, request: Request, index: int) -> bytes:
        size = self._pages.page_size
        while len(request.names) <= index:
            start = len(request.names) * size
            parent = request.names[-1] if request.names else request.root
            request.names.append(chain(parent, request.ids[start : start + size]))
        return request.names[index]


def _turn(request: Request, num_tokens: int) -> Turn:
    return Turn(request, request.num_computed, request.num_computed + num_tokens)
