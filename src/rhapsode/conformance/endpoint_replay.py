"""Asking a server what the evidence of a model answers.

A server is given texts and conversations, never ids, so one fault shows in all that follows from it. What it says is
therefore judged only where the prompt has as many tokens as it should.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rhapsode.conformance.diagnosis import Diagnosis, Kind, Mismatch
from rhapsode.conformance.differences import ROUNDED
from rhapsode.conformance.evidence import Case, Vectors
from rhapsode.conformance.readers.endpoint import Endpoint, Heard
from rhapsode.conformance.replay import DATED, FORGED, as_of_today, load_evidence, tied, told
from rhapsode.conformance.report import Figure, Report, Tally, make_report
from rhapsode.core.events import Events
from rhapsode.text.tokenizer import Tokenizer

BROKEN = re.compile("\ufffd+")
NOTES = (
    "scores of last positions: not compared: a server shows none; log-probabilities of what it says stand for them",
    "end tokens: not compared: a server does not name them",
)


def replay_endpoint(directory: Path, endpoint: Endpoint, *, events: Events | None = None) -> Report:
    """Hold a server against the evidence in `directory`.

    Raises:
        RhapsodeError: there is no evidence, it is damaged, or the server failed.
    """
    return _Replay(load_evidence(directory).vectors, Tokenizer.load(directory), endpoint).report(events or Events())


class _Replay:
    def __init__(self, vectors: Vectors, tokenizer: Tokenizer, endpoint: Endpoint) -> None:
        self._vectors, self._tokenizer, self._endpoint = vectors, tokenizer, endpoint
        self._diagnosis = Diagnosis(vectors, tokenizer)
        self._texts = [case for case in vectors.cases if case.text is not None]
        self._conversations = [
            as_of_today(case, vectors=vectors, tokenizer=tokenizer) for case in vectors.cases if case.messages
        ]
        num_spoken = sum(1 for case in (*self._texts, *self._conversations) if case.greedy)
        self._likely, self._greedy = Tally("log-probabilities", of=num_spoken), Tally("greedy text", of=num_spoken)
        self._differences: list[float] = []

    def report(self, events: Events) -> Report:
        checks = (self._ids, self._count_texts, self._count_conversations)
        tallies = list(told(checks, events=events, reader=self._endpoint.name))
        self._judge_likelihood()
        notes = (*NOTES, DATED) if self._vectors.is_dated and self._conversations else NOTES
        return make_report(self._endpoint.name, [*tallies, self._likely, self._greedy], notes)

    def _count_texts(self) -> Tally:
        return self._counts("tokens of texts", self._texts, self._complete, otherwise="merge")

    def _count_conversations(self) -> Tally:
        return self._counts("tokens of conversations", self._conversations, self._answer, otherwise="template")

    def _ids(self) -> Tally:
        tally = Tally("texts to ids", of=len(self._texts))
        for case in self._texts:
            with tally.asking(case.name):
                found = self._endpoint.encode(case.text or "")
                if self._diagnosis.forges(case, found):
                    tally.skip(FORGED)
                else:
                    tally.add(self._diagnosis.ids(case, found))
        return tally

    def _complete(self, case: Case) -> Heard:
        return self._endpoint.complete(case.text or "", max(1, len(case.greedy)))

    def _answer(self, case: Case) -> Heard:
        return self._endpoint.answer(case.messages, max(1, len(case.greedy)))

    def _counts(self, name: str, cases: Sequence[Case], ask: Callable[[Case], Heard], *, otherwise: Kind) -> Tally:
        tally = Tally(name, of=len(cases))
        apart: list[tuple[Case, int]] = []
        for case in cases:
            if not case.ids:
                tally.skip("there is nothing to go on from")
                continue
            with tally.asking(case.name):
                heard = ask(case)
                if heard.num_prompt is None:
                    tally.skip("the server does not say how many")
                elif case.is_look_alike and heard.num_prompt < len(case.ids):
                    tally.skip(FORGED)
                else:
                    apart.append((case, heard.num_prompt - len(case.ids)))
                self._judge_said(case, heard)
        kind = self._kind(apart, otherwise=otherwise)
        for case, more in apart:
            what = f"{len(case.ids)} tokens expected and {len(case.ids) + more} found"
            tally.add(Mismatch(kind, case.name, what) if more else None)
        return tally

    def _kind(self, apart: Sequence[tuple[Case, int]], *, otherwise: Kind) -> Kind:
        """A beginning that is there twice, or not at all, shifts every case by the same."""
        prefix = self._vectors.prefix
        shifts = {more for _, more in apart}
        if len(shifts) == 1 and all(case.ids[: len(prefix)] == prefix for case, _ in apart):
            (shift,) = shifts
            if shift == (len(prefix) or 1):
                return "double BOS" if prefix else "added BOS"
            if prefix and shift == -len(prefix):
                return "no BOS"
        return otherwise

    def _judge_said(self, case: Case, heard: Heard) -> None:
        if not case.greedy:
            return
        if heard.num_prompt not in (None, len(case.ids)):
            reason = "the prompt does not have as many tokens as it should"
        elif len(case.ids) > self._vectors.longest:
            reason = "the evidence goes on from the beginning of the prompt, a server from its end"
        else:
            self._judge_text(case, heard)
            return
        self._likely.skip(reason)
        self._greedy.skip(reason)

    def _judge_text(self, case: Case, heard: Heard) -> None:
        place = self._parting(case, heard.text)
        if place is None or case.gaps[place] > ROUNDED.tie:
            self._greedy.add(self._text_mismatch(case, heard, is_apart=place is not None))
        else:
            self._greedy.skip(tied(ROUNDED))
        same = len(case.greedy) if place is None else place
        pairs = list(zip(case.logprobs[:same], heard.logprobs or (), strict=False))
        if pairs:
            self._likely.compared += 1
            self._differences += [abs(one - other) for one, other in pairs]
        else:
            self._likely.skip("the server does not tell them" if heard.logprobs is None else "no token is the same")

    def _parting(self, case: Case, text: str) -> int | None:
        """The number of the first greedy token that a text does not bear out; None if it goes along to either's end."""
        expected, found = _readable(case.says), _readable(text)
        pairs = zip(expected, found, strict=False)
        first = next((number for number, (one, other) in enumerate(pairs) if one != other), None)
        if first is None:
            return None
        sizes = (len(_readable(self._tokenizer.decode(case.greedy[: n + 1]))) for n in range(len(case.greedy)))
        return next((number for number, size in enumerate(sizes) if size > first), len(case.greedy) - 1)

    def _text_mismatch(self, case: Case, heard: Heard, *, is_apart: bool) -> Mismatch | None:
        expected, found = _readable(case.says), _readable(heard.text)
        is_ended = any(token in self._vectors.stops for token in case.greedy)
        if is_apart:
            return Mismatch("greedy text", case.name, f"{found!r} is said and not {expected!r}")
        if is_ended and len(found) > len(expected):
            return Mismatch("end tokens", case.name, f"it goes on with {found[len(expected) :]!r}, where it should end")
        if heard.is_ended and not is_ended:
            return Mismatch("end tokens", case.name, f"it ends after {found!r}, where it should go on")
        if len(found) < len(expected):
            return Mismatch("greedy text", case.name, f"{found!r} is said and no more of {expected!r}")
        return None

    def _judge_likelihood(self) -> None:
        if not self._differences:
            return
        median = float(np.median(self._differences))
        self._likely.figure = Figure("median difference in nats", median, ROUNDED.divergence)
        if not median <= ROUNDED.divergence:
            what = f"log-probabilities differ by {median:.2g} at the median and {max(self._differences):.2g} at most"
            self._likely.mismatches.append(Mismatch("weights", "what it says", what))


def _readable(text: str) -> str:
    """Servers differ in a space at the beginning and in how they show half a character."""
    return BROKEN.sub("\ufffd", text).removeprefix(" ").rstrip("\ufffd")
