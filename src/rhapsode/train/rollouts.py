"""Answers that the model samples while it is trained, laid out like examples: a prompt is computed once.

The trainer's own model answers in place, through the engine that will serve it: there is no copy of its weights and no
second implementation of it. Who draws what follows from the seed, the step's place, the prompt and the answer's number
alone, so a run that was killed and resumed samples the same answers.

What the answers are laid out as is learned from once, before the weights move: training is exactly on its own policy.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rhapsode.core.errors import PlanRefused
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.example import example_of
from rhapsode.corpus.packing import NO_TARGET, Packing, Tree, batch, pack_trees
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.engine.completion import Completion
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.answers import AsTrained
from rhapsode.evaluate.items import Item, item_of
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.loader import order
from rhapsode.train.objective import Batch, to_batch
from rhapsode.train.plan import TrainPlan

AT_ONCE = 128
"""Answers that are written at the same time: more fill products no better, and need more room for keys and values."""
READ_AT_ONCE = 512
PAGE = 8
"""Tokens whose keys and values are shared: prompts of one template begin alike, and may be short."""


class Asking(NamedTuple):
    """A step asks so many `prompts`, each for so many `answers` of at most `max_tokens`, at a `temperature`."""

    prompts: int
    answers: int
    max_tokens: int
    temperature: float


class Sampled(NamedTuple):
    """An answer: its ids, with the one that ended it, and its text. `is_cut`: it reached the most tokens unended."""

    ids: list[int]
    text: str
    is_cut: bool


class Group(NamedTuple):
    """A question, its prompt, and the model's answers."""

    item: Item
    prompt: list[int]
    answers: list[Sampled]


class Answerer:
    """A model that is being trained, asked as it was trained and as it will be served.

    Args:
        stops: ids that end an answer.
        context: tokens of a prompt and its answer together, at most.
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer, *, stops: Sequence[int], context: int) -> None:
        self._model, self._tokenizer, self._context = model, tokenizer, context
        self._stops, self._prompts = frozenset(stops), AsTrained(tokenizer)

    @property
    def pad(self) -> int:
        return self._tokenizer.pad

    @property
    def device(self) -> torch.device:
        return self._model.embedding.weight.device

    def prompt(self, item: Item) -> list[int]:
        return self._prompts(item).ids

    def __call__(self, asked: Sequence[tuple[Sequence[int], Sampling]]) -> list[Sampled]:
        """The answers to prompts, in their order, with the weights as they are.

        Raises:
            RhapsodeError: a prompt leaves no room for an answer, or the model fails on one.
        """
        was_training = self._model.training
        try:
            with torch.compiler.set_stance("force_eager"):  # blocks are compiled for training rows, if they are
                return self._answer(asked)
        finally:
            self._model.train(was_training)

    def _answer(self, asked: Sequence[tuple[Sequence[int], Sampling]]) -> list[Sampled]:
        """A new engine each time: what another has cached was computed by weights that have moved since."""
        at_once = max(1, min(AT_ONCE, len(asked)))
        config = EngineConfig(
            context=self._context, max_requests=at_once, tokens_per_step=max(READ_AT_ONCE, at_once), page_size=PAGE
        )
        engine = Engine(self._model, config=config, stop_ids=self._stops, num_ids=self._tokenizer.vocab_size)
        written = [Completion(self._tokenizer) for _ in asked]
        ids: list[list[int]] = [[] for _ in asked]
        texts, is_cut = [""] * len(asked), [False] * len(asked)
        prompts, samplings = [prompt for prompt, _ in asked], [sampling for _, sampling in asked]
        for index, output in engine.generate(prompts, samplings):
            texts[index] += written[index].push(output).text
            if output.scored is not None:
                ids[index].append(output.scored.token)
            is_cut[index] = output.finish_reason == "length"
        return [Sampled(*one) for one in zip(ids, texts, is_cut, strict=True)]


def answerer(plan: TrainPlan, model: Decoder, tokenizer: Tokenizer) -> Answerer:
    """The model that the plan trains."""
    return Answerer(model, tokenizer, stops=plan.stops, context=plan.context)


class Rollouts:
    """Batches of the model's own answers to `items`, in a permuted order; `seed` is that of the order and the draws."""

    def __init__(self, answerer: Answerer, items: Sequence[Item], *, asking: Asking, seed: int) -> None:
        self._answerer, self._items, self._asking, self._seed = answerer, items, asking, seed
        self.measures: Mapping[str, float] = {}

    def rows_of(self, place: int) -> list[int]:
        """The prompts of a step, by number."""
        return order(place, count=self._asking.prompts, total=len(self._items), seed=self._seed)

    def sample(self, place: int) -> list[Group]:
        """The answers of a step, with the weights as they are."""
        return self.ask(place, [self._items[row] for row in self.rows_of(place)])

    def ask(self, place: int, items: Sequence[Item]) -> list[Group]:
        """The answers of a step that asks these."""
        begin, (_, answers, most, temperature) = time.perf_counter(), self._asking
        prompts = [self._answerer.prompt(item) for item in items]
        # the first answers of all prompts before the second ones: by then what prompts begin with is known
        asked = [
            (prompt, Sampling(max_tokens=most, temperature=temperature, seed=self._drawn(place, item, number)))
            for number in range(answers)
            for item, prompt in zip(items, prompts, strict=True)
        ]
        found = self._answerer(asked)
        groups = [Group(*one, found[i :: len(items)]) for i, one in enumerate(zip(items, prompts, strict=True))]
        self.measures = {
            "answer_tokens": sum(len(one.ids) for one in found) / len(found),
            "cut": sum(one.is_cut for one in found) / len(found),
            "sampling_seconds": time.perf_counter() - begin,
        }
        return groups

    def __call__(self, place: int) -> Batch:
        return self.lay_out(self.sample(place))

    def lay_out(self, groups: Sequence[Group], *, advantages: Sequence[Sequence[float]] | None = None) -> Batch:
        """As the function of this name."""
        return lay_out(groups, pad=self._answerer.pad, device=self._answerer.device, advantages=advantages)

    def _drawn(self, place: int, item: Item, number: int) -> int:
        key = f"{self._seed}:{place}:{item.id}:{number}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def items_of(corpus: Path, split: TokenSplit, packing: Packing, *, name: str) -> list[Item]:
    """What the packed examples of the split called `name` ask; those that ask for nothing in words are left out.

    Raises:
        PlanRefused: all of them are.
    """
    packed = {split.document_id(int(index)) for index in np.unique(packing.piece_document)}
    documents = [document for document in iter_documents(corpus, split=name) if document.id in packed]
    made = [item_of(example_of(document), name=document.id) for document in documents]
    items = [item for item in made if item is not None]
    if not items:
        raise PlanRefused(
            f"none of the {len(made):,} examples for {name} asks for an answer in words",
            "give prompts with the answers that are wanted",
        )
    return items


def longest_prompt(split: TokenSplit, packing: Packing) -> int:
    """Tokens before the last answer of a packed example, at most."""
    longest = 0
    for index in np.unique(packing.piece_document).tolist():
        learned = split.learned(index)
        assert learned is not None, "examples say what is learned"
        longest = max(longest, int(np.flatnonzero(~learned)[-1]) + 1)
    return longest


class _Sequences(NamedTuple):
    """Prompts with an answer each, as documents to pack."""

    ids: list[npt.NDArray[np.uint64]]
    prompts: list[int]

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger]:
        return self.ids[index]

    def learned(self, index: int) -> npt.NDArray[np.bool_]:
        return np.arange(len(self.ids[index])) >= self.prompts[index]


def lay_out(
    groups: Sequence[Group], *, pad: int, device: torch.device, advantages: Sequence[Sequence[float]] | None = None
) -> Batch:
    """Rows as wide as the largest group, each with as many groups as fit.

    Args:
        advantages: of every answer of every group.
    """
    trees: list[Tree] = []
    sequences = _Sequences([], [])
    for group in groups:
        first = len(sequences.ids)
        sequences.ids.extend(np.array([*group.prompt, *one.ids], dtype=np.uint64) for one in group.answers)
        sequences.prompts.extend(len(group.prompt) for _ in group.answers)
        trees.append(Tree(tuple(range(first, len(sequences.ids))), len(group.prompt) - 1))
    lengths, learned = [len(one) for one in sequences.ids], sum(len(a.ids) for g in groups for a in g.answers)
    width = max((size_of(len(g.prompt), [len(a.ids) for a in g.answers]) for g in groups), default=1)
    packing = pack_trees(trees, lengths, context=width, num_targets=learned)
    rows = batch(sequences, packing, range(packing.num_rows), pad=pad)
    found = to_batch(rows, device=device)
    if advantages is None:
        return found
    worth = _spread_out([value for group in advantages for value in group], packing, rows.targets)
    return found._replace(advantages=torch.from_numpy(worth).to(device))


def size_of(prompt: int, answers: Sequence[int]) -> int:
    """Places of a prompt with its answers: the trunk, and a branch each, which begins with the prompt's last token."""
    return prompt - 1 + sum(answers)


def _spread_out(values: Sequence[float], packing: Packing, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[B,T]: the value of each sequence at each of its targets."""
    found = np.zeros(targets.shape)
    for row in range(packing.num_rows):
        place = 0
        for piece in packing.row(row):
            if piece.branch:
                found[row, place : place + piece.length] = values[piece.document]
            place += piece.length
    return np.where(targets == NO_TARGET, 0.0, found)
