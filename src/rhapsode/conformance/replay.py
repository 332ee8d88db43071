"""Asking a reader everything that the evidence of a model answers.

Texts and conversations become ids, ids become scores, scores become tokens: each step is given what the evidence says
of the one before it, so a fault shows where it is made and nowhere else.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rhapsode.conformance.diagnosis import Diagnosis, Mismatch
from rhapsode.conformance.differences import Bounds, Difference, compare
from rhapsode.conformance.evidence import Case, Evidence, Vectors, read_evidence
from rhapsode.conformance.readers.reader import Reader
from rhapsode.conformance.report import Figure, Report, Tally, make_report
from rhapsode.conformance.words import split, words
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.text.chat import render
from rhapsode.text.tokenizer import Tokenizer

FORGED = "this reader takes what users write for special tokens where it is spelled like them"
DATED = "the chat template writes today's date: conversations were compared as of today"


def tied(bounds: Bounds) -> str:
    """Why greedy text that parts is no mismatch."""
    return f"it went another way where two tokens were within {bounds.tie:g} nats"


def load_evidence(directory: Path) -> Evidence:
    """The evidence that a model directory carries.

    Raises:
        RhapsodeError: there is none, or it is damaged.
    """
    evidence = read_evidence(directory)
    if evidence is None:
        raise RhapsodeError(
            f"{directory} carries no evidence (conformance/): there is nothing to replay",
            "train or pull the model again; models made by this version carry it",
        )
    return evidence


def replay(directory: Path, reader: Reader, *, bounds: Bounds, events: Events | None = None) -> Report:
    """Hold a reader against the evidence in `directory`.

    Raises:
        RhapsodeError: there is no evidence, it is damaged, or the reader failed.
    """
    return _Replay(load_evidence(directory), Tokenizer.load(directory), reader, bounds).report(events or Events())


def as_of_today(case: Case, *, vectors: Vectors, tokenizer: Tokenizer) -> Case:
    """A conversation whose template writes the date is held to what our own rendering makes of it now."""
    if not vectors.is_dated or not case.messages:
        return case
    ids = render(case.messages, tokenizer=tokenizer, add_generation_prompt=True).ids
    if tuple(ids) == case.ids:
        return case
    return case.model_copy(update={"ids": tuple(ids), "greedy": (), "logprobs": (), "gaps": ()})


def told(checks: Sequence[Callable[[], Tally]], *, events: Events, reader: str) -> Iterator[Tally]:
    """Make one check after the other, with progress."""
    for done, check in enumerate(checks):
        events.emit("progress", stage="replay", done=done, total=len(checks), unit="checks", note=f"in {reader}")
        yield check()
    events.emit("progress", stage="replay", done=len(checks), total=len(checks), unit="checks", note=f"in {reader}")


class _Replay:
    def __init__(self, evidence: Evidence, tokenizer: Tokenizer, reader: Reader, bounds: Bounds) -> None:
        self._evidence, self._vectors = evidence, evidence.vectors
        self._tokenizer, self._reader, self._bounds = tokenizer, reader, bounds
        self._diagnosis = Diagnosis(evidence.vectors, tokenizer)
        self._notes: list[str] = []
        self._are_texts_wrong = False

    def report(self, events: Events) -> Report:
        checks = (self._texts, self._words, self._conversations, self._scores, self._greedy, self._stops)
        tallies = list(told(checks, events=events, reader=self._reader.name))
        return make_report(self._reader.name, tallies, self._notes)

    def _texts(self) -> Tally:
        cases = [case for case in self._vectors.cases if case.text is not None]
        tally = Tally("texts to ids", of=len(cases))
        for case in cases:
            with tally.asking(case.name, failure="tokens"):
                self._judge(tally, case, self._reader.encode(case.text or ""))
        self._are_texts_wrong = bool(tally.mismatches)
        return tally

    def _words(self) -> Tally:
        """Where texts differ already, thousands of words would say the same again."""
        expected, found = list(split(self._vectors.words)), words(self._tokenizer)
        tally = Tally("words of the vocabulary", of=sum(map(bool, found)))
        if len(expected) != len(found):
            what = f"{self._vectors.vocabulary} tokens expected, {self._tokenizer.vocab_size} found"
            tally.add(Mismatch("tokens", "the vocabulary", what))
            return tally
        for digits, word in zip(expected, found, strict=True):
            if word and self._are_texts_wrong:
                tally.skip("the texts differ already")
            elif word:
                with tally.asking(f"word {word!r}", failure="tokens"):
                    tally.add(self._diagnosis.word(word, self._reader.encode(word), digits=digits))
        return tally

    def _conversations(self) -> Tally:
        cases = [case for case in self._vectors.cases if case.messages]
        tally = Tally("conversations to ids", of=len(cases))
        for case in cases:
            with tally.asking(case.name, failure="template"):
                found = self._reader.render(case.messages, add_generation_prompt=True)
                self._judge(tally, as_of_today(case, vectors=self._vectors, tokenizer=self._tokenizer), found)
        if self._vectors.is_dated and cases:
            self._notes.append(DATED)
        return tally

    def _judge(self, tally: Tally, case: Case, found: Sequence[int]) -> None:
        if not self._bounds.guards_content and self._diagnosis.forges(case, found):
            tally.skip(FORGED)
        else:
            tally.add(self._diagnosis.ids(case, found))

    def _scores(self) -> Tally:
        scored = list(self._evidence.scored())
        tally = Tally("scores of last positions", of=len(scored))
        found: list[tuple[Case, Difference]] = []
        for case, rows in scored:
            with tally.asking(case.name, failure="weights"):
                prompt = self._vectors.prompt(case)
                scores = self._reader.all_scores(prompt, first=len(prompt) - len(rows.ids))
                found.append((case, compare(rows, scores[:, : self._vectors.vocabulary])))
        if self._bounds.score is None:
            self._judge_divergence(tally, found, most=self._bounds.divergence)
        else:
            self._judge_scores(tally, found, most=self._bounds.score)
        return tally

    def _judge_scores(self, tally: Tally, found: Sequence[tuple[Case, Difference]], *, most: float) -> None:
        for case, difference in sorted(found, key=lambda pair: -float(pair[1].scores.max())):
            worst = float(difference.scores.max())
            what = f"a score differs by {worst:.3g}, which may be {most:g}"
            tally.add(None if worst <= most else Mismatch("weights", case.name, what))
        if found:
            largest = max(float(difference.scores.max()) for _, difference in found)
            tally.figure = Figure("largest difference", largest, most)
        # a prompt no longer than its rows has its first token among them, which sees only itself
        alone = [d.scores[0] for case, d in found if len(self._vectors.prompt(case)) == len(d.scores)]
        if tally.mismatches and alone and max(alone) <= most:
            self._notes.append(
                "a token alone gets the scores it should and one that sees others does not: see the positions (rope, "
                "window) in config.json, and the weights of queries and keys"
            )

    def _judge_divergence(self, tally: Tally, found: Sequence[tuple[Case, Difference]], *, most: float) -> None:
        tally.compared += len(found)
        if not found:
            return
        median = float(np.median(np.concatenate([difference.divergences for _, difference in found])))
        tally.figure = Figure("median divergence in nats", median, most)
        if not median <= most:
            worst, difference = max(found, key=lambda pair: float(pair[1].divergences.max()))
            what = (
                f"scores diverge by {float(difference.divergences.max()):.3g} nats, which may be {most:g} at the median"
            )
            tally.mismatches.append(Mismatch("weights", worst.name, what))

    def _greedy(self) -> Tally:
        cases = [case for case in self._vectors.cases if case.greedy]
        tally = Tally("greedy text", of=len(cases))
        for case in cases:
            with tally.asking(case.name, failure="greedy text"):
                found = self._reader.greedy(self._vectors.prompt(case), len(case.greedy))
                pairs = enumerate(zip(case.greedy, found, strict=True))
                place = next((number for number, (one, other) in pairs if one != other), None)
                if place is not None and found[place] >= self._vectors.vocabulary:
                    tally.skip("this reader may say ids that no token has, where the model has rows for them")
                elif place is not None and case.gaps[place] <= self._bounds.tie:
                    tally.skip(tied(self._bounds))
                else:
                    tally.add(None if place is None else self._greedy_mismatch(case, found, place))
        return tally

    def _greedy_mismatch(self, case: Case, found: Sequence[int], place: int) -> Mismatch:
        one, other = (self._diagnosis.show(tokens[place]) for tokens in (case.greedy, found))
        what = f"token {place} is {other} and not {one}, which was ahead by {case.gaps[place]:.2g} nats"
        return Mismatch("greedy text", case.name, what)

    def _stops(self) -> Tally:
        tally = Tally("end tokens", of=1)
        with tally.asking("where an answer ends", failure="end tokens"):
            expected, found = set(self._vectors.stops), set(self._reader.stops())
            is_right = expected <= found if self._bounds.adds_ends else expected == found
            what = f"{self._names(expected)} expected, {self._names(found)} found"
            tally.add(None if is_right else Mismatch("end tokens", "where an answer ends", what))
            if is_right and found - expected:
                self._notes.append(f"end tokens: this reader also ends at {self._names(found - expected)}")
        return tally

    def _names(self, tokens: set[int]) -> str:
        return ", ".join(f"{token} ({self._diagnosis.show(token)})" for token in sorted(tokens)) or "none"
