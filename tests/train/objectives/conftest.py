"""Answers in packed rows, and what a tiny model says of them in float64: plainly, and the way that training does."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import make_decoder, make_spec
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.log_probs import chunked_log_probs
from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.sequences import NONE


class Answers(NamedTuple):
    """Rows of packed answers after their prompts, each [B,T]; `sequences` is NONE at prompts and padding."""

    ids: Tensor
    targets: Tensor
    positions: Tensor
    documents: Tensor
    sequences: Tensor
    count: int


def make_answers(lengths: list[list[tuple[int, int]]], *, vocab_size: int = 96, seed: int = 0) -> Answers:
    """Rows of (prompt tokens, answer tokens); the answers are numbered in order."""
    random = torch.Generator().manual_seed(seed)
    width = max(sum(map(sum, row)) for row in lengths)
    fields = [torch.full((len(lengths), width), fill) for fill in (2, IGNORE, 0, 0, NONE)]
    ids, targets, positions, documents, sequences = fields
    count = 0
    for row, pairs in enumerate(lengths):
        start = 0
        for number, (prompt, answer) in enumerate(pairs, 1):
            tokens = torch.randint(3, vocab_size, (prompt + answer + 1,), generator=random)
            end = start + prompt + answer
            ids[row, start:end], positions[row, start:end] = tokens[:-1], torch.arange(prompt + answer)
            documents[row, start:end] = number
            targets[row, end - answer : end], sequences[row, end - answer : end] = tokens[prompt + 1 :], count
            start, count = end, count + 1
    return Answers(ids, targets, positions, documents, sequences, count)


def hidden_of(model: Decoder, answers: Answers) -> Tensor:
    attend = DenseAttend(answers.documents, dtype=model.embedding.weight.dtype)
    hidden: Tensor = model(answers.ids, answers.positions, attend=attend)
    return hidden


def log_probs_of(model: Decoder, answers: Answers) -> Tensor:
    """[B,T], the way that training computes them."""
    return chunked_log_probs(hidden_of(model, answers), model.head.weight, answers.targets)


def plain_log_probs(model: Decoder, answers: Answers) -> list[Tensor]:
    """Of each answer, those of its tokens: every logit, and each answer looked for by itself."""
    every = F.log_softmax(F.linear(hidden_of(model, answers), model.head.weight), -1)
    places = [(answers.sequences == number).nonzero() for number in range(answers.count)]
    return [torch.stack([every[b, t, answers.targets[b, t]] for b, t in p.tolist()]) for p in places]


def gradients(total: Tensor, model: Decoder) -> list[Tensor]:
    model.zero_grad()
    total.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_same(found: Tensor, expected: Tensor, model: Decoder) -> None:
    """Values, and the gradients of every weight, to 1e-8."""
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-8, atol=1e-10)
    grads = gradients(expected, model)
    assert any(g.abs().max() > 1e-6 for g in grads), "nothing is learnt"
    torch.testing.assert_close(gradients(found, model), grads, rtol=1e-8, atol=1e-9)


@pytest.fixture(scope="session")
def policy() -> Decoder:
    return make_decoder(make_spec(), seed=1, dtype=torch.float64)


@pytest.fixture(scope="session")
def reference() -> Decoder:
    return make_decoder(make_spec(), seed=2, dtype=torch.float64)


@pytest.fixture(scope="session")
def answers() -> Answers:
    """Six answers of other lengths in three rows, one of which is not full."""
    return make_answers([[(3, 4), (2, 7)], [(5, 1), (1, 8)], [(2, 2), (4, 3)]])
