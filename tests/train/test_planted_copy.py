"""The planted copy: a document whose twin lies before it in the same row must be no easier to predict."""

import math

import torch
from tests.conftest import make_spec

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE, chunked_cross_entropy
from rhapsode.model.decoder import Decoder
from rhapsode.model.initialise import initialise
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch, Objective, next_token
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.optimizer import AdamW
from rhapsode.train.step import train_step

VOCAB, LENGTH, ROWS, STEPS = 16, 12, 32, 100
CHANCE = math.log(VOCAB)


def crossing(model: Decoder, batch: Batch) -> Loss:
    """Next-token training with the mistake: a row is treated as one document."""
    attend = DenseAttend(torch.ones_like(batch.documents), dtype=model.embedding.weight.dtype)
    hidden = model(batch.ids, batch.positions, attend=attend)
    return Loss(*chunked_cross_entropy(hidden, model.head.weight, batch.targets))


crossing.measures, crossing.begin = (), next_token.begin


def rows_with_a_copy(random: torch.Generator) -> Batch:
    """Random tokens, and the same tokens again as a second document; the targets are the copy's."""
    document = torch.randint(0, VOCAB, (ROWS, LENGTH + 1), generator=random)
    ids, targets = document[:, :-1], document[:, 1:]
    numbers = torch.tensor([1] * LENGTH + [2] * LENGTH).expand(ROWS, -1)
    positions = torch.arange(LENGTH).repeat(2).expand(ROWS, -1)
    targets = torch.cat((torch.full_like(targets, IGNORE), targets), 1)
    return Batch(ids.repeat(1, 2), targets, positions, numbers.contiguous(), torch.zeros_like(targets))


def loss_on_copies(objective: Objective) -> float:
    """Train on such rows; the loss on fresh ones, in nats a token."""
    spec = make_spec(family="llama", vocab_size=VOCAB, width=64, heads=4, kv_heads=4, head_dim=16, ffn=64, tied=False)
    model = Decoder(spec)
    initialise(model, seed=0)
    masters, random = WholeMasters(model), torch.Generator().manual_seed(0)
    optimizer = AdamW(masters.weights, learning_rate=0.01, weight_decay=0.0)
    for _ in range(STEPS):
        batch = rows_with_a_copy(random)
        train_step(model, [batch], objective=objective, masters=masters, optimizer=optimizer, scale=1.0, clip=1.0)
    fresh = [rows_with_a_copy(random) for _ in range(8)]
    with torch.no_grad():
        losses = [objective(model, batch) for batch in fresh]
    return sum(float(loss.total) for loss in losses) / sum(loss.num_terms for loss in losses)


def test_a_copy_in_the_same_row_is_predicted_no_better_than_chance() -> None:
    assert loss_on_copies(next_token) > CHANCE - 0.02


def test_the_test_can_fail_a_mask_that_crosses_documents_learns_the_copy() -> None:
    assert loss_on_copies(crossing) < 0.5 * CHANCE
