from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode.engine.pages import PageId, Pages
from rhapsode.engine.scheduler import Request, RequestId, Scheduler

PAGE_SIZE = 4
CONTEXT = 24


@st.composite
def workloads(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """(arrives at step, prompt length, answer length, which beginning it has)"""
    one = st.tuples(st.integers(0, 12), st.integers(1, 16), st.integers(1, 8), st.integers(0, 2))
    return draw(st.lists(one, min_size=1, max_size=8))


@settings(max_examples=200, deadline=None)
@given(workload=workloads(), num_pages=st.integers(CONTEXT // PAGE_SIZE, 20), budget=st.integers(3, 20))
def test_every_request_finishes_and_no_page_is_written_by_two(
    workload: list[tuple[int, int, int, int]], num_pages: int, budget: int
) -> None:
    """A model of the memory: each slot holds the token ids that it was computed for, up to and including itself."""
    pages = Pages(num_pages, page_size=PAGE_SIZE)
    scheduler = Scheduler(pages, tokens_per_step=budget, max_requests=3)
    memory: dict[tuple[PageId, int], tuple[int, ...]] = {}
    goals: dict[RequestId, int] = {}
    arrivals = sorted(enumerate(workload), key=lambda pair: pair[1][0])
    unfinished = 0
    for clock in range(2000):
        while arrivals and arrivals[0][1][0] <= clock:
            number, (_, prompt, answer, kind) = arrivals.pop(0)
            goals[RequestId(number)] = prompt + answer
            scheduler.add(Request(RequestId(number), [kind] * prompt, b"root"))
            unfinished += 1
        turns = scheduler.next()
        assert bool(turns) == bool(unfinished)
        assert sum(turn.stop - turn.start for turn in turns) <= budget
        for request, start, stop in turns:
            for place in range(start):
                slot = (request.pages[place // PAGE_SIZE], place % PAGE_SIZE)
                assert memory[slot] == tuple(request.ids[: place + 1])
            for place in range(start, stop):
                memory[request.pages[place // PAGE_SIZE], place % PAGE_SIZE] = tuple(request.ids[: place + 1])
        written = [page for request, start, _ in turns for page in request.pages[start // PAGE_SIZE :]]
        assert all(pages.owners(page) == 1 for page in written)
        assert len(written) == len({*written})
        for turn in turns:
            scheduler.done(turn)
            request = turn.request
            if turn.stop == len(request.ids):
                request.ids.append(len(request.ids) % 3)
                if len(request.ids) == goals[request.id]:
                    scheduler.remove(request)
                    unfinished -= 1
        if not unfinished and not arrivals:
            break
    assert unfinished == 0
    assert pages.num_free == num_pages


def test_writing_goes_on_while_a_long_prompt_is_read() -> None:
    scheduler = Scheduler(Pages(64, page_size=4), tokens_per_step=8, max_requests=4)
    writer = Request(RequestId(0), [1], b"")
    scheduler.add(writer)
    for turn in scheduler.next():
        scheduler.done(turn)
    writer.ids.append(2)
    scheduler.add(Request(RequestId(1), [5] * 30, b""))
    spans = []
    for _ in range(5):
        turns = scheduler.next()
        spans.append([(turn.request.id, turn.start, turn.stop) for turn in turns])
        for turn in turns:
            scheduler.done(turn)
        writer.ids.append(2)
    assert spans[0] == [(0, 1, 2), (1, 0, 7)]
    assert spans[3] == [(0, 4, 5), (1, 21, 28)]
    assert spans[4] == [(0, 5, 6), (1, 28, 30)]


def test_only_requests_of_one_root_share_pages() -> None:
    pages = Pages(64, page_size=4)
    scheduler = Scheduler(pages, tokens_per_step=64, max_requests=8)
    for number, root in enumerate((b"a", b"a", b"b")):
        request = Request(RequestId(number), [7] * 10, root)
        scheduler.add(request)
        (turn,) = scheduler.next()
        scheduler.done(turn)
        assert request.num_cached == (8 if number == 1 else 0)
        scheduler.remove(request)


def test_the_youngest_gives_way() -> None:
    scheduler = Scheduler(Pages(4, page_size=2), tokens_per_step=8, max_requests=2)
    old, young = Request(RequestId(0), [1, 2, 3, 4], b""), Request(RequestId(1), [5, 6, 7, 8], b"")
    scheduler.add(old)
    scheduler.add(young)
    for turn in scheduler.next():
        scheduler.done(turn)
        turn.request.ids.append(9)
    assert [turn.request for turn in scheduler.next()] == [old]
    assert list(scheduler.waiting) == [young]
    assert young.pages == []
