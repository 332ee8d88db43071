"""What all sides of a benchmark share is fair: the same tokens, the same measure, the same clock."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arena.documents import Stream, write_documents
from arena.held_out import HeldOut
from arena.ours import scores
from arena.shape import SIZES
from arena.standing import reached, table, verdicts
from peers.loop import Habits, How, Loop
from peers.plain_gpt import PlainGPT
from peers.transformers_llama import TransformersLlama
from tests.conftest import make_decoder, make_spec

from rhapsode.corpus.tokens import Tokens
from rhapsode.train.objective import Batch, next_token

CPU = torch.device("cpu")
TINY = SIZES["tiny"]


def test_peers_read_every_token_once_an_epoch(tokens):
    split = tokens.split("train")
    stream = Stream(split, context=32, rows=1, seed=0)
    total = (split.num_tokens - 1) // 32
    rows = [stream(step)[0] for step in range(2 * total)]
    text = np.concatenate([split.document(i) for i in range(split.num_documents)])
    for epoch in (rows[:total], rows[total:]):
        found = sorted(tuple(row[1:]) for row in epoch)
        assert found == sorted(tuple(text[i * 32 + 1 : i * 32 + 33]) for i in range(total))
    assert [*map(tuple, rows[:total])] != [*map(tuple, rows[total:])]


@pytest.mark.parametrize("per_row", [1, 4])
def test_random_documents_fill_the_rows(tmp_path, per_row):
    path = write_documents(tmp_path / "tokens", TINY, rows=4, per_row=per_row)
    split = Tokens.open(path).split("train")
    assert split.lengths.max() <= TINY.context + 1
    rows = 4 if per_row == 1 else 32
    assert rows <= (split.num_tokens - split.num_documents) / TINY.context < rows + 1
    assert split.largest < TINY.vocab


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary(tokens):
    held_out = HeldOut(tokens, context=16, rows=3, device=CPU)
    split = tokens.split("validation")
    bits = held_out(lambda ids: torch.zeros(*ids.shape, 512))
    targets = split.num_tokens - split.num_documents
    assert bits["all"] == pytest.approx(targets * math.log2(512) / split.num_bytes, rel=1e-6)
    assert bits["validation.txt"] == pytest.approx(bits["all"])


def test_a_model_that_knows_the_next_token_pays_nothing(tokens):
    held_out = HeldOut(tokens, context=16, rows=3, device=CPU)
    rows = {tuple(row.ids.tolist()): row.targets for row in held_out._rows}

    def scores(ids):
        found = torch.zeros(*ids.shape, 512)
        for b, row in enumerate(ids.tolist()):
            length = next(n for n in range(len(row), 0, -1) if tuple(row[:n]) in rows)
            for t, target in enumerate(rows[tuple(row[:length])].tolist()):
                found[b, t, target] = 100.0
        return found

    assert held_out(scores)["all"] == pytest.approx(0.0, abs=1e-6)


def test_our_scores_are_those_that_we_train():
    model = make_decoder(make_spec(vocab_size=300))
    ids, targets = (torch.randint(0, 300, (2, 20), generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    batch = Batch(ids, targets, torch.arange(20).expand(2, 20), torch.ones_like(ids), torch.zeros_like(ids))
    found = scores(SimpleNamespace(model=model), ids)
    nats = torch.nn.functional.cross_entropy(found.flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(nats, next_token(model, batch).total.detach(), rtol=1e-5, atol=1e-3)


def test_the_rate_rises_falls_and_ends_at_its_floor():
    habits = Habits(1.0, (0.9, 0.95), 0.1, "cosine", 0.1, 0.2, decays_all=False)
    assert [habits.share(done) for done in (0.0, 0.1, 0.2, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.1])
    assert habits.share(0.6) == pytest.approx(0.55)
    assert habits._replace(shape="linear", floor=0.0, warmup=0.0).share(0.25) == pytest.approx(0.75)


@pytest.mark.parametrize("build", [PlainGPT, TransformersLlama])
def test_peers_learn_the_rows_that_they_see_again_and_again(build):
    habits = Habits(3e-3, (0.9, 0.95), 0.0, "constant", 1.0, 0.0, decays_all=False)
    loop = Loop(build(TINY, seed=0), how=How(autocast=True, compiled=False), habits=habits, device=CPU)
    rows = torch.randint(0, TINY.vocab, (2, TINY.context + 1), generator=torch.Generator().manual_seed(0))
    losses = [loop.step(rows) for _ in range(8)]
    assert losses[0] == pytest.approx(math.log(TINY.vocab), rel=0.05)
    assert losses[-1] < losses[0] - 1
    scores = loop.scores(rows[:, :-1])
    assert scores.dtype == torch.float32
    found = torch.nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())
    assert float(found) < losses[-1] + 0.05


def test_the_llama_of_transformers_has_the_parameters_of_ours():
    model = TransformersLlama(TINY, seed=0).model
    assert sum(p.numel() for p in model.parameters()) == TINY.spec().parameters


def record(side, kind, minutes, *points):
    looks = [
        {"seconds": s, "tokens": 100, "steps": 1, "loss": 1.0, "bits": {"all": bits, "a": bits}} for s, bits in points
    ]
    return {
        "side": side,
        "kind": kind,
        "minutes": minutes,
        "seed": 0,
        "parameters": 1e6,
        "peak_memory": 1e9,
        "looks": looks,
    }


def test_a_quality_is_reached_on_the_line_between_two_looks():
    ours = record("ours", "ours", 10, (60, 3.0), (120, 2.0), (180, 1.8))
    assert reached(ours, 2.5) == pytest.approx(90)
    assert reached(ours, 3.5) == 60
    assert reached(ours, 1.0) is None


def test_the_standing_compares_with_the_best_run_of_the_best_peer():
    records = [
        record("slow", "peer", 10, (600, 2.5)),
        record("quick", "peer", 10, (600, 2.2)),
        record("quick", "peer", 5, (300, 1.0)),
        record("ours", "ours", 10, (60, 3.0), (120, 2.0), (600, 1.8)),
    ]
    said = "\n".join(verdicts(records))
    assert "quick, 2.2000 after 10 minutes" in said
    assert "after 1.80 minutes (18% of its time)" in said
    assert table(records).count("\n") == 5
