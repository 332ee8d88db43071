from dataclasses import replace

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder

VOCAB = 96


def make_model(*, context: int = 128, seed: int = 0, eos: tuple[int, ...] = ()) -> Decoder:
    spec = replace(make_spec(vocab_size=VOCAB, context=context, tied=False), eos=eos)
    return make_decoder(spec, seed=seed).eval()


@torch.no_grad()
def dense_logits(model: Decoder, ids: list[int]) -> Tensor:
    """Scores [T,V] of a whole sequence at once, without a cache."""
    row = torch.tensor([ids])
    positions = torch.arange(len(ids))[None]
    attend = DenseAttend(torch.ones_like(row), dtype=torch.float32)
    return model.logits(model(row, positions, attend=attend))[0]


def dense_greedy(model: Decoder, prompt: list[int], *, num_tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(num_tokens):
        ids.append(int(dense_logits(model, ids)[-1].argmax()))
    return ids[len(prompt) :]


def prompt_of(length: int, *, seed: int = 0) -> list[int]:
    return torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(scope="session")
def model() -> Decoder:
    return make_model()
